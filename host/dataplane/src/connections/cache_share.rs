//! Who makes room in the kernel's cache, which has as much for each owner that has anything there.
//!
//! What leaves it stays a connection, and goes on by way of workers: so all that an owner has above
//! its share makes room for those that are within theirs. Among its own connections those that are
//! over make room first, then those that one side alone takes part in.

use super::connection::{Connection, Phase};
use super::marks::Mark;
use super::row::{Family, Place, Rank, Row};
use super::{ConnectionId, Connections, Due, Zone};

/// A connection that wants room.
struct Asking {
    owner: Zone,
    family: Family,
    /// Whether it has a better claim than its owner's that one side alone takes part in: both do,
    /// or it is newer than any of them.
    outranks_unsettled: bool,
}

impl Connections {
    /// Some connections that are to leave the kernel, so that it can carry another one: of the same
    /// owner, that are over; if that is within its share of the cache, which has room for `capacity`
    /// entries, of those above theirs. They are to be retired as any that are [due](Due), or to
    /// [outlast](Connections::outlasts) that.
    pub fn crowd_out(&self, asking: ConnectionId, capacity: u32, now_ns: u64) -> Vec<Due> {
        let Some(Asking { owner, family, .. }) = self.asking(asking) else { return Vec::new() };
        let from = |victim, most, rank| {
            let row = Row { place: Place::Cache(family), rank };
            self.leave_row(victim, row, most, asking, now_ns)
        };
        let over = from(owner, AT_ONCE, Rank::Over);
        // a connection has an entry for each way
        let share = self.owners.cache_share(owner, family, capacity / 2);
        if !over.is_empty() || self.owners.carried(owner, family) >= share {
            return over;
        }
        let above = self.owners.above_in_cache(family, share).into_iter();
        let ranks = above.flat_map(|above| Rank::ALL.map(|rank| (above, rank)));
        ranks
            .map(|((victim, carried), rank)| from(victim, AT_ONCE.min(carried - share), rank))
            .find(|some| !some.is_empty())
            .unwrap_or_default()
    }

    /// Some connections of the same owner that may leave the kernel for this one if that knows of
    /// no answer either; those that stay are to be [renewed](Connections::renew).
    pub fn replaceable_by(&self, asking: ConnectionId, now_ns: u64) -> Vec<Due> {
        match self.asking(asking) {
            Some(Asking { owner, family, outranks_unsettled: true }) => {
                let row = Row { place: Place::Cache(family), rank: Rank::Unsettled };
                self.leave_row(owner, row, AT_ONCE, asking, now_ns)
            }
            _ => Vec::new(),
        }
    }

    /// Whether both sides take part in a connection, as far as is known.
    pub fn is_settled(&self, id: ConnectionId) -> bool {
        self.lock(id.place.shard()).known(id).is_some_and(|known| known.is_settled())
    }

    /// Counts a connection that leaves the kernel to make room.
    pub fn crowded_out(&self, id: ConnectionId) {
        if let Some(known) = self.lock(id.place.shard()).known(id) {
            self.owners.crowded_out(known.owner());
        }
    }

    /// Nothing of one that is over: few packets of it are to come.
    fn asking(&self, id: ConnectionId) -> Option<Asking> {
        let mut shard = self.lock(id.place.shard());
        let connection = shard.known(id)?;
        let lives = connection.phase == Phase::Live && !connection.state.is_over();
        lives.then(|| Asking {
            owner: connection.owner(),
            family: connection.family(),
            outranks_unsettled: connection.is_settled() || connection.is_new(),
        })
    }

    /// Hands out up to `most` of a row, but for `asking`: those that have been there the longest in
    /// the first shard that has any; which shard a connection is in is chance.
    fn leave_row(
        &self,
        owner: Zone,
        row: Row,
        most: u32,
        asking: ConnectionId,
        now_ns: u64,
    ) -> Vec<Due> {
        let near = asking.place.shard();
        let count = self.shards.len();
        let of_shard = |turn: usize| {
            let mut shard = self.lock(turn % count);
            let mut some = Vec::new();
            let mut itself = None;
            while (some.len() as u32) < most
                && let Some(at) = shard.crowd_out(owner, row, &self.owners)
            {
                match shard.id(at) == asking {
                    true => itself = Some(at),
                    false => some.push(shard.hand_out(at, &self.timeouts, now_ns)),
                }
            }
            if let Some(at) = itself {
                let back = |it: &mut Connection| it.marks.set(Mark::Crowded, false);
                shard.mutate(at, &self.owners, back);
            }
            some
        };
        (near..near + count).map(of_shard).find(|some| !some.is_empty()).unwrap_or_default()
    }
}

/// Connections that make room at once, so that not each new one has to ask.
const AT_ONCE: u32 = 16;
