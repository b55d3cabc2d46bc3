//! ARP and neighbour discovery for those who are known (F6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_filter::Reason;
use millrace_filter::abi::PacketVerdict;
use millrace_filter::testing::{Outcome, Rig, frames};
use millrace_filter::wire::builder::{self, Ethernet};
use millrace_filter::wire::checksum::Pseudo;
use millrace_filter::wire::icmpv6::{self, NdOption};
use millrace_filter::wire::{MacAddr, arp, ethernet, ipv6};
use proptest::prelude::*;

use super::pods::{CONFIG, GATEWAY, HOST, POD1, POD2, STRANGER};
use super::{dropped, goes_to};
use crate::Bridge;

fn rig() -> Rig<Bridge> {
    Rig::new(CONFIG)
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn arp(link: (MacAddr, MacAddr), arp: arp::Repr) -> Vec<u8> {
    let mut frame = vec![0; 64];
    let ethernet = Ethernet::new(link.0, link.1);
    let len = builder::arp(&mut frame, &ethernet, &arp).expect("there is room");
    frame.truncate(len);
    frame
}

/// `mac`, which says that it is `sender`, asks everybody for `target`.
fn arp_question(mac: MacAddr, sender: &str, target: &str) -> Vec<u8> {
    arp((mac, MacAddr::BROADCAST), arp::Repr::request(mac, v4(sender), v4(target)))
}

/// A message of neighbour discovery.
struct Message<'m> {
    link: (MacAddr, MacAddr),
    ip: (Ipv6Addr, Ipv6Addr),
    icmp: icmpv6::Repr,
    options: &'m [NdOption<'m>],
}

impl Message<'_> {
    fn frame(&self) -> Vec<u8> {
        let mut options = Vec::new();
        for option in self.options {
            let mut bytes = vec![0; option.buffer_len()];
            option.emit(&mut bytes);
            options.extend(bytes);
        }
        let ip = ipv6::Repr { hop_limit: 255, ..ipv6::Repr::new(self.ip.0, self.ip.1) };
        let mut frame = vec![0; 512];
        let ethernet = Ethernet::new(self.link.0, self.link.1);
        let len = builder::icmpv6(&mut frame, &ethernet, &ip, &self.icmp, &options);
        frame.truncate(len.expect("there is room"));
        frame
    }
}

/// `mac` at `source` asks the group of `target` for it.
fn solicitation(mac: MacAddr, source: &str, target: &str) -> Vec<u8> {
    let (source, target) = (v6(source), v6(target));
    let group = ipv6::solicited_node(target);
    let known = [NdOption::SourceLinkLayer(mac)];
    Message {
        link: (mac, MacAddr::for_multicast(group.into()).expect("it is a group")),
        ip: (source, group),
        icmp: icmpv6::Repr::NeighborSolicitation { target },
        options: if source.is_unspecified() { &[] } else { &known },
    }
    .frame()
}

/// `mac` tells all that it has `target`.
fn advertisement(mac: MacAddr, source: &str, target: &str, says: MacAddr, router: bool) -> Vec<u8> {
    let all = v6("ff02::1");
    let target = v6(target);
    Message {
        link: (mac, MacAddr::for_multicast(all.into()).expect("it is a group")),
        ip: (v6(source), all),
        icmp: icmpv6::Repr::NeighborAdvertisement {
            target,
            router,
            solicited: false,
            overrides: true,
        },
        options: &[NdOption::TargetLinkLayer(says)],
    }
    .frame()
}

/// Who is at `address`, as an ARP reply says.
fn arp_answer(outcome: &Outcome) -> Option<arp::Repr> {
    (outcome.verdict == PacketVerdict::Answer).then(|| {
        let frame = ethernet::Frame::new_checked(&outcome.bytes[..]).expect("a frame");
        let packet = arp::Packet::new_checked(frame.into_payload()).expect("an ARP packet");
        let reply = arp::Repr::parse(&packet).expect("it is sound");
        assert_eq!(reply.operation, arp::Operation::REPLY);
        assert_eq!(frame.source(), reply.sender_mac);
        assert_eq!(frame.destination(), reply.target_mac);
        assert!(frame.destination().is_unicast());
        reply
    })
}

/// An advertisement that answers: link-layer addresses, IP addresses, message, stated address.
type Advertised = ((MacAddr, MacAddr), (Ipv6Addr, Ipv6Addr), icmpv6::Repr, MacAddr);

fn nd_answer(outcome: &Outcome) -> Option<Advertised> {
    (outcome.verdict == PacketVerdict::Answer).then(|| {
        let frame = ethernet::Frame::new_checked(&outcome.bytes[..]).expect("a frame");
        let packet = ipv6::Packet::new_checked(frame.into_payload()).expect("an IPv6 packet");
        assert_eq!(packet.hop_limit(), 255);
        let ip = (packet.source(), packet.destination());
        let message = icmpv6::Packet::new_checked(packet.payload()).expect("a message");
        assert!(message.verify_checksum(Pseudo::v6(ip.0, ip.1)));
        let Some(Ok(NdOption::TargetLinkLayer(mac))) = message.options().next() else {
            panic!("it says no address");
        };
        let icmp = icmpv6::Repr::parse(&message).expect("it is sound");
        ((frame.source(), frame.destination()), ip, icmp, mac)
    })
}

/// Whether a message passes as it came.
fn passes(outcome: &Outcome) -> bool {
    outcome.verdict == PacketVerdict::Pass
}

#[test]
fn f6_arp_for_the_gateway_and_for_other_pods_is_answered_to_whoever_asks() {
    let mut rig = rig();
    for (port, mac, sender, target, expected) in [
        (11, POD1, "10.1.0.11", "10.1.0.1", GATEWAY),
        (11, POD1, "10.1.0.11", "10.1.0.12", POD2),
        (10, HOST, "10.1.0.1", "10.1.0.11", POD1),
        (20, STRANGER, "10.9.0.1", "10.1.0.11", POD1),
        (20, STRANGER, "10.9.0.1", "10.1.0.1", GATEWAY),
    ] {
        let asked = arp::Repr::request(mac, v4(sender), v4(target));
        let frame = arp((mac, MacAddr::BROADCAST), asked);
        let answer = arp_answer(&rig.packet_from(port, &frame)).expect(target);
        assert_eq!(answer, asked.answer(expected), "{sender} asks for {target}");
    }
    let unknown = arp_question(POD1, "10.1.0.11", "10.1.0.99");
    assert!(passes(&rig.packet_from(11, &unknown)));
}

#[test]
fn f6_a_question_to_one_station_is_answered_too() {
    let mut rig = rig();
    for (to, target) in [(GATEWAY, "10.1.0.1"), (POD2, "10.1.0.12")] {
        let frame = arp((POD1, to), arp::Repr::request(POD1, v4("10.1.0.11"), v4(target)));
        let decision = rig.flow_from(11, &frame);
        assert!(goes_to(&decision).is_some(), "or the packet hook would not see it");
        let answer = arp_answer(&rig.packet_from(11, &frame)).expect(target);
        assert_eq!(answer.sender_mac, to);
    }
}

#[test]
fn f6_duplicate_address_detection_finds_others_and_never_oneself() {
    let mut rig = rig();
    for (port, mac, target, found) in [
        (11, POD1, "10.1.0.11", None),
        (11, POD1, "10.1.0.12", Some(POD2)),
        (11, POD1, "10.1.0.1", Some(GATEWAY)),
        (12, POD2, "10.1.0.11", Some(POD1)),
        (20, STRANGER, "10.1.0.11", Some(POD1)),
        (10, HOST, "10.1.0.1", None),
    ] {
        let probe = rig.packet_from(port, &arp_question(mac, "0.0.0.0", target));
        assert_eq!(arp_answer(&probe).map(|answer| answer.sender_mac), found, "{mac} {target}");
        assert!(found.is_some() || passes(&probe), "{mac} {target}");
    }
    for (port, mac, target, found) in [
        (11, POD1, "fd00:1::11".to_owned(), None),
        (11, POD1, POD1.link_local().to_string(), None),
        (11, POD1, "fd00:1::12".to_owned(), Some(POD2)),
        (11, POD1, POD2.link_local().to_string(), Some(POD2)),
        (11, POD1, "fd00:1::1".to_owned(), Some(GATEWAY)),
        (20, STRANGER, "fd00:1::11".to_owned(), Some(POD1)),
        (10, HOST, "fd00:1::1".to_owned(), None),
        (10, HOST, HOST.link_local().to_string(), None),
    ] {
        let probe = rig.packet_from(port, &solicitation(mac, "::", &target));
        let answer = nd_answer(&probe);
        assert_eq!(answer.map(|(.., says)| says), found, "{mac} {target}");
        assert!(found.is_some() || passes(&probe), "{mac} {target}");
        if let Some(((_, link), (_, ip), icmp, _)) = answer {
            // RFC 4861 section 7.2.4: who has no address is told with all others
            assert_eq!((ip, link), (v6("ff02::1"), MacAddr([0x33, 0x33, 0, 0, 0, 1])));
            let router = target == "fd00:1::1";
            let target = v6(&target);
            let expected = icmpv6::Repr::NeighborAdvertisement {
                target,
                router,
                solicited: false,
                overrides: true,
            };
            assert_eq!(icmp, expected);
        }
    }
}

#[test]
fn f6_solicitations_for_the_gateway_and_for_other_pods_are_answered_with_the_right_flags() {
    let mut rig = rig();
    let gateway_local = GATEWAY.link_local().to_string();
    for (target, expected, router) in [
        ("fd00:1::1", GATEWAY, true),
        (&*gateway_local, GATEWAY, true),
        ("fd00:1::12", POD2, false),
    ] {
        let frame = solicitation(POD1, "fd00:1::11", target);
        let (link, ip, icmp, says) = nd_answer(&rig.packet_from(11, &frame)).expect(target);
        let (asked, own) = (v6(target), v6("fd00:1::11"));
        assert_eq!((link, ip, says), ((expected, POD1), (asked, own), expected));
        let flags = icmpv6::Repr::NeighborAdvertisement {
            target: asked,
            router,
            solicited: true,
            overrides: true,
        };
        assert_eq!(icmp, flags, "{target}");
    }
    assert!(passes(&rig.packet_from(11, &solicitation(POD1, "fd00:1::11", "fd00:1::99"))));
}

#[test]
fn f6_a_tagged_question_is_answered_with_its_tag() {
    let mut rig = rig();
    let frame = frames::tagged(arp_question(STRANGER, "10.9.0.1", "10.1.0.11"), 30);
    let outcome = rig.packet_from(20, &frame);
    assert_eq!(outcome.verdict, PacketVerdict::Answer);
    assert_eq!(outcome.bytes.len(), frame.len());
    assert_eq!(outcome.bytes[..12], [STRANGER.0, POD1.0].concat());
    assert_eq!(outcome.bytes[12..18], frame[12..18]);
}

#[test]
fn f6_gratuitous_arp_and_unsolicited_advertisements_are_heard_from_the_owner_alone() {
    let mut rig = rig();
    for (port, mac, address, reason) in [
        (11, POD1, "10.1.0.11", None),
        (11, POD1, "10.1.0.12", Some(Reason::SpoofedAddress)),
        (11, POD1, "10.1.0.1", Some(Reason::SpoofedAddress)),
        (11, POD1, "10.1.0.99", Some(Reason::SpoofedAddress)),
        (11, POD2, "10.1.0.11", Some(Reason::SpoofedMac)),
        (20, STRANGER, "10.1.0.11", Some(Reason::SpoofedAddress)),
        (20, GATEWAY, "10.9.0.1", Some(Reason::SpoofedMac)),
        (20, STRANGER, "10.9.0.1", None),
        (10, HOST, "10.1.0.1", Some(Reason::SpoofedAddress)),
    ] {
        let announced = arp_question(mac, address, address);
        let replied = arp::Repr {
            operation: arp::Operation::REPLY,
            ..arp::Repr::request(mac, v4(address), v4(address))
        };
        for frame in [announced, arp((mac, MacAddr::BROADCAST), replied)] {
            let outcome = rig.packet_from(port, &frame);
            assert_eq!(outcome.reason, reason, "{mac} {address} at port {port}");
            assert!(reason.is_some() || passes(&outcome));
        }
    }
    for (port, mac, says, address, router, reason) in [
        (11, POD1, POD1, "fd00:1::11", false, None),
        (11, POD1, POD1, "fd00:1::11", true, Some(Reason::SpoofedAddress)),
        (11, POD1, POD2, "fd00:1::11", false, Some(Reason::SpoofedMac)),
        (11, POD1, POD1, "fd00:1::12", false, Some(Reason::SpoofedAddress)),
        (11, POD1, POD1, "fd00:1::1", false, Some(Reason::SpoofedAddress)),
        (20, STRANGER, STRANGER, "fd00:1::11", false, Some(Reason::SpoofedAddress)),
        (20, STRANGER, POD1, "fd00:9::1", false, Some(Reason::SpoofedMac)),
        (20, STRANGER, STRANGER, "fd00:9::1", true, None),
        (10, HOST, HOST, "fd00:1::1", true, Some(Reason::SpoofedAddress)),
    ] {
        let source = mac.link_local().to_string();
        let outcome = rig.packet_from(port, &advertisement(mac, &source, address, says, router));
        assert_eq!(outcome.reason, reason, "{mac} {says} {address} at port {port}");
        assert!(reason.is_some() || passes(&outcome));
    }
}

#[test]
fn questions_with_a_forged_sender_are_dropped_and_not_answered() {
    let mut rig = rig();
    let ask = |mac, sender: &str| arp::Repr::request(mac, v4(sender), v4("10.1.0.1"));
    for (link, asked, reason) in [
        (POD1, ask(POD1, "10.1.0.12"), Reason::SpoofedAddress),
        (POD1, ask(POD2, "10.1.0.11"), Reason::SpoofedMac),
        (POD1, ask(GATEWAY, "0.0.0.0"), Reason::SpoofedMac),
        (POD1, ask(MacAddr::BROADCAST, "10.1.0.11"), Reason::SpoofedMac),
    ] {
        let outcome = rig.packet_from(11, &arp((link, MacAddr::BROADCAST), asked));
        assert_eq!(outcome.reason, Some(reason), "{asked:?}");
    }

    // the flow hook knows the source of an IPv6 packet
    let other = solicitation(POD1, "fd00:1::12", "fd00:1::1");
    assert_eq!(dropped(&rig.flow_from(11, &other)), Some(Reason::SpoofedAddress));
    let group = ipv6::solicited_node(v6("fd00:1::1"));
    let forged = Message {
        link: (POD1, MacAddr::for_multicast(group.into()).expect("it is a group")),
        ip: (v6("fd00:1::11"), group),
        icmp: icmpv6::Repr::NeighborSolicitation { target: v6("fd00:1::1") },
        options: &[NdOption::SourceLinkLayer(POD1), NdOption::SourceLinkLayer(POD2)],
    };
    let outcome = rig.packet_from(11, &forged.frame());
    assert_eq!(outcome.reason, Some(Reason::SpoofedMac), "the second option counts as the first");
}

#[test]
fn messages_that_are_not_as_they_must_be_are_dropped_and_not_answered() {
    let mut rig = rig();
    let (none, target) = (Ipv6Addr::UNSPECIFIED, v6("fd00:1::12"));
    let group = ipv6::solicited_node(target);
    let link = (POD1, MacAddr::for_multicast(group.into()).expect("it is a group"));
    let icmp = icmpv6::Repr::NeighborSolicitation { target };
    let own = v6("fd00:1::11");
    let probe = Message { link, ip: (none, group), icmp, options: &[] };
    let question = Message { ip: (own, group), ..probe };
    let long = NdOption::Other { kind: 1, data: &[0; 14] };
    let many = [NdOption::Other { kind: 99, data: &[0; 62] }; 6];
    let wrong_sum = {
        let mut frame = question.frame();
        *frame.last_mut().expect("it has bytes") ^= 1;
        frame
    };
    assert_eq!(rig.packet_from(11, &question.frame()).verdict, PacketVerdict::Answer);
    for (why, frame) in [
        ("a probe that has an address", {
            Message { options: &[NdOption::SourceLinkLayer(POD1)], ..probe }.frame()
        }),
        ("a probe to one station", Message { ip: (none, target), ..probe }.frame()),
        ("a link-layer address that is too long", Message { options: &[long], ..question }.frame()),
        ("a question for a group", {
            let icmp = icmpv6::Repr::NeighborSolicitation { target: group };
            Message { icmp, ..question }.frame()
        }),
        ("a wrong checksum", wrong_sum),
    ] {
        let outcome = rig.packet_from(11, &frame);
        assert_eq!(outcome.reason, Some(Reason::Denied), "{why}");
    }
    let outcome = rig.packet_from(11, &Message { options: &many, ..question }.frame());
    assert_eq!(outcome.verdict, PacketVerdict::Answer, "options that nobody knows do no harm");
}

#[test]
fn what_the_gateway_did_not_ask_for_ends_there() {
    let mut rig = rig();
    let reply = arp::Repr::request(GATEWAY, v4("10.1.0.1"), v4("10.1.0.11")).answer(POD1);
    let frame = arp((POD1, GATEWAY), reply);
    assert_eq!(goes_to(&rig.flow_from(11, &frame)), Some(11), "nobody else is to see it");
    assert_eq!(rig.packet_from(11, &frame).reason, Some(Reason::Denied));
}

#[test]
fn without_these_settings_messages_pass_as_they_came() {
    let mut rig = Rig::<Bridge>::new("{}");
    for frame in [
        arp_question(POD1, "10.1.0.12", "10.1.0.1"),
        solicitation(POD1, "fd00:1::12", "fd00:1::1"),
        advertisement(POD1, "fe80::1", "fd00:1::12", POD2, true),
    ] {
        let outcome = rig.packet_from(11, &frame);
        assert!(passes(&outcome));
        assert_eq!(outcome.bytes, frame);
    }
}

proptest! {
    /// Whatever a pod says, it hears nothing of its own address, and tells others nothing but the
    /// truth.
    #[test]
    fn no_message_of_a_pod_that_goes_on_states_what_it_does_not_own(
        sender in (0..4u8).prop_map(|n| [POD1, POD2, GATEWAY, STRANGER][usize::from(n)]),
        addresses in prop::array::uniform2(prop::sample::select(
            vec!["10.1.0.11", "10.1.0.12", "10.1.0.1", "0.0.0.0", "10.1.0.99"],
        )),
        operation in 0..4u16,
        to in (0..3u8).prop_map(|n| [MacAddr::BROADCAST, GATEWAY, POD2][usize::from(n)]),
    ) {
        let [from, target] = addresses.map(v4);
        let said = arp::Repr {
            operation: arp::Operation(operation),
            ..arp::Repr::request(sender, from, target)
        };
        let frame = arp((POD1, to), said);
        let mut rig = rig();
        prop_assert!(dropped(&rig.flow_from(11, &frame)).is_none());
        let outcome = rig.packet_from(11, &frame);
        let is_true = sender == POD1 && (from == v4("10.1.0.11") || from.is_unspecified());
        match outcome.verdict {
            PacketVerdict::Pass => {
                prop_assert!(is_true);
                prop_assert_eq!(outcome.bytes, frame);
            }
            PacketVerdict::Answer => {
                let reply = arp_answer(&outcome).expect("it is an answer");
                prop_assert!(is_true && operation == 1);
                prop_assert_eq!(IpAddr::from(reply.sender_ip), IpAddr::from(target));
                prop_assert!(target != v4("10.1.0.11") && reply.sender_mac != POD1);
            }
            PacketVerdict::Drop => prop_assert!(!is_true || to == GATEWAY),
        }
    }
}
