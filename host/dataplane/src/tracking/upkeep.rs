//! What is done about connections when no packet comes: those that the kernel saw end, and those
//! that are silent for too long; and how some leave the kernel that have to make room there.

use std::sync::Arc;
use std::time::Duration;

use millrace_fastpath::{Capacity, FlowCache, Generation, MapFault};
use millrace_sandbox::maps::HostMap;
use parking_lot::Mutex;

use super::{Charge, HandOver, Succession, echo, kernel};
use crate::connections::{ConnectionId, Connections, Cursor, Direction, Due, Retirement, Zone};

/// Keeps connections and what the kernel has of them in step.
pub(crate) struct Upkeep {
    pub(super) connections: Arc<Connections>,
    pub(super) cache: Arc<Mutex<FlowCache>>,
    pub(super) hand_over: Arc<HandOver>,
    pub(super) succession: Option<Arc<Succession>>,
    /// Entries of each family that the kernel has room for.
    capacity: Capacity,
    /// Where the connections that there were before somebody asked are counted from on; nothing
    /// once all are.
    uncounted: Mutex<Option<Cursor>>,
}

impl Upkeep {
    pub(crate) fn new(
        connections: Arc<Connections>,
        cache: Arc<Mutex<FlowCache>>,
        hand_over: Arc<HandOver>,
        succession: Option<Arc<Succession>>,
    ) -> Result<Self, MapFault> {
        let capacity = cache.lock().capacity()?;
        let uncounted = Mutex::new(Some(Cursor::default()));
        Ok(Self { connections, cache, hand_over, succession, capacity, uncounted })
    }

    /// Does what is to be done now, and says how soon there is more.
    pub(crate) fn round(&self, now_ns: u64) -> Result<Duration, MapFault> {
        let charge = self.charge();
        let heard = match charge {
            Charge::Waiting | Charge::Gone => return Ok(LATER),
            Charge::Own => self.hear(now_ns),
            Charge::Leaving => 0,
        };
        let waits = self.hand_over.tend(now_ns);
        if charge == Charge::Leaving {
            return Ok(SOON);
        }
        loop {
            let due = self.connections.due(now_ns, AT_ONCE);
            for due in &due {
                if due.over || !self.goes_on(due, now_ns)? {
                    self.settle(due, now_ns)?;
                }
            }
            if due.len() < AT_ONCE {
                return Ok(if waits || heard > MANY { SOON } else { LATER });
            }
        }
    }

    /// Has connections counted by endpoint, if somebody has asked how many there are.
    pub(crate) fn count(&self, loads: &Arc<HostMap>) {
        let mut uncounted = self.uncounted.lock();
        while let Some(from) = uncounted.filter(|_| loads.is_read()) {
            *uncounted = self.connections.count(loads, from, AT_ONCE);
        }
    }

    /// Lets go all that leads to a port or comes from it.
    pub(crate) fn forget_port(&self, number: u16, now_ns: u64) -> Result<(), MapFault> {
        let gone = self.connections.remove_port(number, now_ns);
        gone.iter().try_for_each(|due| self.settle(due, now_ns))?;
        self.connections.forget_counts(Zone::port(number));
        Ok(())
    }

    /// Learns which connections begin to close, and says how many times it was told. What found no
    /// room to be told is learned from the entries when they are due.
    fn hear(&self, now_ns: u64) -> usize {
        let mut heard = 0;
        loop {
            // never all while the cache is locked: workers wait for that
            let Some(event) = self.cache.lock().next_event() else { return heard };
            heard += 1;
            let how = kernel::connections_closing(event.closing);
            if let Some(generation) = kernel::generation(event.generation) {
                let key = kernel::connections_key(&event.key);
                self.connections.closing(&key, generation, how, now_ns);
            }
        }
    }

    /// Has others leave the kernel, so that it can carry one more direction of a connection; whether
    /// any did. For when the cache is not locked.
    pub(super) fn make_room_for(&self, id: ConnectionId) -> bool {
        // who is not in charge takes no entries away
        let outcome = match self.charge() {
            Charge::Own => self.try_make_room_for(id),
            _ => return false,
        };
        outcome.unwrap_or_else(|error| {
            tracing::error!(%error, "the kernel makes no room in its flow cache");
            false
        })
    }

    fn try_make_room_for(&self, id: ConnectionId) -> Result<bool, MapFault> {
        let now_ns = kernel::nanos(FlowCache::now());
        // what is over makes room first
        self.hear(now_ns);
        let mut leaving = self.connections.crowd_out(id, self.capacity.0, now_ns);
        if leaving.is_empty() {
            // the kernel may have carried answers that nobody has heard of
            for due in self.connections.replaceable_by(id, now_ns) {
                let stays = !due.over && self.goes_on(&due, now_ns)?;
                if !(stays && self.connections.is_settled(due.id)) {
                    leaving.push(due);
                }
            }
        }
        for due in &leaving {
            self.connections.crowded_out(due.id);
            self.settle(due, now_ns)?;
        }
        Ok(!leaving.is_empty())
    }

    fn charge(&self) -> Charge {
        self.succession.as_ref().map_or(Charge::Own, |it| it.charge())
    }

    /// Whether the kernel still carries packets of a connection that has been silent for too long
    /// as far as user space knows. Its entries stay then: no packet has to come here for that.
    fn goes_on(&self, due: &Due, now_ns: u64) -> Result<bool, MapFault> {
        for key in &due.keys {
            let Some(entry) = kernel::key(key) else { continue };
            if let Some(usage) = self.cache.lock().usage(&entry)?
                && let Some(generation) = kernel::generation(usage.generation)
            {
                self.connections.observe(key, generation, &kernel::connections_usage(&usage));
            }
        }
        Ok(self.connections.renew(due.id, now_ns))
    }

    /// Takes a connection back from the kernel and lets it go, unless it goes on without.
    pub(super) fn settle(&self, due: &Due, now_ns: u64) -> Result<(), MapFault> {
        echo::forget(&self.cache, &due.keys)?;
        for (key, generation) in due.keys.iter().zip(due.generations) {
            let Some(entry) = kernel::key(key) else { continue };
            self.hand_over.forget(&entry, generation.map(Generation::from));
            let usage = self.cache.lock().retire(&entry)?;
            if let Some(usage) = usage
                && let Some(generation) = kernel::generation(usage.generation)
            {
                self.connections.absorb(key, generation, &kernel::connections_usage(&usage));
            }
        }
        if !self.connections.outlasts(due.id, now_ns) {
            retire(&self.connections, self.succession.as_deref(), due, now_ns);
        }
        Ok(())
    }
}

/// Lets a connection go that has nothing in the kernel any more, unless it lives.
pub(super) fn retire(
    connections: &Connections,
    succession: Option<&Succession>,
    due: &Due,
    now_ns: u64,
) {
    // before its key may be that of another one
    if let Some(succession) = succession {
        succession.drop_kept(&due.keys[Direction::Original as usize]);
    }
    if let Retirement::StillAlive = connections.retire(due.id, now_ns)
        && let Some(succession) = succession
    {
        succession.keep(due.id);
    }
}

/// How soon there is something to be done while flows wait for their turn.
const SOON: Duration = Duration::from_millis(10);
/// How soon otherwise.
const LATER: Duration = Duration::from_millis(100);
/// Ends of connections that are heard of in a round, if more are to be heard of soon: the kernel has
/// room for some 4,600.
const MANY: usize = 400;
/// Connections that are looked at together.
const AT_ONCE: usize = 1024;
