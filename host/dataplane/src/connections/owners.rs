//! Who has how many connections: each owner its share, so that one pod's flood is its own.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use millrace_abi::Reason;

use super::Zone;
use super::row::Family;
use super::share::Crowded;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In the table.
    pub total: usize,
    /// Of one owner.
    pub per_owner: usize,
}

/// What became of an owner's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerCounts {
    /// How many it has.
    pub connections: u32,
    /// Those of them that one side alone takes part in.
    pub unsettled: u32,
    /// How many made room for others before both sides took part.
    pub evicted: u64,
    /// How many of them the kernel has entries of.
    pub carried: u32,
    /// How many left the kernel to make room there.
    pub crowded_out: u64,
    /// How many were refused.
    pub refused: u64,
}

/// What each owner has.
pub(super) struct Owners {
    owners: Box<[Counts]>,
    total: AtomicUsize,
    /// Owners that have any.
    active: AtomicUsize,
    /// Owners that have any in the kernel.
    carrying: [AtomicUsize; Family::COUNT],
}

#[derive(Default)]
struct Counts {
    connections: AtomicU32,
    unsettled: AtomicU32,
    evicted: AtomicU64,
    refused: AtomicU64,
    carried: [AtomicU32; Family::COUNT],
    crowded_out: AtomicU64,
}

impl Owners {
    pub(super) fn new() -> Self {
        Self {
            owners: (0..Zone::COUNT).map(|_| Counts::default()).collect(),
            total: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            carrying: Default::default(),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    pub(super) fn of(&self, owner: Zone) -> OwnerCounts {
        let counts = self.counts(owner);
        OwnerCounts {
            connections: counts.connections.load(Relaxed),
            unsettled: counts.unsettled.load(Relaxed),
            evicted: counts.evicted.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            carried: counts.carried.iter().map(|carried| carried.load(Relaxed)).sum(),
            crowded_out: counts.crowded_out.load(Relaxed),
        }
    }

    /// Counts one more.
    pub(super) fn gains(&self, owner: Zone) {
        self.total.fetch_add(1, Relaxed);
        if self.counts(owner).connections.fetch_add(1, Relaxed) == 0 {
            self.active.fetch_add(1, Relaxed);
        }
    }

    /// Counts one less.
    pub(super) fn loses(&self, owner: Zone) {
        self.total.fetch_sub(1, Relaxed);
        if self.counts(owner).connections.fetch_sub(1, Relaxed) == 1 {
            self.active.fetch_sub(1, Relaxed);
        }
    }

    pub(super) fn awaits(&self, owner: Zone) {
        self.counts(owner).unsettled.fetch_add(1, Relaxed);
    }

    pub(super) fn stops_awaiting(&self, owner: Zone) {
        self.counts(owner).unsettled.fetch_sub(1, Relaxed);
    }

    pub(super) fn evicted(&self, owner: Zone) {
        self.counts(owner).evicted.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self, owner: Zone) {
        self.counts(owner).refused.fetch_add(1, Relaxed);
    }

    pub(super) fn forget_counts(&self, owner: Zone) {
        let Counts { evicted, refused, crowded_out, .. } = self.counts(owner);
        [evicted, refused, crowded_out].into_iter().for_each(|count| count.store(0, Relaxed));
    }

    pub(super) fn crowded_out(&self, owner: Zone) {
        self.counts(owner).crowded_out.fetch_add(1, Relaxed);
    }

    /// Counts one more that the kernel carries, or one less.
    pub(super) fn carry(&self, owner: Zone, family: Family, is_carried: bool) {
        let carried = &self.counts(owner).carried[family as usize];
        let carrying = &self.carrying[family as usize];
        match is_carried {
            true if carried.fetch_add(1, Relaxed) == 0 => carrying.fetch_add(1, Relaxed),
            false if carried.fetch_sub(1, Relaxed) == 1 => carrying.fetch_sub(1, Relaxed),
            _ => return,
        };
    }

    /// How many of an owner's connections the kernel carries.
    pub(super) fn carried(&self, owner: Zone, family: Family) -> u32 {
        self.counts(owner).carried[family as usize].load(Relaxed)
    }

    /// How many of an owner's connections the kernel is to carry of the `most` that it can, if all
    /// that have any there want as many.
    pub(super) fn cache_share(&self, owner: Zone, family: Family, most: u32) -> u32 {
        let others = self.carrying[family as usize].load(Relaxed);
        let with_it = others + usize::from(self.carried(owner, family) == 0);
        most / with_it as u32
    }

    /// Of whom the kernel carries more than `share`, and how many, most first.
    pub(super) fn above_in_cache(&self, family: Family, share: u32) -> Vec<(Zone, u32)> {
        let carried = Zone::all().map(|owner| (owner, self.carried(owner, family)));
        let mut above: Vec<_> = carried.filter(|(_, carried)| *carried > share).collect();
        above.sort_by_key(|(_, carried)| std::cmp::Reverse(*carried));
        above
    }

    /// Whether there are too many, now that `owner` has one more.
    pub(super) fn crowded(&self, owner: Zone, limits: &Limits) -> Option<Crowded> {
        let own = self.counts(owner).connections.load(Relaxed);
        if own as usize > limits.per_owner {
            return Some(Crowded::Owner(Reason::ConnectionLimit));
        }
        if self.total() <= limits.total {
            return None;
        }
        let share = (limits.total / self.active.load(Relaxed).max(1)) as u32;
        Some(match own > share {
            true => Crowded::Owner(Reason::ConnectionTableFull),
            false => Crowded::Table(share),
        })
    }

    /// Who has more than `share` and can make room, most above it first.
    pub(super) fn above(&self, share: u32) -> Vec<Zone> {
        let mut above: Vec<_> = Zone::all()
            .map(|owner| (self.of(owner), owner))
            .filter(|(counts, _)| counts.connections > share && counts.unsettled > 0)
            .collect();
        above.sort_by_key(|(counts, _)| std::cmp::Reverse(counts.connections));
        above.into_iter().map(|(_, owner)| owner).collect()
    }

    fn counts(&self, owner: Zone) -> &Counts {
        &self.owners[usize::from(owner.number())]
    }
}
