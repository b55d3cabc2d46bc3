//! Which addresses of a node have node ports (S14).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The addresses of a node that have node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Those that its Node states as `InternalIP`, and the loopback's.
    #[default]
    Own,
    /// These.
    At(Vec<IpAddr>),
}

impl NodePortAddresses {
    /// Those that prefixes have of what a host has, and what its Node states; without any prefix, the
    /// usual ones.
    pub fn of(prefixes: &[IpNetwork], host: &[IpAddr], stated: &[IpAddr]) -> Self {
        if prefixes.is_empty() {
            return Self::Own;
        }
        let has = |address: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(*address));
        let mut addresses: Vec<IpAddr> =
            stated.iter().chain(host).chain(&LOOPBACKS).copied().filter(has).collect();
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        Self::At(addresses)
    }

    /// Those that others reach, of a node that states these.
    pub fn at(&self, stated: &[IpAddr]) -> Vec<IpAddr> {
        match self {
            Self::Own => stated.to_vec(),
            Self::At(addresses) => {
                addresses.iter().copied().filter(|address| !address.is_loopback()).collect()
            }
        }
    }

    /// Whether one of a node's own addresses, which others reach or not, has them.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        match self {
            Self::Own => true,
            Self::At(addresses) => addresses.contains(&address),
        }
    }
}

/// The node's own, which nobody else reaches.
pub(super) const LOOPBACKS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_prefixes_widen_and_narrow_what_has_node_ports() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|it| it.parse().expect("an address")).collect()
        };
        let host = ips(&["192.0.2.1", "10.0.0.1", "127.0.0.1", "2001:db8::1"]);
        let stated = ips(&["192.0.2.1", "2001:db8::1"]);
        for (prefixes, all, others) in [
            (&["10.0.0.0/8"][..], &["10.0.0.1"][..], &["10.0.0.1"][..]),
            (&["127.0.0.0/8", "192.0.2.0/24"], &["192.0.2.1", "127.0.0.1"], &["192.0.2.1"]),
            (&["2001:db8::/32"], &["2001:db8::1"], &["2001:db8::1"]),
            (&["198.51.100.0/24"], &[], &[]),
        ] {
            let prefixes: Vec<_> = prefixes.iter().map(|it| it.parse().expect("one")).collect();
            let ports = NodePortAddresses::of(&prefixes, &host, &stated);
            assert_eq!(ports, NodePortAddresses::At(ips(all)), "{prefixes:?}");
            assert_eq!(ports.at(&stated), ips(others), "{prefixes:?}");
        }
        assert_eq!(NodePortAddresses::of(&[], &host, &stated), NodePortAddresses::Own);
        assert_eq!(NodePortAddresses::Own.at(&stated), stated);
    }
}
