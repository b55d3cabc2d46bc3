//! TCP connections, segment by segment.

use super::TcpState::*;
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
