//! Connections that another process had: put back as they were opened, and brought up to date by
//! what the kernel's entries have seen since.

use std::num::NonZeroU32;

use super::connection::Connection;
use super::marks::Mark;
use super::{ConnectionId, Connections, Key, Opening, State, TcpState, Usage};

impl Connections {
    /// Puts a connection back; nothing if one of its keys is taken, or there are too many.
    pub fn resume(&self, opening: &Opening) -> Option<ConnectionId> {
        let id = self.open(opening).ok()?.id;
        let mut shard = self.lock(id.place.shard());
        let connection = shard.known(id)?;
        // its opener was counted in its time
        connection.traffic = Default::default();
        connection.marks.set(Mark::Cached, true);
        Some(id)
    }

    /// Notes that the direction with this key has an entry in the kernel's cache, and what that
    /// has seen so far; false if it is nobody's, and has to go.
    pub fn resume_entry(&self, key: &Key, generation: NonZeroU32, usage: &Usage) -> bool {
        self.with_key(key, |shard, at, direction| {
            shard.change(at, (&self.timeouts, &self.owners), |connection| {
                connection.generations[direction as usize] = Some(generation);
                // the entry goes on counting: its packets are told when it is retired
                connection.observe(direction, usage);
            });
        })
        .is_some()
    }

    /// Takes a TCP connection for an established one if the kernel does not have both directions
    /// of it, since nobody else knows: it has to show so by and by.
    pub fn presume(&self, id: ConnectionId, now_ns: u64) {
        let mut shard = self.lock(id.place.shard());
        let unknown = |connection: &mut Connection| {
            connection.generations.contains(&None) && matches!(connection.state, State::Tcp(_))
        };
        if shard.known(id).is_some_and(unknown) {
            shard.change(id.place.at(), (&self.timeouts, &self.owners), |connection| {
                connection.state = State::Tcp(TcpState::Established);
                connection.last_seen_ns = [now_ns; 2];
            });
        }
    }
}
