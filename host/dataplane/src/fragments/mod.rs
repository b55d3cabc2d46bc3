//! Fragments that come in by cached ports follow the first one of their datagram, which alone has
//! ports (SEMANTICS F5): the chain is asked about that one, and the others get its verdict and,
//! but for the ports, its translation.
//!
//! - `datagram`: what is known of a datagram of which a part has come; overlaps
//! - `waiting`: fragments that came before the first one
//!
//! All of it is a worker's own: the kernel punts the fragments between two addresses to one queue.
//! Each port has its share, so that a flood is its sender's own. A datagram is remembered until it
//! is complete, and at most as long as a network may reorder: identifications come again soon (RFC
//! 4963).

mod datagram;
mod waiting;

use std::collections::VecDeque;

use millrace_abi::{Reason, slot_flag};

use crate::burst::Burst;
use crate::counters::{Counters, Fate, Key};
use crate::io::Io;
use crate::port::PortId;
use crate::verdict::{Decider, Verdict};
use datagram::{Datagram, Piece};
use waiting::{Early, Waiting};

/// The fragments of a worker's datagrams.
pub(crate) struct Fragments<F> {
    /// By the port's number; in the order in which they began.
    datagrams: Vec<VecDeque<Datagram>>,
    waiting: Waiting<F>,
    /// Those of the burst at hand that go into `waiting`.
    early: Vec<u16>,
}

impl<F> Fragments<F> {
    pub(crate) fn new() -> Self {
        Self { datagrams: Vec::new(), waiting: Waiting::new(), early: Vec::new() }
    }

    /// Has the fragments of a burst, about whose first ones all is decided, follow those.
    pub(crate) fn settle<I: Io<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        io: &mut I,
        counters: &Counters,
        now_ns: u64,
    ) {
        let mut fragments = std::mem::take(&mut burst.fragments);
        for at in fragments.drain(..) {
            self.follow(burst, io, usize::from(at), now_ns);
        }
        burst.fragments = fragments;

        // the first one may have come behind them; from the last one on, so that none moves before
        // it is taken
        let mut waiting = Vec::new();
        while let Some(at) = self.early.pop() {
            if !self.join(burst, io, usize::from(at), now_ns) {
                waiting.push(burst.take(usize::from(at)));
            }
        }
        while let Some(packet) = waiting.pop() {
            let (port, frame) = (packet.slot.ingress, io.bytes(&packet.frame));
            let piece = Piece::of(frame, &packet.slot, packet.layers);
            let piece = piece.expect("it was read as a fragment when it came");
            if let Some(victim) = self.waiting.add(Early { port, piece, packet }) {
                give_up(victim, io, counters);
            }
        }
    }

    /// Lets go those whose first one did not come in time.
    pub(crate) fn expire<I: Io<Frame = F>>(
        &mut self,
        io: &mut I,
        counters: &Counters,
        now_ns: u64,
    ) {
        while let Some(early) = self.waiting.expired(now_ns) {
            give_up(early, io, counters);
        }
    }

    fn follow<I: Io<Frame = F>>(&mut self, burst: &mut Burst<F>, io: &I, at: usize, now_ns: u64) {
        let slot = &burst.slots[at];
        if slot.flags & slot_flag::FIRST_FRAGMENT != 0 {
            self.begin(burst, io, at, now_ns);
        } else if !self.join(burst, io, at, now_ns) {
            self.early.push(at as u16);
        }
    }

    /// Has a later fragment follow its first one; false if none is known.
    fn join<I: Io<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        io: &I,
        at: usize,
        now_ns: u64,
    ) -> bool {
        let piece = piece(burst, io, at);
        let datagrams = datagrams_of(&mut self.datagrams, burst.slots[at].ingress, now_ns);
        let Some(known) = find(datagrams, &piece) else { return false };
        (burst.verdicts[at], burst.rewrites[at]) = datagrams[known].take(&piece);
        if datagrams[known].is_complete() {
            datagrams.remove(known);
        }
        true
    }

    /// Remembers what was decided about a first fragment, and has those follow that wait for it.
    fn begin<I: Io<Frame = F>>(&mut self, burst: &mut Burst<F>, io: &I, at: usize, now_ns: u64) {
        let (piece, port) = (piece(burst, io, at), burst.slots[at].ingress);
        let datagrams = datagrams_of(&mut self.datagrams, port, now_ns);
        if let Some(known) = find(datagrams, &piece) {
            datagrams[known].break_up();
            burst.verdicts[at] = Verdict::dropped(Reason::FragmentOverlap);
            return;
        }
        let (verdict, rewrite) = (&burst.verdicts[at], &burst.rewrites[at]);
        let mut datagram = Datagram::new(&piece, verdict, rewrite, now_ns + LIFE_NS);
        while let Some(early) = self.waiting.take(port, &piece) {
            let (verdict, rewrite) = datagram.take(&early.piece);
            burst.put(early.packet, verdict, rewrite);
        }
        if datagram.is_complete() {
            return;
        }
        if datagrams.len() >= DATAGRAMS_OF_A_PORT {
            datagrams.pop_front();
        }
        datagrams.push_back(datagram);
    }
}

fn piece<I: Io>(burst: &Burst<I::Frame>, io: &I, at: usize) -> Piece {
    let piece = Piece::of(io.bytes(&burst.frames[at]), &burst.slots[at], burst.layers[at]);
    piece.expect("the parser has read it as a fragment")
}

/// Of the latest first: fragments of a datagram come one behind the other, mostly.
fn find(datagrams: &VecDeque<Datagram>, piece: &Piece) -> Option<usize> {
    datagrams.iter().rposition(|datagram| datagram.name == piece.name)
}

/// Those of a port that may still get fragments.
fn datagrams_of(
    datagrams: &mut Vec<VecDeque<Datagram>>,
    port: u16,
    now_ns: u64,
) -> &mut VecDeque<Datagram> {
    let index = usize::from(port);
    if datagrams.len() <= index {
        datagrams.resize_with(index + 1, VecDeque::new);
    }
    let own = &mut datagrams[index];
    while own.front().is_some_and(|oldest| oldest.until_ns <= now_ns) {
        own.pop_front();
    }
    own
}

fn give_up<I: Io>(early: Early<I::Frame>, io: &mut I, counters: &Counters) {
    io.put(early.packet.frame);
    if let Some(port) = PortId::new(early.port) {
        let fate = Fate::Dropped(Reason::FragmentAlone);
        counters.count(Key { port, by: Decider::HOST, fate }, 1);
    }
}

/// Datagrams of a port of which a worker remembers a part: the oldest makes room.
const DATAGRAMS_OF_A_PORT: usize = 256;
/// How long a datagram that is not complete is remembered.
const LIFE_NS: u64 = 3_000_000_000;
