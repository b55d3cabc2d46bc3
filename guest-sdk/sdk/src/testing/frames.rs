//! Packets by their addresses: `frames::udp("10.0.0.1:5000", "10.0.0.2:53", b"…")`.
//!
//! MAC addresses follow from IP addresses: `10.0.0.1` is `02:00:0a:00:00:01`. Every function
//! panics where an address is none, or the packet gets too long: tests give literals.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::abi::limits::MAX_FRAME;
use crate::wire::builder::{self, BuildError, Ethernet, Ip};
use crate::wire::vlan::{self, Tag, Tci, Vid};
use crate::wire::{
    EtherType, IpProtocol, MacAddr, Ports, arp, ethernet, icmpv4, icmpv6, ipv4, ipv6,
};

pub use crate::wire::tcp::Flags;

/// A UDP datagram from `source` to `destination`, each an address with a port.
pub fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (ends, ports) = sockets(source, destination);
    build(|frame| builder::udp(frame, &ends.ethernet(), &ends.ip(), ports, payload))
}

/// A TCP segment from `source` to `destination`, each an address with a port.
pub fn tcp(source: &str, destination: &str, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let (ends, ports) = sockets(source, destination);
    let tcp = crate::wire::tcp::Repr { ports, flags, window: u16::MAX, ..Default::default() };
    build(|frame| builder::tcp(frame, &ends.ethernet(), &ends.ip(), &tcp, payload))
}

/// An SCTP packet from `source` to `destination`, each an address with a port.
pub fn sctp(source: &str, destination: &str, chunks: &[u8]) -> Vec<u8> {
    let (ends, ports) = sockets(source, destination);
    let sctp = crate::wire::sctp::Repr { ports, tag: 1 };
    build(|frame| builder::sctp(frame, &ends.ethernet(), &ends.ip(), &sctp, chunks))
}

/// An ICMP or ICMPv6 echo request.
pub fn ping(source: &str, destination: &str) -> Vec<u8> {
    let ends = Ends { source: address(source), destination: address(destination) };
    let ethernet = ends.ethernet();
    match ends.ip() {
        Ip::V4(ip) => {
            let echo = icmpv4::Repr::EchoRequest { ident: 1, sequence: 1 };
            build(|frame| builder::icmpv4(frame, &ethernet, &ip, &echo, b"ping"))
        }
        Ip::V6(ip) => {
            let echo = icmpv6::Repr::EchoRequest { ident: 1, sequence: 1 };
            build(|frame| builder::icmpv6(frame, &ethernet, &ip, &echo, b"ping"))
        }
    }
}

/// An IP packet of any other protocol.
pub fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ends = Ends { source: address(source), destination: address(destination) };
    build(|frame| builder::ip(frame, &ends.ethernet(), &ends.ip(), IpProtocol(protocol), payload))
}

/// The question who has `target`, to everybody.
pub fn arp_request(source: &str, target: &str) -> Vec<u8> {
    let (source, target) = (v4(source), v4(target));
    let ethernet = Ethernet::new(mac(source.into()), MacAddr::BROADCAST);
    build(|frame| {
        builder::arp(frame, &ethernet, &arp::Repr::request(mac(source.into()), source, target))
    })
}

/// The answer of `source` to `target`'s question.
pub fn arp_reply(source: &str, target: &str) -> Vec<u8> {
    let (source, target) = (v4(source), v4(target));
    let ethernet = Ethernet::new(mac(source.into()), mac(target.into()));
    let request = arp::Repr::request(mac(target.into()), target, source);
    build(|frame| builder::arp(frame, &ethernet, &request.answer(mac(source.into()))))
}

/// A neighbour solicitation for `target` (RFC 4861).
pub fn neighbour_solicitation(source: &str, target: &str) -> Vec<u8> {
    let IpAddr::V6(wanted) = address(target) else { panic!("{target} is no IPv6 address") };
    let group = ipv6::solicited_node(wanted);
    let ends = Ends { source: address(source), destination: group.into() };
    let Ip::V6(ip) = ends.ip() else { panic!("{source} is no IPv6 address") };
    let ip = ipv6::Repr { hop_limit: 255, ..ip };
    let solicitation = icmpv6::Repr::NeighborSolicitation { target: wanted };
    build(|frame| builder::icmpv6(frame, &ends.ethernet(), &ip, &solicitation, b""))
}

/// The MAC address that this module gives to an address.
pub fn mac(address: IpAddr) -> MacAddr {
    if let Some(group) = MacAddr::for_multicast(address) {
        return group;
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => MacAddr::BROADCAST,
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            MacAddr([2, 0, a, b, c, d])
        }
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            MacAddr([2, 6, a, b, c, d])
        }
    }
}

/// The frame with these MAC addresses.
pub fn between(mut frame: Vec<u8>, source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let mut view = ethernet::Frame::new_unchecked(&mut frame);
    view.set_source(source);
    view.set_destination(destination);
    frame
}

/// The frame with an 802.1Q tag.
pub fn tagged(frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let mut frame = [vec![0; vlan::TAG_LEN], frame].concat();
    let vid = Vid::new(vlan).unwrap_or_else(|| panic!("{vlan} is no VLAN"));
    let tag = Tag { ether_type: EtherType::VLAN, tci: Tci::of(vid) };
    vlan::push(&mut frame, tag).expect("there is room for a tag");
    frame
}

struct Ends {
    source: IpAddr,
    destination: IpAddr,
}

impl Ends {
    fn ethernet(&self) -> Ethernet {
        Ethernet::new(mac(self.source), mac(self.destination))
    }

    fn ip(&self) -> Ip {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ip::V4(ipv4::Repr::new(source, destination))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ip::V6(ipv6::Repr::new(source, destination))
            }
            (source, destination) => panic!("{source} and {destination} are of two IP versions"),
        }
    }
}

fn sockets(source: &str, destination: &str) -> (Ends, Ports) {
    let parse = |text: &str| -> SocketAddr {
        text.parse().unwrap_or_else(|_| panic!("`{text}` is not an address with a port"))
    };
    let (source, destination) = (parse(source), parse(destination));
    let ports = Ports { source: source.port(), destination: destination.port() };
    (Ends { source: source.ip(), destination: destination.ip() }, ports)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not an address"))
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not an IPv4 address"))
}

fn build(build: impl FnOnce(&mut [u8]) -> Result<usize, BuildError>) -> Vec<u8> {
    let mut frame = vec![0; MAX_FRAME];
    let len =
        build(&mut frame).unwrap_or_else(|error| panic!("the packet cannot be built: {error}"));
    frame.truncate(len);
    frame
}
