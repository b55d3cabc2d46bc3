//! From NetworkPolicies and ClusterNetworkPolicies to what a node's filter is told of them.
//!
//! - `people`: who is like whom, and whose addresses are; `chosen`: which policies are for a pod
//! - `clauses`: what policies say; `registry`: numbers of what they say it with
//! - `turn`: what changes, step by step
//!
//! Sets of policies, selectors, blocks and identities have numbers that stay the same for as long
//! as they are used, so that a change is told as what it is. Connections depend on the set that
//! judges them and on the addresses of their ends: tags say for which of these something else may
//! hold now (N13, N15).

mod chosen;
mod clauses;
mod people;
mod registry;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use millrace_tables::{Clause, Draft, Otherwise, PolicySet};

use super::{Mapped, Publication};
use crate::changes::Changes;
use crate::policy::{DomainName, PolicyDirection, PolicyMode, PolicyName, RefusedConnections};
use crate::{PodName, QualifiedName, World};
use people::{Member, People};
use registry::{Registry, Uses};
use turn::Turn;

/// What a node knows of itself, whatever the manifests say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The pods that are attached to it, with their addresses.
    pub pods: BTreeMap<PodName, Vec<IpAddr>>,
    /// Addresses of containers that are no pods, as far as anybody says: no policy is for them.
    pub nameless: Vec<IpAddr>,
    /// Its own addresses, that of its gateway included.
    pub addresses: Vec<IpAddr>,
    /// Of what is attached to it, what has ports of the node because its runtime wants them.
    pub mapped: BTreeMap<String, Mapped>,
}

/// A rule that decides about connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One of a policy.
    Of {
        /// The policy.
        policy: PolicyName,
        /// Which of its rules,
        direction: PolicyDirection,
        /// counted from 0.
        index: usize,
        /// What its author calls it.
        name: Option<String>,
        /// What becomes of live connections if it denies, as far as the policy says.
        on_refused: Option<RefusedConnections>,
    },
    /// That none of these NetworkPolicies' rules allows.
    Denies {
        /// What the policies are asked about.
        direction: PolicyDirection,
        /// The policies that are for the pod.
        policies: Vec<QualifiedName>,
        /// What becomes of live connections, as far as they say.
        on_refused: Option<RefusedConnections>,
    },
    /// That it is not known yet which policies are for a pod.
    Unknown {
        /// The pod.
        pod: PodName,
        /// What is denied to it.
        direction: PolicyDirection,
    },
    /// One that would deny if audited policies counted.
    WouldDeny(Box<Rule>),
}

/// What has become of a policy on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// The pods of the node that it is for.
    pub pods: Vec<PodName>,
    /// Whether what it says counts.
    pub mode: PolicyMode,
    /// The names of domains that it is about.
    pub domains: BTreeSet<DomainName>,
}

/// What was told of policies, and what it was made of.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    registry: Registry,
    people: People,
    /// This node.
    node: Member,
    local: Local,
    /// The pods of this node.
    judged: BTreeMap<PodName, Judged>,
    sets: BTreeMap<PolicySet, Set>,
    /// The pods of this node that policies are for.
    pods: BTreeMap<PolicyName, BTreeSet<PodName>>,
}

/// By whom a pod is judged.
#[derive(Clone, Debug)]
struct Judged {
    /// Who may open connections to it, and what it may open.
    sets: [PolicySet; 2],
    /// The sets that these ask about what goes on.
    audits: [PolicySet; 2],
    policies: BTreeSet<PolicyName>,
    /// Whether that depends on what other pods call their ports.
    asks_for_names: bool,
}

/// What a set of policies says.
#[derive(Clone, Debug)]
struct Set {
    otherwise: Otherwise,
    audit: PolicySet,
    clauses: Vec<Clause>,
    uses: Uses,
}

impl Facts {
    /// Follows changes of a world.
    pub(super) fn follow(
        &mut self,
        world: &World,
        node: &str,
        local: &Local,
        changes: &Changes,
        draft: &mut Draft,
        publication: &mut Publication,
    ) {
        Turn::new(self, world).take(node, local, changes, draft, publication);
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            registry: Registry::default(),
            people: People::default(),
            node: Member::Node(String::new()),
            local: Local::default(),
            judged: BTreeMap::new(),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }
}

impl Default for Judged {
    fn default() -> Self {
        let policies = BTreeSet::new();
        let none = [PolicySet::NONE; 2];
        Self { sets: none, audits: none, policies, asks_for_names: false }
    }
}

impl Rule {
    /// What becomes of live connections that it refuses, as far as its policies say.
    pub fn on_refused(&self) -> Option<RefusedConnections> {
        match self {
            Self::Of { on_refused, .. } | Self::Denies { on_refused, .. } => *on_refused,
            Self::Unknown { .. } | Self::WouldDeny(_) => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of { policy, direction, index, name, .. } => {
                write!(f, "{policy}, spec.{direction}[{index}]")?;
                name.as_ref().map_or(Ok(()), |name| write!(f, " `{name}`"))
            }
            Self::Denies { direction, policies, .. } => {
                let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
                write!(f, "no {direction} rule of NetworkPolicy {}", names.join(", "))
            }
            Self::Unknown { pod, direction } => {
                write!(f, "no {direction} before the labels of pod {pod} are known")
            }
            Self::WouldDeny(rule) => write!(f, "audit alone: {rule} would deny it"),
        }
    }
}

#[cfg(test)]
mod tests;
