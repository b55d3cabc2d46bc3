//! Walk `control` 2/4: source → **compile** → follow.
//!
//! From a world to what a node's filters are told of it.
//!
//! - [`Compiler`]: what a node was told last, and what changes with another world
//! - `services`: a Service's frontends, one rule of Kubernetes after the other
//! - `host_ports`: ports of the node that lead to its pods
//! - `endpoints`: who is behind a port of a Service, and who of them counts on this node
//! - `sets`: numbers for sets of endpoints, and of whom may connect; `numbers`: for other things
//! - `policies`: who may talk to whom
//! - [`chain`](fn@chain): which filters a node's chain has beside the built-in ones
//! - [`announced`](fn@announced): for which addresses a node answers its neighbours
//!
//! Everything is a function of the world, the node and the numbers that sets have already: the
//! same on every run. Nothing is in force before somebody has [adopted](Compiler::adopt) it.

mod announced;
mod chain;
mod endpoints;
mod host_ports;
mod numbers;
mod policies;
mod services;
mod sets;

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use millrace_abi::{Tag, TagKind};
use millrace_tables::{
    Delta, Endpoint, EndpointSet, Endpoints, Frontend, Range, Row, Service, Source, SourceSet,
    Tables,
};

use crate::policy::PolicyName;
use crate::{Pod, QualifiedName, World};
pub use announced::announced;
pub use chain::{ChainPlan, PlannedFilter, PlannedModule, PlannedStage, chain};
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
    /// What is to be said of each policy.
    pub policies: BTreeMap<PolicyName, PolicySummary>,
    /// The rules of policies that decisions may name, by number.
    pub rules: BTreeMap<u32, Rule>,
    /// What else does not count, and why.
    pub complaints: Vec<String>,
    told: Told,
}

/// What has become of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Where it is reached.
    pub frontends: Vec<Frontend>,
    /// Where its connections go from this node.
    pub endpoints: Vec<Endpoint>,
    /// Those of them that are on this node.
    pub local: Vec<Endpoint>,
    /// What a load balancer may ask this node, if it is to.
    pub health_check: Option<HealthCheck>,
    /// What of it does not count, and why.
    pub problems: Vec<String>,
}

/// What a load balancer may ask a node about a Service (S18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port of the node's that it is asked at.
    pub port: u16,
    /// How many endpoints are there.
    pub local: usize,
}

#[derive(Clone, Debug, Default)]
struct Told {
    tables: Tables,
    sets: Numbered,
    services: BTreeMap<Frontend, Service>,
    policies: Facts,
}

/// What Services have in common with others, by number.
#[derive(Clone, Debug, Default)]
struct Numbered {
    endpoints: Sets<Endpoint>,
    sources: Sets<Range>,
}

impl Publication {
    /// Where Services and pods are reached that have an address, or a port of a node, for that.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> {
        self.told.services.keys().copied()
    }
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

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What is to be told of a world.
    pub fn compile(&self, world: &World) -> Publication {
        let backing = Backing::new(world, &self.node);
        // what is known of this world, the next one begins with
        let mut sets = self.told.sets.clone();
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

        let mut complaints = Vec::new();
        let mut pods: BTreeMap<Frontend, (Service, &Pod)> = BTreeMap::new();
        for (pod, frontend, row) in host_ports::rows(&backing, &mut sets) {
            let service = frontends.get(&frontend).map(|(_, owner)| format!("Service {owner}"));
            let other = || pods.get(&frontend).map(|(_, other)| format!("pod {}", other.name));
            match service.or_else(other) {
                Some(owner) => {
                    complaints.push(format!("pod {}: {frontend} is {owner}'s already", pod.name));
                }
                None => drop(pods.insert(frontend, (row, pod))),
            }
        }
        let pods = pods.into_iter().map(|(frontend, (row, _))| (frontend, row));

        let services: BTreeMap<Frontend, Service> =
            frontends.into_iter().map(|(frontend, (row, _))| (frontend, row)).chain(pods).collect();
        for (frontend, service) in &services {
            tables.put(&Row::Service(*frontend, *service));
        }
        let used = services.values().flat_map(|it| [it.cluster.0, it.local.0]).collect();
        for (endpoints, set) in sets.endpoints.used(&used) {
            let octets = Endpoint::encode_all(endpoints);
            let endpoints = Endpoints::new(&octets).expect("a set is sorted, and not empty");
            tables.put(&Row::Endpoints(EndpointSet(set), endpoints));
        }
        let used = services.values().map(|it| it.sources.0).collect();
        for (ranges, set) in sets.sources.used(&used) {
            let source = |range: &Range| Row::Source(Source { set: SourceSet(set), range: *range });
            ranges.iter().map(source).for_each(|row| tables.put(&row));
        }
        let pools = world.services.pools.values().flat_map(|it| &it.prefixes);
        for prefix in world.services.ranges.values().flat_map(|it| &it.prefixes).chain(pools) {
            tables.put(&Row::Range(range(prefix)));
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
            complaints,
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

fn range(prefix: &IpNetwork) -> Range {
    Range { address: prefix.network(), len: prefix.prefix() }
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
