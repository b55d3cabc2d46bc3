//! The short way through a frame: no VLAN tag, IP without options or extension headers, no
//! fragment, and TCP or UDP in it. Nearly all frames are such.
//!
//! It decides nothing: whatever is not plainly so, and well-formed, is left to the long way, which
//! knows why. A frame that both ways read they read the same.

use millrace_abi::{Class, Slot};
use millrace_wire::checksum::Sum;
use millrace_wire::{EtherType, IpProtocol, ethernet, ipv4, ipv6, tcp, udp};

use crate::Layers;
use crate::network::set_addresses;

/// Reads a frame of this kind into `slot`, whose other fields are zero.
#[inline(always)]
pub(crate) fn read(frame: &[u8], slot: &mut Slot) -> Option<Layers> {
    let (link, packet) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    let link = ethernet::Frame::new_unchecked(link);
    if link.source().is_multicast() {
        return None;
    }
    let layers = match link.ether_type() {
        EtherType::IPV4 => ipv4(packet, slot)?,
        EtherType::IPV6 => ipv6(packet, slot)?,
        _ => return None,
    };
    slot.dst_mac = link.destination().0;
    slot.src_mac = link.source().0;
    slot.ethertype = link.ether_type().0;
    slot.class = Class::Flow as u8;
    Some(layers)
}

#[inline(always)]
fn ipv4(bytes: &[u8], slot: &mut Slot) -> Option<Layers> {
    let header = bytes.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let packet = ipv4::Packet::new_unchecked(header);
    let is_plain = packet.version() == 4
        && packet.header_len() == ipv4::HEADER_LEN
        && !packet.is_fragment()
        && Sum::of(header).checksum() == 0;
    let (source, destination) = (packet.source(), packet.destination());
    let segment = bytes.get(ipv4::HEADER_LEN..packet.total_len())?;
    // networks in which nothing is a martian: first octets of 1 to 126 and of 128 to 223; a
    // destination may be a group or the broadcast address too
    let [first, ..] = source.octets();
    let is_usual_source = first.wrapping_sub(1) < 126 || first.wrapping_sub(128) < 96;
    let [first, ..] = destination.octets();
    let is_usual_destination = first != 0 && first != 127;
    if !(is_plain && is_usual_source && is_usual_destination) {
        return None;
    }
    let upper = Upper::read(packet.protocol(), segment)?;
    set_addresses(slot, source.to_ipv6_mapped(), destination.to_ipv6_mapped());
    slot.ip_version = 4;
    slot.ttl = packet.ttl();
    slot.traffic_class = packet.dscp() << 2 | packet.ecn().bits();
    Some(upper.write(packet.protocol(), ipv4::HEADER_LEN, slot))
}

#[inline(always)]
fn ipv6(bytes: &[u8], slot: &mut Slot) -> Option<Layers> {
    let packet = ipv6::Packet::new_unchecked(bytes.first_chunk::<{ ipv6::HEADER_LEN }>()?);
    let (source, destination) = (packet.source(), packet.destination());
    let segment = bytes.get(ipv6::HEADER_LEN..)?.get(..packet.payload_len())?;
    // below ::/64 are the loopback, the unspecified and all mapped addresses
    let is_usual = |address: u128| address >> 64 != 0;
    if packet.version() != 6
        || source.is_multicast()
        || !is_usual(source.to_bits())
        || !is_usual(destination.to_bits())
    {
        return None;
    }
    let upper = Upper::read(packet.next_header(), segment)?;
    set_addresses(slot, source, destination);
    slot.ip_version = 6;
    slot.ttl = packet.hop_limit();
    slot.traffic_class = packet.dscp() << 2 | packet.ecn().bits();
    Some(upper.write(packet.next_header(), ipv6::HEADER_LEN, slot))
}

/// What a TCP or UDP header says.
struct Upper {
    source: u16,
    destination: u16,
    tcp_flags: u8,
}

impl Upper {
    #[inline(always)]
    fn read(protocol: IpProtocol, segment: &[u8]) -> Option<Self> {
        match protocol {
            IpProtocol::UDP => {
                let datagram = udp::Datagram::new_checked(segment).ok()?;
                let (source, destination) = (datagram.source_port(), datagram.destination_port());
                Some(Self { source, destination, tcp_flags: 0 })
            }
            IpProtocol::TCP => {
                let segment = tcp::Segment::new_checked(segment).ok()?;
                let (source, destination) = (segment.source_port(), segment.destination_port());
                Some(Self { source, destination, tcp_flags: segment.flags().0 })
            }
            _ => None,
        }
    }

    /// Writes it down, and says where it is behind an IP header of `ip` bytes.
    #[inline(always)]
    fn write(self, protocol: IpProtocol, ip: usize, slot: &mut Slot) -> Layers {
        slot.protocol = protocol.0;
        slot.src_port = self.source;
        slot.dst_port = self.destination;
        slot.to_port = self.destination;
        slot.tcp_flags = self.tcp_flags;
        let network = ethernet::HEADER_LEN;
        Layers { network: network as u16, transport: (network + ip) as u16 }
    }
}
