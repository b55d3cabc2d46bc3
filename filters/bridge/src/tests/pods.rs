//! Pods, the host and the gateway: who is known without being learned.

use std::time::Duration;

use millrace_filter::testing::{Rig, frames};
use millrace_filter::wire::MacAddr;
use millrace_filter::{Control, Decision, Field, Reason};

use super::{dropped, floods, goes_to};
use crate::Bridge;

/// Pod 1 at port 11 and pod 2 at port 12, the host at port 10; port 20 is a wire.
pub(super) const CONFIG: &str = r#"{
    "gateway": {"mac": "02:00:00:00:00:fe", "addresses": ["10.1.0.1", "fd00:1::1"]},
    "host": {"port": 10, "mac": "02:00:00:00:00:aa"},
    "pods": [
        {"port": 11, "mac": "02:00:0a:01:00:0b", "addresses": ["10.1.0.11", "fd00:1::11"]},
        {"port": 12, "mac": "02:00:0a:01:00:0c", "addresses": ["10.1.0.12", "fd00:1::12"]}
    ]
}"#;

pub(super) const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
pub(super) const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
pub(super) const POD1: MacAddr = MacAddr([2, 0, 10, 1, 0, 11]);
pub(super) const POD2: MacAddr = MacAddr([2, 0, 10, 1, 0, 12]);
pub(super) const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

fn rig() -> Rig<Bridge> {
    Rig::new(CONFIG)
}

fn frame(from: (MacAddr, &str), to: (MacAddr, &str)) -> Vec<u8> {
    frames::between(frames::udp(from.1, to.1, b"x"), from.0, to.0)
}

fn says_nothing(decision: &Decision) -> bool {
    decision.control == Control::Continue as u8
        && !decision.stated().contains(Field::Egress)
        && !decision.stated().contains(Field::Flood)
}

#[test]
fn pods_reach_each_other_without_having_been_seen_and_the_decision_lasts() {
    let mut rig = rig();
    for (from, to) in [("10.1.0.11:1", "10.1.0.12:2"), ("[fd00:1::11]:1", "[fd00:1::12]:2")] {
        let decision = rig.flow_from(11, &frame((POD1, from), (POD2, to)));
        assert_eq!(goes_to(&decision), Some(12));
        for field in [Field::Revalidate, Field::Once, Field::DecrementTtl, Field::NextHop] {
            assert!(!decision.stated().contains(field), "{}", field.label());
        }
        assert_eq!(decision.tag_count, 1, "it depends on the port");
    }
    assert_eq!((rig.metric("learned"), rig.metric("flooded")), (0, 0));
}

#[test]
fn pods_are_not_forgotten_and_not_learned_elsewhere() {
    let mut rig = rig();
    let forged = frame((POD2, "10.9.0.1:1"), (POD1, "10.1.0.11:2"));
    assert_eq!(dropped(&rig.flow_from(20, &forged)), Some(Reason::SpoofedMac));
    rig.advance(Duration::from_secs(100_000));
    let decision = rig.flow_from(11, &frame((POD1, "10.1.0.11:1"), (POD2, "10.1.0.12:2")));
    assert_eq!(goes_to(&decision), Some(12));
    assert_eq!((rig.metric("learned"), rig.metric("moved")), (0, 0));
}

#[test]
fn stations_that_are_not_known_are_learned_beside_pods() {
    let mut rig = rig();
    let hello = frame((STRANGER, "10.9.0.1:1"), (POD1, "10.1.0.11:2"));
    let decision = rig.flow_from(20, &hello);
    assert_eq!(goes_to(&decision), Some(11));
    assert!(decision.stated().contains(Field::Revalidate), "or its place would be forgotten");
    let back = rig.flow_from(11, &frame((POD1, "10.1.0.11:2"), (STRANGER, "10.9.0.1:1")));
    assert_eq!(goes_to(&back), Some(20));
    assert!(back.stated().contains(Field::Revalidate), "it may move");
    assert_eq!(rig.metric("learned"), 1);
}

#[test]
fn what_is_for_the_gateway_is_left_to_the_router() {
    let mut rig = rig();
    for destination in ["10.2.0.5:80", "10.1.0.12:80", "10.1.0.1:80"] {
        let decision = rig.flow_from(11, &frame((POD1, "10.1.0.11:1"), (GATEWAY, destination)));
        assert!(says_nothing(&decision), "{destination}");
        assert!(!decision.stated().contains(Field::Revalidate), "{destination}");
    }
    let decision = rig.flow_from(20, &frame((STRANGER, "10.9.0.1:1"), (GATEWAY, "10.1.0.11:2")));
    assert!(says_nothing(&decision) && decision.stated().contains(Field::Revalidate));
    assert_eq!(rig.metric("learned"), 1, "the one behind the wire");
}

#[test]
fn a_pod_sends_with_its_own_addresses_only() {
    let mut rig = rig();
    let link_local = format!("[{}]:1", POD1.link_local());
    for (mac, source, destination, reason) in [
        (POD1, "10.1.0.11:1", "10.1.0.12:2", None),
        (POD1, "[fd00:1::11]:1", "[fd00:1::12]:2", None),
        (POD1, &*link_local, "[fd00:1::12]:2", None),
        (POD2, "10.1.0.11:1", "10.1.0.12:2", Some(Reason::SpoofedMac)),
        (GATEWAY, "10.1.0.11:1", "10.1.0.12:2", Some(Reason::SpoofedMac)),
        (STRANGER, "10.1.0.11:1", "10.1.0.12:2", Some(Reason::SpoofedMac)),
        (POD1, "10.1.0.12:1", "10.1.0.12:2", Some(Reason::SpoofedAddress)),
        (POD1, "10.1.0.1:1", "10.1.0.12:2", Some(Reason::SpoofedAddress)),
        (POD1, "192.0.2.1:1", "10.1.0.12:2", Some(Reason::SpoofedAddress)),
        (POD1, "0.0.0.0:68", "255.255.255.255:67", Some(Reason::SpoofedAddress)),
        (POD1, "[fd00:1::12]:1", "[fd00:1::12]:2", Some(Reason::SpoofedAddress)),
        (POD1, "[fe80::1]:1", "[fd00:1::12]:2", Some(Reason::SpoofedAddress)),
        (POD1, "[::]:1", "[ff02::1]:2", Some(Reason::SpoofedAddress)),
    ] {
        for to in [POD2, GATEWAY, MacAddr::BROADCAST] {
            let decision = rig.flow_from(11, &frame((mac, source), (to, destination)));
            assert_eq!(dropped(&decision), reason, "{mac} {source} to {to}");
        }
    }
    assert_eq!(rig.metric("learned"), 0);
}

#[test]
fn nobody_sends_with_the_addresses_of_those_who_are_known_elsewhere() {
    let mut rig = rig();
    for (mac, source, reason) in [
        (POD1, "10.9.0.1:1", Reason::SpoofedMac),
        (HOST, "10.9.0.1:1", Reason::SpoofedMac),
        (GATEWAY, "10.9.0.1:1", Reason::SpoofedMac),
        (STRANGER, "10.1.0.11:1", Reason::SpoofedAddress),
        (STRANGER, "10.1.0.1:1", Reason::SpoofedAddress),
    ] {
        let decision = rig.flow_from(20, &frame((mac, source), (POD2, "10.1.0.12:2")));
        assert_eq!(dropped(&decision), Some(reason), "{mac} {source}");
    }
    assert_eq!(rig.metric("learned"), 0);
}

#[test]
fn the_host_sends_from_any_address_but_with_its_own_mac() {
    let mut rig = rig();
    for source in ["10.1.0.1:1", "192.0.2.9:1"] {
        let decision = rig.flow_from(10, &frame((HOST, source), (POD1, "10.1.0.11:2")));
        assert_eq!(goes_to(&decision), Some(11), "{source}");
    }
    let forged = frame((GATEWAY, "10.1.0.1:1"), (POD1, "10.1.0.11:2"));
    assert_eq!(dropped(&rig.flow_from(10, &forged)), Some(Reason::SpoofedMac));
}

#[test]
fn a_pod_without_an_address_yet_may_look_for_others_and_join_groups() {
    let mut rig = rig();
    let probe = frames::neighbour_solicitation("::", "fd00:1::11");
    let probe = frames::between(probe.clone(), POD1, MacAddr(probe[..6].try_into().expect("six")));
    assert!(floods(&rig.flow_from(11, &probe)));

    let joins = frames::ip("::", "ff02::16", 58, &[143, 0, 0, 0, 0, 0, 0, 0]);
    let joins = frames::between(joins, POD1, MacAddr([0x33, 0x33, 0, 0, 0, 0x16]));
    assert!(floods(&rig.flow_from(11, &joins)));
}

#[test]
fn multicast_names_are_flooded_as_ever() {
    let mut rig = rig();
    let mdns = frames::udp("10.1.0.11:5353", "224.0.0.251:5353", b"");
    let mdns = frames::between(mdns, POD1, MacAddr([1, 0, 0x5e, 0, 0, 0xfb]));
    assert!(floods(&rig.flow_from(11, &mdns)));
}

#[test]
fn pods_neither_look_for_routers_nor_claim_to_be_one() {
    let mut rig = rig();
    let source = POD1.link_local().to_string();
    for (kind, len) in [(133u8, 8), (134, 16), (137, 40)] {
        let mut message = vec![0; len];
        message[0] = kind;
        let mut frame = frames::ip(&source, "ff02::2", 58, &message);
        frame[21] = 255; // the hop limit
        let frame = frames::between(frame, POD1, MacAddr([0x33, 0x33, 0, 0, 0, 2]));
        assert_eq!(dropped(&rig.flow_from(11, &frame)), Some(Reason::Denied), "type {kind}");
    }
}

#[test]
fn nothing_is_reflected_to_a_pod() {
    let mut rig = rig();
    let decision = rig.flow_from(11, &frame((POD1, "10.1.0.11:1"), (POD1, "10.1.0.11:2")));
    assert_eq!(dropped(&decision), Some(Reason::SamePort));
}

#[test]
fn live_flows_are_decided_again_as_new_ones_are() {
    let mut rig = rig();
    let mut slot = rig.slot(11, &frame((POD1, "10.1.0.11:1"), (POD2, "10.1.0.12:2")));
    slot.origin = 1;
    assert_eq!(goes_to(&rig.decide(&slot)), Some(12));
    let moved = CONFIG.replace("\"port\": 12", "\"port\": 13");
    rig.reconfigure(&moved).expect("pods come and go");
    assert_eq!(goes_to(&rig.decide(&slot)), Some(13));
}

#[test]
fn settings_in_which_two_are_one_are_refused() {
    let pod = |port: u8, mac: u8, address: &str| {
        format!(
            r#"{{"port": {port}, "mac": "02:00:00:00:00:{mac:02}", "addresses": ["{address}"]}}"#
        )
    };
    for (pods, complaint) in [
        ([pod(1, 1, "10.0.0.1"), pod(1, 2, "10.0.0.2")], "port 1 has two owners"),
        ([pod(1, 1, "10.0.0.1"), pod(2, 2, "10.0.0.1")], "`pods[1].addresses`: 10.0.0.1 belongs"),
        ([pod(1, 1, "10.0.0.1"), pod(2, 1, "10.0.0.2")], "belongs to another"),
        ([pod(1, 9, "10.0.0.1"), pod(2, 1, "10.0.0.2")], "`pods[0].addresses`: fe80::"),
        ([pod(1, 1, "10.0.0.9"), pod(2, 2, "10.0.0.2")], "`pods[0].addresses`: 10.0.0.9 belongs"),
        ([pod(1, 1, "224.0.0.1"), pod(2, 2, "10.0.0.2")], "224.0.0.1 is not one station's"),
        ([pod(0, 1, "10.0.0.1"), pod(2, 2, "10.0.0.2")], "`pods[0].port`: 0 is not the number"),
    ] {
        let config = format!(
            r#"{{"gateway": {{"mac": "02:00:00:00:00:09", "addresses": ["10.0.0.9"]}},
                "pods": [{}]}}"#,
            pods.join(",")
        );
        let error = Rig::<Bridge>::try_new(&config).err().expect(complaint).to_string();
        assert!(error.contains(complaint), "{complaint}: {error}");
    }
    let group = r#"{"gateway": {"mac": "03:00:00:00:00:09", "addresses": []}}"#;
    let error = Rig::<Bridge>::try_new(group).err().expect("it is a group").to_string();
    assert!(error.contains("`gateway.mac`: 03:00:00:00:00:09 is not"), "{error}");
}

#[test]
fn what_another_node_sends_is_routed_lasts_and_is_from_nobody_here() {
    let config = CONFIG.replacen('{', r#"{"nodes": [30, 31],"#, 1);
    let mut rig = Rig::<Bridge>::new(&config);
    for port in [30, 31] {
        for (from, to) in [("10.2.0.5:1", "10.1.0.11:2"), ("[fd00:2::5]:1", "[fd00:1::11]:2")] {
            let decision = rig.flow_from(port, &frame((GATEWAY, from), (GATEWAY, to)));
            assert!(says_nothing(&decision), "{from}");
            for field in [Field::Revalidate, Field::Once] {
                assert!(!decision.stated().contains(field), "{}", field.label());
            }
        }
        for (from, reason) in [
            ((GATEWAY, "10.1.0.12:1"), Reason::SpoofedAddress),
            ((GATEWAY, "10.1.0.1:1"), Reason::SpoofedAddress),
            ((POD2, "10.2.0.5:1"), Reason::SpoofedMac),
            ((STRANGER, "10.2.0.5:1"), Reason::SpoofedMac),
        ] {
            let forged = frame(from, (GATEWAY, "10.1.0.11:2"));
            assert_eq!(dropped(&rig.flow_from(port, &forged)), Some(reason), "{from:?}");
        }
    }
    assert_eq!((rig.metric("learned"), rig.metric("flooded")), (0, 0));
}

#[test]
fn other_nodes_need_a_gateway_here() {
    let error = Rig::<Bridge>::try_new(r#"{"nodes": [30]}"#).err().expect("there is none");
    assert!(error.to_string().contains("`nodes[0]`"), "{error}");
}
