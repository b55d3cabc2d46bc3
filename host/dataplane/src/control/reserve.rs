//! Ports of the node's own addresses that are for pods' connections.
//!
//! Owns that the host gives them to no socket by itself (`ip_local_reserved_ports`), from when they
//! are taken until they are dropped. Those that sockets have already are left out. A program that
//! asks for one of them by its number gets it all the same, and hears nothing from outside.

use std::collections::BTreeSet;
use std::fs;

use millrace_netns::Namespace;

use crate::control::punt::{PortRange, PuntError};

/// The ports.
pub(super) struct ReservedPorts {
    namespace: Namespace,
    ports: BTreeSet<u16>,
    /// What was reserved before; nothing if they stay reserved.
    former: Option<String>,
}

impl ReservedPorts {
    /// Reserves the ports of a range that nobody uses, in the network namespace of this thread. If
    /// connections outlive this process, so does that.
    pub(super) fn take(range: PortRange, stays: bool) -> Result<Self, PuntError> {
        let namespace = Namespace::current()?;
        let former = namespace.sysctl(RESERVED)?;
        let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| {
            // IPv6 may be off
            fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default()
        });
        let used: BTreeSet<u16> = tables.iter().flat_map(|table| local_ports(table)).collect();
        let range = range.first..=range.last;
        let left_out = used.iter().filter(|port| range.contains(port)).count();
        let ports: BTreeSet<u16> = range.filter(|port| !used.contains(port)).collect();

        let all: BTreeSet<u16> = ports.iter().copied().chain(parse(&former)).collect();
        let all = text(&all);
        namespace.set_sysctl(RESERVED, &all)?;
        tracing::info!(left_out, "{RESERVED} is {all} now: pods are masqueraded to these ports");
        Ok(Self { namespace, ports, former: (!stays).then_some(former) })
    }

    /// Which they are.
    pub(super) fn ports(&self) -> &BTreeSet<u16> {
        &self.ports
    }
}

impl Drop for ReservedPorts {
    fn drop(&mut self) {
        let Some(former) = &self.former else { return };
        // the kernel takes an empty line for none
        let former = format!("{former}\n");
        if let Err(error) = self.namespace.set_sysctl(RESERVED, &former) {
            tracing::warn!(%error, "ports stay reserved");
        }
    }
}

/// The local ports in a table of `/proc/net`.
fn local_ports(table: &str) -> impl Iterator<Item = u16> {
    let lines = table.lines().skip(1);
    lines.filter_map(|line| {
        let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    })
}

/// The ports of a list such as `1,5-7`.
fn parse(list: &str) -> impl Iterator<Item = u16> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        })
        .flatten()
}

/// The list of some ports.
fn text(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == port => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let parts = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Where the host is told which ports are reserved.
pub const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ports_are_read_and_written() {
        for list in ["", "8", "8,10-12,65535", "1-65535"] {
            assert_eq!(text(&parse(list).collect()), list);
        }
        assert_eq!(text(&parse("5-6,7\n").collect()), "5-7");
    }

    #[test]
    fn local_ports_are_those_of_all_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n \
                     0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n \
                     1: 00000000000000000000000001000000:C350 00000000000000000000000000000000:0000";
        assert_eq!(local_ports(table).collect::<Vec<_>>(), [22, 50_000]);
    }
}
