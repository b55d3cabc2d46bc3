//! NetworkPolicies as plain data: the part of the world that says who may talk to whom.
//!
//! - `cluster`: [`ClusterNetworkPolicy`], which comes before them or after them

mod cluster;

use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Labels, Protocol, QualifiedName};

pub use cluster::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPort, ClusterRule, ClusterTier,
    ClusterTraffic, DomainName, PodSelector,
};

/// A NetworkPolicy. What it allows adds to what others do (N2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// What tells it from others.
    pub name: QualifiedName,
    /// The pods of its namespace that it is for.
    pub pods: Selector,
    /// What others may open to them; any connection, as far as this policy goes, if it does not say.
    pub ingress: Option<Vec<PolicyRule>>,
    /// What they may open, likewise.
    pub egress: Option<Vec<PolicyRule>>,
    /// How it is applied.
    pub terms: PolicyTerms,
}

/// How a policy is applied, as its annotations say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyTerms {
    /// Whether what it says counts (`millrace.dev/audit`).
    pub mode: PolicyMode,
    /// What becomes of connections that there are when it denies them (`millrace.dev/on-refused`);
    /// without, what the stage of the chain says.
    pub on_refused: Option<RefusedConnections>,
}

/// Whether what a policy says counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// It does.
    #[default]
    Enforce,
    /// What it would deny is told, and goes on.
    Audit,
}

/// What becomes of a connection that there was before it was denied; later ones are stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedConnections {
    /// It goes on.
    Keep,
    /// Its packets are dropped.
    Drop,
    /// Both ends are told.
    Reset,
}

/// What tells a policy of either kind from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyName {
    /// A NetworkPolicy.
    Namespaced(QualifiedName),
    /// A ClusterNetworkPolicy.
    Cluster(String),
}

/// Which way connections are opened, seen from the pods that a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyDirection {
    /// By others.
    Ingress,
    /// By them.
    Egress,
}

/// Some connections that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Who the other end is.
    pub peers: Peers,
    /// What they are for.
    pub ports: Ports,
}

/// Other ends of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    /// Anybody.
    #[default]
    All,
    /// Those of any of these.
    AnyOf(Vec<PolicyPeer>),
}

/// Some ends of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPeer {
    /// Pods.
    Pods {
        /// Of namespaces with these labels; without, of the policy's own.
        namespaces: Option<Selector>,
        /// With these labels.
        pods: Selector,
    },
    /// Whoever has an address of this prefix, pods as well (N5).
    Block {
        /// The prefix.
        prefix: IpNetwork,
        /// Parts of it that do not count.
        except: Vec<IpNetwork>,
    },
}

/// What connections are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// Anything.
    #[default]
    All,
    /// Any of these.
    AnyOf(Vec<PolicyPort>),
}

/// Some ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    /// The protocol.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: PortRange,
}

/// Some ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRange {
    /// Any.
    All,
    /// From the first to the last.
    Numbers(u16, u16),
    /// The one that the pod calls so that the connection is for (N6).
    Named(String),
}

/// What labels are to be like; anything does where nothing is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// These have to be there.
    pub labels: Labels,
    /// These have to hold, too.
    pub expressions: Vec<Requirement>,
}

/// What one label is to be like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// Its key.
    pub key: String,
    /// What has to hold.
    pub operator: Operator,
}

/// What has to hold of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is not there, or has another value.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl NetworkPolicy {
    /// What it says of a direction.
    pub fn rules(&self, direction: PolicyDirection) -> Option<&[PolicyRule]> {
        match direction {
            PolicyDirection::Ingress => self.ingress.as_deref(),
            PolicyDirection::Egress => self.egress.as_deref(),
        }
    }
}

impl PolicyDirection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for PolicyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for PolicyName {
    /// `NetworkPolicy shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaced(name) => write!(f, "NetworkPolicy {name}"),
            Self::Cluster(name) => write!(f, "ClusterNetworkPolicy {name}"),
        }
    }
}

impl Selector {
    /// Whether labels are as it asks for.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|it| it.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
