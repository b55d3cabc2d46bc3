//! Packets for property tests (with the feature `proptest`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::testing::frames::{self, Flags};

/// Well-formed packets of every class, with addresses from small pools, so that
/// they meet each other.
pub fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (ends(), payload()).prop_map(|((a, b), payload)| frames::udp(&a, &b, &payload)),
        4 => (ends(), any::<u8>(), payload())
            .prop_map(|((a, b), flags, payload)| frames::tcp(&a, &b, Flags(flags & 0x3f), &payload)),
        1 => (ends(), payload()).prop_map(|((a, b), payload)| frames::sctp(&a, &b, &payload)),
        1 => ends().prop_map(|(a, b)| frames::ping(&host(&a), &host(&b))),
        1 => (v4(), v4()).prop_map(|(a, b)| frames::arp_request(&a.to_string(), &b.to_string())),
        1 => (v6(), v6())
            .prop_map(|(a, b)| frames::neighbour_solicitation(&a.to_string(), &b.to_string())),
        1 => (ends(), 200..=252u8, payload())
            .prop_map(|((a, b), protocol, payload)| frames::ip(&host(&a), &host(&b), protocol, &payload)),
    ]
}

/// Packets with some bytes changed or cut off: mostly malformed.
pub fn damaged_frame() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<Index>(), any::<u8>()), 0..5);
    (frame(), edits, any::<Option<Index>>()).prop_map(|(mut frame, edits, cut)| {
        for (index, value) in edits {
            let at = index.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        frame
    })
}

/// Two ends of one IP version, with ports.
fn ends() -> impl Strategy<Value = (String, String)> {
    let v4 = (v4().prop_map(IpAddr::from), v4().prop_map(IpAddr::from));
    let v6 = (v6().prop_map(IpAddr::from), v6().prop_map(IpAddr::from));
    (prop_oneof![v4, v6], port(), port()).prop_map(|((a, b), from, to)| {
        (SocketAddr::new(a, from).to_string(), SocketAddr::new(b, to).to_string())
    })
}

fn host(end: &str) -> String {
    end.parse::<SocketAddr>().expect("`ends` makes addresses with ports").ip().to_string()
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    (0..4u8, 1..8u8).prop_map(|(net, host)| Ipv4Addr::new(10, 0, net, host))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    (0..4u16, 1..8u16).prop_map(|(net, host)| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host))
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(53), Just(80), Just(443), 1024..1040u16, any::<u16>()]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..64)
}
