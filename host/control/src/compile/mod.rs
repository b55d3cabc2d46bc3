//! Walk `control` 2/4: source → **compile** → follow.
//!
//! From a world to what a node's filters are told of it.
//!
//! - [`Compiler`]: what a node knows, what it was told last, and what changes
//! - `frontends`: what each Service and pod has become; compiled anew is what a change concerns,
//!   which `index` and `nodes` know
//! - `services`: a Service's frontends, one rule of Kubernetes after the other
//! - `gateways`: where Gateways are reached, and who is behind their routes, in which `proportion`
//! - `host_ports`: ports of the node that lead to its pods
//! - [`NodePortAddresses`]: which addresses of the node have node ports
//! - `stand_ins`: where the node's own processes reach such ports
//! - `endpoints`: who is behind a port of a Service, and who of them counts on this node
//! - `numbers`: for sets of endpoints, and for other things that are told of by number
//! - `policies`: who may talk to whom; `resolvers`: who says which addresses names have
//! - [`chain`](fn@chain): which filters a node's chain has beside the built-in ones
//! - `announced`: for which addresses a node answers its neighbours
//!
//! A change says what the same world would say as a whole, but for numbers of sets.

mod announced;
mod chain;
mod endpoints;
mod frontends;
mod gateways;
mod host_ports;
mod index;
mod node_ports;
mod nodes;
mod numbers;
mod policies;
mod proportion;
mod resolvers;
mod services;
mod stand_ins;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use millrace_abi::Tag;
use millrace_tables::{Delta, Draft, Endpoint, Frontend, Range};

use crate::changes::Changes;
use crate::policy::PolicyName;
use crate::source::News;
use crate::{QualifiedName, World};
pub use chain::{ChainPlan, PlannedFilter, PlannedModule, PlannedStage, chain};
use frontends::Frontends;
pub use host_ports::Mapped;
pub use node_ports::NodePortAddresses;
use policies::Facts;
pub use policies::{Local, PolicySummary, Rule};
use resolvers::Resolvers;

/// What a node knows, and what was made of it.
#[derive(Clone, Debug)]
pub struct Compiler {
    node: String,
    world: World,
    local: Local,
    node_ports: NodePortAddresses,
    /// What of the world was not compiled yet.
    changes: Changes,
    /// Whether the node knows other things of itself than was compiled.
    has_noted: bool,
    frontends: Frontends,
    policies: Facts,
    resolvers: Resolvers,
    draft: Draft,
    /// That of what was told last.
    generation: u64,
    publication: Publication,
}

/// What a node is to be told next: what others know that were told of all before it, and what is to
/// be said of objects that have changed since.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Its number.
    pub generation: u64,
    /// What changes.
    pub delta: Delta,
    /// What decisions depend on that may be others now.
    pub tags: Vec<Tag>,
    /// What is to be said of Services; nothing of those that are gone.
    pub services: BTreeMap<QualifiedName, Option<ServiceSummary>>,
    /// What is to be said of policies, likewise.
    pub policies: BTreeMap<PolicyName, Option<PolicySummary>>,
    /// The rules of policies that decisions may name, by number, likewise.
    pub rules: BTreeMap<u32, Option<Rule>>,
    /// What else does not count, and why: all of it.
    pub complaints: Vec<String>,
    /// Where Services and pods are reached now, and were not.
    pub places: BTreeSet<Frontend>,
    /// Where they are not reached any more.
    pub gone: BTreeSet<Frontend>,
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

impl Publication {
    /// Takes note that a place leads somewhere, or does not any more.
    fn place(&mut self, frontend: Frontend, led: bool, leads: bool) {
        match (led, leads) {
            (false, true) => {
                self.gone.remove(&frontend);
                self.places.insert(frontend);
            }
            (true, false) => {
                self.places.remove(&frontend);
                self.gone.insert(frontend);
            }
            _ => {}
        }
    }
}

impl Compiler {
    /// Nothing is known yet on this node.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            world: World::default(),
            local: Local::default(),
            node_ports: NodePortAddresses::default(),
            changes: Changes::default(),
            has_noted: true,
            frontends: Frontends::default(),
            policies: Facts::default(),
            resolvers: Resolvers::default(),
            draft: Draft::default(),
            generation: 0,
            publication: Publication::default(),
        }
    }

    /// Takes note of what a source has to tell.
    pub fn hear(&mut self, news: News) {
        news.make(&mut self.world, &mut self.changes);
    }

    /// Takes note of a world, in place of the one before.
    pub fn learn(&mut self, world: World) {
        self.hear(News::World(Box::new(world)));
    }

    /// Takes note of what the node knows of itself.
    pub fn note(&mut self, local: Local) {
        self.has_noted |= local != self.local;
        self.local = local;
    }

    /// Has node ports be at these addresses of the node.
    pub fn serve_node_ports(&mut self, at: NodePortAddresses) {
        self.node_ports = at;
    }

    /// Has answers of these resolvers be believed, beside those of the cluster's own: to be said
    /// before anything is compiled.
    pub fn trust_resolvers(&mut self, stated: impl IntoIterator<Item = IpAddr>) {
        self.resolvers.stated.extend(stated);
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The world as it is known.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What is to be told now: everything that was not [adopted](Self::adopt) yet.
    pub fn compile(&mut self) -> &Publication {
        let changes = std::mem::take(&mut self.changes);
        let Self { node, world, local, node_ports, draft, publication, .. } = self;
        let this = ThisNode { name: node, ports: node_ports };
        self.frontends.follow(world, this, &local.mapped, &changes, draft, publication);
        if std::mem::take(&mut self.has_noted) || changes.concern_policies() {
            self.policies.follow(world, node, local, &changes, draft, publication);
        }
        self.resolvers.follow(world, draft, publication);
        publication.generation = self.generation + 1;
        publication.delta = draft.delta();
        publication
    }

    /// What was compiled last.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Where Services and pods are reached that have an address, or a port of a node, for that.
    pub fn places(&self) -> impl Iterator<Item = Frontend> {
        self.frontends.places()
    }

    /// What of the ports of the node that the runtime of a container wants does not lead there, and why.
    pub fn unmapped(&self, container: &str) -> Vec<String> {
        self.frontends.unmapped(container)
    }

    /// The addresses of load balancers that the node answers its neighbours for.
    pub fn announced(&self) -> BTreeSet<IpAddr> {
        self.frontends.announced()
    }

    /// By the node's own addresses, what stands in for each when the node's own processes send there:
    /// [places](Self::places) have it.
    pub fn stand_ins(&self) -> BTreeMap<IpAddr, IpAddr> {
        let node = self.world.nodes.get(&self.node);
        let stated = node.map_or(&[][..], |node| &node.addresses);
        stand_ins::stand_ins(stated, &self.node_ports)
    }

    /// Takes note that all have been told what was compiled last.
    pub fn adopt(&mut self) {
        let told = std::mem::take(&mut self.publication);
        if !told.delta.is_empty() {
            self.generation = told.generation;
        }
        self.draft.adopt();
    }
}

/// The node that all is compiled for.
#[derive(Clone, Copy)]
struct ThisNode<'n> {
    name: &'n str,
    ports: &'n NodePortAddresses,
}

fn range(prefix: &IpNetwork) -> Range {
    Range { address: prefix.network(), len: prefix.prefix() }
}

#[cfg(test)]
mod incremental;
#[cfg(test)]
mod mapped;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod tests;
