//! Flows that go over to the kernel while packets of them are still here.
//!
//! The kernel's entry waits until all that were punted have left again: a worker says so when the
//! frames are back from the kernel. A flow that never pauses goes over by force after a while; one
//! that is silent may wait, since nothing of it can be overtaken but by a packet that comes.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use millrace_fastpath::{
    Acks, ChangeError, FlowCache, Forward, Generation, InsertError, Key, MapFault, Slot, Usage,
    Verdict,
};
use parking_lot::Mutex;

use super::silent::Silent;

/// The entries that wait, of all workers.
pub(crate) struct HandOver {
    acks: Acks,
    flows: Mutex<Flows>,
}

#[derive(Default)]
struct Flows {
    /// Those that packets come of, which are looked at again and again.
    busy: Map<Waiting>,
    /// Those that nothing came of since they were looked at. They go over with their next packet,
    /// or are busy again.
    silent: Silent,
    /// Those that stay with a worker until it releases them.
    kept: Map<Arc<Slot>>,
}

/// By key, hashed under secret seeds: every packet of a flow that waits is looked up.
type Map<V> = std::collections::HashMap<Key, V, foldhash::fast::RandomState>;

struct Waiting {
    slot: Arc<Slot>,
    /// Whether a packet came since it was looked at.
    came: bool,
    /// When packets of it were first seen to have come.
    since_ns: Option<u64>,
}

/// Packets of a worker that have not left yet, of flows whose entries wait.
#[derive(Default)]
pub(crate) struct Leaving {
    /// What has to have left, and of which flow it is.
    packets: VecDeque<(u64, Arc<Slot>)>,
}

impl HandOver {
    pub(crate) fn new(acks: Acks) -> Self {
        Self { acks, flows: Mutex::default() }
    }

    /// Inserts an entry that waits; one that does not if too many wait already. What is not inserted
    /// may be tried again, or is to be [given up](Self::give_up).
    pub(crate) fn insert(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        forward: Forward,
    ) -> Result<Generation, InsertError> {
        let kept = self.flows.lock().kept.remove(key);
        let Some(slot) = kept.or_else(|| self.acks.take().map(Arc::new)) else {
            return cache.insert(key, &Verdict::Forward(forward));
        };
        let inserted = cache.insert_waiting(key, forward, &slot);
        let mut flows = self.flows.lock();
        match &inserted {
            Ok(_) => drop(flows.busy.insert(*key, Waiting::of(slot))),
            // whoever tries again goes on with what was counted
            Err(_) => drop(flows.kept.insert(*key, slot)),
        }
        inserted
    }

    /// Inserts an entry that brings packets to a queue, until it is [changed](Self::change).
    pub(crate) fn keep(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        queue: u32,
    ) -> Result<Generation, InsertError> {
        let generation = cache.insert(key, &Verdict::Punt { queue })?;
        self.flows.lock().keep(&self.acks, key, None);
        Ok(generation)
    }

    /// Removes the entry of a flow whose packets a worker [keeps](Self::keep) from now on, and says
    /// what was seen of it. What was punted while it waited may still be here: it is counted on.
    pub(crate) fn take_back(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        generation: Generation,
    ) -> Result<Option<Usage>, MapFault> {
        // a packet that comes meanwhile is noted behind this
        let mut flows = self.flows.lock();
        let usage = cache.withdraw(key)?;
        flows.keep(&self.acks, key, Some(generation));
        Ok(usage)
    }

    /// Changes where an entry sends packets; one that waits goes on waiting, and one that brought
    /// them here waits until those have left that came. Says whether it was there, and still of
    /// this insertion.
    pub(crate) fn change(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        generation: Generation,
        forward: Forward,
    ) -> Result<bool, ChangeError> {
        match self.change_waiting(cache, key, generation, forward)? {
            Some(was_there) => Ok(was_there),
            None => cache.change(key, generation, &Verdict::Forward(forward)),
        }
    }

    /// [Changes](Self::change) where an entry sends packets if something is to be waited for; else
    /// nothing is changed, and nothing is said.
    pub(crate) fn change_waiting(
        &self,
        cache: &mut FlowCache,
        key: &Key,
        generation: Generation,
        forward: Forward,
    ) -> Result<Option<bool>, ChangeError> {
        let mut flows = self.flows.lock();
        let kept = flows.kept.remove(key);
        let slot = flows.waiting(&self.acks, key, Some(generation));
        let slot = slot.map(|waiting| Arc::clone(&waiting.slot));
        drop(flows);
        if let Some(slot) = kept {
            let changed = cache.change_waiting(key, generation, forward, &slot)?;
            if changed {
                self.flows.lock().busy.insert(*key, Waiting::of(slot));
            }
            return Ok(Some(changed));
        }
        let waits = |slot: &Arc<Slot>| !slot.is_over() && slot.generation() == generation;
        if let Some(slot) = slot.filter(waits) {
            let changed = cache.change_waiting(key, generation, forward, &slot)?;
            if !changed {
                self.flows.lock().busy.remove(key);
            }
            // if it went over meanwhile, it waits for nothing any more
            if !changed || !slot.is_over() {
                return Ok(Some(changed));
            }
        }
        Ok(None)
    }

    /// Goes on with an entry of a predecessor's that waits: packets of it may be on their way here.
    pub(crate) fn adopt(&self, key: &Key, slot: Slot) {
        self.flows.lock().busy.insert(*key, Waiting::new(slot));
    }

    /// Leaves all entries that wait to a successor.
    pub(crate) fn leave(&self) {
        // those that are silent are put away already
        let Flows { busy, .. } = std::mem::take(&mut *self.flows.lock());
        for waiting in busy.into_values() {
            // a packet that has not left would hold it; there is none when this is called
            if let Some(slot) = Arc::into_inner(waiting.slot) {
                let _ = slot.park();
            }
        }
    }

    /// What a packet of this key, which came just now, has to be noted at when it has left;
    /// `generation` is its entry's, if that is known.
    pub(crate) fn slot(&self, key: &Key, generation: Option<Generation>) -> Option<Arc<Slot>> {
        let mut flows = self.flows.lock();
        if let Some(slot) = flows.kept.get(key) {
            return Some(Arc::clone(slot));
        }
        let waiting = flows.waiting(&self.acks, key, generation)?;
        waiting.came = true;
        Some(Arc::clone(&waiting.slot))
    }

    /// Lets go of what waits no longer, and lets no flow wait for ever whose packets come and
    /// come. Says whether it has to look again soon.
    pub(crate) fn tend(&self, now_ns: u64) -> bool {
        let mut flows = self.flows.lock();
        let Flows { busy, silent, .. } = &mut *flows;
        busy.retain(|_, waiting| !waiting.slot.is_over());
        // what waits for packets to leave is not put away, and need not be looked at for that alone
        let goes_on = busy.values().any(|waiting| waiting.came);
        let is_silent = |waiting: &Waiting| !waiting.came && Arc::strong_count(&waiting.slot) == 1;
        for (_, waiting) in busy.extract_if(|_, waiting| is_silent(waiting)) {
            let slot = Arc::into_inner(waiting.slot).expect("nobody gets it without this lock");
            silent.put(slot.park());
        }
        for waiting in busy.values_mut().filter(|waiting| waiting.came) {
            waiting.came = false;
            if now_ns - *waiting.since_ns.get_or_insert(now_ns) >= PATIENCE_NS {
                waiting.slot.force();
            }
        }
        goes_on
    }

    /// Forgets what was counted of a flow that has no entry, nor gets one.
    pub(crate) fn give_up(&self, key: &Key) {
        self.flows.lock().kept.remove(key);
    }

    /// Forgets a flow whose entry is gone, or is to go; that has this generation, if there is one.
    pub(crate) fn forget(&self, key: &Key, generation: Option<Generation>) {
        let mut flows = self.flows.lock();
        flows.busy.remove(key);
        flows.kept.remove(key);
        if let Some(slot) = generation.and_then(|generation| flows.silent.take(generation)) {
            drop(self.acks.resume(slot));
        }
    }
}

impl Drop for HandOver {
    /// Gives all slots back.
    fn drop(&mut self) {
        for slot in self.flows.get_mut().silent.drain() {
            drop(self.acks.resume(slot));
        }
    }
}

impl Flows {
    /// Notes what leaves of a flow that stays with a worker. If an entry of this generation waited
    /// for its packets, it is noted where it was. Without a slot its packets may change places later.
    fn keep(&mut self, acks: &Acks, key: &Key, generation: Option<Generation>) {
        let waited = generation.and_then(|_| {
            self.waiting(acks, key, generation)?;
            self.busy.remove(key)
        });
        let known = self.kept.remove(key).or(waited.map(|waiting| waiting.slot));
        // what was counted until it went over counts no longer
        let slot = known.filter(|slot| !slot.is_over()).or_else(|| acks.take().map(Arc::new));
        if let Some(slot) = slot {
            slot.hold();
            self.kept.insert(*key, slot);
        }
    }

    /// The entry with this key and generation, if it waits; it is silent no longer.
    fn waiting(
        &mut self,
        acks: &Acks,
        key: &Key,
        generation: Option<Generation>,
    ) -> Option<&mut Waiting> {
        let Self { busy, silent, .. } = self;
        match busy.entry(*key) {
            Entry::Occupied(busy) => Some(busy.into_mut()),
            Entry::Vacant(vacant) => {
                let slot = acks.resume(silent.take(generation?)?);
                Some(vacant.insert(Waiting { came: false, ..Waiting::new(slot) }))
            }
        }
    }
}

impl Waiting {
    /// A packet has just come.
    fn new(slot: Slot) -> Self {
        Self::of(Arc::new(slot))
    }

    fn of(slot: Arc<Slot>) -> Self {
        Self { slot, came: true, since_ns: None }
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

/// For how long packets of a flow may come before it goes over by force. Not from its first packet
/// on: of a burst whose worker had to wait for its CPU nothing is seen to come meanwhile.
const PATIENCE_NS: u64 = 20_000_000;
