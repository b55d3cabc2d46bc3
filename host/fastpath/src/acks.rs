//! What user space says about the packets that it was given: that they have left again.
//!
//! A flow that goes over from user space to an entry must not have its packets change places. So
//! its entry waits, with a [`Slot`], and carries packets only when all that were punted have left.
//!
//! A reader must not break this: a slot is of one entry at a time. One that was given back says
//! nothing about an entry that still has its number, since it names another insertion.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::SlotMemory;
use crate::layout::RawSlot;
use crate::{Generation, Usage};

/// The slots of a cache; a copy gives out the same ones.
#[derive(Clone)]
pub struct Acks(Arc<Shared>);

/// Counts the packets of one direction of a flow that have left user space, for the entry that it
/// is [inserted](crate::FlowCache::insert_waiting) with. Given back when it is dropped: not before
/// the entry carries packets, or is removed, or it would wait for ever.
pub struct Slot {
    shared: Arc<Shared>,
    number: u32,
    bound: AtomicU32,
}

/// A slot that is put away, and not given back: [`Acks::resume`] goes on with it.
#[derive(Clone, Copy, Debug)]
#[must_use = "a slot that nobody goes on with stays in use"]
pub struct Parked {
    number: u32,
    bound: u32,
}

struct Shared {
    memory: SlotMemory,
    places: Mutex<Places>,
}

struct Places {
    free: Vec<u32>,
    /// In use when this was looked at last; free for the next one who looks.
    of_others: Vec<u32>,
}

impl Acks {
    pub(crate) fn new(memory: SlotMemory) -> Self {
        let places = Mutex::new(Places::of(&memory));
        Self(Arc::new(Shared { memory, places }))
    }

    /// Looks again which slots are in use. For a successor that has taken none yet, when its
    /// predecessor takes no more.
    pub fn look_again(&self) {
        *self.0.places() = Places::of(&self.0.memory);
    }

    /// The slot of a predecessor's with which an entry waits, if it does: who has it goes on
    /// counting.
    pub fn adopt(&self, entry: &Usage) -> Option<Slot> {
        let number = entry.waits_with;
        let raw = self.0.memory.slots().get(number as usize)?;
        let waits = number != 0
            && raw.generation.load(Acquire) == entry.generation.0
            && raw.over.load(Acquire) == 0;
        let mut places = self.0.places();
        let at = places.of_others.iter().position(|&other| waits && other == number)?;
        places.of_others.swap_remove(at);
        drop(places);
        let bound = AtomicU32::new(entry.generation.0);
        Some(Slot { shared: Arc::clone(&self.0), number, bound })
    }

    /// Forces all entries over that wait for what a predecessor was to send, and that nobody has
    /// adopted. For when it has ended; it may say itself what leaves until then.
    pub fn force_others(&self) {
        for number in &self.0.places().of_others {
            self.0.memory.slots()[*number as usize].force.store(1, Release);
        }
    }

    /// Goes on with a slot that was put away.
    pub fn resume(&self, Parked { number, bound }: Parked) -> Slot {
        Slot { shared: Arc::clone(&self.0), number, bound: AtomicU32::new(bound) }
    }

    /// A slot of which nothing has left yet, if there is one.
    pub fn take(&self) -> Option<Slot> {
        let number = self.0.places().free.pop()?;
        let slot = Slot { shared: Arc::clone(&self.0), number, bound: AtomicU32::new(0) };
        slot.raw().generation.store(0, Release);
        for word in [&slot.raw().left, &slot.raw().force, &slot.raw().over] {
            word.store(0, Relaxed);
        }
        Some(slot)
    }
}

impl Parked {
    /// The insertion that it is for.
    pub fn generation(&self) -> Generation {
        Generation(self.bound)
    }
}

impl Slot {
    /// The insertion that it is for; one without a number before there is any.
    pub fn generation(&self) -> Generation {
        Generation(self.bound.load(Relaxed))
    }

    /// So many packets of the flow have left: they were sent and have passed, or were dropped.
    ///
    /// All count that came with the entry's key, from the flow's first on, since it last had an
    /// entry that carries; but not a TCP SYN for which there was no entry, a fragment, or a packet
    /// with IP options or extension headers. May be called before the entry is inserted.
    pub fn add(&self, packets: u32) {
        self.raw().left.fetch_add(packets, Release);
    }

    /// The flow's next packet takes the entry, even if packets change places. For flows that never
    /// pause, and those of which packets were lost on the way to user space.
    pub fn force(&self) {
        self.raw().force.store(1, Release);
    }

    /// The flow's next packet does not take the entry by force any more.
    pub fn hold(&self) {
        self.raw().force.store(0, Release);
    }

    /// Whether the entry carries packets.
    pub fn is_over(&self) -> bool {
        self.raw().over.load(Acquire) != 0
    }

    /// Puts it away, or leaves it to a successor, which has adopted it or will: it is not given
    /// back.
    pub fn park(mut self) -> Parked {
        let number = std::mem::replace(&mut self.number, NONE);
        Parked { number, bound: self.bound.load(Relaxed) }
    }

    /// Makes it the slot of this insertion.
    pub(crate) fn bind(&self, generation: Generation) -> u32 {
        self.bound.store(generation.0, Relaxed);
        self.raw().generation.store(generation.0, Release);
        self.number
    }

    fn raw(&self) -> &RawSlot {
        &self.shared.memory.slots()[self.number as usize]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.number == NONE {
            return;
        }
        // a successor may have given it out again, once the entry carried packets
        let bound = self.bound.load(Relaxed);
        let _ = self.raw().generation.compare_exchange(bound, 0, Release, Relaxed);
        self.shared.places().free.push(self.number);
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn of(memory: &SlotMemory) -> Self {
        let last = u32::try_from(memory.slots().len()).expect("maps have less than 2^32 elements");
        let waits = |number: &u32| {
            let slot = &memory.slots()[*number as usize];
            slot.generation.load(Acquire) != 0 && slot.over.load(Acquire) == 0
        };
        let (of_others, free) = (NONE + 1..last).rev().partition(waits);
        Self { free, of_others }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Slot({}, {:?})", self.number, self.raw())
    }
}

/// The number of entries that do not wait.
const NONE: u32 = 0;
