//! Least connections: whoever would have the fewest live connections for its weight, counted by the
//! host over the whole node.
//!
//! The host counts a connection once it is open, which is behind the call that asks about it: those
//! that were given away in one call are counted here, until the next.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use millrace_filter::Served;
use millrace_filter::prelude::*;
use millrace_filter::tables::Endpoint;

/// How many connections endpoints have.
pub(crate) struct Least {
    open: Map<Served, u64>,
    /// Those asked about at the moment.
    asked: Entries<Served, u64>,
    /// What was given away in the call that came at `now_ns`.
    given: HashMap<Served, u64, FixedState>,
    now_ns: u64,
}

impl Least {
    /// Opens the host's map of connections.
    pub(crate) fn open(setup: &mut Setup) -> Result<Self, Error> {
        Ok(Self {
            open: setup.map(MAP, MapOptions::connections())?,
            asked: Entries::new(),
            given: HashMap::default(),
            now_ns: 0,
        })
    }

    /// The index of the endpoint that the slot's connection gets. Of many endpoints some are looked
    /// at, from the one with the index `first` on; of those that are alike the first gets it. All
    /// weights are 1 if there is none.
    pub(crate) fn pick(
        &mut self,
        slot: &Slot,
        endpoints: &[Endpoint],
        weights: &[u16],
        first: usize,
    ) -> usize {
        if self.now_ns != slot.now_ns {
            self.now_ns = slot.now_ns;
            self.given.clear();
        }
        let count = endpoints.len().min(CANDIDATES);
        let candidate = |nth: usize| (first + nth) % endpoints.len();
        let served =
            |at: usize| Served::new(endpoints[at].address, endpoints[at].port, slot.protocol);
        self.asked.clear();
        (0..count).for_each(|nth| self.asked.ask(&served(candidate(nth))));
        self.open.read(&mut self.asked);
        // with this connection, and as a fraction: connections by weight
        let load = |nth: usize| {
            let at = candidate(nth);
            let given = self.given.get(&served(at)).copied().unwrap_or(0);
            let connections = self.asked.get(nth).unwrap_or(0).saturating_add(given);
            (connections.saturating_add(1), weights.get(at).map_or(1, |weight| u64::from(*weight)))
        };
        let mut least = (0, load(0));
        for nth in 1..count {
            let (connections, weight) = load(nth);
            if connections.saturating_mul(least.1.1) < least.1.0.saturating_mul(weight) {
                least = (nth, (connections, weight));
            }
        }
        let at = candidate(least.0);
        if slot.is_new() {
            *self.given.entry(served(at)).or_default() += 1;
        }
        at
    }
}

/// The map's name.
pub(crate) const MAP: &str = "connections";
/// Endpoints that are looked at for a connection: the fewest of so many are nearly the fewest of
/// all, and cost as much however many there are.
const CANDIDATES: usize = 32;
