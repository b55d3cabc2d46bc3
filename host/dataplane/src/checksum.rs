//! Transport checksums that a sender left to hardware which is not there.
//!
//! A packet that leaves a pod through a veth carries only the sum of its pseudo-header
//! where the checksum belongs (`CHECKSUM_PARTIAL`, include/linux/skbuff.h); XDP does not
//! say so. It is recognised by that very sum: a packet whose right checksum happens to
//! look like it (one in 65,536) gets its right checksum again.

use millrace_abi::{Slot, slot_flag};
use millrace_parse::Layers;
use millrace_wire::checksum::Pseudo;
use millrace_wire::{IpProtocol, ipv4, ipv6, tcp, udp};

/// Completes the checksum of a TCP or UDP packet, if it was left to hardware.
pub(crate) fn complete(frame: &mut [u8], slot: &Slot, layers: Layers) {
    // the checksum of a fragment is not its own
    if slot.flags & slot_flag::FIRST_FRAGMENT != 0 {
        return;
    }
    let (network, transport) = (usize::from(layers.network), usize::from(layers.transport));
    let packet = &mut frame[network..];
    let (pseudo, len): (Pseudo, usize) = match slot.ip_version {
        4 => {
            let packet = ipv4::Packet::new_unchecked(&*packet);
            (packet.pseudo(), packet.total_len())
        }
        _ => {
            let packet = ipv6::Packet::new_unchecked(&*packet);
            (packet.pseudo(), ipv6::HEADER_LEN + packet.payload_len())
        }
    };
    // the parser has seen that the packet's length fits the frame
    let segment = &mut packet[transport - network..len];
    match IpProtocol(slot.protocol) {
        IpProtocol::TCP => {
            let partial = pseudo.sum(IpProtocol::TCP, segment.len()).partial();
            let mut segment = tcp::Segment::new_unchecked(segment);
            if segment.checksum() == partial {
                segment.complete_checksum();
            }
        }
        IpProtocol::UDP => {
            let mut datagram = udp::Datagram::new_unchecked(segment);
            // never 0, which says that there is no checksum
            let partial = pseudo.sum(IpProtocol::UDP, datagram.total_len()).partial();
            if datagram.checksum() == partial {
                datagram.complete_checksum();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use millrace_wire::builder::{self, Ethernet, Ip};
    use millrace_wire::{MacAddr, Ports};

    use super::*;

    fn frames() -> Vec<Vec<u8>> {
        let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let ports = Ports { source: 1000, destination: 2000 };
        let v6 = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        let ips =
            [Ip::v4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)), Ip::v6(v6(1), v6(2))];
        let mut frames = Vec::new();
        for ip in ips {
            let mut buffer = [0; 200];
            let len = builder::udp(&mut buffer, &ethernet, &ip, ports, b"odd").expect("it fits");
            frames.push(buffer[..len].to_vec());
            let tcp = tcp::Repr { ports, ..tcp::Repr::default() };
            let len = builder::tcp(&mut buffer, &ethernet, &ip, &tcp, b"data").expect("it fits");
            frames.push(buffer[..len].to_vec());
        }
        frames
    }

    /// Where the checksum of a packet is.
    fn place(slot: &Slot, layers: Layers) -> usize {
        usize::from(layers.transport) + if slot.protocol == 6 { 16 } else { 6 }
    }

    #[test]
    fn a_checksum_left_to_hardware_is_completed_and_others_stay() {
        for right in frames() {
            let mut slot = Slot::ZERO;
            let layers = millrace_parse::parse(&right, &mut slot).expect("it is well-formed");
            let at = place(&slot, layers);
            let transport = usize::from(layers.transport);
            let pseudo = match slot.ip_version {
                4 => ipv4::Packet::new_unchecked(&right[14..]).pseudo(),
                _ => ipv6::Packet::new_unchecked(&right[14..]).pseudo(),
            };
            let partial = pseudo.sum(IpProtocol(slot.protocol), right.len() - transport).partial();

            let mut left = right.clone();
            left[at..at + 2].copy_from_slice(&partial.to_be_bytes());
            // what follows the packet in its frame is no part of the sum
            left.extend_from_slice(&[0xff; 6]);
            complete(&mut left, &slot, layers);
            assert_eq!(left[..right.len()], right);

            let mut wrong = right.clone();
            wrong[at] ^= 0x55;
            let before = wrong.clone();
            complete(&mut wrong, &slot, layers);
            assert_eq!(wrong, before, "a wrong checksum is not made right");
        }
    }

    #[test]
    fn udp_without_a_checksum_keeps_none() {
        let mut frame = frames().swap_remove(0);
        frame[40..42].fill(0);
        let before = frame.clone();
        let mut slot = Slot::ZERO;
        let layers = millrace_parse::parse(&frame, &mut slot).expect("it is well-formed");
        complete(&mut frame, &slot, layers);
        assert_eq!(frame, before);
    }
}
