//! How connections go: by time, with their port, or to make room; and how they leave the kernel.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering::Relaxed;

use millrace_abi::{Tag, TagKind};

use super::connection::{Connection, Phase};
use super::marks::Mark;
use super::shard::Shard;
use super::{ConnectionId, Connections, Key, View};

/// A connection that is to go. Whoever gets it tells what the kernel's entries of these generations
/// saw ([`Connections::observe`]) and is done if it goes on ([`Connections::renew`]); else removes
/// them, tells what they saw to the last ([`Connections::absorb`]), and retires it
/// ([`Connections::retire`]). One that nobody retires is due again a few seconds later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which connection.
    pub id: ConnectionId,
    /// Its keys, by direction.
    pub keys: [Key; 2],
    /// The kernel's entries, by direction.
    pub generations: [Option<NonZeroU32>; 2],
    /// Whether its end was seen, so that nothing more is to be expected of it.
    pub over: bool,
}

/// What became of a connection that was due.
#[derive(Clone, Debug, PartialEq)]
pub enum Retirement {
    /// It is gone; this is what it was.
    Retired(Box<View>),
    /// The kernel saw packets, or a worker did meanwhile, or it may be silent for longer yet: it
    /// stays, without entries in the kernel.
    StillAlive,
    /// It was gone already.
    Gone,
}

impl Connections {
    /// Up to `max` connections that may be over by `now_ns`. What it costs follows from what it
    /// finds: see the module `wheel`.
    pub fn due(&self, now_ns: u64, max: usize) -> Vec<Due> {
        let mut due = Vec::new();
        let mut leftovers = self.leftovers.lock();
        let first = leftovers.len() - leftovers.len().min(max);
        due.extend(leftovers.drain(first..));
        drop(leftovers);

        let start = self.turn.fetch_add(1, Relaxed);
        for shard in (start..start + self.shards.len()).map(|turn| turn % self.shards.len()) {
            // workers get in between
            while due.len() < max && self.some_due(&mut self.lock(shard), now_ns, max, &mut due) {}
        }
        due
    }

    /// Lets a connection that was due be as it was, with its entries in the kernel, if it goes on as
    /// far as is known now, and was not silent for longer than entries stay; false if it is to be
    /// retired.
    pub fn renew(&self, id: ConnectionId, now_ns: u64) -> bool {
        let mut shard = self.lock(id.place.shard());
        let goes_on = shard.known(id).is_some_and(|connection| {
            connection.phase == Phase::Live
                && connection.goes_on(&self.timeouts, now_ns)
                && connection.leaves_kernel_ns(&self.timeouts) > now_ns
        });
        if goes_on {
            self.stay(&mut shard, id.place.at());
        }
        goes_on
    }

    /// Lets a connection be that was due and has left the kernel since, if it goes on as far as is
    /// known now; false if it is to be retired.
    pub fn outlasts(&self, id: ConnectionId, now_ns: u64) -> bool {
        let at = id.place.at();
        let mut shard = self.lock(id.place.shard());
        if shard.known(id).is_none_or(|known| known.phase != Phase::Live) {
            return false;
        }
        shard.mutate(at, &self.owners, |known| known.generations = [None; 2]);
        let goes_on = shard.slab.present(at).goes_on(&self.timeouts, now_ns);
        if goes_on {
            self.stay(&mut shard, at);
        }
        goes_on
    }

    /// Lets a connection go that was due, if it is not the other way round by now.
    pub fn retire(&self, id: ConnectionId, now_ns: u64) -> Retirement {
        let at = id.place.at();
        let mut shard = self.lock(id.place.shard());
        let Some(connection) = shard.known(id) else { return Retirement::Gone };
        if connection.phase == Phase::Live {
            shard.mutate(at, &self.owners, |known| known.generations = [None; 2]);
            if shard.slab.present(at).goes_on(&self.timeouts, now_ns) {
                self.stay(&mut shard, at);
                return Retirement::StillAlive;
            }
            shard.leave(at, &self.owners);
        }
        drop(shard);
        self.let_go(id)
            .map_or(Retirement::Gone, |gone| Retirement::Retired(Box::new(gone.view(id))))
    }

    /// Hides a connection from packets at once; it is to be retired. Nothing if it is hidden already.
    pub fn dismiss(&self, id: ConnectionId, now_ns: u64) -> Option<Due> {
        let mut shard = self.lock(id.place.shard());
        shard.known(id).filter(|known| known.phase == Phase::Live)?;
        shard.leave(id.place.at(), &self.owners);
        Some(shard.hand_out(id.place.at(), &self.timeouts, now_ns))
    }

    /// Hides all connections by way of a port from packets at once; they are to be retired before
    /// anything else gets the port's number or addresses. New ones have to be prevented before.
    pub fn remove_port(&self, port: u16, now_ns: u64) -> Vec<Due> {
        let tag = Tag::new(TagKind::Port, u32::from(port));
        let mut due = Vec::new();
        for shard in &self.shards {
            while self.leave_some(&mut shard.lock(), tag, now_ns, &mut due) {}
        }
        due
    }

    /// Frees a connection's keys and its place; nothing if somebody else does.
    pub(super) fn let_go(&self, id: ConnectionId) -> Option<Connection> {
        let (home, at) = (id.place.shard(), id.place.at());
        let mut guard = self.lock(home);
        let shard = &mut *guard;
        match shard.known(id)?.phase {
            Phase::Opening | Phase::Freeing => return None,
            Phase::Live => shard.leave(at, &self.owners),
            Phase::Leaving => {}
        }
        shard.wheel.clear(&mut shard.slab, at);
        let connection = shard.slab.present(at);
        connection.phase = Phase::Freeing;
        if !connection.marks.has(Mark::Evicted) {
            self.owners.loses(connection.owner());
        }
        if connection.marks.has(Mark::Carried) {
            self.owners.carry(connection.owner(), connection.family(), false);
        }
        let keys = connection.keys.map(|key| self.locate(&key));

        // the place is free when no key leads there any more
        for key in keys {
            if key.shard == home {
                guard.index.take(key.print, id.place);
            } else {
                drop(guard);
                self.lock(key.shard).index.take(key.print, id.place);
                guard = self.lock(home);
            }
        }
        guard.take(at)
    }

    /// Nobody has the connection to retire any more.
    fn stay(&self, shard: &mut Shard, at: u32) {
        let was_evicted = shard.mutate(at, &self.owners, |connection| {
            let was_evicted = connection.marks.has(Mark::Evicted);
            connection.handed_out = 0;
            connection.marks.set(Mark::Evicted, false);
            connection.marks.set(Mark::Crowded, false);
            was_evicted
        });
        if was_evicted {
            self.owners.gains(shard.slab.present(at).owner());
        }
        shard.set_timer(at, &self.timeouts);
    }

    /// Looks at some timers that have gone off; false if there were no more.
    fn some_due(&self, shard: &mut Shard, now_ns: u64, max: usize, due: &mut Vec<Due>) -> bool {
        for _ in 0..AT_ONCE {
            let Some(at) = shard.wheel.gone_off(now_ns) else { return false };
            if shard.slab.present(at).look_ns(&self.timeouts) > now_ns {
                shard.set_timer(at, &self.timeouts);
                continue;
            }
            due.push(shard.hand_out(at, &self.timeouts, now_ns));
            if due.len() == max {
                break;
            }
        }
        true
    }

    /// Hides some connections with the label; false if there were no more.
    fn leave_some(&self, shard: &mut Shard, tag: Tag, now_ns: u64, due: &mut Vec<Due>) -> bool {
        let some: Vec<u32> = shard.labelled(tag).map(|id| id.place.at()).take(AT_ONCE).collect();
        for &at in &some {
            shard.leave(at, &self.owners);
            due.push(shard.hand_out(at, &self.timeouts, now_ns));
        }
        !some.is_empty()
    }
}

impl Connection {
    pub(super) fn due(&self, id: ConnectionId) -> Due {
        let over = self.state.is_over();
        Due { id, keys: self.keys, generations: self.generations, over }
    }
}

/// Connections that are looked at under one lock.
const AT_ONCE: usize = 64;
