//! Time.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What is let go at `now_ns`, of what has no entry in the kernel.
fn over(table: &Connections, now_ns: u64) -> Vec<ConnectionId> {
    let due = table.due(now_ns, usize::MAX);
    for due in &due {
        assert!(matches!(table.retire(due.id, now_ns), Retirement::Retired(_)));
    }
    due.into_iter().map(|due| due.id).collect()
}

/// A timer may be this late.
const TICK: u64 = 1 << super::super::wheel::TICK_BITS;

#[test]
fn connections_live_as_long_as_their_protocol_and_state_have_it() {
    let plain = |_: &Connections, _: &Opening| {};
    let answered = |table: &Connections, opening: &Opening| {
        answer(table, opening, SECOND).unwrap();
    };
    let established = |table: &Connections, opening: &Opening| {
        let key = Key::of(&opening.slot, CLIENT);
        table.find(&opening.reply, packet(SYN_ACK, SECOND)).unwrap();
        table.find(&key, packet(ACK, SECOND)).unwrap();
    };
    let reset = |table: &Connections, opening: &Opening| {
        established(table, opening);
        table.find(&opening.reply, packet(RST, SECOND)).unwrap();
    };
    let closed = |table: &Connections, opening: &Opening| {
        established(table, opening);
        let key = Key::of(&opening.slot, CLIENT);
        table.find(&key, packet(FIN, SECOND)).unwrap();
        table.find(&opening.reply, packet(FIN, SECOND)).unwrap();
        table.find(&key, packet(ACK, SECOND)).unwrap();
    };
    // by the kernel, which carries FINs to nobody as well
    let closed_alone = |table: &Connections, opening: &Opening| {
        let key = Key::of(&opening.slot, CLIENT);
        table.closing(&key, NonZeroU32::MIN, Closing::Fin, SECOND);
    };
    type Life<'a> = &'a dyn Fn(&Connections, &Opening);
    let rows: [(u8, Life<'_>, u64); 10] = [
        (17, &plain, 30),
        (17, &answered, 180),
        (6, &plain, 60),
        (6, &established, 24 * 60 * 60),
        (6, &reset, 10),
        (6, &closed, 120),
        (6, &closed_alone, 60),
        (1, &answered, 30),
        (132, &plain, 30),
        (132, &answered, 210),
    ];
    for (row, (protocol, life, seconds)) in rows.into_iter().enumerate() {
        let table = table();
        let opening = opening(slot(protocol, 7, 7));
        let id = table.open(&opening).unwrap().id;
        life(&table, &opening);
        let end = (1 + seconds) * SECOND;
        assert_eq!(over(&table, end - 1), [], "row {row}");
        assert_eq!(over(&table, end + TICK), [id], "row {row}");
        assert_eq!(table.len(), 0);
    }
}

#[test]
fn a_packet_of_either_direction_puts_the_end_off() {
    let table = table();
    let opening = opening(slot(17, 7, 7));
    let id = table.open(&opening).unwrap().id;
    assert_eq!(answer(&table, &opening, 20 * SECOND), Some(id));
    assert_eq!(over(&table, 100 * SECOND), []);
    table.find(&Key::of(&opening.slot, CLIENT), packet(Flags::NONE, 150 * SECOND)).unwrap();
    assert_eq!(over(&table, 250 * SECOND), []);
    assert_eq!(over(&table, 330 * SECOND + TICK), [id]);
}

#[test]
fn a_filter_can_say_how_long_an_answered_connection_may_be_silent() {
    let table = table();
    let stated = Opening { idle: Some(Duration::from_secs(3)), ..opening(slot(17, 7, 7)) };
    let id = table.open(&stated).unwrap().id;
    assert_eq!(over(&table, 20 * SECOND), [], "until somebody answers, it is as for all");
    assert_eq!(answer(&table, &stated, 20 * SECOND), Some(id));
    assert_eq!(over(&table, 23 * SECOND - 1), []);
    assert_eq!(over(&table, 23 * SECOND + TICK), [id]);
}

#[test]
fn what_is_silent_for_a_while_leaves_the_kernel_and_goes_on() {
    let table = table();
    let opening = opening(slot(6, 7, 7));
    let key = Key::of(&opening.slot, CLIENT);
    let id = table.open(&opening).unwrap().id;
    table.find(&opening.reply, packet(SYN_ACK, SECOND)).unwrap();
    table.find(&key, packet(ACK, SECOND)).unwrap();
    for (start, generation) in [(SECOND, 5), (4000 * SECOND, 6)] {
        table.find(&key, packet(ACK, start)).unwrap();
        let generation = NonZeroU32::new(generation);
        assert!(table.cached(id, Direction::Original, generation, 0));
        let usage = |last_seen_ns| Usage {
            last_seen_ns,
            packets: 1,
            bytes: 60,
            beyond_syn: true,
            ..Usage::default()
        };

        // the kernel has heard of it meanwhile
        assert_eq!(table.due(start + 120 * SECOND - 1, 9), []);
        let now = start + 120 * SECOND + TICK;
        let [due] = table.due(now, 9)[..] else { panic!("one is due") };
        table.observe(&key, generation.unwrap(), &usage(start + 90 * SECOND));
        assert!(table.renew(due.id, now));
        assert_eq!(table.view(id).unwrap().generations, [generation, None]);

        // and now it has not
        let now = start + 210 * SECOND + TICK;
        let [due] = table.due(now, 9)[..] else { panic!("one is due") };
        assert_eq!((due.id, due.over), (id, false));
        assert!(!table.renew(due.id, now));
        assert_eq!(table.retire(id, now), Retirement::StillAlive);
        assert_eq!(table.view(id).unwrap().generations, [None; 2]);
        assert_eq!(over(&table, start + 3600 * SECOND), []);
    }
}

#[test]
fn a_connection_that_the_kernel_saw_more_of_stays() {
    let table = table();
    let opening = opening(slot(17, 7, 7));
    let id = table.open(&opening).unwrap().id;
    let generation = NonZeroU32::new(5);
    assert!(table.cached(id, Direction::Reply, generation, 0));

    let now = 31 * SECOND + TICK;
    let [due] = table.due(now, 9)[..] else { panic!("one is due") };
    assert_eq!((due.id, due.generations), (id, [None, generation]));
    assert_eq!(due.keys, [Key::of(&opening.slot, CLIENT), opening.reply]);
    let usage = Usage { last_seen_ns: 30 * SECOND, packets: 3, bytes: 300, ..Usage::default() };
    table.absorb(&opening.reply, generation.unwrap(), &usage);
    assert_eq!(table.retire(id, now), Retirement::StillAlive);

    let view = table.view(id).unwrap();
    assert_eq!((view.state, view.generations), (State::Replied, [None; 2]));
    assert_eq!(over(&table, 210 * SECOND - 1), []);
    assert_eq!(over(&table, 210 * SECOND + TICK), [id]);
    assert_eq!(table.retire(id, now), Retirement::Gone);
}

#[test]
fn a_connection_that_the_kernel_still_carries_keeps_its_entries() {
    let table = table();
    let opening = opening(slot(6, 7, 7));
    let key = Key::of(&opening.slot, CLIENT);
    let id = table.open(&opening).unwrap().id;
    let generations = [NonZeroU32::new(4), NonZeroU32::new(5)];
    for direction in Direction::BOTH {
        assert!(table.cached(id, direction, generations[direction as usize], 0));
    }

    // user space saw a SYN alone
    let now = 61 * SECOND + TICK;
    let [due] = table.due(now, 9)[..] else { panic!("one is due") };
    assert_eq!(due.generations, generations);
    assert!(!table.renew(id, now), "nothing says that it goes on");
    let usage = Usage {
        last_seen_ns: 60 * SECOND,
        packets: 3,
        bytes: 300,
        beyond_syn: true,
        ..Usage::default()
    };
    table.observe(&opening.reply, generations[1].unwrap(), &usage);
    table.observe(&key, NonZeroU32::new(9).unwrap(), &usage);
    assert_eq!(table.view(id).unwrap().state, State::Tcp(TcpState::SynSent), "another's entry");
    table.observe(&key, generations[0].unwrap(), &usage);
    assert!(table.renew(id, now));

    let view = table.view(id).unwrap();
    assert_eq!((view.state, view.generations), (State::Tcp(TcpState::Established), generations));
    let counted = view.traffic.map(|traffic| traffic.packets);
    assert_eq!(counted, [1, 0], "the entries go on counting");
    assert_eq!(table.due((60 + 120) * SECOND - 1, 9), [], "it is silent, but not for long");
    let end = (60 + 24 * 60 * 60) * SECOND;
    assert_eq!(table.due(end + TICK, 9).len(), 1);
    assert!(!table.renew(id, end + TICK));
    assert!(matches!(table.retire(id, end + TICK), Retirement::Retired(_)));
    assert!(!table.renew(id, end + TICK), "it is gone");
}

#[test]
fn what_is_due_and_not_retired_is_due_again_and_still_found() {
    let table = table();
    let opening = opening(slot(17, 7, 7));
    let id = table.open(&opening).unwrap().id;
    let now = 40 * SECOND;
    assert_eq!(table.due(now, 9).len(), 1);
    assert_eq!(table.due(now + SECOND, 9), []);
    assert!(is_there(&table, &opening));
    assert_eq!(table.due(now + 6 * SECOND, 9).len(), 1);
    assert!(matches!(table.retire(id, now), Retirement::Retired(_)));
    assert!(!is_there(&table, &opening));
    assert_eq!(table.due(now + 60 * SECOND, 9), []);
}

#[test]
fn no_more_are_due_at_once_than_was_asked_for() {
    let table = table();
    open_some(&table, CLIENT, 1000);
    let now = 60 * SECOND;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let due = table.due(now, 100);
        assert_eq!(due.len(), 100);
        seen.extend(due.iter().map(|due| due.id));
    }
    assert_eq!((seen.len(), table.due(now, 100)), (1000, vec![]));
}

proptest! {
    /// Whatever the lengths of life and however time is looked at: nothing is due early, and
    /// nothing is late.
    #[test]
    fn timers_go_off_on_time(
        lives in prop::collection::vec(1..100_000_000u32, 1..40),
        looks in prop::collection::vec(1..40_000_000u64, 1..40),
        start in 0..1u64 << 50,
    ) {
        let table = Connections::new(Settings { shards: 2, ..Settings::default() });
        let mut waiting = BTreeSet::new();
        for (number, &life) in lives.iter().enumerate() {
            let idle = Some(Duration::from_millis(u64::from(life)));
            let slot = Slot { now_ns: start, ..slot(17, number as u32, 53) };
            let opening = Opening { idle, ..opening(slot) };
            let id = table.open(&opening).unwrap().id;
            answer(&table, &opening, start).unwrap();
            waiting.insert((start + u64::from(life) * 1_000_000, id));
        }
        let mut now = start;
        for look in looks {
            now += look * 1_000_000;
            for id in over(&table, now) {
                let &entry = waiting.iter().find(|(_, other)| *other == id).expect("it waits");
                prop_assert!(entry.0 <= now, "early");
                waiting.remove(&entry);
            }
            let late = waiting.iter().find(|(end, _)| end + TICK <= now);
            prop_assert_eq!(late, None);
        }
    }
}

#[test]
fn what_is_over_leaves_the_kernel_sooner_than_the_table() {
    let table = table();
    let opening = opening(slot(6, 7, 7));
    let id = table.open(&opening).unwrap().id;
    let key = Key::of(&opening.slot, CLIENT);
    let generation = NonZeroU32::new(5);
    assert!(table.cached(id, Direction::Original, generation, 0));
    table.find(&opening.reply, packet(SYN_ACK, SECOND)).unwrap();
    table.find(&key, packet(ACK, SECOND)).unwrap();
    for key in [&key, &opening.reply] {
        table.find(key, packet(FIN, SECOND)).unwrap();
    }
    table.find(&key, packet(ACK, 2 * SECOND)).unwrap();
    assert_eq!(table.due(12 * SECOND - 1, 9), []);
    let now = 12 * SECOND + TICK;
    let due = table.due(now, 9);
    assert_eq!((due[0].id, due[0].over, due[0].generations), (id, true, [generation, None]));

    // its keys are taken for as long as before
    assert!(table.outlasts(id, now));
    assert_eq!(table.view(id).unwrap().generations, [None; 2]);
    assert_eq!(table.due(122 * SECOND - 1, 9), []);
    assert_eq!(over(&table, 122 * SECOND + TICK), [id]);
    assert!(!table.outlasts(id, now));
}
