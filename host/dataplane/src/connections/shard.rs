//! A part of the table under one lock: connections, and the keys that hash to it.

use std::sync::Arc;

use millrace_abi::Tag;
use millrace_sandbox::maps::HostMap;

use super::connection::{Connection, Labels, Phase};
use super::index::{Index, Place};
use super::list::List;
use super::marks::Mark;
use super::owners::Owners;
use super::row::{Rank, Row, Rows};
use super::slab::Slab;
use super::wheel::{TICK_BITS, Wheel};
use super::{ConnectionId, Due, Timeouts, Zone};
use crate::verdict::MAX_STAGES;

/// A part of the table. Whoever holds its lock takes no other but that of a count in `loads`.
pub(super) struct Shard {
    number: usize,
    pub(super) index: Index,
    pub(super) slab: Slab,
    pub(super) wheel: Wheel,
    labels: Map<u32, List>,
    /// By owner: who makes room if the owner has more than its share.
    rows: Map<Zone, Rows>,
    /// Of connections that stages look into: how many more packets each wants to see.
    pub(super) inspect_left: Map<u32, [u16; MAX_STAGES]>,
    /// Where endpoints' connections are counted, once somebody asks for that.
    pub(super) loads: Option<Arc<HostMap>>,
    stamp: u32,
}

impl Shard {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            index: Index::default(),
            slab: Slab::default(),
            wheel: Wheel::new(),
            labels: Map::default(),
            rows: Map::default(),
            inspect_left: Map::default(),
            loads: None,
            stamp: 0,
        }
    }

    /// Gives a connection its place; nobody can find it yet.
    pub(super) fn put(&mut self, connection: Connection) -> ConnectionId {
        self.stamp = self.stamp.wrapping_add(1);
        let at = self.slab.put(Connection { stamp: self.stamp, ..connection });
        self.id(at)
    }

    /// Takes a connection out that nobody can find any more.
    pub(super) fn take(&mut self, at: u32) -> Option<Connection> {
        self.inspect_left.remove(&at);
        self.slab.take(at)
    }

    /// The id of the connection at `at`.
    pub(super) fn id(&mut self, at: u32) -> ConnectionId {
        let stamp = self.slab.present(at).stamp;
        ConnectionId { place: Place::new(self.number, at), stamp }
    }

    /// The connection with this id, if it is still here.
    #[inline]
    pub(super) fn known(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.at_mut(id.place.at()).filter(|connection| connection.stamp == id.stamp)
    }

    /// Lets packets, labels and time find the connection.
    pub(super) fn begin(&mut self, at: u32, timeouts: &Timeouts, owners: &Owners) {
        self.mutate(at, owners, |connection| connection.phase = Phase::Live);
        let ends_ns = self.slab.present(at).ends_ns(timeouts);
        self.label(at);
        self.wheel.set(&mut self.slab, at, ends_ns);
        self.weigh(at);
    }

    /// Changes a live connection, and what hangs on its state.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        at: u32,
        (timeouts, owners): (&Timeouts, &Owners),
        change: impl FnOnce(&mut Connection) -> R,
    ) -> R {
        let watched = |it: &Connection| (it.state, it.is_settled());
        let before = watched(self.slab.present(at));
        let outcome = self.mutate(at, owners, change);
        if before != watched(self.slab.present(at)) {
            self.set_timer(at, timeouts);
            self.weigh(at);
        }
        outcome
    }

    /// Does something to a connection, which then waits where it has to make room; and counts it
    /// among those that the kernel carries, if it is one.
    #[inline]
    pub(super) fn mutate<R>(
        &mut self,
        at: u32,
        owners: &Owners,
        mutate: impl FnOnce(&mut Connection) -> R,
    ) -> R {
        let connection = self.slab.present(at);
        let before = connection.row();
        let outcome = mutate(connection);
        let (row, is_carried) = (connection.row(), connection.is_carried());
        if is_carried != connection.marks.has(Mark::Carried) {
            connection.marks.set(Mark::Carried, is_carried);
            owners.carry(connection.owner(), connection.family(), is_carried);
        }
        if row != before {
            self.line_up(at, [before, row], owners);
        }
        outcome
    }

    /// Has a connection looked at when it is time.
    pub(super) fn set_timer(&mut self, at: u32, timeouts: &Timeouts) {
        let look_ns = self.slab.present(at).look_ns(timeouts);
        self.wheel.set_again(&mut self.slab, at, look_ns);
    }

    /// Lets somebody have a connection to retire. One that is forgotten is due again.
    pub(super) fn hand_out(&mut self, at: u32, timeouts: &Timeouts, now_ns: u64) -> Due {
        let id = self.id(at);
        let connection = self.slab.present(at);
        connection.handed_out = ((now_ns >> TICK_BITS) + PATIENCE) as u32;
        let due = connection.due(id);
        self.set_timer(at, timeouts);
        due
    }

    /// Hides a live connection from packets and labels; time still finds it.
    pub(super) fn leave(&mut self, at: u32, owners: &Owners) {
        self.mutate(at, owners, |connection| connection.phase = Phase::Leaving);
        self.unlabel(at);
        self.weigh(at);
    }

    /// The owner's connection that has waited the longest for its other side, which waits no
    /// longer.
    pub(super) fn evict(&mut self, owner: Zone, owners: &Owners) -> Option<u32> {
        let at = self.rows.get(&owner)?.oldest_unsettled(&self.slab)?;
        self.mutate(at, owners, |connection| connection.marks.set(Mark::Evicted, true));
        Some(at)
    }

    /// The owner's connection that has been in a row the longest, which is to leave the kernel.
    pub(super) fn crowd_out(&mut self, owner: Zone, row: Row, owners: &Owners) -> Option<u32> {
        let at = self.rows.get(&owner)?.first(row)?;
        self.mutate(at, owners, |connection| connection.marks.set(Mark::Crowded, true));
        Some(at)
    }

    /// Gives a live connection other labels.
    pub(super) fn relabel(&mut self, at: u32, labels: Labels) {
        self.unlabel(at);
        self.slab.present(at).labels = labels;
        self.label(at);
    }

    /// Whether nothing of any connection is left.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let slab_is_empty = (0..self.slab.end()).all(|at| self.slab.at(at).is_none());
        let lists_are_empty = self.labels.is_empty() && self.rows.is_empty();
        let index_is_empty = self.index.is_empty() && self.inspect_left.is_empty();
        slab_is_empty && lists_are_empty && index_is_empty
    }

    /// The live connections that have the label.
    pub(super) fn labelled(&self, tag: Tag) -> impl Iterator<Item = ConnectionId> {
        let first = self.labels.get(&tag.bits()).and_then(List::first);
        let mut next = first;
        std::iter::from_fn(move || {
            let at = next?;
            let connection = self.slab.at(at)?;
            next = connection
                .labels
                .position(tag)
                .and_then(|position| connection.label_links[position].after());
            Some(ConnectionId { place: Place::new(self.number, at), stamp: connection.stamp })
        })
    }

    fn label(&mut self, at: u32) {
        let labels = self.slab.present(at).labels;
        for (position, tag) in labels.iter().enumerate() {
            let list = self.labels.entry(tag.bits()).or_insert(List::EMPTY);
            let link = |connection: &mut Connection| position_of(connection, tag);
            debug_assert_eq!(link(self.slab.present(at)), position);
            list.put(&mut self.slab, at, |connection| {
                let position = link(connection);
                &mut connection.label_links[position]
            });
        }
    }

    fn unlabel(&mut self, at: u32) {
        let labels = self.slab.present(at).labels;
        for tag in labels.iter() {
            let Some(list) = self.labels.get_mut(&tag.bits()) else { continue };
            list.take(&mut self.slab, at, |connection| {
                let position = position_of(connection, tag);
                &mut connection.label_links[position]
            });
            if list.is_empty() {
                self.labels.remove(&tag.bits());
            }
        }
    }

    fn line_up(&mut self, at: u32, [before, now]: [Option<Row>; 2], owners: &Owners) {
        let owner = self.slab.present(at).owner();
        let rows = self.rows.entry(owner).or_insert(Rows::EMPTY);
        if let Some(before) = before {
            rows.take(&mut self.slab, at, before);
        }
        match now {
            Some(now) => rows.put(&mut self.slab, at, now),
            None if rows.is_empty() => drop(self.rows.remove(&owner)),
            None => {}
        }
        let waits = |row: Option<Row>| row.is_some_and(|row| row.rank == Rank::Unsettled);
        match (waits(before), waits(now)) {
            (false, true) => owners.awaits(owner),
            (true, false) => owners.stops_awaiting(owner),
            _ => {}
        }
    }
}

/// Hashed under secret seeds, and at less cost than by the standard library's default.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

fn position_of(connection: &Connection, tag: Tag) -> usize {
    connection.labels.position(tag).expect("a label's list holds connections with that label only")
}

/// Ticks that whoever has a connection to retire may take: about five seconds.
const PATIENCE: u64 = 20;
