//! No octets make a checked view, a parser or an iterator panic, or walk for ever.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod walk;

use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::vlan::{Tci, Vid};
use millrace_wire::{
    IpProtocol, MacAddr, Ports, arp, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, vxlan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One good frame of each kind, so that mutations get past the first checks.
fn frames() -> Vec<Vec<u8>> {
    let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let tagged = ethernet.tagged(Tci::of(Vid::new(42).unwrap()));
    let v4 = ipv4::Repr::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let v6 = ipv6::Repr::new([1; 16].into(), [2; 16].into());
    let ports = Ports { source: 40_000, destination: vxlan::PORT };
    let syn = tcp::Repr {
        ports,
        flags: tcp::Flags::SYN,
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        ..tcp::Repr::default()
    };
    let chain = [
        [43, 0, 1, 4, 0, 0, 0, 0],
        [44, 0, 0, 0, 0, 0, 0, 0],
        [60, 0, 0, 1, 0, 0, 0, 9],
        [6, 0, 1, 4, 0, 0, 0, 0],
    ];

    let mut frames = Vec::new();
    let mut add = |build: &dyn Fn(&mut [u8]) -> Result<usize, builder::BuildError>| {
        let mut buffer = [0; 512];
        let len = build(&mut buffer).unwrap();
        frames.push(buffer[..len].to_vec());
        buffer[14..len].to_vec()
    };

    let request = arp::Repr::request(ethernet.source, v4.source, v4.destination);
    add(&|buffer| builder::arp(buffer, &tagged, &request));
    let packet = add(&|buffer| builder::tcp(buffer, &ethernet, &v4.into(), &syn, b"hello"));
    let packet6 = add(&|buffer| builder::tcp(buffer, &ethernet, &v6.into(), &syn, b"hello"));
    add(&|buffer| {
        let unreachable = icmpv4::Repr::DestinationUnreachable {
            code: icmpv4::Unreachable::PORT,
            next_hop_mtu: 0,
        };
        builder::icmpv4(buffer, &ethernet, &v4, &unreachable, &packet)
    });
    add(&|buffer| {
        let too_big = icmpv6::Repr::PacketTooBig { mtu: 1280 };
        builder::icmpv6(buffer, &ethernet, &v6, &too_big, &packet6)
    });
    add(&|buffer| {
        let solicitation = icmpv6::Repr::NeighborSolicitation { target: v6.destination };
        builder::icmpv6(buffer, &ethernet, &v6, &solicitation, &[1, 1, 2, 0, 0, 0, 0, 1])
    });
    add(&|buffer| {
        let chunks = [10, 0, 0, 6, 1, 2, 0, 0, 0, 3, 0, 4];
        builder::sctp(buffer, &ethernet, &v6.into(), &sctp::Repr { ports, tag: 1 }, &chunks)
    });
    add(&|buffer| {
        let payload = [&chain.concat()[..], &packet[20..]].concat();
        builder::ip(buffer, &ethernet, &Ip::V6(v6), IpProtocol::HOP_BY_HOP, &payload)
    });

    let inner = [&[8, 0, 0, 0, 0, 0, 1, 0], &frames[1][..]].concat();
    let mut buffer = [0; 512];
    let len = builder::udp(&mut buffer, &tagged, &v4.into(), ports, &inner).unwrap();
    frames.push(buffer[..len].to_vec());
    frames
}

#[test]
fn every_prefix_of_a_good_frame_is_walked() {
    for frame in frames() {
        for len in 0..=frame.len() {
            walk::frame(&frame[..len]);
            walk::all(&frame[..len]);
        }
    }
}

#[test]
fn every_suffix_of_a_good_frame_is_walked_as_any_protocol() {
    for frame in frames() {
        for start in 0..=frame.len() {
            walk::all(&frame[start..]);
        }
    }
}

#[test]
fn every_octet_of_a_good_frame_may_be_extreme() {
    for frame in frames() {
        for at in 0..frame.len() {
            for value in [0x00, 0x01, 0x0f, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xf0, 0xff] {
                let mut mutated = frame.clone();
                mutated[at] = value;
                walk::frame(&mutated);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_octets_are_walked(octets in vec(any::<u8>(), 0..200)) {
        walk::all(&octets);
    }

    #[test]
    fn mutated_frames_are_walked(
        frame in select(frames()),
        mutations in vec((any::<Index>(), any::<u8>()), 1..6),
        len in any::<Index>(),
    ) {
        let mut frame = frame;
        for (at, value) in mutations {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        walk::frame(&frame);
        walk::all(&frame[14..]);
        walk::frame(&frame[..len.index(frame.len())]);
    }
}
