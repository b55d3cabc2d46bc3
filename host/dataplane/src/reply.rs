//! Frames that the host answers with: the sender of a packet that goes no further hears so.
//!
//! Replies are limited in rate, and never sent about a packet to or from a group, an
//! error, or a later fragment (RFC 1122 section 3.2.2, RFC 4443 section 2.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_abi::{Slot, slot_flag};
use millrace_parse::Layers;
use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::tcp::Flags;
use millrace_wire::{IpProtocol, MacAddr, Ports, icmpv4, icmpv6, ipv4, ipv6, tcp, vlan};

use crate::port::Gateway;

/// How many replies a worker sends.
#[derive(Debug)]
pub struct ReplyLimit {
    tokens: u64,
    filled_ns: u64,
}

impl ReplyLimit {
    /// A full bucket.
    pub fn new() -> Self {
        Self { tokens: BURST, filled_ns: 0 }
    }

    /// Whether one more reply may be sent.
    pub fn admit(&mut self, now_ns: u64) -> bool {
        let earned = now_ns.saturating_sub(self.filled_ns) / NS_PER_REPLY;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.filled_ns = now_ns;
        }
        let admitted = self.tokens > 0;
        self.tokens -= u64::from(admitted);
        admitted
    }
}

impl Default for ReplyLimit {
    fn default() -> Self {
        Self::new()
    }
}

/// What the sender of a packet that goes no further is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A filter rejects it: a TCP RST, or the ICMP error "port unreachable".
    Rejected,
    /// It has no hop left (RFC 792, RFC 4443 section 3.3).
    NoHopLeft(Gateway),
    /// It does not fit the way it is to go, which takes so many bytes (RFC 1191, RFC 8201).
    TooBig(Gateway, u32),
}

/// Writes into `reply` what tells the sender of `packet` of its fate. Returns its length; `None` if
/// nothing may be said.
///
/// A rejection seems to come from where the packet was going, all else from the gateway; the reply
/// has the packet's VLAN tag.
pub(crate) fn compose(
    notice: Notice,
    packet: &[u8],
    slot: &Slot,
    layers: Layers,
    reply: &mut [u8],
) -> Option<usize> {
    let (source, destination) = (slot.source()?, slot.destination()?);
    let silent = MacAddr(slot.dst_mac).is_multicast()
        || is_group(destination)
        || source.is_unspecified()
        || slot.flags & (slot_flag::LATER_FRAGMENT | slot_flag::ICMP_ERROR) != 0;
    if silent {
        return None;
    }

    let mut ethernet = Ethernet::new(MacAddr(slot.dst_mac), MacAddr(slot.src_mac));
    let network = usize::from(layers.network);
    if slot.flags & slot_flag::TAGGED != 0 {
        ethernet = ethernet.tagged(vlan::Frame::new_checked(&packet[14..]).ok()?.tci());
    }
    let is_tcp = slot.protocol == IpProtocol::TCP.0 && layers.transport != 0;
    if notice == Notice::Rejected && is_tcp {
        return reset(packet, slot, layers, &ethernet, (source, destination), reply);
    }
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (error, from) = notice.for_ipv4(destination)?;
            let ip = ipv4::Repr::new(from, source);
            let quote = icmpv4::quote(whole(packet, network)?);
            builder::icmpv4(reply, &ethernet, &ip, &error, quote).ok()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (error, from) = notice.for_ipv6(destination)?;
            let ip = ipv6::Repr::new(from, source);
            let quote = icmpv6::quote(whole(packet, network)?);
            builder::icmpv6(reply, &ethernet, &ip, &error, quote).ok()
        }
        _ => None,
    }
}

impl Notice {
    /// The error, and who sends it.
    fn for_ipv4(self, destination: Ipv4Addr) -> Option<(icmpv4::Repr, Ipv4Addr)> {
        let unreachable =
            |code, next_hop_mtu| icmpv4::Repr::DestinationUnreachable { code, next_hop_mtu };
        Some(match self {
            Self::Rejected => (unreachable(icmpv4::Unreachable::PORT, 0), destination),
            Self::NoHopLeft(gateway) => {
                let code = icmpv4::TimeExceeded::TRANSIT;
                (icmpv4::Repr::TimeExceeded { code }, gateway.v4?)
            }
            Self::TooBig(gateway, mtu) => {
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                (unreachable(icmpv4::Unreachable::FRAGMENTATION_NEEDED, mtu), gateway.v4?)
            }
        })
    }

    /// The error, and who sends it.
    fn for_ipv6(self, destination: Ipv6Addr) -> Option<(icmpv6::Repr, Ipv6Addr)> {
        Some(match self {
            Self::Rejected => {
                let code = icmpv6::Unreachable::PORT;
                (icmpv6::Repr::DestinationUnreachable { code }, destination)
            }
            Self::NoHopLeft(gateway) => {
                let code = icmpv6::TimeExceeded::TRANSIT;
                (icmpv6::Repr::TimeExceeded { code }, gateway.v6?)
            }
            Self::TooBig(gateway, mtu) => (icmpv6::Repr::PacketTooBig { mtu }, gateway.v6?),
        })
    }
}

/// A reset that the packet's sender believes (RFC 9293 section 3.10.7.1).
fn reset(
    packet: &[u8],
    slot: &Slot,
    layers: Layers,
    ethernet: &Ethernet,
    (source, destination): (IpAddr, IpAddr),
    reply: &mut [u8],
) -> Option<usize> {
    let packet = whole(packet, usize::from(layers.network))?;
    let header = usize::from(layers.transport) - usize::from(layers.network);
    let segment = tcp::Segment::new_checked(packet.get(header..)?).ok()?;
    let flags = segment.flags();
    if flags.contains(Flags::RST) {
        return None;
    }
    let opens = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
    let taken = segment.payload().len() as u32 + opens;
    let answered = flags.contains(Flags::ACK);
    let reset = tcp::Repr {
        ports: Ports { source: slot.dst_port, destination: slot.src_port },
        seq: if answered { segment.ack() } else { 0 },
        ack: if answered { 0 } else { segment.seq().wrapping_add(taken) },
        flags: if answered { Flags::RST } else { Flags::RST | Flags::ACK },
        ..tcp::Repr::default()
    };
    let ip = match (destination, source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ip::v4(from, to),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ip::v6(from, to),
        _ => return None,
    };
    builder::tcp(reply, ethernet, &ip, &reset, b"").ok()
}

/// The IP packet without what pads its frame.
fn whole(frame: &[u8], network: usize) -> Option<&[u8]> {
    let packet = frame.get(network..)?;
    let len = match packet.first()? >> 4 {
        4 => ipv4::Packet::new_checked(packet).ok()?.total_len(),
        _ => ipv6::HEADER_LEN + ipv6::Packet::new_checked(packet).ok()?.payload_len(),
    };
    packet.get(..len)
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Replies that a worker sends at once.
const BURST: u64 = 200;
/// Replies per second in the long run: 1000.
const NS_PER_REPLY: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const PORTS: Ports = Ports { source: 4000, destination: 80 };

    fn built(build: impl FnOnce(&mut [u8]) -> Result<usize, builder::BuildError>) -> Vec<u8> {
        let mut buffer = vec![0; 2000];
        let len = build(&mut buffer).expect("it fits");
        buffer.truncate(len);
        buffer
    }

    fn ips() -> [Ip; 2] {
        let v6 = |n| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        [Ip::v4([10, 0, 0, 1], [10, 0, 0, 2]), Ip::v6(v6(1), v6(2))]
    }

    fn rejected(frame: &[u8]) -> Option<(Vec<u8>, Slot, Layers)> {
        let mut slot = Slot::ZERO;
        let layers = millrace_parse::parse(frame, &mut slot).expect("it is well-formed");
        let mut reply = vec![0; 2000];
        let len = compose(Notice::Rejected, frame, &slot, layers, &mut reply)?;
        reply.truncate(len);
        let mut back = Slot::ZERO;
        let layers = millrace_parse::parse(&reply, &mut back).expect("a reply is well-formed");
        assert_eq!((back.src_mac, back.dst_mac), (slot.dst_mac, slot.src_mac));
        assert_eq!((back.src_addr, back.dst_addr), (slot.dst_addr, slot.src_addr));
        Some((reply, back, layers))
    }

    #[test]
    fn a_syn_is_reset_so_that_its_sender_believes_it() {
        for ip in ips() {
            let syn = tcp::Repr { ports: PORTS, seq: 99, flags: Flags::SYN, ..Default::default() };
            let frame = built(|b| builder::tcp(b, &Ethernet::new(A, B), &ip, &syn, b""));
            let (reply, slot, layers) = rejected(&frame).expect("it is told");
            let segment =
                tcp::Segment::new_checked(&reply[usize::from(layers.transport)..]).expect("TCP");
            assert_eq!((slot.src_port, slot.dst_port), (80, 4000));
            assert_eq!(segment.flags(), Flags::RST | Flags::ACK);
            assert_eq!((segment.seq(), segment.ack()), (0, 100));
        }
    }

    #[test]
    fn data_is_reset_with_the_number_it_expects_and_a_reset_is_not_answered() {
        let [ip, _] = ips();
        let data = |flags| {
            let tcp = tcp::Repr { ports: PORTS, seq: 5, ack: 77, flags, ..Default::default() };
            built(|b| builder::tcp(b, &Ethernet::new(A, B), &ip, &tcp, b"data"))
        };
        let (reply, _, layers) = rejected(&data(Flags::ACK)).expect("it is told");
        let segment =
            tcp::Segment::new_checked(&reply[usize::from(layers.transport)..]).expect("TCP");
        assert_eq!((segment.flags(), segment.seq()), (Flags::RST, 77));
        assert!(rejected(&data(Flags::RST)).is_none());
    }

    #[test]
    fn others_get_port_unreachable_with_a_quote_and_the_tag() {
        let tagged = Ethernet::new(A, B).tagged(vlan::Tci::of(vlan::Vid::new(9).expect("a VLAN")));
        for ip in ips() {
            let frame = built(|b| builder::udp(b, &tagged, &ip, PORTS, &[1; 1200]));
            let (_, slot, _) = rejected(&frame).expect("it is told");
            let unreachable = if slot.ip_version == 4 { (3, 3) } else { (1, 4) };
            assert_eq!((slot.icmp_type, slot.icmp_code), unreachable);
            assert_eq!(slot.vlan, 9);
        }
    }

    #[test]
    fn f4_the_gateway_says_that_a_packet_had_no_hop_left_or_was_too_big() {
        let gateway = Gateway {
            mac: B.0,
            v4: Some([10, 0, 0, 254].into()),
            v6: Some(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe)),
        };
        let mut kinds = Vec::new();
        for ip in ips() {
            let frame = built(|b| builder::udp(b, &Ethernet::new(A, B), &ip, PORTS, &[1; 1400]));
            let mut slot = Slot::ZERO;
            let layers = millrace_parse::parse(&frame, &mut slot).expect("it is well-formed");
            for notice in [Notice::NoHopLeft(gateway), Notice::TooBig(gateway, 1300)] {
                let mut reply = vec![0; 2000];
                let len = compose(notice, &frame, &slot, layers, &mut reply).expect("it is told");
                let mut back = Slot::ZERO;
                let layers = millrace_parse::parse(&reply[..len], &mut back).expect("well-formed");
                let from = [gateway.v4.map(IpAddr::from), gateway.v6.map(IpAddr::from)];
                assert!(from.contains(&back.source()), "{back:?}");
                assert_eq!(back.destination(), slot.source());
                let mtu = &reply[usize::from(layers.transport) + 4..][..4];
                kinds.push((back.icmp_type, back.icmp_code, [mtu[2], mtu[3]]));
            }
        }
        let mtu = 1300u16.to_be_bytes();
        assert_eq!(kinds, [(11, 0, [0, 0]), (3, 4, mtu), (3, 0, [0, 0]), (2, 0, mtu)]);
    }

    #[test]
    fn nothing_is_said_about_groups_and_errors() {
        let [ip, _] = ips();
        let group = Ip::v4([10, 0, 0, 1], [224, 0, 0, 5]);
        let to = |mac, ip: &Ip| built(|b| builder::udp(b, &Ethernet::new(A, mac), ip, PORTS, b""));
        assert!(rejected(&to(MacAddr::BROADCAST, &ip)).is_none());
        assert!(rejected(&to(B, &group)).is_none());
        let (error, ..) = rejected(&to(B, &ip)).expect("it is told");
        assert!(rejected(&error).is_none());
    }

    #[test]
    fn replies_are_limited_in_rate() {
        let mut limit = ReplyLimit::new();
        let admitted = |limit: &mut ReplyLimit, now| (0..1000).filter(|_| limit.admit(now)).count();
        assert_eq!(admitted(&mut limit, 1), BURST as usize);
        assert_eq!(admitted(&mut limit, 50_000_001), 50);
        assert_eq!(admitted(&mut limit, 50_000_002), 0);
    }
}
