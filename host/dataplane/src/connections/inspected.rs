//! Connections whose packets stages look into: how many more each of them wants to see.
//!
//! Both directions count together. Who looks is part of the ways; how many are left is kept here,
//! for as long as anybody looks.

use std::num::NonZeroU32;

use millrace_abi::INSPECT_ALL;

use super::owners::Owners;
use super::shard::Shard;
use super::{ConnectionId, Connections, Direction, Key, Translation, Way};
use crate::verdict::MAX_STAGES;

/// Whether a packet is shown to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    /// The stage wants no more.
    No,
    /// It is.
    Yes,
    /// It is, and no stage wants to see another one of the connection.
    Last,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// What its packets look like.
    pub key: Key,
    /// Where they go.
    pub way: Way,
    /// What is rewritten.
    pub translation: Translation,
    /// Its entry in the kernel's cache, if it should have one.
    pub generation: Option<NonZeroU32>,
    /// How often the connection was decided anew.
    pub revision: u32,
}

impl Connections {
    /// Has the stages that look into a connection, by its ways, see so many more packets each.
    pub fn inspect(&self, id: ConnectionId, left: &[u16; MAX_STAGES]) {
        let mut shard = self.lock(id.place.shard());
        if shard.known(id).is_some() {
            shard.inspect_left.insert(id.place.at(), *left);
        }
    }

    /// Whether the packet at hand is shown to the stage at `position`, which has one less to see
    /// then.
    pub fn shows(&self, id: ConnectionId, position: usize) -> Showing {
        let mut shard = self.lock(id.place.shard());
        // of a connection that is gone each packet is shown that asks for it
        let Some(connection) = shard.known(id) else { return Showing::Yes };
        if connection.ways[0].verdict.inspect & (1 << position) == 0 {
            return Showing::No;
        }
        let Some(left) = shard.inspect_left.get_mut(&id.place.at()) else { return Showing::Yes };
        let left = &mut left[position];
        if *left != INSPECT_ALL {
            *left = left.saturating_sub(1);
        }
        let is_enough = *left == 0;
        match is_enough && shard.look_away(id, position, &self.owners) {
            true => Showing::Last,
            false => Showing::Yes,
        }
    }

    /// Notes that the stage at `position` wants no more packets of a connection; whether that
    /// leaves none that does.
    pub fn released(&self, id: ConnectionId, position: usize) -> bool {
        let mut shard = self.lock(id.place.shard());
        shard.look_away(id, position, &self.owners)
    }

    /// Both directions of a connection, if it is there.
    pub fn sides(&self, id: ConnectionId) -> Option<[Side; 2]> {
        let mut shard = self.lock(id.place.shard());
        let connection = shard.known(id)?;
        Some(Direction::BOTH.map(|direction| {
            let (key, back) = (connection.key(direction), connection.key(direction.other()));
            Side {
                key,
                way: connection.ways[direction as usize],
                translation: Translation::between(&key, &back),
                generation: connection.generations[direction as usize],
                revision: connection.revision,
            }
        }))
    }
}

impl Shard {
    /// Shows the stage at `position` no more packets of a connection; whether that leaves none that
    /// sees any.
    fn look_away(&mut self, id: ConnectionId, position: usize, owners: &Owners) -> bool {
        let at = id.place.at();
        let is_over = self.known(id).is_some()
            && self.mutate(at, owners, |connection| connection.look_away(position));
        if is_over {
            self.inspect_left.remove(&at);
        }
        is_over
    }
}
