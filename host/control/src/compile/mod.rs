//! Walk `control` 2/4: source → **compile** → follow.
//!
//! From a world to what a node's filters are told of it.
//!
//! - [`Compiler`]: what a node was told last, and what changes with another world
//! - `services`: a Service's frontends, one rule of Kubernetes after the other
//! - `endpoints`: who is behind a port of a Service, and who of them counts on this node
//! - `sets`: numbers for sets of endpoints; `numbers`: for other things
//! - `policies`: who may talk to whom
//!
//! Everything is a function of the world, the node and the numbers that sets have already: the
//! same on every run. Nothing is in force before somebody has [adopted](Compiler::adopt) it.

mod endpoints;
mod numbers;
mod policies;
mod services;
mod sets;

use std::collections::{BTreeMap, BTreeSet};

use millrace_abi::{Tag, TagKind};
use millrace_tables::{Delta, Endpoint, Endpoints, Frontend, Range, Row, Service, Tables};

use crate::{QualifiedName, World};
use endpoints::Backing;
use policies::Facts;
pub use policies::{Local, PolicySummary, Rule};
use sets::Sets;

/// What a node was told last.
#[derive(Clone, Debug)]
pub struct Compiler {
    node: String,
    local: Local,
    told: Told,
    generation: u64,
}

/// What a node is to be told next.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its number.
    pub generation: u64,
    /// What changes.
    pub delta: Delta,
    /// What decisions depend on that may be others now.
    pub tags: Vec<Tag>,
    /// What is to be said of each Service.
    pub services: BTreeMap<QualifiedName, ServiceSummary>,
    /// What is to be said of each NetworkPolicy.
    pub policies: BTreeMap<QualifiedName, PolicySummary>,
    /// The rules of policies that decisions may name, by number.
    pub rules: BTreeMap<u32, Rule>,
    told: Told,
}

/// What has become of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Where it is reached.
    pub frontends: Vec<Frontend>,
    /// Where its connections go from this node.
    pub endpoints: Vec<Endpoint>,
    /// What of it does not count, and why.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    tables: Tables,
    sets: Sets,
    services: BTreeMap<Frontend, Service>,
    policies: Facts,
}

impl Compiler {
    /// Nothing has been told yet on this node.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), local: Local::default(), told: Told::default(), generation: 0 }
    }

    /// Takes note of what the node knows of itself, for worlds that are compiled from now on.
    pub fn note(&mut self, local: Local) {
        self.local = local;
    }

    /// What is to be told of a world.
    pub fn compile(&self, world: &World) -> Publication {
        let backing = Backing::new(world, &self.node);
        let mut sets = self.told.sets.next();
        let (mut tables, mut frontends) = (Tables::default(), BTreeMap::new());
        let mut summaries = BTreeMap::new();
        for service in world.services.services.values() {
            let mut compiled = services::compile(service, &backing, &mut sets);
            compiled.rows.retain(|(frontend, row)| match frontends.get(frontend) {
                Some(other) => {
                    let (_, owner): &(Service, &QualifiedName) = other;
                    let reason = format!("{frontend} is Service {owner}'s already");
                    compiled.summary.problems.push(reason);
                    false
                }
                None => {
                    frontends.insert(*frontend, (*row, &service.name));
                    true
                }
            });
            compiled.summary.frontends = compiled.rows.iter().map(|(it, _)| *it).collect();
            summaries.insert(service.name.clone(), compiled.summary);
        }

        let services: BTreeMap<Frontend, Service> =
            frontends.into_iter().map(|(frontend, (service, _))| (frontend, service)).collect();
        for (frontend, service) in &services {
            tables.put(&Row::Service(*frontend, *service));
        }
        for (endpoints, set) in sets.used(services.values()) {
            let octets = Endpoint::encode_all(&endpoints);
            let endpoints = Endpoints::new(&octets).expect("a set is sorted, and not empty");
            tables.put(&Row::Endpoints(set, endpoints));
        }
        for prefix in world.services.ranges.values().flat_map(|it| &it.prefixes) {
            let (address, len) = (prefix.network(), prefix.prefix());
            tables.put(&Row::Range(Range { address, len }));
        }
        let (policies, of_policies) = self.told.policies.next(world, &self.node, &self.local);
        policies.put(&mut tables);
        let mut tags = tags(&self.told.services, &services);
        tags.extend(self.told.policies.tags(&policies));
        Publication {
            generation: self.generation + 1,
            delta: self.told.tables.delta(&tables),
            tags,
            services: summaries,
            policies: of_policies,
            rules: policies.rules(),
            told: Told { tables, sets, services, policies },
        }
    }

    /// Takes note that all filters have been told.
    pub fn adopt(&mut self, publication: Publication) {
        self.generation = publication.generation;
        self.told = publication.told;
    }
}

/// The tags of Services whose rows differ.
fn tags(before: &BTreeMap<Frontend, Service>, after: &BTreeMap<Frontend, Service>) -> Vec<Tag> {
    let differ = |a: &BTreeMap<Frontend, Service>, b: &BTreeMap<Frontend, Service>| {
        let changed = a.iter().filter(|(frontend, row)| b.get(frontend) != Some(row));
        changed.map(|(_, row)| row.number).collect::<BTreeSet<u32>>()
    };
    let numbers = &differ(before, after) | &differ(after, before);
    numbers.into_iter().map(|number| Tag::new(TagKind::Service, number)).collect()
}

#[cfg(test)]
mod tests;
