//! Tells filters what the cluster is: what the manifests say, and what the node knows of itself.
//!
//! What a filter refuses is in force for none, and is tried again with the next change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_control::compile::{Compiler, Local, NodePortAddresses, Publication, Rule};
use millrace_control::policy::{PolicyMode, PolicyName, RefusedConnections};
use millrace_control::source::{Mark, News};
use millrace_control::{PodName, World};
use millrace_dataplane::control::{Dataplane, StageError};
use millrace_dataplane::stage::OnRefused;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::api::types::Resources;
use crate::node::announcer::Announcer;
use crate::node::filters::{ChainStanding, FilterStanding};
use crate::node::health::Standing;
use crate::node::reach::Reach;
use crate::node::refusals::{Matter, Refusals};

/// Who tells them. Those who attach pods and those who follow the manifests share it.
pub(crate) struct Publisher {
    compiler: Compiler,
    known: Arc<Mutex<Known>>,
    reach: Option<Reach>,
    /// The manifests that say what was heard last.
    mark: Option<Mark>,
    /// Told whenever something is heard.
    heard: Arc<Condvar>,
}

/// What has become of what was told.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Of Services, by `namespace/name`.
    pub(crate) services: BTreeMap<String, ServiceStatus>,
    /// Of NetworkPolicies likewise, and of ClusterNetworkPolicies, by `name`.
    pub(crate) policies: BTreeMap<String, PolicyStatus>,
    /// Of FilterChains, by name.
    pub(crate) chains: BTreeMap<String, ChainStanding>,
    /// Of Filters, likewise.
    pub(crate) filters: BTreeMap<String, FilterStanding>,
    /// What the rules of policies are called that decisions name.
    pub(crate) rules: BTreeMap<u32, String>,
    /// The manifests that are in force, if it is manifests that say what there is.
    pub(crate) manifests: Option<Mark>,
    /// What the kernel refuses.
    pub(crate) refusals: Refusals,
}

/// What has become of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    /// The generation of tables that it is in force with as it is now; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// Where it is reached: `10.96.0.10:80/TCP`.
    pub(crate) frontends: Vec<String>,
    /// Where its connections go from this node.
    pub(crate) endpoints: Vec<String>,
    /// Which of these are on it.
    pub(crate) local: Vec<String>,
    /// The port of the node that says whether there are any; absent if nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health_check_port: Option<u16>,
    /// What of it does not count, and why; or why it is not in force.
    pub(crate) problems: Vec<String>,
}

/// What has become of a NetworkPolicy, or of a ClusterNetworkPolicy, on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyStatus {
    /// The generation of tables since which it is in force for these pods; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// The pods of this node that it is for.
    pub(crate) pods: Vec<String>,
    /// Whether what it says counts.
    pub(crate) mode: PolicyMode,
    /// The names of domains that it is about, and the addresses that pods of this node have learnt they
    /// have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) domains: BTreeMap<String, Vec<LearntAddress>>,
    /// Why it is not in force.
    pub(crate) problems: Vec<String>,
}

/// An address that a name has, as a resolver has said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LearntAddress {
    /// The address.
    pub(crate) address: IpAddr,
    /// For how many seconds connections to it may yet be opened by that; with 0 those that there are
    /// go on, and that is all.
    pub(crate) ttl_seconds: u64,
}

impl Known {
    /// What has become of the objects that say which filters the chain has.
    pub(crate) fn resources(&self) -> Resources {
        Resources { filter_chains: self.chains.clone(), filters: self.filters.clone() }
    }
}

impl Publisher {
    /// For a node; nothing is known of the cluster yet.
    pub(crate) fn new(node: &str) -> Self {
        let compiler = Compiler::new(node);
        Self { compiler, known: Arc::default(), reach: None, mark: None, heard: Arc::default() }
    }

    /// Has others know where Services are reached.
    pub(crate) fn reach_by(&mut self, reach: Reach) {
        self.reach = Some(reach);
    }

    /// Has neighbours on another uplink be told, if others are told at all.
    pub(crate) fn announce_by(&mut self, announcer: Announcer) {
        if let Some(reach) = &mut self.reach {
            reach.announce_by(announcer);
        }
    }

    /// Has neighbours know what they are to be told by now.
    pub(crate) fn remind(&mut self, now: Instant) {
        if let Some(outcome) = self.reach.as_mut().and_then(|reach| reach.remind(now)) {
            self.known.lock().refusals.note(Matter::Neighbours, outcome);
        }
    }

    /// Has node ports be at these addresses.
    pub(crate) fn serve_node_ports(&mut self, at: NodePortAddresses) {
        self.compiler.serve_node_ports(at);
    }

    /// Has answers of these resolvers be believed, beside the cluster's own.
    pub(crate) fn trust_resolvers(&mut self, resolvers: Vec<IpAddr>) {
        self.compiler.trust_resolvers(resolvers);
    }

    /// What has become of what was told.
    pub(crate) fn known(&self) -> Arc<Mutex<Known>> {
        Arc::clone(&self.known)
    }

    /// Takes note of what there is to tell of the cluster, which the manifests with this mark say.
    pub(crate) fn hear(&mut self, news: News, mark: Option<Mark>) {
        self.compiler.hear(news);
        self.mark = mark;
        self.heard.notify_all();
    }

    /// Waits until a pod is known, for so long at most, and says whether it is: before that all policies of
    /// its namespace are for it, and it is nobody whom those of others let in (N14).
    pub(crate) fn await_pod(this: &Mutex<Self>, pod: &PodName, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut publisher = this.lock();
        let heard = Arc::clone(&publisher.heard);
        let mut is_late = false;
        while !is_late && !publisher.world().pods.contains_key(pod) {
            is_late = heard.wait_until(&mut publisher, deadline).timed_out();
        }
        publisher.world().pods.contains_key(pod)
    }

    /// The cluster as it is known.
    pub(crate) fn world(&self) -> &World {
        self.compiler.world()
    }

    /// Which ports of the node do not lead to an attachment that is to have them, and why.
    pub(crate) fn unmapped(&self, attachment: &str) -> Vec<String> {
        self.compiler.unmapped(attachment)
    }

    /// Takes note of what the node knows of itself.
    pub(crate) fn note(&mut self, local: Local) {
        self.compiler.note(local);
    }

    /// Tells those once more who have not taken what they were told, but for filters.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub(crate) fn catch_up(&mut self, plane: &Dataplane) -> Result<(), StageError> {
        match self.reach.as_ref().is_some_and(Reach::is_behind) {
            true => self.tell(plane),
            false => Ok(()),
        }
    }

    /// Tells filters what has changed.
    ///
    /// # Errors
    /// If one refuses it: all stays as it was then.
    pub(crate) fn tell(&mut self, plane: &Dataplane) -> Result<(), StageError> {
        let publication = self.compiler.compile();
        plane.refuse_by(publication.rules.iter().map(|(number, rule)| {
            (*number, rule.as_ref().and_then(Rule::on_refused).map(on_refused))
        }));
        let outcome = match publication.delta.is_empty() {
            true => Ok(()),
            false => plane.publish(&publication.delta, publication.generation, &publication.tags),
        };
        self.known.lock().take(publication, outcome.as_ref().err());
        if let Some(reach) = &mut self.reach {
            let standing = if outcome.is_ok() { Standing::Current } else { Standing::Behind };
            let outcomes = reach.follow(plane, &self.compiler, standing);
            let mut known = self.known.lock();
            outcomes.into_iter().for_each(|(matter, it)| known.refusals.note(matter, it));
        }
        if outcome.is_ok() {
            let publication = self.compiler.publication();
            if !publication.delta.is_empty() {
                tracing::info!(generation = publication.generation, "filters know the cluster");
            }
            self.compiler.adopt();
            // others look for it to know that all of this is over
            self.known.lock().manifests.clone_from(&self.mark);
        }
        outcome
    }
}

impl Known {
    /// Takes note of what has become of a publication, which filters have taken or refused.
    fn take(&mut self, publication: &Publication, error: Option<&StageError>) {
        let since = |before: Option<Option<u64>>| match (error, before) {
            (Some(_), _) => None,
            // who is as before is in force since then
            (None, Some(Some(generation))) => Some(generation),
            (None, _) => Some(publication.generation),
        };
        let refused = error.map(ToString::to_string);
        for (name, summary) in &publication.services {
            let name = name.to_string();
            let before = self.services.remove(&name);
            let Some(summary) = summary else { continue };
            let mut status = ServiceStatus {
                generation: None,
                frontends: summary.frontends.iter().map(ToString::to_string).collect(),
                endpoints: summary.endpoints.iter().map(ToString::to_string).collect(),
                local: summary.local.iter().map(ToString::to_string).collect(),
                health_check_port: summary.health_check.map(|it| it.port),
                problems: summary.problems.clone(),
            };
            let alike = before.filter(|it| it.is_like(&status));
            status.generation = since(alike.map(|it| it.generation));
            status.problems.extend(refused.clone());
            self.services.insert(name, status);
        }
        for (name, summary) in &publication.policies {
            let name = match name {
                PolicyName::Namespaced(name) => name.to_string(),
                PolicyName::Cluster(name) => name.clone(),
            };
            let before = self.policies.remove(&name);
            let Some(summary) = summary else { continue };
            let pods = summary.pods.iter().map(ToString::to_string).collect();
            let mode = summary.mode;
            let alike = before.filter(|it| it.pods == pods && it.mode == mode);
            let generation = since(alike.map(|it| it.generation));
            let domains = summary.domains.iter().map(|it| (it.to_string(), Vec::new())).collect();
            let problems = refused.clone().into_iter().collect();
            let status = PolicyStatus { generation, pods, mode, domains, problems };
            self.policies.insert(name, status);
        }
        // decisions in force name those that were told
        if error.is_none() {
            for (number, rule) in &publication.rules {
                match rule {
                    Some(rule) => drop(self.rules.insert(*number, rule.to_string())),
                    None => drop(self.rules.remove(number)),
                }
            }
        }
    }
}

/// What a policy's annotation means to the dataplane.
fn on_refused(connections: RefusedConnections) -> OnRefused {
    match connections {
        RefusedConnections::Keep => OnRefused::Keep,
        RefusedConnections::Drop => OnRefused::Drop,
        RefusedConnections::Reset => OnRefused::Reset,
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl ServiceStatus {
    fn is_like(&self, other: &Self) -> bool {
        self.generation.is_some() && *self == Self { generation: self.generation, ..other.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use millrace_control::Pod;

    use super::*;

    #[test]
    fn n14_a_pod_is_waited_for_until_the_cluster_has_told_of_it() {
        let publisher = Mutex::new(Publisher::new("here"));
        let name = PodName::new("shop", "web");
        let known =
            |patience| Publisher::await_pod(&publisher, &name, Duration::from_secs(patience));
        assert!(!known(0), "nobody has told of it");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| known(60));
            // of something else first
            publisher.lock().hear(News::World(Box::default()), None);
            let pod = Pod {
                name: name.clone(),
                labels: <_>::default(),
                node: Some("here".to_owned()),
                network: <_>::default(),
                bandwidth: <_>::default(),
                weight: <_>::default(),
                containers: Vec::new(),
                status: <_>::default(),
            };
            let pods = [(name.clone(), pod)].into();
            let world = World { pods, ..World::default() };
            publisher.lock().hear(News::World(Box::new(world)), None);
            assert!(waiter.join().expect("it ends"));
        });
        assert!(known(0));
    }
}
