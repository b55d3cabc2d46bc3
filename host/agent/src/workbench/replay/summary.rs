//! A packet in a few words, for people who compare verdicts with a capture.

use std::net::{IpAddr, SocketAddr};

use millrace_abi::{Class, Slot};
use millrace_filter::wire::tcp::Flags;
use millrace_filter::wire::{EtherType, IpProtocol, MacAddr};

/// The packet's protocol, and its ends as far as they can be read.
pub(crate) fn summary(frame: &[u8]) -> String {
    let mut slot = Slot::ZERO;
    if let Err(reason) = millrace_parse::parse(frame, &mut slot) {
        return format!("{} bytes: {}", frame.len(), reason.help());
    }
    let (Some(source), Some(destination)) = (slot.source(), slot.destination()) else {
        let (from, to) = (MacAddr(slot.src_mac), MacAddr(slot.dst_mac));
        return format!("{} {from} → {to}", EtherType(slot.ethertype));
    };
    let end = |address: IpAddr, port| match slot.class() {
        Class::Flow => SocketAddr::new(address, port).to_string(),
        _ => address.to_string(),
    };
    let (from, to) = (end(source, slot.src_port), end(destination, slot.dst_port));
    let protocol = IpProtocol(slot.protocol);
    match slot.class() {
        Class::Flow if protocol == IpProtocol::TCP => {
            format!("{protocol} {from} → {to} {}", Flags(slot.tcp_flags))
        }
        Class::Icmp | Class::Nd => format!("{protocol} {from} → {to} type {}", slot.icmp_type),
        Class::Fragment => format!("{protocol} {from} → {to} fragment"),
        _ => format!("{protocol} {from} → {to}"),
    }
}

#[cfg(test)]
mod tests {
    use millrace_filter::testing::frames;

    use super::*;

    #[test]
    fn packets_are_told_apart_by_what_can_be_read_of_them() {
        for (frame, words) in [
            (
                frames::tcp("10.0.0.1:4000", "10.0.0.2:80", Flags::SYN, b""),
                &["10.0.0.1:4000 → 10.0.0.2:80"][..],
            ),
            (
                frames::udp("[2001:db8::1]:1", "[2001:db8::2]:53", b""),
                &["[2001:db8::1]:1 → [2001:db8::2]:53"],
            ),
            (frames::ping("10.0.0.1", "10.0.0.2"), &["10.0.0.1 → 10.0.0.2", "type 8"]),
            (
                frames::arp_request("10.0.0.1", "10.0.0.2"),
                &["02:00:0a:00:00:01 → ff:ff:ff:ff:ff:ff"],
            ),
            (vec![0; 9], &["9 bytes", "shorter than an Ethernet header"]),
        ] {
            let said = summary(&frame);
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}
