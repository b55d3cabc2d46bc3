//! Looking at connections.

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_abi::{Slot, Tag};

use super::connection::{Connection, Labels, Phase, Traffic};
use super::shard::Shard;
use super::{ConnectionId, Connections, Key, State, Way, Zone};

/// A connection as it was at some moment. What there are two of is by [`Direction`](super::Direction).
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Which connection.
    pub id: ConnectionId,
    /// What its packets look like.
    pub keys: [Key; 2],
    /// What happens to them.
    pub ways: [Way; 2],
    /// How far it is.
    pub state: State,
    /// Whether a packet came back.
    pub replied: bool,
    /// Whether both sides take part.
    pub settled: bool,
    /// Whose share it is of.
    pub owner: Zone,
    /// What its ways depend on.
    pub labels: Labels,
    /// How long it may be silent, if something else was stated than its protocol has.
    pub idle: Option<Duration>,
    /// When packets were seen.
    pub last_seen_ns: [u64; 2],
    /// How many there were, as far as it was told.
    pub traffic: [Traffic; 2],
    /// The kernel's entries.
    pub generations: [Option<NonZeroU32>; 2],
    /// How often something else was decided while it lived.
    pub revision: u32,
    /// The packet that opened it, as the chain is asked to decide anew: with the translation in
    /// force, and nothing else decided.
    pub opening: Slot,
}

/// A place in the walk through all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    at: u32,
}

impl Connections {
    /// The connections that depend on a tag. A port's are those that go by way of it.
    pub fn by_tag(&self, tag: Tag) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            ids.extend(shard.labelled(tag));
        }
        ids
    }

    /// The connections at the next `places` places from `from` on, and where the walk goes on;
    /// nothing at its end. Who is there all the while is seen once.
    pub fn all(&self, from: Cursor, places: usize) -> (Vec<View>, Option<Cursor>) {
        let mut views = Vec::new();
        let rest = self.walk(from, places, |shard, at| {
            let id = shard.id(at);
            views.push(shard.slab.present(at).view(id));
        });
        (views, rest)
    }

    /// Shows `visit` the connections at the next `places` places, as [`Connections::all`] does.
    pub(super) fn walk(
        &self,
        from: Cursor,
        places: usize,
        mut visit: impl FnMut(&mut Shard, u32),
    ) -> Option<Cursor> {
        let (mut left, mut start) = (places, from.at);
        for number in from.shard..self.shards.len() {
            let mut shard = self.lock(number);
            for at in start..shard.slab.end() {
                if left == 0 {
                    return Some(Cursor { shard: number, at });
                }
                left -= 1;
                if shard.slab.at(at).is_some_and(|connection| connection.phase == Phase::Live) {
                    visit(&mut shard, at);
                }
            }
            start = 0;
        }
        None
    }

    /// A connection, if it is still there.
    pub fn view(&self, id: ConnectionId) -> Option<View> {
        let mut shard = self.lock(id.place.shard());
        let connection = shard.known(id).filter(|known| known.phase == Phase::Live)?;
        Some(connection.view(id))
    }

    /// The connection with the key, which is none the further for it.
    pub fn view_by_key(&self, key: &Key) -> Option<View> {
        self.with_key(key, |shard, at, _| {
            let id = shard.id(at);
            shard.slab.present(at).view(id)
        })
    }
}

impl Connection {
    pub(super) fn view(&self, id: ConnectionId) -> View {
        View {
            id,
            keys: self.keys,
            ways: self.ways,
            state: self.state,
            replied: self.is_replied(),
            settled: self.is_settled(),
            owner: self.owner(),
            labels: self.labels,
            idle: (self.idle_ms != 0).then(|| Duration::from_millis(u64::from(self.idle_ms))),
            last_seen_ns: self.last_seen_ns,
            traffic: self.traffic,
            generations: self.generations,
            revision: self.revision,
            opening: self.opener.slot(&self.keys),
        }
    }
}

/// 0 for nothing stated.
pub(super) fn milliseconds(idle: Option<Duration>) -> u32 {
    idle.map_or(0, |idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX).max(1))
}
