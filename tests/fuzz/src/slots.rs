//! Frames read into slots: what is well-formed has its headers where it says, reads the same
//! whatever lies behind it, and stays well-formed through what the host does to packets.

use millrace_abi::{Class, Reason, ReasonGroup, Slot, slot_flag};
use millrace_parse::{Layers, parse};
use millrace_wire::checksum::{Delta, Pseudo};
use millrace_wire::vlan::{self, Tag, Tci, Vid};
use millrace_wire::{EtherType, IpProtocol, Ports, ethernet, ipv4, ipv6, tcp, udp};

/// Reads `frame`, and does with it what the host does.
///
/// # Panics
/// If the parser breaks its word.
pub fn run(frame: &[u8]) {
    let mut slot = Slot { ingress: 7, now_ns: 9, ..Slot::ZERO };
    match parse(frame, &mut slot) {
        Ok(layers) => is_well_formed(frame, &slot, layers),
        // mutation seldom hits on a sum: go on as if it had
        Err(Reason::BadIpv4Checksum) => run(&summed(frame)),
        Err(reason) => assert_eq!(reason.group(), ReasonGroup::Malformed, "{reason:?}"),
    }
}

/// The frame, whose IPv4 header is whole, with the right checksum in that header.
fn summed(frame: &[u8]) -> Vec<u8> {
    let mut summed = frame.to_vec();
    let mut start = ethernet::HEADER_LEN;
    while ethertype(frame, start).is_vlan() {
        start += vlan::TAG_LEN;
    }
    ipv4::Packet::new_unchecked(&mut summed[start..]).fill_checksum();
    summed
}

/// The EtherType that ends at `end`.
fn ethertype(frame: &[u8], end: usize) -> EtherType {
    EtherType(u16::from_be_bytes([frame[end - 2], frame[end - 1]]))
}

fn is_well_formed(frame: &[u8], slot: &Slot, layers: Layers) {
    says_what_the_frame_says(frame, slot, layers);
    depends_on_the_packet_alone(frame, slot, layers);
    is_one_flow_both_ways(frame, slot, layers);
    keeps_its_sense_in_another_vlan(frame, slot, layers);
    if slot.ip_version != 0 {
        lives_shorter(frame, slot, layers);
    }
    if layers.transport != 0 && slot.flags & slot_flag::FIRST_FRAGMENT == 0 {
        sums_up(frame, slot, layers);
    }
}

fn says_what_the_frame_says(frame: &[u8], slot: &Slot, layers: Layers) {
    let (network, transport) = (usize::from(layers.network), usize::from(layers.transport));
    assert_eq!((slot.ingress, slot.now_ns, slot.len as usize), (7, 9, frame.len()));
    assert_eq!((&slot.dst_mac[..], &slot.src_mac[..]), (&frame[..6], &frame[6..12]));
    assert_eq!((slot.reserved, slot.reserved2, slot.decided, slot.egress), (0, 0, 0, 0));
    assert_eq!((slot.to_addr, slot.to_port), (slot.dst_addr, slot.dst_port));
    assert!(Class::from_u8(slot.class).is_some() && slot.vlan < 4096);

    assert_eq!(network != 0, slot.ip_version != 0);
    if network != 0 {
        assert_eq!(frame[network] >> 4, slot.ip_version);
        let addresses = match slot.ip_version {
            4 => frame[network + 12..][..8].to_vec(),
            _ => frame[network + 8..][..32].to_vec(),
        };
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        assert!(slot.src_addr.ends_with(source) && slot.dst_addr.ends_with(destination));
    }

    let later = slot.flags & slot_flag::LATER_FRAGMENT != 0;
    let ported =
        matches!(IpProtocol(slot.protocol), IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP);
    assert!(transport == 0 || (network < transport && transport < frame.len()));
    if ported && !later {
        let ports = Ports { source: slot.src_port, destination: slot.dst_port };
        assert_eq!(Ports::parse(&frame[transport..]), Some(ports));
    }
    if slot.class() == Class::Flow {
        assert!(ported && transport != 0);
        let not_plain = slot_flag::OPTIONS | slot_flag::FIRST_FRAGMENT | slot_flag::LATER_FRAGMENT;
        assert_eq!(slot.flags & not_plain, 0);
    }
}

/// Neither what the slot held before nor what follows the packet in its frame makes a difference.
fn depends_on_the_packet_alone(frame: &[u8], slot: &Slot, layers: Layers) {
    let kept = Slot { ingress: slot.ingress, now_ns: slot.now_ns, ..Slot::ZERO };
    let mut dirty = Slot {
        src_addr: [0xff; 16],
        as_addr: [0xff; 16],
        protocol: 0xff,
        flags: 0xffff,
        decided: 0xffff,
        egress: 0xffff,
        vlan: 0xffff,
        ..kept
    };
    assert_eq!((parse(frame, &mut dirty), dirty), (Ok(layers), *slot));

    let padded = [frame, &[0xff; 3]].concat();
    let mut longer = kept;
    assert_eq!(parse(&padded, &mut longer), Ok(layers));
    assert_eq!(Slot { len: slot.len, ..longer }, *slot);
}

/// The way back has the same hash, and says the same from the other end.
fn is_one_flow_both_ways(frame: &[u8], slot: &Slot, layers: Layers) {
    let (network, transport) = (usize::from(layers.network), usize::from(layers.transport));
    let mut back = frame.to_vec();
    let mut swap = |at: usize, len: usize| {
        let (a, b) = back[at..at + 2 * len].split_at_mut(len);
        a.swap_with_slice(b);
    };
    swap(0, 6);
    match slot.ip_version {
        4 => swap(network + 12, 4),
        6 => swap(network + 8, 16),
        _ => {}
    }
    let ported = slot.src_port != 0 || slot.dst_port != 0;
    let echo = matches!(IpProtocol(slot.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6);
    if transport != 0 && ported && !echo {
        swap(transport, 2);
    }
    let mut other = Slot::ZERO;
    // a group, for one, is no source
    if parse(&back, &mut other) == Ok(layers) {
        assert_eq!(other.hash, slot.hash);
        assert_eq!((other.src_mac, other.src_addr), (slot.dst_mac, slot.dst_addr));
        assert_eq!((other.class, other.vlan), (slot.class, slot.vlan));
    }
}

/// Tagged and untagged as on its way through a trunk.
fn keeps_its_sense_in_another_vlan(frame: &[u8], slot: &Slot, layers: Layers) {
    let mut tagged = [&[0; vlan::TAG_LEN], frame].concat();
    let vid = Vid::new(7).expect("7 is a VLAN");
    let tag = Tag { ether_type: EtherType::VLAN, tci: Tci::of(vid) };
    vlan::push(&mut tagged, tag).expect("there is room for a tag");
    let mut inside = Slot { ingress: slot.ingress, now_ns: slot.now_ns, ..Slot::ZERO };
    match parse(&tagged, &mut inside) {
        Ok(found) => {
            let moved = |at: u16| if at == 0 { 0 } else { at + vlan::TAG_LEN as u16 };
            let expected =
                Layers { network: moved(layers.network), transport: moved(layers.transport) };
            assert_eq!((found, inside.vlan), (expected, 7));
            let untagged = Slot { vlan: slot.vlan, flags: slot.flags, len: slot.len, ..inside };
            assert_eq!(untagged, *slot);
        }
        // a third tag is one too many
        Err(_) => assert!(slot.flags & slot_flag::TAGGED != 0),
    }
}

/// A hop nearer to its end, and as well-formed as before.
fn lives_shorter(frame: &[u8], slot: &Slot, layers: Layers) {
    if slot.ttl <= 1 || slot.class() == Class::Nd {
        return;
    }
    let mut older = frame.to_vec();
    let packet = &mut older[usize::from(layers.network)..];
    let left = match slot.ip_version {
        4 => ipv4::Packet::new_unchecked(packet).decrement_ttl(),
        _ => ipv6::Packet::new_unchecked(packet).decrement_hop_limit(),
    };
    let mut read = *slot;
    assert_eq!(parse(&older, &mut read), Ok(layers), "the header's checksum is right still");
    assert_eq!(left, slot.ttl - 1);
    assert_eq!(Slot { ttl: slot.ttl, ..read }, *slot);
}

/// A checksum that is right stays right when an address changes and the difference is applied.
fn sums_up(frame: &[u8], slot: &Slot, layers: Layers) {
    let (network, transport) = (usize::from(layers.network), usize::from(layers.transport));
    let (old, new): (Pseudo, Pseudo);
    let (end, delta);
    match slot.ip_version {
        4 => {
            let packet = ipv4::Packet::new_unchecked(&frame[network..]);
            let elsewhere = [192, 0, 2, 77].into();
            (old, new) = (packet.pseudo(), Pseudo::v4(packet.source(), elsewhere));
            end = network + packet.total_len();
            delta = Delta::NONE.ipv4(packet.destination(), elsewhere);
        }
        _ => {
            let packet = ipv6::Packet::new_unchecked(&frame[network..]);
            let elsewhere = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77].into();
            (old, new) = (packet.pseudo(), Pseudo::v6(packet.source(), elsewhere));
            end = network + ipv6::HEADER_LEN + packet.payload_len();
            delta = Delta::NONE.ipv6(packet.destination(), elsewhere);
        }
    }
    let mut segment = frame[transport..end].to_vec();
    match IpProtocol(slot.protocol) {
        IpProtocol::TCP => {
            let mut segment = tcp::Segment::new_unchecked(&mut segment[..]);
            segment.fill_checksum(old);
            assert!(segment.verify_checksum(old));
            segment.set_checksum(delta.apply(segment.checksum()));
            assert!(segment.verify_checksum(new));
        }
        IpProtocol::UDP => {
            let mut datagram = udp::Datagram::new_unchecked(&mut segment[..]);
            datagram.fill_checksum(old);
            assert!(datagram.verify_checksum(old));
            datagram.set_checksum(delta.apply_udp(datagram.checksum()));
            assert!(datagram.verify_checksum(new));
        }
        _ => {}
    }
}
