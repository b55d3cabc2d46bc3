//! The cluster as plain data.
//!
//! Owns the shape. Knows no YAML and no API server: sources make a world, and tables, the lab and
//! the agent read it. Everything in it was checked by its source.
//!
//! A reader must not break this: maps are ordered, so that whoever walks a world does so in the
//! same order every time and on every node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::filter::Filters;
use crate::gateway::Gateways;
use crate::policy::{ClusterNetworkPolicy, NetworkPolicy};
use crate::service::Services;
use crate::{BitRate, QualifiedName};

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By name; each pod's is there.
    pub namespaces: BTreeMap<String, Namespace>,
    /// By namespace and name.
    pub pods: BTreeMap<PodName, Pod>,
    /// Services and what belongs to them.
    pub services: Services,
    /// By namespace and name.
    pub policies: BTreeMap<QualifiedName, NetworkPolicy>,
    /// By name.
    pub cluster_policies: BTreeMap<String, ClusterNetworkPolicy>,
    /// Filters, and chains of them.
    pub filters: Filters,
    /// What there is of the Gateway API.
    pub gateways: Gateways,
}

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// A machine that pods run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The prefixes its pods have addresses of; one of a family at most, and no other node's.
    pub pod_cidrs: Vec<IpNetwork>,
    /// The addresses that other nodes reach it by (`InternalIP`).
    pub addresses: Vec<IpAddr>,
    /// Those that the world outside reaches it by (`ExternalIP`).
    pub external: Vec<IpAddr>,
    /// Whether it is to be relied on.
    pub readiness: Readiness,
    /// Whether it is there to stay.
    pub tenure: Tenure,
}

/// Whether a node is there to stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenure {
    /// As far as anybody says.
    #[default]
    Stays,
    /// It is about to be taken away: it is deleted already, or `ToBeDeletedByClusterAutoscaler`.
    Leaves,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; `kubernetes.io/metadata.name` is among them.
    pub labels: Labels,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What tells it from others.
    pub name: PodName,
    /// Its labels.
    pub labels: Labels,
    /// The node it is on; `None` until it is scheduled.
    pub node: Option<String>,
    /// Whose network it uses.
    pub network: PodNetwork,
    /// How much it may send and receive.
    pub bandwidth: Bandwidth,
    /// How many connections it gets of Services that it is behind.
    pub weight: Weight,
    /// What runs in it.
    pub containers: Vec<Container>,
    /// How it is.
    pub status: PodStatus,
}

/// How many connections a pod gets for each that one of weight 1 does: the annotation
/// `millrace.dev/weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u16);

impl Weight {
    /// The most there is.
    pub const MOST: Self = Self(100);
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// How a pod is, as whoever runs it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatus {
    /// The addresses that others reach it by; one of a family at most. None until it has a network.
    pub addresses: Vec<IpAddr>,
    /// Whether it is to be sent connections.
    pub readiness: Readiness,
    /// How far it is.
    pub life: Life,
}

/// Whether a pod, or a node, is to be sent connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// It is, or nobody has said that it is not.
    #[default]
    Ready,
    /// It is not.
    NotReady,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It is to run.
    #[default]
    Running,
    /// It is to end (`deletionTimestamp`).
    Ending,
    /// It has ended, and will not run again.
    Over,
}

/// What tells a pod from others; `namespace/name`, and without a namespace that is `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PodName {
    /// The namespace's name.
    pub namespace: String,
    /// Its name in the namespace.
    pub name: String,
}

/// Whose network a pod uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// One of its own.
    #[default]
    Own,
    /// The node's (`hostNetwork`).
    Host,
}

/// How much a pod may send and receive; without a limit unless there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Towards the pod (`kubernetes.io/ingress-bandwidth`).
    pub ingress: Option<BitRate>,
    /// From the pod (`kubernetes.io/egress-bandwidth`).
    pub egress: Option<BitRate>,
}

/// What runs in a pod. All containers of one share its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// The program and its arguments (`command`, then `args`); empty for what its image says.
    pub command: Vec<String>,
    /// Where it says it listens.
    pub ports: Vec<ContainerPort>,
}

/// Where a container says it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// What others may call it.
    pub name: Option<String>,
    /// With which protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The port of the node that leads there, if one does.
    pub host: Option<HostPort>,
}

/// A port of a node that leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The address of the node that has it; all of them without one.
    pub address: Option<IpAddr>,
    /// Its number.
    pub port: u16,
}

/// A transport protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    #[default]
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl World {
    /// The pods of a node.
    pub fn pods_on<'w>(&'w self, node: &'w str) -> impl Iterator<Item = &'w Pod> {
        self.pods.values().filter(move |pod| pod.node.as_deref() == Some(node))
    }
}

impl Namespace {
    /// A namespace without an object of its own: with the label that each has.
    pub fn named(name: &str) -> Self {
        let labels = Labels::from([(Self::NAME_LABEL.to_owned(), name.to_owned())]);
        Self { name: name.to_owned(), labels }
    }

    /// The label that holds a namespace's name.
    pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
}

impl PodName {
    /// The pod `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodName {
    type Err = PodNameError;

    fn from_str(text: &str) -> Result<Self, PodNameError> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err(PodNameError { text: text.to_owned() });
        }
        Ok(Self::new(namespace, name))
    }
}

impl TryFrom<String> for PodName {
    type Error = PodNameError;

    fn try_from(text: String) -> Result<Self, PodNameError> {
        text.parse()
    }
}

impl From<PodName> for String {
    fn from(name: PodName) -> Self {
        name.to_string()
    }
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Why a text names no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no pod: write `name`, or `namespace/name`")]
pub struct PodNameError {
    text: String,
}

/// The namespace of what does not say.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_namespace_is_in_the_default_one() {
        let name: PodName = "web".parse().unwrap();
        assert_eq!(name, PodName::new("default", "web"));
        assert_eq!("shop/web".parse(), Ok(PodName::new("shop", "web")));
        assert_eq!(name.to_string(), "default/web");
    }

    #[test]
    fn what_names_no_pod_is_refused_with_how_to_write_it() {
        for text in ["", "/", "a/", "/b", "a/b/c"] {
            let error = text.parse::<PodName>().unwrap_err().to_string();
            assert!(error.contains("namespace/name"), "{error}");
        }
    }
}
