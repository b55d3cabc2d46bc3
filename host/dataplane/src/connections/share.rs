//! Who may open a connection, and who makes room for it.
//!
//! An owner is stopped at its own limit. In a full table each owner is entitled to as many
//! connections as all others that have any. Who has more loses the oldest of its own that one side
//! alone takes part in: a flood of SYNs or of first packets, for the most part. What both sides
//! take part in never makes room.

use millrace_abi::Reason;

use super::marks::Mark;
use super::{Connections, Due, Zone};

/// Who is to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowded {
    /// The owner itself, which has too many.
    Owner(Reason),
    /// Those that have more than this.
    Table(u32),
}

impl Connections {
    /// Counts a connection that `owner` is about to open, with its key in the shard `near`.
    pub(super) fn admit(
        &self,
        owner: Zone,
        near: usize,
        now_ns: u64,
    ) -> Result<Option<Due>, Reason> {
        self.owners.gains(owner);
        let (outcome, reason) = match self.owners.crowded(owner, &self.limits) {
            None => return Ok(None),
            Some(Crowded::Owner(reason)) => (self.evict(owner, near, now_ns), reason),
            Some(Crowded::Table(share)) => {
                // the last resort of an owner within its share is what it would lose above it
                let above = self.owners.above(share).into_iter().chain([owner]);
                let evicted = above.filter_map(|victim| self.evict(victim, near, now_ns)).next();
                (evicted, Reason::ConnectionTableFull)
            }
        };
        outcome.ok_or_else(|| {
            self.owners.loses(owner);
            self.owners.refused(owner);
            reason
        })
    }

    /// Evicts the oldest of an owner's unsettled connections, of the first shard from `near` on
    /// that has any: which shard a connection is in is chance. Nothing if there are none; what the
    /// kernel may know more about is due.
    fn evict(&self, owner: Zone, near: usize, now_ns: u64) -> Option<Option<Due>> {
        if self.owners.of(owner).unsettled == 0 {
            return None;
        }
        let count = self.shards.len();
        (near..near + count).find_map(|turn| {
            let mut shard = self.lock(turn % count);
            let at = shard.evict(owner, &self.owners)?;
            let cached = shard.slab.present(at).marks.has(Mark::Cached);
            let due = shard.hand_out(at, &self.timeouts, now_ns);
            drop(shard);
            self.owners.evicted(owner);
            self.owners.loses(owner);
            if !cached {
                self.let_go(due.id);
            }
            Some(cached.then_some(due))
        })
    }
}
