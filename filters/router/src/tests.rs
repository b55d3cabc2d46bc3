use std::net::IpAddr;

use millrace_filter::testing::{Rig, frames};
use millrace_filter::wire::MacAddr;
use millrace_filter::{Control, Decision, Field, Prefix, Reason, Slot, Tag, TagKind};
use proptest::prelude::*;

use super::Router;

const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

const CONFIG: &str = r#"{
    "gatewayMac": "02:00:00:00:00:fe",
    "routes": [
        {"prefix": "10.1.0.5/32", "via": [{"port": 3}]},
        {"prefix": "10.1.0.0/24", "kind": "unreachable"},
        {"prefix": "10.1.9.0/24", "kind": "blackhole"},
        {"prefix": "10.1.8.0/24", "kind": "prohibit"},
        {"prefix": "0.0.0.0/0", "via": [{"port": 7, "nextHop": "192.0.2.1"}], "masquerade": true},
        {"prefix": "2001:db8:1::/48", "via": [{"port": 4}]},
        {"prefix": "2001:db8:1:9::/64", "kind": "blackhole"}
    ]
}"#;

fn rig() -> Rig<Router> {
    Rig::new(CONFIG)
}

/// A datagram to `destination` that the gateway is to route.
fn packet(destination: &str) -> Vec<u8> {
    let (source, to) = match destination.contains(':') {
        true => ("[2001:db8::1]:1000", format!("[{destination}]:80")),
        false => ("10.1.0.2:1000", format!("{destination}:80")),
    };
    let frame = frames::udp(source, &to, b"x");
    frames::between(frame, MacAddr([2, 0, 0, 0, 0, 1]), GATEWAY)
}

/// The port, and the neighbour sent to.
fn way(decision: &Decision) -> Option<(u16, IpAddr)> {
    decision.stated().contains(Field::NextHop).then(|| {
        let fields = decision.stated();
        assert!(fields.contains(Field::Egress) && fields.contains(Field::DecrementTtl));
        let next_hop = Slot { to_addr: decision.next_hop, ip_version: 6, ..Slot::ZERO };
        let address = next_hop.translated_destination().expect("it is an address");
        (decision.egress, address.to_canonical())
    })
}

fn to(port: u16, address: &str) -> Option<(u16, IpAddr)> {
    Some((port, address.parse().expect("an address")))
}

/// How it ends, and why.
fn end(decision: &Decision) -> (Control, Reason) {
    let control = Control::from_u8(decision.control).expect("the SDK writes no other");
    (control, Reason::from_u16(decision.reason).expect("a reason of the table"))
}

fn says_nothing(decision: &Decision) -> bool {
    decision.control == 0 && decision.fields == 0 && decision.tag_count == 0
}

#[test]
fn the_longest_prefix_says_where_to_in_both_ip_versions() {
    let mut rig = rig();
    assert_eq!(way(&rig.flow(&packet("10.1.0.5"))), to(3, "10.1.0.5"));
    assert_eq!(way(&rig.flow(&packet("9.9.9.9"))), to(7, "192.0.2.1"));
    assert_eq!(way(&rig.flow(&packet("2001:db8:1::5"))), to(4, "2001:db8:1::5"));
    assert_eq!((rig.metric("routed"), rig.metric("refused")), (3, 0));
}

#[test]
fn routes_that_lead_nowhere_drop_or_reject_with_their_reason() {
    let mut rig = rig();
    for (destination, control, reason) in [
        ("10.1.0.6", Control::Reject, Reason::NoRoute),
        ("10.1.9.1", Control::Drop, Reason::Blackhole),
        ("10.1.8.1", Control::Reject, Reason::Prohibited),
        ("2001:db8:1:9::1", Control::Drop, Reason::Blackhole),
        ("2001:db8:2::1", Control::Drop, Reason::NoRoute),
    ] {
        let decision = rig.flow(&packet(destination));
        assert_eq!(end(&decision), (control, reason), "{destination}");
        assert_eq!(decision.fields, 0, "{destination}");
        assert_ne!(decision.rule, 0, "{destination}");
    }
    assert_eq!((rig.metric("routed"), rig.metric("refused")), (0, 5));
}

#[test]
fn what_is_not_addressed_to_the_gateway_is_not_routed() {
    let mut rig = rig();
    let other = MacAddr([2, 0, 0, 0, 0, 0xfd]);
    for destination in [other, MacAddr::BROADCAST] {
        let frame = frames::between(packet("10.1.0.5"), MacAddr([2, 0, 0, 0, 0, 1]), destination);
        assert!(says_nothing(&rig.flow(&frame)), "{destination}");
    }

    let mut everything =
        Rig::<Router>::new(r#"{"routes": [{"prefix": "::/0", "via": [{"port": 1}]}]}"#);
    let frame = frames::udp("[2001:db8::1]:1", "[2001:db8::2]:2", b"");
    assert_eq!(way(&everything.flow(&frame)), to(1, "2001:db8::2"));
}

#[test]
fn what_a_stage_in_front_has_decided_stays() {
    let mut rig = rig();
    for field in [Field::Egress, Field::Flood] {
        let slot = Slot { decided: field as u16, ..rig.slot(1, &packet("10.1.0.5")) };
        assert!(says_nothing(&rig.decide(&slot)), "{}", field.label());
    }
}

#[test]
fn the_destination_after_translation_counts() {
    let mut rig = rig();
    let mut slot = rig.slot(1, &packet("172.16.0.1"));
    slot.to_addr = rig.slot(1, &packet("10.1.0.5")).dst_addr;
    assert_eq!(way(&rig.decide(&slot)), to(3, "10.1.0.5"));
}

#[test]
fn a_route_that_masquerades_leaves_a_stated_source_alone() {
    let mut rig = rig();
    let masquerades = |decision: &Decision| decision.stated().contains(Field::Masquerade);
    assert!(masquerades(&rig.flow(&packet("9.9.9.9"))));
    assert!(!masquerades(&rig.flow(&packet("10.1.0.5"))));
    let slot = Slot { decided: Field::As as u16, ..rig.slot(1, &packet("9.9.9.9")) };
    assert!(!masquerades(&rig.decide(&slot)));
}

#[test]
fn f6_neighbour_discovery_and_arp_are_left_to_the_bridge() {
    let mut rig = rig();
    let source = MacAddr([2, 0, 0, 0, 0, 1]);
    for frame in [
        frames::arp_request("10.1.0.2", "10.1.0.1"),
        frames::neighbour_solicitation("2001:db8:1::2", "2001:db8:1::1"),
    ] {
        let frame = frames::between(frame, source, GATEWAY);
        assert!(says_nothing(&rig.flow(&frame)));
    }
}

#[test]
fn addresses_with_a_meaning_on_one_link_only_are_not_routed() {
    let mut rig = Rig::<Router>::new(
        r#"{"routes": [{"prefix": "0.0.0.0/0", "via": [{"port": 1}]},
                       {"prefix": "::/0", "via": [{"port": 1}]}]}"#,
    );
    for (source, destination) in [
        ("[fe80::1]:1", "[2001:db8::1]:2"),
        ("[2001:db8::1]:1", "[fe80::1]:2"),
        ("[2001:db8::1]:1", "[ff0e::1]:2"),
        ("[::]:1", "[2001:db8::1]:2"),
        ("10.0.0.1:1", "224.0.1.1:2"),
        ("10.0.0.1:1", "255.255.255.255:2"),
        ("0.0.0.0:1", "10.0.0.1:2"),
    ] {
        let decision = rig.flow(&frames::udp(source, destination, b""));
        assert_eq!(end(&decision), (Control::Drop, Reason::NoRoute), "{source} {destination}");
    }
    let decision = rig.flow(&frames::udp("10.0.0.1:1", "169.254.1.1:2", b""));
    assert_eq!(way(&decision), to(1, "169.254.1.1"), "IPv4 goes as its route says");
}

#[test]
fn decisions_name_the_prefix_and_the_port_they_depend_on() {
    let mut rig = rig();
    let prefix = |text: &str| text.parse::<Prefix>().expect("a prefix").tag().bits();
    let port = |number| Tag::new(TagKind::Port, number).bits();
    let tags = |decision: Decision| decision.tags[..usize::from(decision.tag_count)].to_vec();
    assert_eq!(tags(rig.flow(&packet("9.9.9.9"))), [prefix("0.0.0.0/0"), port(7)]);
    assert_eq!(tags(rig.flow(&packet("10.1.0.6"))), [prefix("10.1.0.0/24")]);
}

#[test]
fn flows_share_the_ways_by_weight_and_each_keeps_its_own() {
    let mut rig = Rig::<Router>::new(
        r#"{"routes": [{"prefix": "10.0.0.0/8", "via": [
            {"port": 1}, {"port": 2, "weight": 2}, {"port": 3, "nextHop": "10.9.9.9", "weight": 5}
        ]}]}"#,
    );
    let mut flows = [0; 4];
    for n in 0..8000u16 {
        let (here, there) = (format!("10.0.0.1:{}", 1000 + n), "10.0.0.2:80".to_owned());
        let port = rig.flow(&frames::udp(&here, &there, b"")).egress;
        assert_eq!(rig.flow(&frames::udp(&there, &here, b"")).egress, port, "the way back");
        flows[usize::from(port)] += 1;
    }
    for (port, share) in [(1, 1000), (2, 2000), (3, 5000)] {
        let off = i32::abs(flows[port] - share);
        assert!(off < 300, "port {port}: {} flows of about {share}", flows[port]);
    }
}

#[test]
fn routes_that_make_no_sense_are_refused_by_name() {
    for (routes, complaint) in [
        (r#"{"prefix": "10.0.0.0/8"}"#, "`routes[0]` to 10.0.0.0/8: `via`"),
        (r#"{"prefix": "10.0.0.0/8", "kind": "blackhole", "via": [{"port": 1}]}"#, "only a route"),
        (r#"{"prefix": "10.0.0.0/8", "kind": "prohibit", "masquerade": true}"#, "only a route"),
        (r#"{"prefix": "10.0.0.0/8", "via": [{"port": 1, "weight": 0}]}"#, "must be at least 1"),
        (r#"{"prefix": "10.0.0.0/8", "via": [{"port": 0}]}"#, "`routes[0].via[0].port`: 0"),
        (
            r#"{"prefix": "10.0.0.0/8", "via": [{"port": 1, "nextHop": "::1"}]}"#,
            "another IP version",
        ),
        (
            r#"{"prefix": "10.1.0.0/8", "via": [{"port": 1}]}, {"prefix": "10.0.0.0/8", "kind": "blackhole"}"#,
            "`routes[1]` to 10.0.0.0/8: there is a route to this prefix already",
        ),
    ] {
        let config = format!(r#"{{"routes": [{routes}]}}"#);
        let error = Rig::<Router>::try_new(&config).err().expect(routes).to_string();
        assert!(error.contains(complaint), "{routes}: {error}");
    }
}

/// Prefixes from small pools, so that they cover each other.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<[bool; 3]>(), 0..=32u8).prop_map(|([a, b, c], len)| {
        Prefix::new([10, u8::from(a), u8::from(b), u8::from(c)].into(), len)
    });
    let v6 = (any::<[bool; 3]>(), 0..=128u8).prop_map(|([a, b, c], len)| {
        let address = [0x2001, 0xdb8, u16::from(a), 0, u16::from(b), 0, 0, u16::from(c)];
        Prefix::new(address.into(), len)
    });
    prop_oneof![v4, v6].prop_map(|prefix| prefix.expect("addresses have so many bits"))
}

proptest! {
    /// The router against one that tries every route.
    #[test]
    fn it_routes_as_trying_every_prefix_would(
        mut prefixes in prop::collection::vec(prefix(), 0..40),
        destinations in prop::collection::vec(prefix(), 1..40),
    ) {
        prefixes.sort_unstable();
        prefixes.dedup();
        let routes: Vec<String> = prefixes
            .iter()
            .zip(1..)
            .map(|(prefix, port)| format!(r#"{{"prefix": "{prefix}", "via": [{{"port": {port}}}]}}"#))
            .collect();
        let mut rig = Rig::<Router>::new(&format!(r#"{{"routes": [{}]}}"#, routes.join(",")));
        for destination in destinations.iter().map(Prefix::address) {
            if destination.is_unspecified() {
                continue; // no packet goes there
            }
            let decision = rig.flow(&packet(&destination.to_string()));
            let longest = prefixes
                .iter()
                .zip(1..)
                .filter(|(prefix, _)| prefix.contains(destination))
                .max_by_key(|(prefix, _)| prefix.len());
            match longest {
                Some((_, port)) => prop_assert_eq!(way(&decision), Some((port, destination))),
                None => prop_assert_eq!(end(&decision), (Control::Drop, Reason::NoRoute)),
            }
        }
    }
}
