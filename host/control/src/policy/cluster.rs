//! ClusterNetworkPolicies as plain data: what a cluster's administrators say, before NetworkPolicies
//! and after them (K1).

use std::fmt;

use ipnetwork::IpNetwork;
use millrace_tables::Pattern;

use super::{PolicyDirection, PolicyPort, PolicyTerms, PortRange, Selector};

/// A ClusterNetworkPolicy. It isolates nobody: only what its rules are about is decided (K2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworkPolicy {
    /// What tells it from others.
    pub name: String,
    /// When it is asked.
    pub tier: ClusterTier,
    /// Which of a tier are asked first: those of the lowest number. Of equals the first by name is.
    pub priority: u16,
    /// The pods that it is for; none in their node's network (K3).
    pub subject: PodSelector,
    /// What others open to them; the first rule that is about a connection counts.
    pub ingress: Vec<ClusterRule>,
    /// What they open, likewise.
    pub egress: Vec<ClusterRule>,
    /// How it is applied.
    pub terms: PolicyTerms,
}

/// When ClusterNetworkPolicies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterTier {
    /// Before NetworkPolicies.
    Admin,
    /// Where no NetworkPolicy is for the pod.
    Baseline,
}

/// Pods by their labels, and those of their namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSelector {
    /// What the namespaces are like.
    pub namespaces: Selector,
    /// What the pods are like.
    pub pods: Selector,
}

/// What is said about some connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRule {
    /// What its author calls it.
    pub name: Option<String>,
    /// What becomes of them.
    pub action: ClusterAction,
    /// Which they are.
    pub about: ClusterTraffic,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterAction {
    /// They go on, whatever rules behind this one say.
    Accept,
    /// They end.
    Deny,
    /// The next tier is asked.
    Pass,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterTraffic {
    /// Connections with these.
    With {
        /// Who the other end is: any of these.
        peers: Vec<ClusterPeer>,
        /// What they are for: any of these, or anything if there is none.
        ports: Vec<ClusterPort>,
    },
    /// Something that is not understood: a rule that accepts is about nothing then, and any other
    /// one denies everything (K6).
    NotUnderstood,
}

/// Some other ends of connections (K4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterPeer {
    /// Pods, but for those in their node's network.
    Pods(PodSelector),
    /// Nodes with labels like these, by their addresses.
    Nodes(Selector),
    /// Whoever has an address of one of these prefixes, pods as well.
    Networks(Vec<IpNetwork>),
    /// Whoever has an address that one of these names has, as far as pods have asked for it.
    Domains(Vec<DomainName>),
}

/// A name of a domain, or all below one behind `*.`, in small letters and without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainName(String);

/// What connections are for (K5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterPort {
    /// Ports of a protocol.
    Of(PolicyPort),
    /// The port that the pod calls so that the connection is for, of whatever protocol it is.
    Named(String),
}

impl ClusterNetworkPolicy {
    /// What it says of a direction.
    pub fn rules(&self, direction: PolicyDirection) -> &[ClusterRule] {
        match direction {
            PolicyDirection::Ingress => &self.ingress,
            PolicyDirection::Egress => &self.egress,
        }
    }

    /// The names of domains that it is about.
    pub fn domains(&self) -> impl Iterator<Item = &DomainName> {
        let peers = self.egress.iter().filter_map(|rule| match &rule.about {
            ClusterTraffic::With { peers, .. } => Some(peers),
            ClusterTraffic::NotUnderstood => None,
        });
        let domains = peers.flatten().filter_map(|peer| match peer {
            ClusterPeer::Domains(names) => Some(names),
            ClusterPeer::Pods(_) | ClusterPeer::Nodes(_) | ClusterPeer::Networks(_) => None,
        });
        domains.flatten()
    }

    /// Whether it is about names of domains.
    pub fn asks_for_names(&self) -> bool {
        self.domains().next().is_some()
    }

    /// What it is asked by: those of a lower one first.
    pub fn order(&self) -> (ClusterTier, u16, &str) {
        (self.tier, self.priority, &self.name)
    }
}

impl ClusterPort {
    /// The ports that it may be.
    pub(crate) fn ports(&self) -> Vec<PolicyPort> {
        match self {
            Self::Of(port) => vec![port.clone()],
            Self::Named(name) => {
                let named =
                    |protocol| PolicyPort { protocol, ports: PortRange::Named(name.clone()) };
                crate::Protocol::ALL.map(named).to_vec()
            }
        }
    }
}

impl DomainName {
    /// What is written so, in any case of letters; nothing if it is no name.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        Pattern::new(&text).is_some().then_some(Self(text))
    }

    /// As tables have it.
    pub fn pattern(&self) -> Pattern<'_> {
        Pattern::new(&self.0).expect("it was one when it was made")
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl ClusterTier {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Admin, Self::Baseline];
}

impl fmt::Display for ClusterAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        })
    }
}
