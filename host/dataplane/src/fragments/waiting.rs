//! Fragments that came before the first one of their datagram: it says where they go.
//!
//! They wait for a short time, and so few of them that nobody's buffers run out: who has the most
//! loses the oldest of its own for the next one.

use std::collections::VecDeque;

use super::datagram::Piece;
use crate::burst::Loose;

/// Fragments that wait, in the order in which they came.
pub(super) struct Waiting<F> {
    fragments: VecDeque<Early<F>>,
}

/// A fragment that came too early.
pub(super) struct Early<F> {
    /// The port it came in by.
    pub(super) port: u16,
    pub(super) piece: Piece,
    pub(super) packet: Loose<F>,
}

impl<F> Waiting<F> {
    pub(super) fn new() -> Self {
        Self { fragments: VecDeque::new() }
    }

    /// Has a fragment wait; returns the one that makes room for it.
    pub(super) fn add(&mut self, early: Early<F>) -> Option<Early<F>> {
        let own = self.of(early.port);
        let victim = match () {
            () if own >= MOST_OF_A_PORT => Some(early.port),
            () if self.fragments.len() >= MOST => {
                let ports = self.fragments.iter().map(|waiting| waiting.port);
                ports.max_by_key(|&port| self.of(port))
            }
            () => None,
        };
        self.fragments.push_back(early);
        let at = self.fragments.iter().position(|waiting| Some(waiting.port) == victim)?;
        self.fragments.remove(at)
    }

    /// Takes the oldest one that waits for this one's datagram.
    pub(super) fn take(&mut self, port: u16, first: &Piece) -> Option<Early<F>> {
        let is_its = |early: &Early<F>| early.port == port && early.piece.name == first.name;
        let at = self.fragments.iter().position(is_its)?;
        self.fragments.remove(at)
    }

    /// Takes the oldest one, if it came this long ago.
    pub(super) fn expired(&mut self, now_ns: u64) -> Option<Early<F>> {
        let came_ns = self.fragments.front()?.packet.slot.now_ns;
        if now_ns.saturating_sub(came_ns) < PATIENCE_NS {
            return None;
        }
        self.fragments.pop_front()
    }

    fn of(&self, port: u16) -> usize {
        self.fragments.iter().filter(|early| early.port == port).count()
    }
}

/// Fragments that wait at a worker.
const MOST: usize = 128;
/// Of them, those that came in by one port.
const MOST_OF_A_PORT: usize = 32;
/// How long they wait. They were sent together, so that only another way through the network can
/// make a difference.
const PATIENCE_NS: u64 = 1_000_000_000;
