//! Pods behind the bridge and the router: what stays on the segment, what is routed, and what
//! goes no further.

use std::collections::BTreeMap;

use millrace_abi::Reason;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::memory_io::MemoryIo;
use millrace_dataplane::port::{Gateway, Hold, PortId, Station};
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::wire::{MacAddr, ethernet, ipv4, ipv6};
use millrace_packet_tests::{Plane, built_in, load, plane};

/// The port of the host is 1, that of the first pod 2, that of the second 3.
const PORTS: [&str; 3] = ["host", "pod1", "pod2"];
const MACS: [MacAddr; 3] = [HOST, POD1, POD2];

pub(crate) const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
pub(crate) const POD1: MacAddr = MacAddr([2, 0, 10, 1, 0, 11]);
pub(crate) const POD2: MacAddr = MacAddr([2, 0, 10, 1, 0, 12]);

const BRIDGE: &str = r#"{
    "gateway": {"mac": "02:00:00:00:00:fe", "addresses": ["10.1.0.1", "fd00:1::1"]},
    "host": {"port": 1, "mac": "02:00:00:00:00:aa"},
    "pods": [
        {"port": 2, "mac": "02:00:0a:01:00:0b", "addresses": ["10.1.0.11", "fd00:1::11"]},
        {"port": 3, "mac": "02:00:0a:01:00:0c", "addresses": ["10.1.0.12", "fd00:1::12"]}
    ]
}"#;

const ROUTER: &str = r#"{
    "gatewayMac": "02:00:00:00:00:fe",
    "routes": [
        {"prefix": "10.1.0.11/32", "via": [{"port": 2}]},
        {"prefix": "10.1.0.12/32", "via": [{"port": 3}]},
        {"prefix": "10.1.0.0/24", "kind": "unreachable"},
        {"prefix": "10.66.0.0/16", "kind": "blackhole"},
        {"prefix": "0.0.0.0/0", "via": [{"port": 1}]},
        {"prefix": "fd00:1::12/128", "via": [{"port": 3}]}
    ]
}"#;

/// The ports as cached ones, behind the bridge and the router.
pub(crate) fn node() -> Plane {
    let mut plane = plane(&PORTS);
    plane.run(|worker| {
        // the punt has no queue in memory unless somebody makes one
        let frames = worker.io.free();
        worker.io = MemoryIo::new([PortId::PUNT], frames, frames);
    });
    let gateway =
        Gateway { mac: GATEWAY.0, v4: "10.1.0.1".parse().ok(), v6: "fd00:1::1".parse().ok() };
    for (name, mac) in PORTS.into_iter().zip(MACS) {
        let id = plane.port(name).expect("it is one of ours");
        plane.run(move |worker| {
            let mut held = worker.remove_port(id).expect("it is there");
            held.port.hold = Hold::Cached(Station { mac: mac.0, gateway });
            worker.add_port(held);
        });
    }
    load(&mut plane, built_in("bridge", "bridge", BRIDGE));
    load(&mut plane, built_in("router", "router", ROUTER));
    plane
}

/// Lets a frame come in by a port through the punt; what left, by port.
fn pass(plane: &mut Plane, port: &str, frame: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let id = plane.port(port).expect("it is one of ours");
    let frame = frames::tagged(frame, id.number());
    let left = plane.run(move |worker| {
        worker.io.feed(PortId::PUNT, &frame);
        while worker.round() > 0 {}
        worker.io.collect(PortId::PUNT)
    });
    left.into_iter()
        .map(|frame| {
            let port = usize::from(u16::from_be_bytes([frame[14], frame[15]]));
            (PORTS[port - 1].to_owned(), [&frame[..12], &frame[16..]].concat())
        })
        .collect()
}

/// A datagram from pod 1, sent to `to`.
pub(crate) fn from_pod1(to: MacAddr, destination: &str) -> Vec<u8> {
    let source = if destination.contains('[') { "[fd00:1::11]:1000" } else { "10.1.0.11:1000" };
    frames::between(frames::udp(source, destination, b"x"), POD1, to)
}

fn addresses(frame: &[u8]) -> (MacAddr, MacAddr) {
    let frame = ethernet::Frame::new_checked(frame).expect("a frame");
    (frame.source(), frame.destination())
}

fn hops(frame: &[u8]) -> u8 {
    match frame[12] {
        8 => ipv4::Packet::new_checked(&frame[14..]).expect("an IPv4 packet").ttl(),
        _ => ipv6::Packet::new_checked(&frame[14..]).expect("an IPv6 packet").hop_limit(),
    }
}

#[test]
fn within_a_segment_frames_go_as_they_came_and_lose_no_hop() {
    let mut plane = node();
    for destination in ["10.1.0.12:80", "[fd00:1::12]:80"] {
        let frame = from_pod1(POD2, destination);
        let left = pass(&mut plane, "pod1", frame.clone());
        assert_eq!(left, BTreeMap::from([("pod2".to_owned(), frame)]), "{destination}");
    }
}

#[test]
fn what_is_sent_to_the_gateway_is_routed_and_loses_a_hop() {
    let mut plane = node();
    for (destination, port, to) in [
        ("10.1.0.12:80", "pod2", POD2),
        ("[fd00:1::12]:80", "pod2", POD2),
        ("192.0.2.1:80", "host", HOST),
    ] {
        let frame = from_pod1(GATEWAY, destination);
        let left = pass(&mut plane, "pod1", frame.clone());
        assert_eq!(left.keys().collect::<Vec<_>>(), [port], "{destination}");
        let routed = &left[port];
        assert_eq!(addresses(routed), (GATEWAY, to), "{destination}");
        assert_eq!(hops(routed), hops(&frame) - 1, "{destination}");
    }
    assert_eq!(plane.count(Fate::Forwarded), 3);
}

#[test]
fn f4_a_packet_on_its_last_hop_is_not_routed_but_bridged() {
    let mut plane = node();
    let last_hop = |to| {
        let mut frame = from_pod1(to, "10.1.0.12:80");
        let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
        while packet.ttl() > 1 {
            packet.decrement_ttl();
        }
        frame
    };
    assert!(pass(&mut plane, "pod1", last_hop(POD2)).contains_key("pod2"));
    assert!(!pass(&mut plane, "pod1", last_hop(GATEWAY)).contains_key("pod2"));
    assert_eq!(plane.count(Fate::Dropped(Reason::TtlExceeded)), 1);
}

#[test]
fn where_no_route_leads_packets_end_with_their_reason() {
    let mut plane = node();
    let syn = frames::tcp("10.1.0.11:1000", "10.1.0.99:80", Flags::SYN, b"");
    let told = pass(&mut plane, "pod1", frames::between(syn, POD1, GATEWAY));
    assert_eq!(told.keys().collect::<Vec<_>>(), ["pod1"], "the sender is told");
    assert_eq!(plane.count(Fate::Rejected(Reason::NoRoute)), 1);
    assert!(pass(&mut plane, "pod1", from_pod1(GATEWAY, "10.66.0.1:80")).is_empty());
    assert_eq!(plane.count(Fate::Dropped(Reason::Blackhole)), 1);
    assert!(pass(&mut plane, "pod1", from_pod1(GATEWAY, "[fd00:9::1]:80")).is_empty());
    assert_eq!(plane.count(Fate::Dropped(Reason::NoRoute)), 1);
}

#[test]
fn f6_questions_for_the_gateway_and_for_pods_are_answered_to_the_pod_that_asks() {
    let mut plane = node();
    for (target, mac) in [("10.1.0.1", GATEWAY), ("10.1.0.12", POD2)] {
        for to in [MacAddr::BROADCAST, mac] {
            let asked = frames::arp_request("10.1.0.11", target);
            let left = pass(&mut plane, "pod1", frames::between(asked, POD1, to));
            assert_eq!(left.keys().collect::<Vec<_>>(), ["pod1"], "{target} asked of {to}");
            assert_eq!(addresses(&left["pod1"]), (mac, POD1));
            assert_eq!(left["pod1"][22..28], mac.0);
        }
    }
    for (target, mac) in [("fd00:1::1", GATEWAY), ("fd00:1::12", POD2)] {
        let left = pass(&mut plane, "pod1", solicitation("fd00:1::11", target));
        assert_eq!(left.keys().collect::<Vec<_>>(), ["pod1"], "{target}");
        assert_eq!(addresses(&left["pod1"]), (mac, POD1));
    }
    assert!(plane.stage("bridge").counters.faults.values().all(|&faults| faults == 0));
}

#[test]
fn f6_nobody_answers_a_pod_that_looks_for_its_own_address() {
    let mut plane = node();
    let left = pass(&mut plane, "pod1", solicitation("::", "fd00:1::11"));
    assert_eq!(left.keys().collect::<Vec<_>>(), ["host", "pod2"]);
    let left = pass(&mut plane, "pod1", solicitation("::", "fd00:1::12"));
    assert_eq!(left.keys().collect::<Vec<_>>(), ["pod1"], "another has it");
}

#[test]
fn what_a_pod_says_in_the_name_of_others_ends_there() {
    let mut plane = node();
    let forged = frames::udp("10.1.0.12:1000", "10.1.0.1:80", b"x");
    assert!(pass(&mut plane, "pod1", frames::between(forged, POD1, GATEWAY)).is_empty());
    let forged = from_pod1(POD2, "10.1.0.12:80");
    assert!(pass(&mut plane, "pod1", frames::between(forged, POD2, GATEWAY)).is_empty());
    let announced = frames::arp_request("10.1.0.1", "10.1.0.1");
    let announced = frames::between(announced, POD1, MacAddr::BROADCAST);
    assert!(pass(&mut plane, "pod1", announced).is_empty());
    assert_eq!(plane.count(Fate::Dropped(Reason::SpoofedAddress)), 1);
    assert_eq!(plane.count(Fate::Dropped(Reason::SpoofedMac)), 2, "the sender's in ARP counts too");
}

/// A solicitation of pod 1. Its link-layer option is left out, as it may be.
fn solicitation(source: &str, target: &str) -> Vec<u8> {
    let frame = frames::neighbour_solicitation(source, target);
    let group = MacAddr(frame[..6].try_into().expect("a frame begins with its destination"));
    frames::between(frame, POD1, group)
}
