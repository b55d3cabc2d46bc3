//! Slots of entries that wait, and that no packet comes of: each flow of a single packet leaves one
//! until it ends, so there may be as many as flows, and one takes as little memory as it can.
//!
//! An entry is told by its generation, which no two entries have at a time; whose it is, its
//! connection knows.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use millrace_fastpath::{Generation, Parked};

/// All of them.
#[derive(Default)]
pub(super) struct Silent {
    seeds: foldhash::fast::RandomState,
    slots: HashTable<Parked>,
}

impl Silent {
    /// Puts an entry's slot away.
    pub(super) fn put(&mut self, slot: Parked) {
        let Self { seeds, slots } = self;
        let hash = |slot: &Parked| seeds.hash_one(slot.generation());
        slots.insert_unique(hash(&slot), slot, hash);
    }

    /// Takes an entry's slot out.
    pub(super) fn take(&mut self, generation: Generation) -> Option<Parked> {
        // mostly nothing is silent, and every packet of a flow that is punted asks
        if self.slots.is_empty() {
            return None;
        }
        let hash = self.seeds.hash_one(generation);
        let is_it = |slot: &Parked| slot.generation() == generation;
        Some(self.slots.find_entry(hash, is_it).ok()?.remove().0)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Parked> {
        self.slots.drain()
    }
}

const _: () = assert!(size_of::<Parked>() == 8, "there may be as many as flows");
