//! What is decided anew about a connection while it lives.
//!
//! Its ends stay as they are, and with them its translation: whatever needs another one is another
//! connection. Answers may come to be from another port, though, if packets go there now.

use std::num::NonZeroU32;
use std::time::Duration;

use super::connection::{Connection, Phase};
use super::walk::milliseconds;
use super::{ConnectionId, Connections, Direction, Key, Way, Zone};
use crate::verdict::Tags;

/// What was decided anew about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anew {
    /// What happens to the packets, by direction.
    pub ways: [Way; 2],
    /// Where answers come in.
    pub answers: Zone,
    /// What that depends on.
    pub tags: Tags,
    /// How long it may be silent once both sides take part, if not for as long as its protocol
    /// has it.
    pub idle: Option<Duration>,
}

/// What there was before something else was decided: the kernel has to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its keys, by direction.
    pub keys: [Key; 2],
    /// The kernel's entries, by direction.
    pub generations: [Option<NonZeroU32>; 2],
    /// How often something else was decided, this time included.
    pub revision: u32,
}

/// Why nothing else is decided about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnewError {
    /// It is not there any more.
    #[error("the connection is gone")]
    Gone,
    /// Its answers would be those of another connection.
    #[error("its answers would belong to another connection")]
    AnswersTaken,
}

impl Connections {
    /// Replaces what was decided about a connection. From now on packets that user space has go the
    /// new way, and an entry of the kernel that was made for the old one is not
    /// [noted](Self::cached) any more.
    ///
    /// # Errors
    /// If it is gone, or its answers would be another one's; nothing is replaced then.
    pub fn replace(&self, id: ConnectionId, anew: &Anew) -> Result<Before, AnewError> {
        let home = id.place.shard();
        let mut shard = self.lock(home);
        let reply = shard.known(id).map(|known| known.key(Direction::Reply));
        let reply = reply.ok_or(AnewError::Gone)?;
        let answered = Key { zone: anew.answers, ..reply };
        if reply != answered {
            // first what others could have taken
            drop(shard);
            let at = self.locate(&answered);
            if !self.lock(at.shard).index.put(at.print, id.place) {
                return Err(AnewError::AnswersTaken);
            }
            shard = self.lock(home);
        }
        let live = |known: &&mut Connection| known.phase == Phase::Live;
        if shard.known(id).filter(live).is_none() {
            drop(shard);
            if reply != answered {
                self.unlead(&answered, id);
            }
            return Err(AnewError::Gone);
        }
        let at = id.place.at();
        let (before, labels) = shard.mutate(at, &self.owners, |connection| {
            connection.ways = anew.ways;
            connection.idle_ms = milliseconds(anew.idle);
            connection.revision = connection.revision.wrapping_add(1);
            let before = Before {
                keys: connection.keys,
                generations: connection.generations,
                revision: connection.revision,
            };
            connection.keys[Direction::Reply as usize] = answered;
            (before, connection.labels_with(&anew.tags))
        });
        shard.relabel(at, labels);
        shard.set_timer(at, &self.timeouts);
        drop(shard);
        if reply != answered {
            self.unlead(&reply, id);
        }
        Ok(before)
    }

    /// Has a key lead to the connection no longer.
    fn unlead(&self, key: &Key, id: ConnectionId) {
        let at = self.locate(key);
        self.lock(at.shard).index.take(at.print, id.place);
    }
}
