//! What the filter was told: Services, the endpoints behind them, and reserved addresses.
//!
//! What does not fit together is refused: the host keeps what was before in force then.

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use millrace_filter::prelude::*;
use millrace_filter::tables::{
    Change, Endpoint, EndpointSet, Endpoints, Frontend, FrontendKind, Key, Range, Row, Service,
    SourceSet,
};

use crate::least::Least;
use crate::maglev::Maglev;
use crate::turns::Turns;

/// All that is known.
#[derive(Default)]
pub(crate) struct Known {
    services: Index<Frontend, Service>,
    groups: Index<EndpointSet, Group>,
    /// The cluster addresses of Services, each with its Service's number and how many frontends have
    /// it.
    addresses: Index<IpAddr, (u32, u32)>,
    ranges: Vec<Range>,
    reserved: PrefixMap<()>,
    /// By set.
    sources: Index<SourceSet, Vec<Prefix>>,
    /// Sets that Services name since the last commit.
    named: Vec<EndpointSet>,
}

/// Endpoints to choose from.
pub(crate) struct Group {
    endpoints: Box<[Endpoint]>,
    /// Those of the endpoints; empty if all are 1.
    weights: Box<[u16]>,
    maglev: Maglev,
}

/// The host says what is in it: its hash need not resist anybody.
type Index<K, V> = HashMap<K, V, FixedState>;

impl Known {
    /// Takes changes.
    pub(crate) fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        for change in update.changes() {
            match change? {
                Change::Reset(table) => self.clear(table),
                Change::Upsert(Row::Service(frontend, service)) => self.put(frontend, service),
                Change::Upsert(Row::Endpoints(set, endpoints)) => {
                    self.groups.insert(set, Group::new(endpoints)?);
                }
                Change::Upsert(Row::Range(range)) => {
                    self.ranges.retain(|other| *other != range);
                    self.ranges.push(range);
                    self.reserve()?;
                }
                Change::Upsert(Row::Source(source)) => {
                    self.sources.entry(source.set).or_default().push(prefix(&source.range)?);
                }
                Change::Remove(Key::Service(frontend)) => self.remove(&frontend),
                Change::Remove(Key::Endpoints(set)) => drop(self.groups.remove(&set)),
                Change::Remove(Key::Range(range)) => {
                    self.ranges.retain(|other| *other != range);
                    self.reserve()?;
                }
                // a set never changes: with one prefix go all
                Change::Remove(Key::Source(source)) => drop(self.sources.remove(&source.set)),
                Change::Commit(_) => self.check()?,
                // what it has not subscribed to it is not told
                Change::Upsert(_) | Change::Remove(_) => {}
            }
        }
        Ok(())
    }

    /// The Service behind a frontend.
    #[inline]
    pub(crate) fn service(&self, frontend: &Frontend) -> Option<&Service> {
        self.services.get(frontend)
    }

    /// The endpoints of a set; `None` if there are none.
    #[inline]
    pub(crate) fn group(&self, set: EndpointSet) -> Option<&Group> {
        self.groups.get(&set)
    }

    /// The number of the Service whose cluster address this is.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<u32> {
        self.addresses.get(&address).map(|(number, _)| *number)
    }

    /// Whether an address is one for Services.
    pub(crate) fn is_reserved(&self, address: IpAddr) -> bool {
        self.reserved.longest_match(address).is_some()
    }

    /// Whether connections to a Service may come from an address.
    pub(crate) fn allows(&self, set: SourceSet, source: IpAddr) -> bool {
        let prefixes = self.sources.get(&set).map(Vec::as_slice).unwrap_or_default();
        set == SourceSet::NONE || prefixes.iter().any(|prefix| prefix.contains(source))
    }

    fn put(&mut self, frontend: Frontend, service: Service) {
        self.remove(&frontend);
        self.named.extend([service.cluster, service.local]);
        if service.kind == FrontendKind::ClusterIp {
            let owner = self.addresses.entry(frontend.address).or_insert((service.number, 0));
            *owner = (service.number, owner.1 + 1);
        }
        self.services.insert(frontend, service);
    }

    fn remove(&mut self, frontend: &Frontend) {
        let Some(gone) = self.services.remove(frontend) else { return };
        if gone.kind != FrontendKind::ClusterIp {
            return;
        }
        if let Some((_, frontends)) = self.addresses.get_mut(&frontend.address) {
            *frontends -= 1;
            if *frontends == 0 {
                self.addresses.remove(&frontend.address);
            }
        }
    }

    fn clear(&mut self, table: Table) {
        match table {
            Table::Services => {
                self.services.clear();
                self.addresses.clear();
            }
            Table::Endpoints => self.groups.clear(),
            Table::Ranges => {
                self.ranges.clear();
                self.reserved = PrefixMap::new();
            }
            Table::Sources => self.sources.clear(),
            // what it has not subscribed to it is not told
            _ => {}
        }
    }

    fn reserve(&mut self) -> Result<(), Error> {
        let reserved = |range| Ok::<_, Error>((prefix(range)?, ()));
        self.reserved = self.ranges.iter().map(reserved).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Whether all sets are there that Services name.
    fn check(&mut self) -> Result<(), Error> {
        let missing =
            |set: &EndpointSet| *set != EndpointSet::NONE && !self.groups.contains_key(set);
        match std::mem::take(&mut self.named).iter().find(|set| missing(set)) {
            Some(EndpointSet(set)) => Err(Error::new(format!(
                "a Service names the set {set} of endpoints: there is none"
            ))),
            None => Ok(()),
        }
    }
}

fn prefix(range: &Range) -> Result<Prefix, Error> {
    Prefix::new(range.address, range.len).ok_or_else(|| Error::from("a range is no prefix"))
}

impl Group {
    fn new(endpoints: Endpoints<'_>) -> Result<Self, Error> {
        let has_others = endpoints.backends().any(|it| it.weight != 1);
        let weights = endpoints.backends().map(|it| it.weight).filter(|_| has_others);
        let weights: Box<[u16]> = weights.collect();
        let endpoints: Box<[Endpoint]> = endpoints.iter().collect();
        let maglev = Maglev::new(&endpoints, &weights)
            .ok_or_else(|| Error::new(format!("{} endpoints are too many", endpoints.len())))?;
        Ok(Self { endpoints, weights, maglev })
    }

    /// The endpoint whose turn it is.
    pub(crate) fn next(&self, turns: &mut Turns) -> Endpoint {
        self.endpoints[turns.next(self.endpoints.len(), &self.weights)]
    }

    /// The endpoint with the fewest connections; where several have, hashes say which.
    pub(crate) fn least(&self, least: &mut Least, slot: &Slot) -> Endpoint {
        let first = self.maglev.pick(slot.hash);
        self.endpoints[least.pick(slot, &self.endpoints, &self.weights, first)]
    }

    /// The endpoint of a connection with this hash.
    #[inline]
    pub(crate) fn pick(&self, hash: u32) -> Endpoint {
        self.endpoints[self.maglev.pick(hash)]
    }

    /// Whether this is one of the endpoints.
    pub(crate) fn has(&self, endpoint: Endpoint) -> bool {
        self.endpoints.binary_search(&endpoint).is_ok()
    }
}
