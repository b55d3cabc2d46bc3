//! TCP connections, segment by segment.

use super::TcpState::{
    Close, CloseWait, Established, FinWait, LastAck, Reset, SynReceived, SynSent, SynSent2,
    TimeWait,
};
use super::*;

struct Talk {
    table: Connections,
    opening: Opening,
    now_ns: u64,
}

impl Talk {
    fn opened() -> Self {
        let opening = opening(slot(6, 5000, 80));
        let talk = Self { table: table(), opening, now_ns: SECOND };
        talk.table.open(&talk.opening).unwrap();
        talk
    }

    fn established() -> Self {
        let mut talk = Self::opened();
        assert_eq!(talk.back(SYN_ACK), Some(SynReceived));
        assert_eq!(talk.there(ACK), Some(Established));
        talk
    }

    fn key(&self, direction: Direction) -> Key {
        match direction {
            Direction::Original => Key::of(&self.opening.slot, CLIENT),
            Direction::Reply => self.opening.reply,
        }
    }

    fn send(&mut self, direction: Direction, flags: Flags) -> Option<Found> {
        self.now_ns += SECOND;
        self.table.find(&self.key(direction), packet(flags, self.now_ns))
    }

    fn there(&mut self, flags: Flags) -> Option<TcpState> {
        self.send(Direction::Original, flags).map(state)
    }

    fn back(&mut self, flags: Flags) -> Option<TcpState> {
        self.send(Direction::Reply, flags).map(state)
    }
}

fn state(found: Found) -> TcpState {
    match found.state {
        State::Tcp(state) => state,
        other => panic!("TCP is in {other:?}"),
    }
}

/// What conntrack makes of a segment that goes there, and of one that comes back.
#[test]
fn states_follow_each_other_as_in_conntrack() {
    const PASS: Step = Step::Ignored;
    const BAD: Step = Step::Invalid;
    const NEW: Step = Step::Afresh;
    let to = Step::To;
    for (state, rows) in [
        (
            SynSent,
            [
                (SYN, to(SynSent), to(SynSent2)),
                (SYN_ACK, BAD, to(SynReceived)),
                (FIN, BAD, BAD),
                (ACK, BAD, PASS),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            SynSent2,
            [
                (SYN, to(SynSent2), to(SynSent2)),
                (SYN_ACK, to(SynReceived), to(SynReceived)),
                (FIN, BAD, BAD),
                (ACK, BAD, PASS),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            SynReceived,
            [
                (SYN, PASS, BAD),
                (SYN_ACK, to(SynReceived), PASS),
                (FIN, to(FinWait), to(FinWait)),
                (ACK, to(Established), to(SynReceived)),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            Established,
            [
                (SYN, PASS, BAD),
                (SYN_ACK, BAD, PASS),
                (FIN, to(FinWait), to(FinWait)),
                (ACK, to(Established), to(Established)),
                // it knows CLOSE only, and not by whom
                (RST, to(Reset(Direction::Original)), to(Reset(Direction::Reply))),
            ],
        ),
        (
            FinWait,
            [
                (SYN, PASS, BAD),
                (SYN_ACK, BAD, PASS),
                (FIN, to(LastAck), to(LastAck)),
                (ACK, to(CloseWait), to(CloseWait)),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            CloseWait,
            [
                (SYN, PASS, BAD),
                (SYN_ACK, BAD, PASS),
                (FIN, to(LastAck), to(LastAck)),
                (ACK, to(CloseWait), to(CloseWait)),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            LastAck,
            [
                (SYN, PASS, BAD),
                (SYN_ACK, BAD, PASS),
                (FIN, to(LastAck), to(LastAck)),
                (ACK, to(TimeWait), to(TimeWait)),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            TimeWait,
            [
                (SYN, NEW, NEW),
                (SYN_ACK, BAD, PASS),
                (FIN, to(TimeWait), to(TimeWait)),
                (ACK, to(TimeWait), to(TimeWait)),
                (RST, to(Close), to(Close)),
            ],
        ),
        (
            Close,
            [
                // back, it calls that invalid
                (SYN, NEW, NEW),
                (SYN_ACK, BAD, PASS),
                (FIN, to(Close), to(Close)),
                (ACK, to(Close), to(Close)),
                (RST, to(Close), to(Close)),
            ],
        ),
        // and these are ours alone
        (
            Reset(Direction::Reply),
            [
                (SYN, NEW, NEW),
                (SYN_ACK, BAD, PASS),
                (FIN, to(Reset(Direction::Reply)), to(FinWait)),
                (ACK, to(Reset(Direction::Reply)), to(Established)),
                (RST, to(Reset(Direction::Reply)), to(Reset(Direction::Reply))),
            ],
        ),
    ] {
        for (flags, there, back) in rows {
            let case = format!("{} {flags}", state.label());
            assert_eq!(state.step(Direction::Original, flags), there, "{case} there");
            assert_eq!(state.step(Direction::Reply, flags), back, "{case} back");
        }
    }
}

#[test]
fn flags_that_contradict_each_other_are_invalid_in_any_state() {
    let fin = Flags::FIN;
    for flags in [Flags::NONE, Flags::PSH, fin, SYN | fin, SYN | RST, RST | FIN, SYN_ACK | fin] {
        let mut talk = Talk::established();
        let found = talk.send(Direction::Original, flags).unwrap();
        assert_eq!((found.standing, state(found)), (Standing::Invalid, Established), "{flags}");
        let view = talk.table.view(found.id).unwrap();
        assert_eq!(view.traffic[0].packets, 2, "{flags}: only the SYN and the ACK count");
    }
}

#[test]
fn a_connection_that_both_sides_close_passes_through_every_state() {
    let mut talk = Talk::established();
    assert_eq!(talk.back(ACK), Some(Established));
    assert_eq!(talk.there(FIN), Some(FinWait));
    assert_eq!(talk.back(ACK), Some(CloseWait));
    assert_eq!(talk.back(FIN), Some(LastAck));
    assert_eq!(talk.there(ACK), Some(TimeWait));
    // a FIN sent again is answered as the first was
    assert_eq!(talk.back(FIN), Some(TimeWait));
}

#[test]
fn a_syn_on_a_connection_that_is_over_opens_another_one_in_its_place() {
    let mut talk = Talk::established();
    talk.there(FIN);
    talk.back(FIN);
    assert_eq!(talk.there(ACK), Some(TimeWait));
    assert_eq!(talk.there(SYN), None);
    let opened = talk.table.open(&talk.opening).unwrap();
    assert_ne!(opened.replaced.map(|due| due.id), Some(opened.id));
    assert_eq!(
        opened.replaced.map(|due| due.keys),
        Some(Direction::BOTH.map(|direction| talk.key(direction)))
    );
    assert_eq!(talk.table.len(), 1);
    assert_eq!(talk.back(SYN_ACK), Some(SynReceived));
}

#[test]
fn a_syn_on_a_connection_that_lives_is_left_to_the_receiver() {
    let mut talk = Talk::established();
    let found = talk.send(Direction::Original, SYN).unwrap();
    assert_eq!((state(found), found.standing), (Established, Standing::Fits));
    // the challenge, and what a peer that has forgotten the connection says to it
    assert_eq!(talk.back(ACK), Some(Established));
    assert_eq!(talk.there(RST), Some(Reset(Direction::Original)));
    assert_eq!(talk.there(SYN), None);
}

#[test]
fn a_blind_rst_kills_nothing_that_goes_on() {
    let mut talk = Talk::established();
    assert_eq!(talk.back(RST), Some(Reset(Direction::Reply)));
    // what was under way to whoever has reset it says nothing
    assert_eq!(talk.there(ACK), Some(Reset(Direction::Reply)));
    assert_eq!(talk.back(ACK), Some(Established));
}

#[test]
fn a_refused_connection_does_not_come_to_life_by_an_ack() {
    let mut talk = Talk::opened();
    assert_eq!(talk.back(RST), Some(Close));
    assert_eq!(talk.there(ACK), Some(Close));
    assert_eq!(talk.back(ACK), Some(Close));
}

#[test]
fn an_ack_without_an_answer_does_not_establish_anything() {
    let mut talk = Talk::opened();
    let found = talk.send(Direction::Original, ACK).unwrap();
    assert_eq!((found.standing, state(found)), (Standing::Invalid, SynSent));
    let view = talk.table.view(found.id).unwrap();
    assert!(!view.replied && !view.settled);
}

/// With a table that caches both directions, as is done before a SYN is sent.
fn cached() -> (Talk, ConnectionId) {
    let mut talk = Talk::opened();
    let id = talk.send(Direction::Original, SYN).unwrap().id;
    for (direction, entry) in Direction::BOTH.into_iter().zip([1, 2]) {
        assert!(talk.table.cached(id, direction, generation(entry), 0));
    }
    (talk, id)
}

fn generation(number: u32) -> Option<std::num::NonZeroU32> {
    std::num::NonZeroU32::new(number)
}

fn carried(last_seen_ns: u64, packets: u64, beyond_syn: bool) -> Usage {
    Usage { last_seen_ns, packets, bytes: packets * 100, beyond_syn, closing: None }
}

#[test]
fn a_handshake_that_the_kernel_carried_is_learnt_from_what_each_side_sent() {
    let (talk, id) = cached();
    let [there, back] = Direction::BOTH.map(|direction| talk.key(direction));
    let now = |talk: &Talk| talk.table.view(id).map(|view| (view.state, view.settled)).unwrap();
    let [first, second] = [1, 2].map(|entry| generation(entry).unwrap());

    // a SYN sent twice proves nothing
    talk.table.absorb(&there, first, &carried(3 * SECOND, 1, false));
    assert_eq!(now(&talk), (State::Tcp(SynSent), false));
    talk.table.absorb(&back, second, &carried(3 * SECOND, 1, true));
    assert_eq!(now(&talk), (State::Tcp(SynSent), false));
    talk.table.absorb(&there, first, &carried(4 * SECOND, 5, true));
    assert_eq!(now(&talk), (State::Tcp(Established), true));

    let view = talk.table.view(id).unwrap();
    assert_eq!(view.traffic.map(|side| side.packets), [2 + 6, 1]);
    assert_eq!(view.last_seen_ns, [4 * SECOND, 3 * SECOND]);
}

#[test]
fn segments_are_not_judged_by_a_handshake_that_the_kernel_carried() {
    let (mut talk, _) = cached();
    // a segment that was too large for the cache
    let found = talk.send(Direction::Original, ACK).unwrap();
    assert_eq!((found.standing, state(found)), (Standing::Fits, SynSent));
    // an answer to a SYN that the kernel carried
    let found = talk.send(Direction::Original, SYN_ACK).unwrap();
    assert_eq!((found.standing, state(found)), (Standing::Fits, SynSent));
    assert_eq!(talk.back(ACK), Some(Established));
}

#[test]
fn fins_and_rsts_that_the_kernel_reports_close_the_connection() {
    let [first, second] = [1, 2].map(|entry| generation(entry).unwrap());
    for (events, expected) in [
        (vec![(0, first, Closing::Fin)], FinWait),
        (vec![(0, first, Closing::Fin), (1, second, Closing::Fin)], TimeWait),
        (vec![(1, second, Closing::Reset)], Close),
        (vec![(0, first, Closing::Fin), (1, second, Closing::Reset)], Close),
    ] {
        let (talk, id) = cached();
        for (side, generation, how) in events {
            let key = talk.key(Direction::BOTH[side]);
            talk.table.closing(&key, generation, how, 9 * SECOND);
        }
        assert_eq!(talk.table.view(id).map(|view| view.state), Some(State::Tcp(expected)));
    }
}

#[test]
fn an_end_that_no_event_has_told_of_is_learned_from_the_entry_and_told_twice_is_one() {
    let [first, second] = [1, 2].map(|entry| generation(entry).unwrap());
    let (talk, id) = cached();
    let [there, back] = Direction::BOTH.map(|direction| talk.key(direction));
    let now = || talk.table.view(id).map(|view| view.state).unwrap();
    let ended = Usage { closing: Some(Closing::Fin), ..carried(9 * SECOND, 5, true) };
    talk.table.observe(&there, first, &ended);
    assert_eq!(now(), State::Tcp(FinWait));
    talk.table.closing(&there, first, Closing::Fin, 10 * SECOND);
    talk.table.observe(&there, first, &ended);
    assert_eq!(now(), State::Tcp(FinWait), "the other side goes on");
    talk.table.absorb(&back, second, &ended);
    assert_eq!(now(), State::Tcp(TimeWait));
}

#[test]
fn an_end_that_user_space_has_seen_is_not_the_other_sides_when_the_kernel_sees_it_again() {
    let (mut talk, id) = cached();
    assert_eq!(talk.send(Direction::Original, ACK).map(state), Some(SynSent));
    assert_eq!(talk.back(ACK), Some(Established));
    assert_eq!(talk.send(Direction::Original, FIN).map(state), Some(FinWait));
    let key = talk.key(Direction::Original);
    talk.table.closing(&key, generation(1).unwrap(), Closing::Fin, 9 * SECOND);
    assert_eq!(talk.table.view(id).map(|view| view.state), Some(State::Tcp(FinWait)));
}

#[test]
fn what_the_kernel_saw_of_an_earlier_connection_is_not_put_down_to_a_later_one() {
    let (talk, id) = cached();
    let key = talk.key(Direction::Original);
    let before = talk.table.view(id);
    let stale = generation(77).unwrap();
    talk.table.closing(&key, stale, Closing::Fin, 9 * SECOND);
    talk.table.absorb(&key, stale, &carried(9 * SECOND, 5, true));
    assert_eq!(talk.table.view(id), before);
}
