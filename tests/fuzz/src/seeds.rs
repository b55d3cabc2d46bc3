//! What mutation begins with: one good example of each kind, so that it gets past the first
//! checks.

use millrace_wire::builder::{self, BuildError, Ethernet, Ip};
use millrace_wire::vlan::{Tci, Vid};
use millrace_wire::{
    IpProtocol, MacAddr, Ports, arp, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, vxlan,
};

use crate::manifest::{everything, module_with};

/// An expression of each kind, with a frame.
pub fn expressions() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "host 10.0.0.1 and tcp port 4789",
        "src net 10.0.0.0/8 or dst host 2020::20",
        "not (udp or arp) and ip6",
        "portrange 4000-5000 icmp6 vlan 42 sctp",
    ];
    let frames = frames();
    let with_frame = |(text, frame): (&str, &Vec<u8>)| [text.as_bytes(), b"\n", frame].concat();
    texts.into_iter().zip(&frames).map(with_frame).collect()
}

/// A frame of each kind.
pub fn frames() -> Vec<Vec<u8>> {
    let plain = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let tagged = plain.tagged(Tci::of(Vid::new(42).expect("42 is a VLAN")));
    let v4 = ipv4::Repr::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let v6 = ipv6::Repr::new([0x20; 16].into(), [0x21; 16].into());
    let near = ipv6::Repr { hop_limit: 255, ..v6 };
    let ports = Ports { source: 40_000, destination: vxlan::PORT };
    let syn = tcp::Repr {
        ports,
        flags: tcp::Flags::SYN,
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        ..tcp::Repr::default()
    };
    let request = arp::Repr::request(plain.source, v4.source, v4.destination);
    let solicitation = icmpv6::Repr::NeighborSolicitation { target: v6.destination };
    let unreachable =
        icmpv4::Repr::DestinationUnreachable { code: icmpv4::Unreachable::PORT, next_hop_mtu: 0 };
    // hop-by-hop, routing, the first of several fragments, destination options
    let chain = [
        [43, 0, 1, 4, 0, 0, 0, 0],
        [44, 0, 0, 0, 0, 0, 0, 0],
        [60, 0, 0, 1, 0, 0, 0, 9],
        [6, 0, 1, 4, 0, 0, 0, 0],
    ];

    let segment = built(|b| builder::tcp(b, &plain, &v4.into(), &syn, b"hello"));
    let segment6 = built(|b| builder::tcp(b, &plain, &v6.into(), &syn, b"hello"));
    // without its data: fragments but the last have a multiple of eight octets
    let chained = [&chain.concat()[..], &segment[34..66]].concat();
    let tunnelled = [&[8, 0, 0, 0, 0, 0, 1, 0], &segment[..]].concat();
    vec![
        built(|b| builder::arp(b, &tagged, &request)),
        built(|b| builder::udp(b, &tagged, &v4.into(), ports, &tunnelled)),
        built(|b| builder::udp(b, &plain, &v6.into(), ports, b"?")),
        built(|b| builder::icmpv4(b, &plain, &v4, &unreachable, &segment[14..])),
        built(|b| {
            let echo = icmpv4::Repr::EchoRequest { ident: 7, sequence: 1 };
            builder::icmpv4(b, &plain, &v4, &echo, b"ping")
        }),
        built(|b| {
            let too_big = icmpv6::Repr::PacketTooBig { mtu: 1280 };
            builder::icmpv6(b, &plain, &v6, &too_big, &segment6[14..])
        }),
        built(|b| builder::icmpv6(b, &plain, &near, &solicitation, &[1, 1, 2, 0, 0, 0, 0, 1])),
        built(|b| {
            let chunks = [10, 0, 0, 6, 1, 2, 0, 0, 0, 3, 0, 4];
            builder::sctp(b, &plain, &v6.into(), &sctp::Repr { ports, tag: 1 }, &chunks)
        }),
        built(|b| builder::ip(b, &plain, &Ip::V6(v6), IpProtocol::HOP_BY_HOP, &chained)),
        segment,
        segment6,
    ]
}

/// Frames, packets and what they carry: a good example of each header, from its first octet on.
pub fn headers() -> Vec<Vec<u8>> {
    let starts = |frame: Vec<u8>| {
        let rests: Vec<_> = [0, 12, 14, 18, 34, 38, 54]
            .into_iter()
            .filter_map(|start| frame.get(start..).map(<[u8]>::to_vec))
            .collect();
        rests
    };
    frames().into_iter().flat_map(starts).collect()
}

/// Frames at ports, with what the filter is to say of them.
pub fn journeys() -> Vec<Vec<u8>> {
    // egress, fields (from the low octet on), inspect, control: see `puppet.wat`
    let decisions = [
        [0, 0, 0, 0, 0],    // floods, as said before
        [3, 0x41, 0, 0, 0], // leaves by one port, with a hop less
        [0, 0, 0, 0, 2],    // rejected
        [0, 0x80, 0, 1, 0], // inspected
    ];
    // where to write what, the new length, the reason, flags, verdict
    let answers = [[0; 8], [5, 9, 0, 0, 0, 0, 1, 0], [0, 2, 60, 0, 0, 0, 0, 2]];
    let mut journeys = Vec::new();
    for (number, frame) in frames().into_iter().enumerate() {
        for decision in decisions {
            let mut journey = [&[number as u8], &frame[..]].concat();
            journey[8..13].copy_from_slice(&decision);
            // behind the packet, where it changes no checksum
            journey.extend_from_slice(&answers[number % answers.len()]);
            journeys.push(journey);
        }
    }
    journeys
}

/// A manifest, modules, and edits.
pub fn modules() -> Vec<Vec<u8>> {
    let manifest = everything().to_string().into_bytes();
    let least = br#"{"abi":1,"name":"least","hooks":["flow"]}"#;
    vec![
        module_with([true; 4], &manifest),
        module_with([true, false, false, false], least),
        least.to_vec(),
        manifest,
        // a hook less, a class too many, a name too long
        b"\x01\x06\x00\x01".to_vec(),
        b"\x01\x02\x01\x00".to_vec(),
        b"\x01\x08\x04\x4f".to_vec(),
    ]
}

fn built(build: impl FnOnce(&mut [u8]) -> Result<usize, BuildError>) -> Vec<u8> {
    let mut buffer = [0; 512];
    let len = build(&mut buffer).expect("it fits");
    buffer[..len].to_vec()
}
