//! Where connections wait until they have to make room: in the table, or in the kernel's cache for
//! those of their family that it carries.

use super::connection::{Connection, Phase};
use super::list::List;
use super::marks::Mark;
use super::slab::Slab;

/// A place that can be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Table,
    Cache(Family),
}

/// The kernel has room for entries of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Family {
    V4,
    V6,
}

/// What makes room before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Both sides took part, and it is over.
    Over,
    /// One side alone takes part, as far as is known.
    Unsettled,
    /// Both sides take part. It leaves the kernel, but never the table.
    Settled,
}

/// Those of one owner that make room in the same place and before the same others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) rank: Rank,
}

/// An owner's connections in a shard: in each row those that have been there the longest first.
pub(super) struct Rows([List; Row::COUNT]);

impl Place {
    const ALL: [Self; 3] = [Self::Table, Self::Cache(Family::V4), Self::Cache(Family::V6)];

    const fn number(self) -> usize {
        match self {
            Self::Table => 0,
            Self::Cache(family) => 1 + family as usize,
        }
    }
}

impl Family {
    pub(super) const COUNT: usize = 2;
}

impl Rank {
    /// All, what makes room first first.
    pub(super) const ALL: [Self; 3] = [Self::Over, Self::Unsettled, Self::Settled];
}

impl Row {
    const COUNT: usize = Place::ALL.len() * Rank::ALL.len();

    const fn number(self) -> usize {
        self.place.number() * Rank::ALL.len() + self.rank as usize
    }
}

impl Rows {
    pub(super) const EMPTY: Self = Self([List::EMPTY; Row::COUNT]);

    pub(super) fn put(&mut self, slab: &mut Slab, at: u32, row: Row) {
        self.0[row.number()].put(slab, at, |connection| &mut connection.row_link);
    }

    pub(super) fn take(&mut self, slab: &mut Slab, at: u32, row: Row) {
        self.0[row.number()].take(slab, at, |connection| &mut connection.row_link);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(List::is_empty)
    }

    /// The first one in a row.
    pub(super) fn first(&self, row: Row) -> Option<u32> {
        self.0[row.number()].first()
    }

    /// Of those that one side alone takes part in, the one that was opened first.
    pub(super) fn oldest_unsettled(&self, slab: &Slab) -> Option<u32> {
        let firsts = Place::ALL.map(|place| self.first(Row { place, rank: Rank::Unsettled }));
        let opened_ns = |at: &u32| slab.at(*at).map(|connection| connection.opener.opened_ns());
        firsts.into_iter().flatten().min_by_key(opened_ns)
    }
}

impl Connection {
    /// Which of the kernel's entries it has, if any.
    pub(super) fn family(&self) -> Family {
        match self.keys[0].source.ip().is_ipv4() {
            true => Family::V4,
            false => Family::V6,
        }
    }

    /// Whether the kernel has entries of it.
    pub(super) fn is_carried(&self) -> bool {
        self.generations != [None; 2]
    }

    /// Where it waits; nothing if it does not have to make room.
    #[inline]
    pub(super) fn row(&self) -> Option<Row> {
        let makes_room = [Mark::Evicted, Mark::Crowded].into_iter().any(|it| self.marks.has(it));
        if self.phase != Phase::Live || makes_room {
            return None;
        }
        // what stages look into stays with its worker
        let place = match self.is_carried() && !self.is_seen() {
            true => Place::Cache(self.family()),
            false => Place::Table,
        };
        let rank = match (self.is_settled(), self.state.is_over()) {
            (false, _) => Rank::Unsettled,
            (true, true) => Rank::Over,
            (true, false) => Rank::Settled,
        };
        let row = Row { place, rank };
        (place != Place::Table || rank == Rank::Unsettled).then_some(row)
    }
}
