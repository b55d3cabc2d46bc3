//! Connections that outlive the process: what is kept of them for a successor, and how it goes on.
//!
//! A reader must not break this: one process at a time takes entries away. Who is not in charge
//! yet, or any more, only adds some.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_fastpath::{Cursor, FlowCache, MapFault};
use parking_lot::Mutex;

use super::{HandOver, kernel};
use crate::connections::{ConnectionId, Connections, Direction, Key, Opening, Zone};

/// Whose the connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// A predecessor's, or nobody's.
    Waiting,
    /// This process's.
    Own,
    /// This process's until a successor is ready, who may read at any time.
    Leaving,
    /// A successor's.
    Gone,
}

/// Keeps connections for a successor, and has those of a predecessor go on.
pub(crate) struct Succession {
    connections: Arc<Connections>,
    cache: Arc<Mutex<FlowCache>>,
    hand_over: Arc<HandOver>,
    charge: Mutex<Charge>,
    not_kept: AtomicU64,
}

/// What there was of a predecessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Connections that go on.
    pub connections: usize,
    /// Connections that do not: a port of them is gone.
    pub ended: usize,
    /// Entries of the kernel's that were nobody's any more.
    pub entries_removed: usize,
}

impl Succession {
    pub(crate) fn new(
        connections: Arc<Connections>,
        cache: Arc<Mutex<FlowCache>>,
        hand_over: Arc<HandOver>,
    ) -> Self {
        let (charge, not_kept) = (Mutex::new(Charge::Waiting), AtomicU64::new(0));
        Self { connections, cache, hand_over, charge, not_kept }
    }

    pub(crate) fn charge(&self) -> Charge {
        *self.charge.lock()
    }

    pub(crate) fn set_charge(&self, charge: Charge) {
        *self.charge.lock() = charge;
    }

    /// Connections that found no room, and end with this process.
    pub(crate) fn not_kept(&self) -> u64 {
        self.not_kept.load(Ordering::Relaxed)
    }

    /// Keeps a connection as it is.
    pub(crate) fn keep(&self, id: ConnectionId) {
        let Some(view) = self.connections.view(id) else { return };
        let name = view.keys[Direction::Original as usize].name();
        if self.cache.lock().keep(&name, &view.record()).is_err() {
            self.not_kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps nothing any more of the connection that a packet with this key has opened.
    pub(crate) fn drop_kept(&self, key: &Key) {
        if let Err(error) = self.cache.lock().drop_kept(&key.name()) {
            tracing::error!(%error, "a connection that is over is kept for a successor");
        }
    }

    /// Has the connections of a predecessor go on that go by way of `ports`. For when it opens no
    /// more of them, and before workers see packets of them.
    pub(crate) fn resume(&self, ports: &BTreeSet<u16>, now_ns: u64) -> Result<Resumed, MapFault> {
        let mut resumed = Resumed::default();
        let mut ids = Vec::new();
        let (kept, acks) = {
            let cache = self.cache.lock();
            (cache.kept()?, cache.acks().clone())
        };
        acks.look_again();
        for (name, record) in kept {
            let opening = Opening::of_record(&name, &record, now_ns);
            let opening = opening.filter(|opening| goes_by(opening, ports));
            match opening.and_then(|opening| self.connections.resume(&opening)) {
                Some(id) => ids.push(id),
                None => {
                    resumed.ended += 1;
                    self.cache.lock().drop_kept(&name)?;
                }
            }
        }
        resumed.connections = ids.len();

        let mut next = Some(Cursor::default());
        while let Some(from) = next {
            let slice = self.cache.lock().slice(from)?;
            next = slice.next;
            let mut nobodys = Vec::new();
            for (flow, usage) in slice.entries {
                let generation = kernel::generation(usage.generation);
                let known = generation.is_some_and(|generation| {
                    let key = kernel::connections_key(&flow);
                    let seen = kernel::connections_usage(&usage);
                    self.connections.resume_entry(&key, generation, &seen)
                });
                match acks.adopt(&usage) {
                    Some(slot) if known => self.hand_over.adopt(&flow, slot),
                    _ if !known => nobodys.push(flow),
                    _ => {}
                }
            }
            resumed.entries_removed += self.cache.lock().remove(&nobodys)?;
        }
        ids.into_iter().for_each(|id| self.connections.presume(id, now_ns));
        Ok(resumed)
    }

    /// Says that this process takes misses, and will for so long.
    pub(crate) fn beat(&self, lasts: Duration) -> Result<(), MapFault> {
        self.cache.lock().beat(lasts)
    }

    /// Leaves to a successor what still waits.
    pub(crate) fn leave(&self) {
        self.set_charge(Charge::Gone);
        self.hand_over.leave();
    }
}

fn goes_by(opening: &Opening, ports: &BTreeSet<u16>) -> bool {
    let there = |zone: Zone| !zone.is_port() || ports.contains(&zone.number());
    let ways = opening.ways.iter().map(|way| way.verdict);
    let mut egresses = ways.filter(|verdict| verdict.is_open()).map(|verdict| verdict.egress);
    there(opening.zone) && there(opening.reply.zone) && egresses.all(|port| ports.contains(&port))
}
