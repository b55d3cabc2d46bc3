//! Connections that go on in another process: what is kept of them, and what the kernel saw.

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_abi::{FieldSet, Origin, Tag, TagKind};
use proptest::prelude::*;

use super::*;
use crate::verdict::Decider;

const NOW: u64 = 5000 * SECOND;

fn generation(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn carried(packets: u64, last_seen_ns: u64) -> Usage {
    let bytes = packets * 100;
    Usage { last_seen_ns, packets, bytes, beyond_syn: packets > 0, closing: None }
}

/// What a successor makes of what is kept of a connection.
fn handed_on(view: &View) -> Opening {
    let name = view.keys[0].name();
    Opening::of_record(&name, &view.record(), NOW).expect("it was written just now")
}

/// The connection in a table of its own, and in a successor's.
fn resumed(opening: &Opening) -> (View, Connections, ConnectionId) {
    let (former, next) = (table(), table());
    let id = former.open(opening).unwrap().id;
    let view = former.view(id).unwrap();
    let id = next.resume(&handed_on(&view)).expect("its keys are free");
    (view, next, id)
}

fn established(table: &Connections, id: ConnectionId) -> bool {
    table.view(id).is_some_and(|view| view.state == State::Tcp(TcpState::Established))
}

prop_compose! {
    fn verdicts()(
        fields in any::<u16>(), egress in any::<u16>(), rule in any::<u32>(),
        inspect in any::<u16>(), by in any::<u8>(), answered in any::<bool>(),
    ) -> Verdict {
        let by = if by == 0 { Decider::HOST } else { Decider::stage(by) };
        let fields = FieldSet::from_bits(fields);
        Verdict { fields, egress, rule, inspect, by, answered, ..Verdict::OPEN }
    }
}

prop_compose! {
    fn openings()(
        verdicts in [verdicts(), verdicts()], links in any::<[Option<([u8; 6], [u8; 6])>; 2]>(),
        protocol in prop::sample::select(vec![1u8, 6, 17, 58, 132]), client in any::<u16>(),
        server in any::<u16>(), backend in any::<(u16, u16)>(), idle in any::<Option<u32>>(),
        tags in prop::collection::vec(1u32..1000, 0..=8), macs in any::<([u8; 6], [u8; 6])>(),
        bytes in any::<[u8; 8]>(), numbers in any::<(u32, u16, u16, u16)>(), owner in 1u16..=4094,
    ) -> Opening {
        let mut slot = slot(protocol, client.into(), server);
        if [1, 58].contains(&protocol) {
            slot.dst_port = 0;
        }
        (slot.src_mac, slot.dst_mac) = macs;
        slot.ingress = owner;
        (slot.hash, slot.vlan, slot.ethertype, slot.flags) = numbers;
        [slot.ttl, slot.traffic_class, slot.ingress_kind, slot.class, slot.tcp_flags, slot.icmp_type,
            slot.icmp_code, _] = bytes;
        let plain = Key::of(&slot, CLIENT).reversed(SERVER);
        let end = |end: Endpoint, port| Endpoint { port, ..end };
        let reply = Key {
            source: end(plain.source, backend.0),
            destination: end(plain.destination, backend.1),
            ..plain
        };
        let way = |at: usize| Way {
            verdict: verdicts[at],
            link: links[at].map(|(destination, source)| Link { destination, source }),
            hop: if at == 0 { Hop::Routed } else { Hop::Bridged },
        };
        let mut all = Tags::default();
        for id in tags {
            all.add(Tag::new(TagKind::Service, id));
        }
        let idle = idle.filter(|&ms| ms > 0).map(|ms| Duration::from_millis(ms.into()));
        Opening { reply, ways: [way(0), way(1)], tags: all, idle, ..opening(slot) }
    }
}

proptest! {
    #[test]
    fn a_successor_has_all_that_was_decided_and_the_packet_that_opened_it(opening in openings()) {
        let (view, next, id) = resumed(&opening);
        let now = next.view(id).unwrap();
        prop_assert_eq!(now.keys, view.keys);
        prop_assert_eq!(now.ways, view.ways);
        prop_assert_eq!(now.idle, view.idle);
        prop_assert_eq!(now.owner, view.owner);
        prop_assert_eq!(now.labels, view.labels);
        let opened = Slot { now_ns: view.opening.now_ns, ..now.opening };
        prop_assert_eq!(opened, view.opening);
        prop_assert_eq!(handed_on(&view).slot.origin, Origin::New as u8);
        prop_assert_eq!(next.owner(view.owner).connections, 1);
    }

    #[test]
    fn what_others_have_written_is_no_connection_and_no_panic(
        name in any::<[u8; 40]>(), record in prop::collection::vec(any::<u8>(), 256),
    ) {
        let mut record: Record = record.try_into().unwrap();
        let _ = Opening::of_record(&name, &record, NOW);
        record[0] = 0;
        prop_assert!(Opening::of_record(&name, &record, NOW).is_none());
    }
}

#[test]
fn what_the_kernel_carried_says_how_far_a_connection_is() {
    let opening = opening(slot(6, 1000, 80));
    let (view, next, id) = resumed(&opening);
    let [there, back] = view.keys;
    assert!(next.resume_entry(&there, generation(7), &carried(3, NOW)));
    assert!(!established(&next, id), "one side alone");
    assert!(next.resume_entry(&back, generation(8), &carried(2, NOW)));
    assert!(established(&next, id));
    next.presume(id, NOW);
    let now = next.view(id).unwrap();
    assert_eq!(now.generations, [Some(generation(7)), Some(generation(8))]);
    assert!(now.settled);
    assert_eq!(now.traffic, [Traffic::default(); 2], "the entries tell it when they go");

    // each side has closed
    let ended = Usage { closing: Some(Closing::Fin), ..carried(3, NOW) };
    assert!(next.resume_entry(&there, generation(7), &ended));
    assert!(next.resume_entry(&back, generation(8), &ended));
    assert_eq!(next.view(id).unwrap().state, State::Tcp(TcpState::TimeWait));
    let nobodys = there.reversed(CLIENT);
    assert!(!next.resume_entry(&nobodys, generation(9), &carried(1, NOW)));
}

#[test]
fn a_connection_that_user_space_carried_goes_on_if_it_shows_so() {
    let opening = opening(slot(6, 1000, 80));
    let (view, next, id) = resumed(&opening);
    next.presume(id, NOW);
    assert!(established(&next, id));
    assert!(!next.view(id).unwrap().settled);
    let later = NOW + 30 * SECOND;
    assert_eq!(next.due(later, 9), []);
    for key in view.keys {
        let found = next.find(&key, packet(ACK, later)).expect("it is there");
        assert_eq!(found.standing, Standing::Fits);
    }
    assert!(next.view(id).unwrap().settled);
    assert_eq!(next.due(later + 3600 * SECOND, 9), [], "established ones live for a day");

    // one that nothing is heard of any more is over soon
    let (_, next, id) = resumed(&opening);
    next.presume(id, NOW);
    assert_eq!(next.due(NOW + 61 * SECOND, 9).iter().map(|due| due.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn a_connection_that_is_open_is_not_put_back() {
    let opening = opening(slot(17, 1000, 53));
    let (view, next, _) = resumed(&opening);
    assert_eq!(next.resume(&handed_on(&view)), None);
    assert_eq!(next.len(), 1);
}
