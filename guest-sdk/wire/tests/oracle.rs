//! Frames as another implementation, etherparse, builds and reads them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpDscp, IpEcn, IpHeaders, Ipv4Header, Ipv6FlowLabel,
    Ipv6Header, PacketBuilder, PacketBuilderStep, SingleVlanHeader, TcpHeader, TcpOptionElement,
    VlanHeader, VlanId, VlanPcp, ip_number,
};
use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::ip::Ecn;
use millrace_wire::tcp::{Flags, Timestamps};
use millrace_wire::vlan::{self, Tci, Vid};
use millrace_wire::{
    EtherType, IpProtocol, MacAddr, Ports, ethernet, icmpv4, icmpv6, ipv4, ipv6, tcp,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Built = Result<usize, builder::BuildError>;

fn ours(build: impl FnOnce(&mut [u8]) -> Built) -> Vec<u8> {
    let mut buffer = [0; 512];
    let len = build(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

fn ethernet() -> impl Strategy<Value = Ethernet> {
    let tci = (0u8..8, any::<bool>(), 0u16..4096).prop_map(|(priority, drop_eligible, vid)| Tci {
        priority,
        drop_eligible,
        vid: Vid::new(vid).unwrap(),
    });
    (any::<[u8; 6]>(), any::<[u8; 6]>(), prop::option::of(tci)).prop_map(
        |(source, destination, vlan)| Ethernet {
            source: MacAddr(source),
            destination: MacAddr(destination),
            vlan,
        },
    )
}

fn ip_v4() -> impl Strategy<Value = ipv4::Repr> {
    let fragment = (any::<u16>(), any::<bool>());
    (any::<([u8; 4], [u8; 4], u8, u8)>(), 0u8..64, fragment).prop_map(
        |((source, destination, ttl, ecn), dscp, (ident, dont_fragment))| ipv4::Repr {
            ttl,
            dscp,
            ecn: Ecn::from_bits(ecn),
            ident,
            dont_fragment,
            ..ipv4::Repr::new(source.into(), destination.into())
        },
    )
}

fn ip_v6() -> impl Strategy<Value = ipv6::Repr> {
    (any::<([u8; 16], [u8; 16], u8, u8)>(), 0u8..64, 0u32..1 << 20).prop_map(
        |((source, destination, hop_limit, ecn), dscp, flow_label)| ipv6::Repr {
            hop_limit,
            dscp,
            ecn: Ecn::from_bits(ecn),
            flow_label,
            ..ipv6::Repr::new(source.into(), destination.into())
        },
    )
}

fn ip() -> impl Strategy<Value = Ip> {
    prop_oneof![ip_v4().prop_map(Ip::V4), ip_v6().prop_map(Ip::V6)]
}

fn ports() -> impl Strategy<Value = Ports> {
    any::<(u16, u16)>().prop_map(|(source, destination)| Ports { source, destination })
}

fn segment() -> impl Strategy<Value = tcp::Repr> {
    let numbers = any::<(u32, u32, u8, u16, u16)>();
    let options = any::<(Option<u16>, Option<u8>, bool, Option<(u32, u32)>)>();
    (ports(), numbers, options).prop_map(|(ports, numbers, options)| tcp::Repr {
        ports,
        seq: numbers.0,
        ack: numbers.1,
        flags: Flags(numbers.2),
        window: numbers.3,
        urgent: numbers.4,
        max_segment_size: options.0,
        window_scale: options.1,
        sack_permitted: options.2,
        timestamps: options.3.map(|(value, echo)| Timestamps { value, echo }),
    })
}

/// The oracle's Ethernet and IP layers; it fills in types and lengths.
fn theirs(ethernet: &Ethernet, ip: &Ip) -> PacketBuilderStep<IpHeaders> {
    let link = PacketBuilder::ethernet2(ethernet.source.octets(), ethernet.destination.octets());
    match ethernet.vlan {
        None => link.ip(ip_headers(ip)),
        Some(tci) => link
            .vlan(VlanHeader::Single(SingleVlanHeader {
                pcp: VlanPcp::try_new(tci.priority).unwrap(),
                drop_eligible_indicator: tci.drop_eligible,
                vlan_id: VlanId::try_new(tci.vid.number()).unwrap(),
                ether_type: etherparse::EtherType(0),
            }))
            .ip(ip_headers(ip)),
    }
}

fn ip_headers(ip: &Ip) -> IpHeaders {
    match ip {
        Ip::V4(repr) => {
            let (source, destination) = (repr.source.octets(), repr.destination.octets());
            let mut header =
                Ipv4Header::new(0, repr.ttl, ip_number::TCP, source, destination).unwrap();
            header.dscp = IpDscp::try_new(repr.dscp).unwrap();
            header.ecn = IpEcn::try_new(repr.ecn.bits()).unwrap();
            header.identification = repr.ident;
            header.dont_fragment = repr.dont_fragment;
            IpHeaders::Ipv4(header, Default::default())
        }
        Ip::V6(repr) => {
            let header = Ipv6Header {
                traffic_class: repr.dscp << 2 | repr.ecn.bits(),
                flow_label: Ipv6FlowLabel::try_new(repr.flow_label).unwrap(),
                payload_length: 0,
                next_header: ip_number::TCP,
                hop_limit: repr.hop_limit,
                source: repr.source.octets(),
                destination: repr.destination.octets(),
            };
            IpHeaders::Ipv6(header, Default::default())
        }
    }
}

/// The options in the order and with the padding that `tcp::Repr` gives them.
fn tcp_header(repr: &tcp::Repr) -> TcpHeader {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, Timestamp, WindowScale,
    };

    let mut header =
        TcpHeader::new(repr.ports.source, repr.ports.destination, repr.seq, repr.window);
    header.acknowledgment_number = repr.ack;
    header.urgent_pointer = repr.urgent;
    header.fin = repr.flags.contains(Flags::FIN);
    header.syn = repr.flags.contains(Flags::SYN);
    header.rst = repr.flags.contains(Flags::RST);
    header.psh = repr.flags.contains(Flags::PSH);
    header.ack = repr.flags.contains(Flags::ACK);
    header.urg = repr.flags.contains(Flags::URG);
    header.ece = repr.flags.contains(Flags::ECE);
    header.cwr = repr.flags.contains(Flags::CWR);

    let mut options = Vec::new();
    options.extend(repr.max_segment_size.map(MaximumSegmentSize));
    if repr.sack_permitted {
        options.extend([Noop, Noop, SelectiveAcknowledgementPermitted]);
    }
    if let Some(Timestamps { value, echo }) = repr.timestamps {
        options.extend([Noop, Noop, Timestamp(value, echo)]);
    }
    if let Some(shift) = repr.window_scale {
        options.extend([Noop, WindowScale(shift)]);
    }
    header.set_options(&options).unwrap();
    header
}

proptest! {
    #[test]
    fn udp_frames_are_the_same(
        ethernet in ethernet(), ip in ip(), ports in ports(), payload in vec(any::<u8>(), 0..99),
    ) {
        let built = ours(|buffer| builder::udp(buffer, &ethernet, &ip, ports, &payload));

        let mut expected = Vec::new();
        let oracle = theirs(&ethernet, &ip).udp(ports.source, ports.destination);
        oracle.write(&mut expected, &payload).unwrap();
        prop_assert_eq!(built, expected);
    }

    #[test]
    fn tcp_frames_are_the_same(
        ethernet in ethernet(), ip in ip(), segment in segment(),
        payload in vec(any::<u8>(), 0..99),
    ) {
        let built = ours(|buffer| builder::tcp(buffer, &ethernet, &ip, &segment, &payload));

        let mut expected = Vec::new();
        let oracle = theirs(&ethernet, &ip).tcp_header(tcp_header(&segment));
        oracle.write(&mut expected, &payload).unwrap();
        prop_assert_eq!(built, expected);
    }

    #[test]
    fn icmp_frames_are_the_same(
        ethernet in ethernet(), ip in ip_v4(), number in any::<(u16, u16)>(),
        payload in vec(any::<u8>(), 0..99),
    ) {
        for (icmp, oracle) in icmpv4_rows(number.0, number.1) {
            let built = ours(|buffer| builder::icmpv4(buffer, &ethernet, &ip, &icmp, &payload));

            let mut expected = Vec::new();
            let oracle = theirs(&ethernet, &ip.into()).icmpv4(oracle);
            oracle.write(&mut expected, &payload).unwrap();
            prop_assert_eq!(built, expected, "{:?}", icmp);
        }
    }

    #[test]
    fn icmpv6_frames_are_the_same(
        ethernet in ethernet(), ip in ip_v6(), number in any::<(u16, u16)>(),
        payload in vec(any::<u8>(), 0..99),
    ) {
        for (icmp, oracle) in icmpv6_rows(number.0, number.1) {
            let built = ours(|buffer| builder::icmpv6(buffer, &ethernet, &ip, &icmp, &payload));

            let mut expected = Vec::new();
            let oracle = theirs(&ethernet, &ip.into()).icmpv6(oracle);
            oracle.write(&mut expected, &payload).unwrap();
            prop_assert_eq!(built, expected, "{:?}", icmp);
        }
    }

    #[test]
    fn what_the_oracle_wrote_is_read_the_same(
        ethernet in ethernet(), ip in ip(), segment in segment(),
        payload in vec(any::<u8>(), 0..99),
    ) {
        let mut octets = Vec::new();
        let oracle = theirs(&ethernet, &ip).tcp_header(tcp_header(&segment));
        oracle.write(&mut octets, &payload).unwrap();

        let frame = ethernet::Frame::new_checked(&octets[..]).unwrap();
        prop_assert_eq!(frame.source(), ethernet.source);
        prop_assert_eq!(frame.destination(), ethernet.destination);
        let (ether_type, packet) = match ethernet.vlan {
            None => (frame.ether_type(), frame.into_payload()),
            Some(tci) => {
                prop_assert_eq!(frame.ether_type(), EtherType::VLAN);
                let tagged = vlan::Frame::new_checked(frame.into_payload()).unwrap();
                prop_assert_eq!(tagged.tci(), tci);
                (tagged.ether_type(), tagged.into_payload())
            }
        };

        let payload_len = (segment.buffer_len() + payload.len()) as u16;
        let (transport, pseudo) = match ip {
            Ip::V4(ip) => {
                prop_assert_eq!(ether_type, EtherType::IPV4);
                let packet = ipv4::Packet::new_checked(packet).unwrap();
                prop_assert!(packet.verify_checksum());
                let expected = ipv4::Repr { protocol: IpProtocol::TCP, payload_len, ..ip };
                prop_assert_eq!(ipv4::Repr::parse(&packet), Ok(expected));
                (packet.into_payload(), packet.pseudo())
            }
            Ip::V6(ip) => {
                prop_assert_eq!(ether_type, EtherType::IPV6);
                let packet = ipv6::Packet::new_checked(packet).unwrap();
                let expected = ipv6::Repr { next_header: IpProtocol::TCP, payload_len, ..ip };
                prop_assert_eq!(ipv6::Repr::parse(&packet), Ok(expected));
                (packet.into_payload(), packet.pseudo())
            }
        };
        let read = tcp::Segment::new_checked(transport).unwrap();
        prop_assert!(read.verify_checksum(pseudo));
        prop_assert_eq!(tcp::Repr::parse(&read), Ok(segment));
        prop_assert_eq!(read.payload(), &payload[..]);
    }
}

fn icmpv4_rows(ident: u16, sequence: u16) -> [(icmpv4::Repr, Icmpv4Type); 4] {
    use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};

    let echo = IcmpEchoHeader { id: ident, seq: sequence };
    let next_hop_mtu = sequence;
    [
        (icmpv4::Repr::EchoRequest { ident, sequence }, Icmpv4Type::EchoRequest(echo)),
        (icmpv4::Repr::EchoReply { ident, sequence }, Icmpv4Type::EchoReply(echo)),
        (
            icmpv4::Repr::DestinationUnreachable {
                code: icmpv4::Unreachable::FRAGMENTATION_NEEDED,
                next_hop_mtu,
            },
            Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }),
        ),
        (
            icmpv4::Repr::TimeExceeded { code: icmpv4::TimeExceeded::TRANSIT },
            Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
        ),
    ]
}

fn icmpv6_rows(ident: u16, sequence: u16) -> [(icmpv6::Repr, Icmpv6Type); 6] {
    use etherparse::icmpv6::{
        DestUnreachableCode, ParameterProblemCode, ParameterProblemHeader, TimeExceededCode,
    };

    let echo = IcmpEchoHeader { id: ident, seq: sequence };
    let number = u32::from(ident) << 16 | u32::from(sequence);
    [
        (icmpv6::Repr::EchoRequest { ident, sequence }, Icmpv6Type::EchoRequest(echo)),
        (icmpv6::Repr::EchoReply { ident, sequence }, Icmpv6Type::EchoReply(echo)),
        (
            icmpv6::Repr::DestinationUnreachable { code: icmpv6::Unreachable::PORT },
            Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
        ),
        (icmpv6::Repr::PacketTooBig { mtu: number }, Icmpv6Type::PacketTooBig { mtu: number }),
        (
            icmpv6::Repr::TimeExceeded { code: icmpv6::TimeExceeded::TRANSIT },
            Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded),
        ),
        (
            icmpv6::Repr::ParameterProblem {
                code: icmpv6::ParameterProblem::NEXT_HEADER,
                pointer: number,
            },
            Icmpv6Type::ParameterProblem(ParameterProblemHeader {
                code: ParameterProblemCode::UnrecognizedNextHeader,
                pointer: number,
            }),
        ),
    ]
}
