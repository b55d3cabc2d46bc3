//! Entries that wait, and that no packet comes of: each flow of a single packet leaves one until it
//! ends, so there may be as many as flows, and one takes as little memory as it can.
//!
//! A key is told by a hash of 64 bits under secret seeds, and is not kept itself: among a million,
//! a key that is not there is taken for another one once in 10^13 times, and then a packet is
//! noted with a flow that it is not of.

use std::hash::BuildHasher;

use hashbrown::{HashTable, hash_table::Entry};
use millrace_fastpath::{Key, Parked};

/// All of them.
#[derive(Default)]
pub(super) struct Silent {
    seeds: foldhash::fast::RandomState,
    entries: HashTable<Waiting>,
}

/// In halves, so that it has no padding.
struct Waiting {
    print: [u32; 2],
    slot: Parked,
}

impl Silent {
    /// Puts an entry's slot away; says so if there is one of that hash.
    pub(super) fn put(&mut self, key: &Key, slot: Parked) -> Result<(), Parked> {
        let print = self.seeds.hash_one(key);
        match self.entries.entry(print, |waiting| waiting.print() == print, Waiting::print) {
            Entry::Occupied(_) => Err(slot),
            Entry::Vacant(vacant) => {
                vacant.insert(Waiting { print: [print as u32, (print >> 32) as u32], slot });
                Ok(())
            }
        }
    }

    /// Takes an entry's slot out.
    pub(super) fn take(&mut self, key: &Key) -> Option<Parked> {
        // mostly nothing is silent, and every packet of a flow that is punted asks
        if self.entries.is_empty() {
            return None;
        }
        let print = self.seeds.hash_one(key);
        let entry = self.entries.find_entry(print, |waiting| waiting.print() == print).ok()?;
        Some(entry.remove().0.slot)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Parked> {
        self.entries.drain().map(|waiting| waiting.slot)
    }
}

impl Waiting {
    fn print(&self) -> u64 {
        let [low, high] = self.print;
        u64::from(high) << 32 | u64::from(low)
    }
}

const _: () = assert!(size_of::<Waiting>() == 16, "there may be as many as flows");
