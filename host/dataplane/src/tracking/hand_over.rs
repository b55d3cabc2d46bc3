//! Flows that go over to the kernel while packets of them are still here.
//!
//! The kernel's entry waits until all that were punted have left again: a worker says so when the
//! frames are back from the kernel. A flow that never pauses, or pauses for ever, goes over
//! by force after a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use millrace_fastpath::{
    Acks, FlowCache, Forward, Generation, InsertError, Key, MapFault, Slot, Verdict,
};
use parking_lot::Mutex;

/// The entries that wait, of all workers.
pub(crate) struct HandOver {
    acks: Acks,
    waiting: Mutex<HashMap<Key, Waiting>>,
}

struct Waiting {
    slot: Arc<Slot>,
    forward: Forward,
    generation: Generation,
    since_ns: u64,
}

/// Packets of a worker that have not left yet, of flows whose entries wait.
#[derive(Default)]
pub(crate) struct Leaving {
    /// What has to have left, and of which flow it is.
    packets: VecDeque<(u64, Arc<Slot>)>,
}

impl HandOver {
    pub(crate) fn new(acks: Acks) -> Self {
        Self { acks, waiting: Mutex::default() }
    }

    /// Inserts an entry that waits; one that does not if too many wait already.
    pub(crate) fn insert(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        forward: Forward,
        now_ns: u64,
    ) -> Result<Generation, InsertError> {
        let Some(slot) = self.acks.take() else {
            return cache.insert(key, &Verdict::Forward(forward));
        };
        let generation = cache.insert_waiting(key, forward, &slot)?;
        let waiting = Waiting { slot: Arc::new(slot), forward, generation, since_ns: now_ns };
        self.waiting.lock().insert(*key, waiting);
        Ok(generation)
    }

    /// What a packet of this key has to be noted at, when it has left.
    pub(crate) fn slot(&self, key: &Key) -> Option<Arc<Slot>> {
        self.waiting.lock().get(key).map(|waiting| Arc::clone(&waiting.slot))
    }

    /// Lets go of what waits no longer, and lets nothing wait for too long. Says whether anything
    /// still waits.
    pub(crate) fn tend(&self, cache: &Mutex<FlowCache>, now_ns: u64) -> Result<bool, MapFault> {
        let mut late = Vec::new();
        let mut waiting = self.waiting.lock();
        waiting.retain(|key, entry| {
            let is_late = now_ns.saturating_sub(entry.since_ns) > PATIENCE_NS;
            if is_late && !entry.slot.is_over() {
                late.push((*key, entry.generation, entry.forward));
            }
            !is_late && !entry.slot.is_over()
        });
        let any = !waiting.is_empty();
        drop(waiting);
        for (key, generation, forward) in late {
            // one that is gone meanwhile need not go over
            let changed = cache.lock().change(&key, generation, &Verdict::Forward(forward));
            if let Err(error) = changed {
                tracing::warn!(%error, "a flow stays in user space");
            }
        }
        Ok(any)
    }

    /// Forgets a flow whose entry is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.waiting.lock().remove(key);
    }
}

impl Leaving {
    /// A packet of the flow leaves with frame number `last`, or was dropped before.
    pub(crate) fn note(&mut self, last: u64, slot: Arc<Slot>) {
        self.packets.push_back((last, slot));
    }

    /// So many frames have left.
    pub(crate) fn left(&mut self, frames: u64) {
        while let Some((last, slot)) = self.packets.front()
            && *last <= frames
        {
            slot.add(1);
            self.packets.pop_front();
        }
    }

    /// Whether all have left.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// How long a flow may wait for a pause.
const PATIENCE_NS: u64 = 10_000_000;
