//! What is kept of the packet that opened a connection.

use millrace_abi::{Origin, Slot};
use millrace_parse::flow_hash;
use millrace_wire::{EtherType, IpProtocol};

use super::{Key, Translation, Zone};

/// What of a slot is neither in the connection's keys nor a decision, nor follows from the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener {
    /// In halves, so that there is no padding.
    now_ns: [u32; 2],
    len: u16,
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    vlan: u16,
    ingress: u16,
    flags: u16,
    ip_version: u8,
    ttl: u8,
    traffic_class: u8,
    ingress_kind: u8,
    class: u8,
    tcp_flags: u8,
    icmp_type: u8,
    icmp_code: u8,
}

impl Opener {
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            now_ns: [slot.now_ns as u32, (slot.now_ns >> 32) as u32],
            // no frame that comes to user space is longer
            len: u16::try_from(slot.len).unwrap_or(u16::MAX),
            src_mac: slot.src_mac,
            dst_mac: slot.dst_mac,
            vlan: slot.vlan,
            ingress: slot.ingress,
            flags: slot.flags,
            ip_version: slot.ip_version,
            ttl: slot.ttl,
            traffic_class: slot.traffic_class,
            ingress_kind: slot.ingress_kind,
            class: slot.class,
            tcp_flags: slot.tcp_flags,
            icmp_type: slot.icmp_type,
            icmp_code: slot.icmp_code,
        }
    }

    /// When it came.
    pub(super) fn opened_ns(&self) -> u64 {
        let [low, high] = self.now_ns;
        u64::from(high) << 32 | u64::from(low)
    }

    /// Each port has its share of connections, also those that are of one zone.
    pub(super) fn owner(&self) -> Zone {
        Zone::port(self.ingress)
    }

    /// The slot by which the chain decides anew about the connection with these keys.
    pub(super) fn slot(&self, [key, reply]: &[Key; 2]) -> Slot {
        let has_ports =
            !matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6);
        let port = |port| if has_ports { port } else { 0 };
        let source = Translation::between(key, reply).source;
        let mut slot = Slot {
            src_addr: key.source.address,
            dst_addr: key.destination.address,
            src_port: key.source.port,
            dst_port: port(key.destination.port),
            ip_version: self.ip_version,
            protocol: key.protocol,
            ttl: self.ttl,
            traffic_class: self.traffic_class,
            src_mac: self.src_mac,
            dst_mac: self.dst_mac,
            ethertype: ethertype(self.ip_version),
            vlan: self.vlan,
            ingress: self.ingress,
            ingress_kind: self.ingress_kind,
            origin: Origin::Redecide as u8,
            class: self.class,
            tcp_flags: self.tcp_flags,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            flags: self.flags,
            now_ns: self.opened_ns(),
            to_addr: reply.source.address,
            to_port: port(reply.source.port),
            as_addr: source.map_or([0; 16], |source| source.address),
            as_port: source.map_or(0, |source| source.port),
            len: self.len.into(),
            ..Slot::ZERO
        };
        slot.hash = flow_hash(&slot);
        slot
    }
}

/// That of packets of this IP version.
fn ethertype(ip_version: u8) -> u16 {
    match ip_version {
        4 => EtherType::IPV4.0,
        6 => EtherType::IPV6.0,
        _ => 0,
    }
}
