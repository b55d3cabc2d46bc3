//! From keys to connections.
//!
//! A key is told by a hash of 64 bits under secret seeds; who looks one up compares the key with
//! the connection's own. Two keys of one hash cannot both be in the index: the second is refused.

use std::hash::BuildHasher;

use hashbrown::{HashTable, hash_table::Entry};

use super::Key;

/// How keys are hashed. Both directions of a connection are in one shard if nothing is translated.
#[derive(Default)]
pub(super) struct Hashing {
    seeds: foldhash::fast::RandomState,
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) shard: usize,
    pub(super) print: u64,
}

/// Where a connection is, among all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place(u32);

/// The keys of a shard.
#[derive(Default)]
pub(super) struct Index {
    entries: HashTable<Indexed>,
}

/// In halves, so that it has no padding.
struct Indexed {
    print: [u32; 2],
    place: Place,
}

impl Hashing {
    /// Where the key belongs among `shards`, a power of two.
    #[inline]
    pub(super) fn locate(&self, key: &Key, shards: usize) -> Located {
        let forth = key.source <= key.destination;
        let ends = match forth {
            true => (key.source, key.destination),
            false => (key.destination, key.source),
        };
        let both = self.seeds.hash_one((ends, key.protocol));
        let print = self.seeds.hash_one((both, key.zone, forth));
        Located { shard: (both >> 32) as usize & (shards - 1), print }
    }
}

impl Place {
    /// Shards there can be.
    pub(super) const SHARDS: usize = 1 << (32 - Self::AT_BITS);
    const AT_BITS: u32 = 26;

    pub(super) fn new(shard: usize, at: u32) -> Self {
        Self((shard as u32) << Self::AT_BITS | at)
    }

    #[inline]
    pub(super) fn shard(self) -> usize {
        (self.0 >> Self::AT_BITS) as usize
    }

    #[inline]
    pub(super) fn at(self) -> u32 {
        self.0 & ((1 << Self::AT_BITS) - 1)
    }
}

impl Index {
    #[inline]
    pub(super) fn find(&self, print: u64) -> Option<Place> {
        self.entries.find(print, |entry| entry.print() == print).map(|entry| entry.place)
    }

    /// Enters a key; false if there is one like it.
    pub(super) fn put(&mut self, print: u64, place: Place) -> bool {
        match self.entries.entry(print, |entry| entry.print() == print, Indexed::print) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Indexed { print: [print as u32, (print >> 32) as u32], place });
                true
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets a key of the connection at `place`.
    pub(super) fn take(&mut self, print: u64, place: Place) {
        let is_it = |entry: &Indexed| entry.print() == print && entry.place == place;
        if let Ok(entry) = self.entries.find_entry(print, is_it) {
            entry.remove();
        }
    }
}

impl Indexed {
    #[inline]
    fn print(&self) -> u64 {
        let [low, high] = self.print;
        u64::from(high) << 32 | u64::from(low)
    }
}
