//! When connections may be over: four wheels, each 64 times coarser than the one before, so that
//! looking costs what is found.
//!
//! A timer never goes off late by more than a tick, and may go off early: packets do not move it,
//! the connection is asked for its end when it goes off, and set again.

use super::list::List;
use super::slab::Slab;

/// The timers of a shard.
pub(super) struct Wheel {
    /// The next tick to look at; timers are never set before it.
    tick: u64,
    buckets: [List; WHEELS * SLOTS],
    /// A bit for each bucket that is not empty.
    occupied: [u64; WHEELS],
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { tick: 0, buckets: [List::EMPTY; WHEELS * SLOTS], occupied: [0; WHEELS] }
    }

    /// Sets the timer of the connection at `at`, which has none.
    pub(super) fn set(&mut self, slab: &mut Slab, at: u32, ends_ns: u64) {
        let bucket = self.bucket(tick_after(ends_ns));
        slab.present(at).bucket = bucket as u8;
        self.buckets[bucket].put(slab, at, |connection| &mut connection.timer_link);
        self.occupied[bucket / SLOTS] |= 1 << (bucket % SLOTS);
    }

    /// Sets the timer of the connection at `at` anew, which has one.
    pub(super) fn set_again(&mut self, slab: &mut Slab, at: u32, ends_ns: u64) {
        // it stays in its bucket for most that happens to a connection
        if self.bucket(tick_after(ends_ns)) != usize::from(slab.present(at).bucket) {
            self.clear(slab, at);
            self.set(slab, at, ends_ns);
        }
    }

    /// Clears the timer of the connection at `at`, which has one.
    pub(super) fn clear(&mut self, slab: &mut Slab, at: u32) {
        let bucket = usize::from(slab.present(at).bucket);
        self.buckets[bucket].take(slab, at, |connection| &mut connection.timer_link);
        if self.buckets[bucket].is_empty() {
            self.occupied[bucket / SLOTS] &= !(1 << (bucket % SLOTS));
        }
    }

    /// A connection whose timer has gone off by `now_ns`; the timer stays set.
    pub(super) fn gone_off(&mut self, now_ns: u64) -> Option<u32> {
        let now = now_ns >> TICK_BITS;
        match self.next() {
            Some((start, bucket)) if start <= now => {
                self.tick = self.tick.max(start);
                self.buckets[bucket].first()
            }
            _ => {
                self.tick = self.tick.max(now);
                None
            }
        }
    }

    /// The bucket that is looked at first, and the tick from when on.
    fn next(&self) -> Option<(u64, usize)> {
        let first_of = |wheel: usize| {
            let turned = self.tick >> (wheel * SLOT_BITS);
            let ahead = self.occupied[wheel].rotate_right((turned % SLOTS as u64) as u32);
            (ahead != 0).then(|| {
                let turn = turned + u64::from(ahead.trailing_zeros());
                let bucket = wheel * SLOTS + (turn % SLOTS as u64) as usize;
                (turn << (wheel * SLOT_BITS), bucket)
            })
        };
        (0..WHEELS).filter_map(first_of).min()
    }

    /// The finest bucket for a timer that goes off at `tick`.
    fn bucket(&self, tick: u64) -> usize {
        let tick = tick.max(self.tick);
        for wheel in 0..WHEELS {
            let (turn, turned) = (tick >> (wheel * SLOT_BITS), self.tick >> (wheel * SLOT_BITS));
            if turn - turned < SLOTS as u64 {
                return wheel * SLOTS + (turn % SLOTS as u64) as usize;
            }
        }
        // further away than a turn of the coarsest: the last it has, and then again
        let coarsest = WHEELS - 1;
        let last = (self.tick >> (coarsest * SLOT_BITS)) + SLOTS as u64 - 1;
        coarsest * SLOTS + (last % SLOTS as u64) as usize
    }
}

/// The first tick at which `ns` is past.
fn tick_after(ns: u64) -> u64 {
    (ns >> TICK_BITS) + 1
}

/// A tick is 2^28 ns, about a quarter of a second; the coarsest wheel turns in 52 days.
pub(super) const TICK_BITS: u32 = 28;
const WHEELS: usize = 4;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
