//! What a node has to say of the cluster's objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millrace_control::gateway::Judgement;
use millrace_control::manifest::Kind;
use millrace_control::{QualifiedName, Readiness, rendezvous};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object, by its kind and its name: `namespace/name`, or `name` if it is in no namespace.
pub type Key = (Kind, String);

/// What a node has to say: of objects, and of what it knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node's name.
    pub node: String,
    /// What has become here of Filters and FilterChains; nothing of those that are for other nodes.
    pub standings: BTreeMap<Key, Standing>,
    /// What else is wrong with objects, which every node sees alike.
    pub problems: BTreeMap<Key, Vec<String>>,
    /// All nodes, and whether they are to be relied on.
    pub nodes: BTreeMap<String, Readiness>,
    /// How many addresses of each AddressPool Services have.
    pub assigned: BTreeMap<String, usize>,
    /// The addresses that Services for load balancers are to get.
    pub addresses: Vec<(QualifiedName, Vec<IpAddr>)>,
    /// What becomes of objects of the Gateway API, which every node sees alike.
    pub gateways: Judgement,
}

/// What has become of a Filter or FilterChain on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is in force.
    pub state: State,
    /// The SHA-256 of the module that is in force in its stage.
    pub digest: Option<String>,
    /// Why it is not in force as it is.
    pub problem: Option<String>,
}

/// What nodes say of a Filter that is rolled out to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Which one it is to be.
    pub generation: i64,
    /// By their names.
    pub nodes: BTreeMap<String, Entry>,
}

/// What a node says of an object in its status. A field that is `null` in a patch goes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Whether it is in force.
    // agents of another version may have other words
    #[schemars(with = "String")]
    pub state: State,
    /// The generation of the object that this is about.
    pub generation: i64,
    /// The SHA-256 of the module that is in force in its stage.
    #[serde(default)]
    pub digest: Option<String>,
    /// Why it is not in force as it is.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Whether a Filter or FilterChain is in force on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// It is.
    InForce,
    /// It is, since a moment: whether it works is to be seen.
    Trying,
    /// As it was before, until other nodes have taken the next version.
    Waiting,
    /// As it was before, or not at all, until a registry has given its module.
    Fetching,
    /// Another FilterChain is that is for the node, too.
    Overridden,
    /// As it was before.
    Behind,
    /// It was, failed too often, and is not any more.
    Failed,
    /// It is not, and nothing passes in its place.
    Closed,
    /// It is not.
    Missing,
}

impl State {
    /// Whether something is wrong.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Behind | Self::Failed | Self::Closed | Self::Missing)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::InForce => "InForce",
            Self::Trying => "Trying",
            Self::Waiting => "Waiting",
            Self::Fetching => "Fetching",
            Self::Overridden => "Overridden",
            Self::Behind => "Behind",
            Self::Failed => "Failed",
            Self::Closed => "Closed",
            Self::Missing => "Missing",
        }
    }
}

impl Report {
    /// Whether it is this node that says of an object what is to be said once.
    pub(crate) fn speaks_for(&self, (kind, name): &Key) -> bool {
        let ready = self.nodes.iter().filter(|(_, it)| **it == Readiness::Ready);
        let task = format!("{} {name}", kind.name());
        rendezvous::first(ready.map(|(name, _)| &**name), &task) == Some(&*self.node)
    }

    /// Whether it is this node that gives Services addresses: only one node does, so that no two give
    /// the same one.
    pub(crate) fn gives_addresses(&self) -> bool {
        self.speaks_for(&(Kind::AddressPool, String::new()))
    }
}
