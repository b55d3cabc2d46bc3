//! Each test names the rule of Kubernetes that it shows; what policies mean is shown with the tables
//! that the host makes of them.

use std::net::IpAddr;

use millrace_filter::tables::{
    Action, Block, Clause, Identity, List, Otherwise, Owner, Peer, Place, Policies, PolicySet,
    Protocol, Range, Row, Selector, Table, Tables, Tier, Update,
};
use millrace_filter::testing::{Rig, frames};
use millrace_filter::wire::tcp::Flags;
use millrace_filter::{Control, Decision, Field, Origin, PortKind, Reason, Slot, Tag, TagKind};

use super::{Policy, TO_MANY, UNKNOWN_SOURCE, UNTOLD};

mod names;
mod streams;

const CLIENT: &str = "10.1.0.2";
const SERVER: &str = "10.1.0.3";
const ELSEWHERE: &str = "10.1.1.2";
const NODE: &str = "10.1.0.1";
const OUTSIDE: &str = "198.51.100.1";

const EGRESS: PolicySet = PolicySet(5);
const INGRESS: PolicySet = PolicySet(6);
const STORE: Identity = Identity(3);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn permit(peer: Peer, protocol: Option<Protocol>, first: u16, last: u16) -> Clause {
    let (tier, action) = (Tier::Namespace, Action::Allow);
    Clause { tier, action, peer, protocol, first, last, rule: 700 }
}

fn anything(peer: Peer) -> Clause {
    permit(peer, None, 0, u16::MAX)
}

fn web(peer: Peer) -> Clause {
    permit(peer, Some(Protocol::Tcp), 80, 81)
}

/// A client and a server here, a pod elsewhere, and this node; with what the client may open and
/// what the server may be opened, if that is limited.
fn tables(egress: Option<&[Clause]>, ingress: Option<&[Clause]>) -> Tables {
    let mut tables = Tables::default();
    let none = PolicySet::NONE;
    let client = egress.map_or(none, |_| EGRESS);
    let server = ingress.map_or(none, |_| INGRESS);
    for (text, place, identity, egress, ingress) in [
        (CLIENT, Place::Here, STORE, client, none),
        (SERVER, Place::Here, Identity::NONE, none, server),
        (ELSEWHERE, Place::Elsewhere, STORE, none, none),
        (NODE, Place::Node, Identity::NONE, none, none),
    ] {
        tables.put(&Row::Owner(address(text), Owner { place, identity, egress, ingress }));
    }
    let selectors = List::encode(&[Selector(1), Selector(4)]);
    tables.put(&Row::Identity(STORE, List::new(&selectors).expect("they are in order")));
    let range = |text: &str, len| Range { address: address(text), len };
    let ranges = List::encode(&[range("10.1.0.0", 16), range("10.1.1.0", 24)]);
    tables.put(&Row::Block(Block(8), List::new(&ranges).expect("they are prefixes")));
    for (set, clauses) in [(EGRESS, egress), (INGRESS, ingress)] {
        if let Some(clauses) = clauses {
            let octets = List::encode(clauses);
            let clauses = List::new(&octets).expect("they are clauses");
            let otherwise = Otherwise { action: Action::Deny, rule: set.0 + 1000 };
            tables
                .put(&Row::Policies(set, Policies { otherwise, audit: PolicySet::NONE, clauses }));
        }
    }
    tables
}

fn rig(egress: Option<&[Clause]>, ingress: Option<&[Clause]>) -> Rig<Policy> {
    let mut rig = Rig::new("{}");
    rig.publish(&tables(egress, ingress)).expect("they fit together");
    rig
}

/// What is decided about a connection, which comes by a port of this kind.
fn ask(rig: &mut Rig<Policy>, from: PortKind, frame: &[u8]) -> Decision {
    let slot = Slot { ingress_kind: from as u8, ..rig.slot(1, frame) };
    rig.decide(&slot)
}

fn syn(source: &str, destination: &str, port: u16) -> Vec<u8> {
    frames::tcp(&format!("{source}:4000"), &format!("{destination}:{port}"), Flags::SYN, b"")
}

fn tags(decision: &Decision) -> Vec<u32> {
    decision.tags[..usize::from(decision.tag_count)].to_vec()
}

/// By which rule it is denied; `None` if it is not.
fn denied(decision: &Decision) -> Option<u32> {
    let control = Control::from_u8(decision.control).expect("the SDK writes no other");
    (control == Control::Drop).then(|| {
        assert_eq!(decision.reason, Reason::Isolated as u16);
        decision.rule
    })
}

#[test]
fn n14_before_anything_is_told_nothing_goes_on() {
    let mut rig = Rig::<Policy>::new("{}");
    let slot = rig.slot(1, &syn(CLIENT, SERVER, 80));
    assert_eq!(denied(&rig.decide(&slot)), Some(UNTOLD.id));
    // a host that knows nothing itself says so
    let nothing = Tables::default().whole(&Table::ALL, 0, usize::MAX).concat();
    rig.update(Update::new(&nothing)).expect("there is nothing wrong with it");
    assert_eq!(denied(&rig.decide(&slot)), Some(UNTOLD.id));
    rig.publish(&Tables::default()).expect("there is nothing wrong with it");
    assert_eq!(denied(&rig.decide(&slot)), None);
}

#[test]
fn n1_without_policies_all_goes_on_and_depends_on_whose_the_addresses_are() {
    let mut rig = rig(None, None);
    for (from, source) in
        [(PortKind::Pod, CLIENT), (PortKind::Remote, ELSEWHERE), (PortKind::Uplink, OUTSIDE)]
    {
        let decision = ask(&mut rig, from, &syn(source, SERVER, 80));
        assert_eq!(denied(&decision), None);
        let ends = [source, SERVER].map(|it| Tag::of_address(address(it)).bits());
        assert_eq!(tags(&decision), ends);
    }
    assert_eq!(rig.metric("allowed"), 3);
}

#[test]
fn n2_both_the_clients_policies_and_the_servers_have_to_allow() {
    let (yes, no) = ([web(Peer::Any)], [web(Peer::Selected(Selector(2)))]);
    for (egress, ingress, expected) in [
        (&yes, &yes, None),
        (&no, &yes, Some(1005)),
        (&yes, &no, Some(1006)),
        (&no, &no, Some(1005)),
    ] {
        let mut rig = rig(Some(egress), Some(ingress));
        let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SERVER, 80));
        assert_eq!(denied(&decision), expected);
        let judged = Tag::new(TagKind::PolicySet, EGRESS.0).bits();
        assert_eq!(tags(&decision)[2], judged, "it changes with what has judged it");
    }
}

#[test]
fn n4_n5_a_peer_is_anybody_or_selected_or_in_a_block_without_its_holes() {
    for (peer, pod, elsewhere, outside) in [
        (Peer::Any, true, true, true),
        (Peer::Selected(Selector(4)), true, true, false),
        (Peer::Selected(Selector(3)), false, false, false),
        (Peer::Is(STORE), true, true, false),
        (Peer::Is(Identity(9)), false, false, false),
        // pods have addresses, too
        (Peer::Within(Block(8)), true, false, false),
    ] {
        let mut rig = rig(None, Some(&[anything(peer)]));
        for (from, source, allowed) in [
            (PortKind::Pod, CLIENT, pod),
            (PortKind::Remote, ELSEWHERE, elsewhere),
            (PortKind::Uplink, OUTSIDE, outside),
        ] {
            let decision = ask(&mut rig, from, &syn(source, SERVER, 80));
            assert_eq!(denied(&decision), (!allowed).then_some(1006), "{peer:?} from {source}");
        }
    }
}

#[test]
fn n6_n7_a_rule_is_about_its_protocol_and_its_ports_alone() {
    let mut rig = rig(None, Some(&[web(Peer::Any)]));
    for (port, allowed) in [(79, false), (80, true), (81, true), (82, false)] {
        let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SERVER, port));
        assert_eq!(denied(&decision).is_none(), allowed, "{port}");
    }
    let (source, destination) = (format!("{CLIENT}:4000"), format!("{SERVER}:80"));
    for frame in [frames::udp(&source, &destination, b""), frames::sctp(&source, &destination, b"")]
    {
        assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &frame)), Some(1006));
    }
}

#[test]
fn n9_protocols_without_a_word_are_allowed_by_rules_without_ports_alone() {
    let all_of_tcp = permit(Peer::Any, Some(Protocol::Tcp), 0, u16::MAX);
    for (permits, allowed) in [(anything(Peer::Any), true), (all_of_tcp, false)] {
        let mut rig = rig(None, Some(&[permits]));
        for frame in [frames::ping(CLIENT, SERVER), frames::ip(CLIENT, SERVER, 47, b"gre")] {
            let decision = ask(&mut rig, PortKind::Pod, &frame);
            assert_eq!(denied(&decision).is_none(), allowed);
        }
        // a link has to work for anything else to
        let arp = frames::arp_request(CLIENT, SERVER);
        assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &arp)), None);
    }
}

#[test]
fn n5_the_connection_is_judged_as_it_is_once_it_is_translated() {
    let mut rig = rig(Some(&[web(Peer::Within(Block(8)))]), None);
    let to = |destination: &str, port| {
        let to = address(destination);
        let IpAddr::V4(v4) = to else { panic!("it is IPv4") };
        (v4.to_ipv6_mapped().octets(), port)
    };
    for ((to_addr, to_port), allowed) in
        [(to(SERVER, 80), true), (to(SERVER, 8080), false), (to(ELSEWHERE, 80), false)]
    {
        let service = syn(CLIENT, "10.96.0.10", 8080);
        let slot = rig.slot(1, &service);
        let ingress_kind = PortKind::Pod as u8;
        for origin in [Origin::New, Origin::Redecide] {
            let slot = Slot { to_addr, to_port, ingress_kind, origin: origin as u8, ..slot };
            assert_eq!(denied(&rig.decide(&slot)).is_none(), allowed, "{to_port}");
        }
    }
}

#[test]
fn n10_n11_a_pod_reaches_itself_and_its_own_node_reaches_it_whatever_policies_say() {
    let mut rig = rig(Some(&[]), Some(&[]));
    for (from, source, destination, allowed) in [
        (PortKind::Pod, CLIENT, CLIENT, true),
        (PortKind::Pod, CLIENT, NODE, true),
        (PortKind::Host, NODE, SERVER, true),
        // who says that it is this node has to come from there
        (PortKind::Uplink, NODE, SERVER, false),
        (PortKind::Host, OUTSIDE, SERVER, false),
        (PortKind::Pod, CLIENT, OUTSIDE, false),
    ] {
        let decision = ask(&mut rig, from, &syn(source, destination, 80));
        assert_eq!(denied(&decision).is_none(), allowed, "{source} to {destination}");
    }
}

fn says(tier: Tier, action: Action, peer: Peer, rule: u32) -> Clause {
    Clause { tier, action, rule, ..anything(peer) }
}

#[test]
fn k1_k2_the_first_clause_counts_and_one_that_passes_ends_its_tier() {
    let (admin, namespace) = (Tier::Admin, Tier::Namespace);
    let allows = says(namespace, Action::Allow, Peer::Any, 30);
    let passes = says(admin, Action::Pass, Peer::Is(STORE), 10);
    let [accepts, denies] =
        [Action::Allow, Action::Deny].map(|action| says(admin, action, Peer::Any, 20));
    for (clauses, rule, expected) in [
        (vec![accepts, denies], 20, None),
        (vec![denies, accepts, allows], 20, Some(20)),
        (vec![passes, denies, allows], 30, None),
        (vec![passes, denies], 1006, Some(1006)),
        (vec![accepts], 20, None),
        (vec![], 1006, Some(1006)),
        // whom it is not about it does not pass on
        (vec![Clause { peer: Peer::Is(Identity(9)), ..passes }, denies, allows], 20, Some(20)),
    ] {
        let mut rig = rig(None, Some(&clauses));
        let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SERVER, 80));
        assert_eq!((denied(&decision), decision.rule), (expected, rule), "{clauses:?}");
    }
}

#[test]
fn k2_where_no_network_policy_is_for_a_pod_what_no_clause_is_about_goes_on() {
    let mut tables = tables(None, Some(&[]));
    let denies = says(Tier::Baseline, Action::Deny, Peer::Is(STORE), 40);
    let octets = List::encode(&[denies]);
    let clauses = List::new(&octets).expect("it is a clause");
    let otherwise = Otherwise { action: Action::Allow, rule: 0 };
    tables.put(&Row::Policies(INGRESS, Policies { otherwise, audit: PolicySet::NONE, clauses }));
    let mut rig = Rig::<Policy>::new("{}");
    rig.publish(&tables).expect("they fit together");
    for (from, source, expected) in
        [(PortKind::Pod, CLIENT, Some(40)), (PortKind::Uplink, OUTSIDE, None)]
    {
        let decision = ask(&mut rig, from, &syn(source, SERVER, 80));
        assert_eq!((denied(&decision), decision.rule), (expected, expected.unwrap_or(0)));
    }
}

#[test]
fn what_audited_policies_would_deny_goes_on_by_their_rule_and_is_counted() {
    let mut tables = tables(Some(&[]), Some(&[anything(Peer::Any)]));
    let audit = PolicySet(9);
    for (set, audit, action, rule) in [
        (EGRESS, PolicySet::NONE, Action::Allow, 0),
        (INGRESS, audit, Action::Allow, 0),
        (audit, PolicySet::NONE, Action::Deny, 60),
    ] {
        let clauses = List::new(&[]).expect("there is none");
        let otherwise = Otherwise { action, rule };
        tables.put(&Row::Policies(set, Policies { otherwise, audit, clauses }));
    }
    let mut rig = Rig::<Policy>::new("{}");
    rig.publish(&tables).expect("they fit together");
    let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SERVER, 80));
    assert_eq!((denied(&decision), decision.rule), (None, 60));
    assert_eq!((rig.metric("audited"), rig.metric("allowed")), (1, 1));
    // whom no audited policy is for
    let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, OUTSIDE, 80));
    assert_eq!((denied(&decision), decision.rule, rig.metric("audited")), (None, 0, 1));
}

#[test]
fn n10_n11_rules_of_administrators_are_about_a_pods_own_node_and_about_itself_by_a_service() {
    let to_node = syn(CLIENT, NODE, 80);
    let to_itself = syn(CLIENT, CLIENT, 80);
    let [admin, baseline] =
        [Tier::Admin, Tier::Baseline].map(|tier| says(tier, Action::Deny, Peer::Any, 50));
    let nothing = says(Tier::Namespace, Action::Allow, Peer::Is(Identity(9)), 51);
    for (clauses, expected) in
        [(vec![admin], Some(50)), (vec![baseline], Some(50)), (vec![nothing], None)]
    {
        let mut rig = rig(Some(&clauses), None);
        assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &to_node)), expected);
        assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &to_itself)), None, "by its own address");
        let service = rig.slot(1, &syn(CLIENT, "10.96.0.10", 80));
        let IpAddr::V4(client) = address(CLIENT) else { panic!("it is IPv4") };
        let to_addr = client.to_ipv6_mapped().octets();
        let slot = Slot { to_addr, ingress_kind: PortKind::Pod as u8, ..service };
        assert_eq!(denied(&rig.decide(&slot)), expected, "by a Service");
    }
    // nobody keeps a node from its pods
    let mut rig = rig(None, Some(&[admin]));
    assert_eq!(denied(&ask(&mut rig, PortKind::Host, &syn(NODE, SERVER, 80))), None);
}

#[test]
fn n14_a_pod_that_is_not_known_opens_nothing_until_it_is() {
    let mut rig = rig(None, None);
    let frame = syn("10.1.0.9", SERVER, 80);
    let decision = ask(&mut rig, PortKind::Pod, &frame);
    assert_eq!(denied(&decision), Some(UNKNOWN_SOURCE.id));
    assert_eq!(tags(&decision), [Tag::of_address(address("10.1.0.9")).bits()]);
    assert_eq!(rig.metric("denied_unknown"), 1);
    // nor does one that is known to be elsewhere
    let decision = ask(&mut rig, PortKind::Pod, &syn(ELSEWHERE, SERVER, 80));
    assert_eq!(denied(&decision), Some(UNKNOWN_SOURCE.id));
}

#[test]
fn what_is_for_all_of_a_segment_reaches_nobody_once_a_pod_of_it_is_not_to_get_everything() {
    let frame = frames::udp(&format!("{CLIENT}:1"), "224.0.0.251:5353", b"");
    for (ingress, expected) in [(None, None), (Some(&[][..]), Some(TO_MANY.id))] {
        let mut rig = rig(None, ingress);
        assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &frame)), expected);
        let slot = rig.slot(1, &syn(CLIENT, "10.1.0.77", 80));
        let kind = PortKind::Pod as u8;
        let flooded = Slot { ingress_kind: kind, decided: Field::Flood as u16, ..slot };
        assert_eq!(denied(&rig.decide(&flooded)), expected);
    }
    // once nobody is guarded any more it goes on
    let mut rig = rig(None, Some(&[]));
    rig.publish(&tables(None, None)).expect("they fit together");
    assert_eq!(denied(&ask(&mut rig, PortKind::Pod, &frame)), None);
}

#[test]
fn tables_change_row_by_row() {
    let (all, none) = ([anything(Peer::Any)], []);
    let steps = [
        (tables(None, Some(&none)), false),
        (tables(None, Some(&all)), true),
        (tables(None, Some(&[web(Peer::Within(Block(8)))])), true),
        (tables(Some(&none), None), false),
        (tables(None, None), true),
    ];
    let mut rig = rig(None, None);
    let mut before = tables(None, None);
    for (next, allowed) in steps {
        let update = before.delta(&next).updates(&Table::ALL, 2, usize::MAX).concat();
        rig.update(Update::new(&update)).expect("it fits what is known");
        let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SERVER, 80));
        assert_eq!(denied(&decision).is_none(), allowed);
        before = next;
    }
}

#[test]
fn an_update_that_does_not_fit_together_is_refused_with_what_is_missing() {
    let mut rig = Rig::<Policy>::new("{}");
    let lost = tables(None, Some(&[web(Peer::Within(Block(77)))]));
    let error = rig.publish(&lost).expect_err("it lacks a block");
    assert!(error.to_string().contains("77"), "{error}");
    let mut lost = tables(None, None);
    let (place, identity) = (Place::Here, Identity::NONE);
    let (egress, ingress) = (PolicySet::NONE, PolicySet(99));
    lost.put(&Row::Owner(address(SERVER), Owner { place, identity, egress, ingress }));
    let error = Rig::<Policy>::new("{}").publish(&lost).expect_err("it lacks a set");
    assert!(error.to_string().contains("99"), "{error}");
}
