//! Numbers for sets of endpoints: the same endpoints have the same number for as long as somebody
//! uses them, and other endpoints have another.

use std::collections::{BTreeMap, BTreeSet};

use millrace_tables::{Endpoint, EndpointSet, Service};

/// The sets that there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    numbers: BTreeMap<Vec<Endpoint>, EndpointSet>,
    /// The number given out last.
    last: u32,
}

impl Sets {
    /// What the next world begins with: all that is known from this one.
    pub(super) fn next(&self) -> Self {
        self.clone()
    }

    /// The number of these endpoints, which are sorted, and each is there once.
    pub(super) fn number(&mut self, endpoints: Vec<Endpoint>) -> EndpointSet {
        if endpoints.is_empty() {
            return EndpointSet::NONE;
        }
        if let Some(set) = self.numbers.get(&endpoints) {
            return *set;
        }
        self.last += 1;
        let set = EndpointSet(self.last);
        self.numbers.insert(endpoints, set);
        set
    }

    /// The sets of these Services; others are forgotten.
    pub(super) fn used<'s>(
        &mut self,
        services: impl Iterator<Item = &'s Service>,
    ) -> Vec<(Vec<Endpoint>, EndpointSet)> {
        let used: BTreeSet<EndpointSet> = services.flat_map(|it| [it.cluster, it.local]).collect();
        self.numbers.retain(|_, set| used.contains(set));
        self.numbers.iter().map(|(endpoints, set)| (endpoints.clone(), *set)).collect()
    }
}
