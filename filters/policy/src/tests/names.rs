//! Names of domains: what is learnt of answers, and what is not (K4; network-policy-api, NPEP-133).

use std::time::Duration;

use millrace_filter::INSPECT_ALL;
use millrace_filter::abi::PacketVerdict;
use millrace_filter::tables::{Domain, Pattern};
use proptest::prelude::*;

use super::*;

pub(super) const RESOLVER: &str = "10.96.0.53";
/// Who serves it, whom the client knows nothing of.
pub(super) const SERVED_BY: &str = "10.1.1.9";
const CLIENT_V6: &str = "fd01::2";
pub(super) const SITE: &str = "192.0.2.7";
const SITE_V6: &str = "2001:db8::7";
/// The port that the client is behind.
pub(super) const PORT: u16 = 3;
pub(super) const V4: u16 = 1;
const V6: u16 = 28;

/// A client that may ask, and open what it wants to `www.example.com` and all below `shop.test`.
pub(super) fn told() -> Tables {
    let asks = permit(Peer::Any, None, 53, 53);
    let mut tables = tables(Some(&[asks, anything(named(1)), anything(named(2))]), None);
    let owner = Owner {
        place: Place::Here,
        identity: Identity::NONE,
        egress: EGRESS,
        ingress: PolicySet::NONE,
    };
    tables.put(&Row::Owner(address(CLIENT_V6), owner));
    for (number, text) in [(1, "www.example.com"), (2, "*.shop.test")] {
        tables.put(&Row::Domain(Domain(number), Pattern::new(text).expect("a pattern")));
    }
    tables.put(&Row::Resolver(address(RESOLVER)));
    tables
}

fn named(number: u32) -> Peer {
    Peer::Called(Domain(number))
}

pub(super) fn town() -> Rig<Policy> {
    let mut rig = Rig::new("{}");
    rig.publish(&told()).expect("they fit together");
    rig
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let labels = labels.flat_map(|it| std::iter::once(it.len() as u8).chain(it.bytes()));
    labels.chain([0]).collect()
}

fn message(flags: [u8; 2], id: u8, of: &str, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let counts = [0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    let question = [&name(of)[..], &kind.to_be_bytes(), &[0, 1]].concat();
    [&[0, id], &flags[..], &counts, &question, &records.concat()].concat()
}

pub(super) fn question(id: u8, of: &str, kind: u16) -> Vec<u8> {
    message([1, 0], id, of, kind, &[])
}

pub(super) fn answer(id: u8, of: &str, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    message([0x81, 0x80], id, of, kind, records)
}

fn record(of: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u16).to_be_bytes();
    [&name(of)[..], &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &len, data].concat()
}

/// That a name has an address.
pub(super) fn has(of: &str, text: &str, ttl: u32) -> Vec<u8> {
    match address(text) {
        IpAddr::V4(v4) => record(of, V4, ttl, &v4.octets()),
        IpAddr::V6(v6) => record(of, V6, ttl, &v6.octets()),
    }
}

fn alias(of: &str, other: &str, ttl: u32) -> Vec<u8> {
    record(of, 5, ttl, &name(other))
}

fn ask_it(rig: &mut Rig<Policy>, message: &[u8]) {
    let frame = frames::udp(&format!("{CLIENT}:4000"), &format!("{RESOLVER}:53"), message);
    assert_eq!(rig.packet_from(PORT, &frame).bytes, frame, "questions pass as they are");
}

/// The answer comes before the Service's address is its source again.
fn tell(rig: &mut Rig<Policy>, message: &[u8]) {
    let frame = frames::udp(&format!("{SERVED_BY}:53"), &format!("{CLIENT}:4000"), message);
    assert_eq!(rig.packet_from(9, &frame).bytes, frame, "answers pass as they are");
}

/// A question that is answered so.
fn resolve(rig: &mut Rig<Policy>, of: &str, kind: u16, records: &[Vec<u8>]) {
    ask_it(rig, &question(7, of, kind));
    tell(rig, &answer(7, of, kind, records));
}

pub(super) fn is_let(rig: &mut Rig<Policy>, to: &str) -> bool {
    let frame = match to.contains(':') {
        true => {
            frames::tcp(&format!("[{CLIENT_V6}]:4000"), &format!("[{to}]:443"), Flags::SYN, b"")
        }
        false => syn(CLIENT, to, 443),
    };
    denied(&ask(rig, PortKind::Pod, &frame)).is_none()
}

#[test]
fn k4_a_name_lets_to_the_addresses_that_a_resolver_has_said_it_has_in_both_families() {
    let mut rig = town();
    let decision = ask(&mut rig, PortKind::Pod, &syn(CLIENT, SITE, 443));
    assert_eq!(denied(&decision), Some(1005));
    assert_ne!(decision.revalidate_ms, 0, "what names may allow later is not denied for long");
    resolve(&mut rig, "www.example.com", V4, &[has("www.example.com", SITE, 60)]);
    assert!(is_let(&mut rig, SITE) && !is_let(&mut rig, SITE_V6) && !is_let(&mut rig, OUTSIDE));
    resolve(&mut rig, "WWW.Example.COM", V6, &[has("www.EXAMPLE.com", SITE_V6, 60)]);
    assert!(is_let(&mut rig, SITE_V6));
    assert_eq!(rig.metric("names_learned"), 2);
    // who has no such policy is not let there by it
    let server = ask(&mut rig, PortKind::Pod, &syn(SERVER, SITE, 443));
    assert_eq!((denied(&server), server.revalidate_ms), (None, 0), "nothing is asked of it");
}

#[test]
fn k4_a_hundred_addresses_of_a_name_are_known() {
    let mut rig = town();
    let addresses: Vec<String> = (0..120).map(|it| format!("192.0.2.{it}")).collect();
    for some in addresses.chunks(20) {
        let records: Vec<_> = some.iter().map(|it| has("a.shop.test", it, 60)).collect();
        resolve(&mut rig, "a.shop.test", V4, &records);
    }
    assert!(addresses.iter().all(|it| is_let(&mut rig, it)));
}

#[test]
fn k4_a_chain_of_names_in_one_answer_leads_to_addresses_and_says_nothing_of_the_others() {
    let mut rig = town();
    let records = [
        has("edge.net", SITE, 9000),
        alias("cdn.org", "edge.net", 9000),
        alias("www.example.com", "cdn.org", 60),
        // whom nobody has asked for, and whom the chain does not lead to
        has("b.shop.test", OUTSIDE, 60),
        has("www.example.org", "192.0.2.9", 60),
    ];
    resolve(&mut rig, "www.example.com", V4, &records);
    assert!(is_let(&mut rig, SITE));
    assert!(!is_let(&mut rig, OUTSIDE) && !is_let(&mut rig, "192.0.2.9"));
    rig.advance(Duration::from_secs(61));
    assert!(!is_let(&mut rig, SITE), "a chain holds for as long as its weakest link");
    // one that leads to a name of a policy is not asked for by that
    resolve(
        &mut rig,
        "evil.org",
        V4,
        &[alias("evil.org", "a.shop.test", 60), has("a.shop.test", OUTSIDE, 60)],
    );
    assert!(!is_let(&mut rig, OUTSIDE));
    // and one that goes round and round ends
    resolve(
        &mut rig,
        "a.shop.test",
        V4,
        &[alias("a.shop.test", "b.shop.test", 60), alias("b.shop.test", "a.shop.test", 60)],
    );
}

#[test]
fn k4_answers_that_were_not_asked_for_teach_nothing() {
    let www = "www.example.com";
    let records = [has(www, SITE, 60)];
    let fine = answer(7, www, V4, &records);
    for (what, asked, told) in [
        ("another id", question(7, www, V4), answer(8, www, V4, &records)),
        ("another name", question(7, "www.example.org", V4), fine.clone()),
        ("another kind", question(7, www, V6), fine.clone()),
        ("no question", Vec::new(), fine.clone()),
        ("an answer as the question", fine.clone(), fine.clone()),
    ] {
        let mut rig = town();
        ask_it(&mut rig, &asked);
        tell(&mut rig, &told);
        assert!(!is_let(&mut rig, SITE), "{what}");
        assert_eq!((rig.metric("names_learned"), rig.metric("answers_not_asked_for")), (0, 1));
    }
    let mut rig = town();
    ask_it(&mut rig, &question(7, www, V4));
    // what the pod sends itself is no answer, wherever that goes, and too late is too late
    ask_it(&mut rig, &fine);
    let elsewhere = frames::udp(&format!("{CLIENT}:4000"), &format!("{OUTSIDE}:53"), &fine);
    rig.packet_from(PORT, &elsewhere);
    assert!(!is_let(&mut rig, SITE));
    rig.advance(Duration::from_secs(11));
    tell(&mut rig, &fine);
    assert!(!is_let(&mut rig, SITE));
    // an error, and half an answer
    for (told, known) in [
        (message([0x81, 0x83], 7, www, V4, &records), false),
        (fine[..fine.len() - 1].to_vec(), false),
        (fine.clone(), true),
    ] {
        ask_it(&mut rig, &question(7, www, V4));
        tell(&mut rig, &told);
        assert_eq!(is_let(&mut rig, SITE), known);
    }
}

#[test]
fn k4_an_answer_holds_for_as_long_as_it_says_but_thirty_seconds_at_least_and_a_day_at_most() {
    for (ttl, holds) in [(0, 30), (60, 60), (u32::MAX >> 1, 86_400), (u32::MAX, 30)] {
        let mut rig = town();
        resolve(&mut rig, "a.shop.test", V4, &[has("a.shop.test", SITE, ttl)]);
        rig.advance(Duration::from_secs(holds - 1));
        assert!(is_let(&mut rig, SITE), "{ttl}");
        rig.advance(Duration::from_secs(2));
        assert!(!is_let(&mut rig, SITE), "{ttl}");
        // one more answer, and a shorter one takes nothing away
        for ttl in [600, 1] {
            resolve(&mut rig, "a.shop.test", V4, &[has("a.shop.test", SITE, ttl)]);
        }
        rig.advance(Duration::from_secs(599));
        assert!(is_let(&mut rig, SITE), "{ttl}");
    }
}

#[test]
fn k4_connections_go_on_when_the_answer_that_has_let_them_is_over() {
    let mut rig = town();
    resolve(&mut rig, "www.example.com", V4, &[has("www.example.com", SITE, 60)]);
    let slot =
        Slot { ingress_kind: PortKind::Pod as u8, ..rig.slot(PORT, &syn(CLIENT, SITE, 443)) };
    rig.advance(Duration::from_secs(3600));
    let now_ns = rig.slot(PORT, &syn(CLIENT, SITE, 443)).now_ns;
    let anew = Slot { origin: Origin::Redecide as u8, now_ns, ..slot };
    assert_eq!(denied(&rig.decide(&anew)), None);
    let other = Slot { dst_addr: rig.slot(1, &syn(CLIENT, OUTSIDE, 1)).dst_addr, ..anew };
    let other = Slot { to_addr: other.dst_addr, ..other };
    let decision = rig.decide(&other);
    assert_eq!(denied(&decision), Some(1005), "whose address never had a name");
    assert_ne!(decision.revalidate_ms, 0, "it may have one soon");
    assert!(!is_let(&mut rig, SITE), "another one is not opened");
    // nor do they once the policy is not about the name any more
    let mut tables = told();
    let octets = List::encode(&[anything(named(2))]);
    let otherwise = Otherwise { action: Action::Deny, rule: 1005 };
    let clauses = List::new(&octets).expect("it is a clause");
    tables.put(&Row::Policies(EGRESS, Policies { otherwise, audit: PolicySet::NONE, clauses }));
    rig.publish(&tables).expect("they fit together");
    assert_eq!(denied(&rig.decide(&anew)), Some(1005));
}

#[test]
fn connections_to_resolvers_alone_are_looked_into_and_of_pods_alone_that_names_are_for() {
    let mut rig = town();
    let to = |destination: &str| frames::udp(&format!("{CLIENT}:4000"), destination, b"");
    for (what, frame, looks) in [
        ("a resolver", to(&format!("{RESOLVER}:53")), true),
        ("another server", to("198.51.100.1:53"), false),
        ("another port", to(&format!("{RESOLVER}:54")), false),
        ("over TCP", syn(CLIENT, RESOLVER, 53), true),
        ("TCP to another server", syn(CLIENT, "198.51.100.1", 53), false),
        ("SCTP", frames::sctp(&format!("{CLIENT}:4000"), &format!("{RESOLVER}:53"), b""), false),
        (
            "a pod that no name is for",
            frames::udp(&format!("{SERVER}:4000"), &format!("{RESOLVER}:53"), b""),
            false,
        ),
    ] {
        let inspect = ask(&mut rig, PortKind::Pod, &frame).inspect;
        assert_eq!(inspect, if looks { INSPECT_ALL } else { 0 }, "{what}");
    }
    // it is asked again when that server becomes a resolver
    let decision = ask(&mut rig, PortKind::Pod, &to("198.51.100.1:53"));
    assert!(tags(&decision).contains(&Tag::of_address(address(OUTSIDE)).bits()));

    // where nothing is about names nobody looks at anything
    let mut tables = tables(Some(&[anything(Peer::Any)]), None);
    tables.put(&Row::Resolver(address(RESOLVER)));
    rig.publish(&tables).expect("they fit together");
    assert_eq!(ask(&mut rig, PortKind::Pod, &to(&format!("{RESOLVER}:53"))).inspect, 0);
}

#[test]
fn names_of_audited_policies_are_learnt_too() {
    let mut tables = told();
    let audit = PolicySet(9);
    let octets = List::encode(&[anything(named(1))]);
    for (set, audit, clauses) in [(EGRESS, audit, &[][..]), (audit, PolicySet::NONE, &octets)] {
        let action = if clauses.is_empty() { Action::Allow } else { Action::Deny };
        let otherwise = Otherwise { action, rule: 60 };
        let clauses = List::new(clauses).expect("they are clauses");
        tables.put(&Row::Policies(set, Policies { otherwise, audit, clauses }));
    }
    let mut rig = Rig::<Policy>::new("{}");
    rig.publish(&tables).expect("they fit together");
    let frame = frames::udp(&format!("{CLIENT}:4000"), &format!("{RESOLVER}:53"), b"");
    assert_eq!(ask(&mut rig, PortKind::Pod, &frame).inspect, INSPECT_ALL);
    assert!(is_let(&mut rig, SITE));
    assert_eq!(rig.metric("audited"), 2, "the question too: nothing allows that");
    resolve(&mut rig, "www.example.com", V4, &[has("www.example.com", SITE, 60)]);
    assert!(is_let(&mut rig, SITE));
    assert_eq!(rig.metric("audited"), 2);
}

#[test]
fn what_is_known_of_names_outlives_the_filter_and_the_numbers_of_its_tables() {
    let mut rig = town();
    resolve(&mut rig, "www.example.com", V4, &[has("www.example.com", SITE, 60)]);
    rig.reconfigure("{}").expect("it starts");
    // as the next agent may number them
    let mut tables = told();
    for (number, text) in [(2, "www.example.com"), (1, "*.shop.test")] {
        tables.put(&Row::Domain(Domain(number), Pattern::new(text).expect("a pattern")));
    }
    let octets = List::encode(&[anything(named(1))]);
    let otherwise = Otherwise { action: Action::Deny, rule: 1005 };
    for (clauses, lets) in [(List::encode(&[anything(named(2))]), true), (octets, false)] {
        let clauses = List::new(&clauses).expect("it is a clause");
        tables.put(&Row::Policies(EGRESS, Policies { otherwise, audit: PolicySet::NONE, clauses }));
        rig.publish(&tables).expect("they fit together");
        assert_eq!(is_let(&mut rig, SITE), lets);
    }
}

#[test]
fn a_clause_that_names_a_domain_that_is_not_there_is_refused() {
    let error = Rig::<Policy>::new("{}").publish(&tables(Some(&[anything(named(77))]), None));
    let error = error.expect_err("it lacks a domain");
    assert!(error.to_string().contains("the domain 77"), "{error}");
}

#[test]
fn one_pod_that_asks_for_too_much_leaves_room_for_others() {
    let mut rig = town();
    for id in 0..=u16::MAX {
        let [high, low] = id.to_be_bytes();
        let mut message = question(low, "www.example.com", V4);
        message[0] = high;
        ask_it(&mut rig, &message);
        if rig.metric("names_without_room") > 0 {
            break;
        }
    }
    assert_eq!(rig.metric("names_without_room"), 1, "its share is over");
    let frame = frames::udp(
        &format!("{SERVER}:4000"),
        &format!("{RESOLVER}:53"),
        &question(1, "a.shop.test", V4),
    );
    rig.packet_from(4, &frame);
    tell(&mut rig, &answer(1, "a.shop.test", V4, &[has("a.shop.test", SITE, 60)]));
    assert!(is_let(&mut rig, SITE));
}

proptest! {
    #[test]
    fn whatever_a_resolver_sends_it_passes_unchanged_and_only_what_was_asked_for_is_learnt(
        payload in prop::collection::vec(any::<u8>(), 0..80),
        cut in 0..60usize,
    ) {
        let mut rig = town();
        ask_it(&mut rig, &question(7, "www.example.org", V4));
        let mut fine = answer(7, "www.example.org", V4, &[has("www.example.org", SITE, 60)]);
        fine.truncate(cut.max(12));
        fine.extend(payload);
        let frame = frames::udp(&format!("{SERVED_BY}:53"), &format!("{CLIENT}:4000"), &fine);
        let outcome = rig.packet_from(9, &frame);
        prop_assert_eq!((outcome.verdict, outcome.bytes), (PacketVerdict::Pass, frame));
        prop_assert_eq!(rig.metric("names_learned"), 0);
    }
}
