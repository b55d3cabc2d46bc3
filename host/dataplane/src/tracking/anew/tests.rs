//! What answers about live connections come to.

use std::net::Ipv4Addr;
use std::sync::Arc;

use millrace_abi::{Control, PortKind, Tag, TagKind};

use super::*;
use crate::connections::{Connections, Opening, Settings};
use crate::port::{Gateway, HeldPort, Hold, Port, Station, Vlans};
use crate::verdict::Tags;

/// Ports 1 to 3, each with a pod.
fn ports() -> PortTable {
    let mut ports = PortTable::default();
    for number in 1..=3 {
        let gateway = Gateway { mac: [2; 6], v4: Some([10, 0, 0, 254].into()), v6: None };
        let port = Port {
            id: PortId::new(number).expect("it is a port's number"),
            name: format!("p{number}"),
            kind: PortKind::Pod,
            link: u32::from(number),
            mtu: 1500,
            up: true,
            vlans: Vlans::access(0),
            completes_checksums: false,
            shaped: false,
            hold: Hold::Cached(Station { mac: [4; 6], gateway }),
        };
        ports.insert(HeldPort { port, counters: Arc::default() });
    }
    ports
}

fn address(last: u8) -> [u8; 16] {
    Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets()
}

/// Goes out of port 2, to another destination if the slot says so.
fn verdict() -> Verdict {
    let fields = FieldSet::EMPTY.with(Field::Egress).with(Field::To);
    Verdict { fields, egress: 2, by: Decider::stage(1), ..Verdict::OPEN }
}

fn terms(service: u32) -> Terms {
    let mut tags = Tags::default();
    assert!(tags.add(Tag::new(TagKind::Service, service)));
    Terms { tags, ..Terms::DEFAULT }
}

/// A connection of port 1 with what is behind 10.0.0.9: 10.0.0.2, by port 2.
fn connection() -> View {
    let slot = Slot {
        src_addr: address(1),
        dst_addr: address(9),
        to_addr: address(2),
        src_port: 4000,
        dst_port: 53,
        to_port: 53,
        ip_version: 4,
        protocol: 17,
        ingress: 1,
        ..Slot::ZERO
    };
    let (zone, ports) = (Zone::port(1), ports());
    let key = Key::of(&slot, zone);
    let egress = &ports.get(PortId::new(2).expect("a port's number")).expect("it is there").port;
    let ends = Ends::of(&slot, &key, verdict().fields, egress).expect("one IP version");
    let table = Connections::new(Settings::default());
    let opening = Opening {
        slot,
        zone,
        reply: ends.answered_at(&key, Zone::of(egress)),
        ways: ways(&slot, &verdict(), egress),
        tags: terms(7).tags,
        idle: None,
    };
    let id = table.open(&opening).expect("there is room").id;
    table.view(id).expect("it was just opened")
}

fn outcome(verdict: &Verdict, terms: &Terms) -> Outcome {
    outcome_to(2, verdict, terms)
}

/// The same, if the chain has picked this destination.
fn outcome_to(destination: u8, verdict: &Verdict, terms: &Terms) -> Outcome {
    let view = connection();
    assert_eq!((view.opening.to_addr, view.opening.to_port), (address(2), 53));
    let slot = &Slot { to_addr: address(destination), ..view.opening };
    Outcome::of(&view, &Answer { slot, verdict, terms }, &ports())
}

#[test]
fn the_same_answer_changes_nothing() {
    assert!(matches!(outcome(&verdict(), &terms(7)), Outcome::Same));
    // the translation stays, whether it is stated again or not
    let fields = verdict().fields.without(Field::To);
    assert!(matches!(outcome(&Verdict { fields, ..verdict() }, &terms(7)), Outcome::Same));
}

#[test]
fn other_reasons_are_no_other_way() {
    let by = Verdict { by: Decider::stage(2), rule: 4, ..verdict() };
    for (verdict, terms) in [(verdict(), terms(8)), (by, terms(7))] {
        let Outcome::Restated(anew) = outcome(&verdict, &terms) else { panic!("{verdict:?}") };
        assert_eq!((anew.ways[0].verdict, anew.tags), (verdict, terms.tags));
    }
}

#[test]
fn another_port_is_another_way_in_both_directions() {
    let moved = Verdict { egress: 3, ..verdict() };
    let Outcome::Changed(change) = outcome(&moved, &terms(7)) else { panic!("it has changed") };
    assert_eq!(change.anew.answers, Zone::port(3));
    let [there, back] = change.flows.map(|flow| flow.expect("the kernel can carry it").key);
    assert_eq!((there.from().number(), back.from().number()), (1, 3));
    assert_eq!(back.source(), "10.0.0.2:53".parse().expect("an address"));
}

#[test]
fn what_is_looked_into_is_not_the_kernels_to_carry() {
    let inspected = Verdict { inspect: 1, ..verdict() };
    let Outcome::Changed(change) = outcome(&inspected, &terms(7)) else { panic!("it has changed") };
    assert!(change.flows.iter().all(Option::is_none));
}

#[test]
fn a_connection_that_picks_another_translation_is_over() {
    let again = Verdict { fields: verdict().fields.with(Field::PickAgain), ..verdict() };
    assert!(matches!(outcome_to(2, &again, &terms(7)), Outcome::Same));
    assert!(matches!(outcome_to(3, &again, &terms(7)), Outcome::Over));
}

#[test]
fn an_answer_that_does_not_last_ends_a_connection() {
    let once = Verdict { fields: verdict().fields.with(Field::Once), ..verdict() };
    assert!(matches!(outcome(&once, &terms(7)), Outcome::Over));
    let for_a_time = Terms { revalidate_ms: 500, ..terms(7) };
    assert!(matches!(outcome(&verdict(), &for_a_time), Outcome::Over));
}

#[test]
fn a_refusal_is_a_filters_or_the_hosts_and_a_fault_is_none() {
    let nowhere = Verdict { egress: 4, ..verdict() };
    let dropped = |reason| Verdict { control: Control::Drop, reason: Some(reason), ..verdict() };
    for (answer, by, reason) in [
        (dropped(Reason::Denied), verdict().by, Reason::Denied),
        (dropped(Reason::FilterAbsent), verdict().by, Reason::FilterAbsent),
        (nowhere, Decider::HOST, Reason::NoSuchPort),
    ] {
        let Outcome::Refused(refused) = outcome(&answer, &terms(7)) else { panic!("{answer:?}") };
        assert_eq!((refused.verdict.by, refused.verdict.reason), (by, Some(reason)));
        assert_eq!(refused.for_a_time, None);
    }
    let for_a_time = Terms { revalidate_ms: 500, ..terms(7) };
    let answer = outcome(&dropped(Reason::Denied), &for_a_time);
    let Outcome::Refused(refused) = answer else { panic!("{answer:?}") };
    assert_eq!(refused.for_a_time, Some(Duration::from_millis(500)));
    for reason in [Reason::FilterFault, Reason::BadAnswer] {
        assert!(matches!(outcome(&dropped(reason), &terms(7)), Outcome::Unanswered));
    }
}
