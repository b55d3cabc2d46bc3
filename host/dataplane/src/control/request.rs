//! What can be asked of a running dataplane.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use millrace_abi::{CapabilitySet, PortKind, limits};
pub use millrace_fastpath::Prefix;
use millrace_sandbox::Grant;
use serde::{Deserialize, Serialize};

use crate::port::{Hold, Vlans};
use crate::stage::{Mode, OnFault, OnRefused};

/// A filter to be put into the chain.
#[derive(Clone, Debug)]
pub struct Load {
    /// The stage's name, not taken yet.
    pub name: String,
    /// The module.
    pub module: Vec<u8>,
    /// Its configuration, JSON.
    pub config: String,
    /// Where in the chain.
    pub position: Position,
    /// The terms it runs on.
    pub terms: StageTerms,
}

/// The terms that a stage runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageTerms {
    /// The ports whose packets it is asked about, by name; with no kinds either, all.
    pub ports: BTreeSet<String>,
    /// The kinds of ports whose packets it is asked about.
    pub kinds: Vec<PortKind>,
    /// What happens when it fails.
    pub on_fault: OnFault,
    /// What happens to live connections that it would not let go on any more.
    pub on_refused: OnRefused,
    /// Whether its answers count.
    pub mode: Mode,
    /// What it may do; more than its manifest wants makes no difference.
    pub capabilities: CapabilitySet,
    /// Bytes of memory for each instance.
    pub memory: usize,
    /// How long one call may take.
    pub deadline: Duration,
}

impl Default for StageTerms {
    fn default() -> Self {
        Self {
            ports: BTreeSet::new(),
            kinds: Vec::new(),
            on_fault: OnFault::default(),
            on_refused: OnRefused::default(),
            mode: Mode::default(),
            capabilities: CapabilitySet::ALL,
            memory: limits::DEFAULT_MEMORY,
            deadline: Grant::DEADLINE,
        }
    }
}

/// A place in the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Before all others.
    First,
    /// Behind all others.
    #[default]
    Last,
    /// Before another stage.
    Before(String),
    /// Behind another stage.
    After(String),
}

/// A port to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPort {
    /// The interface, whose name the port has; for a node behind a tunnel, the name alone.
    pub interface: String,
    /// What it leads to.
    pub kind: PortKind,
    /// The VLANs it carries.
    pub vlans: Vlans,
    /// How its frames come and go.
    pub hold: Hold,
    /// What is beyond it, if that is the underlay of the cluster.
    pub beyond: Option<Beyond>,
}

/// What a port leads to through the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Another node, in a tunnel.
    Tunnel(Tunnel),
    /// Whoever the host reaches by the interface, which stays the host's own.
    Uplink(Uplink),
}

/// The tunnel to another node (VXLAN, RFC 7348).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The interface of all tunnels, which takes the other end from each packet.
    pub interface: String,
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The other end, on the underlay.
    pub remote: IpAddr,
    /// The sources that are that node's, and come in no other way: its pods'. Packets from others
    /// do not come in.
    pub owns: Vec<Prefix>,
    /// More sources that are that node's, which come without the tunnel, too: its own addresses.
    pub has: Vec<Prefix>,
}

/// Which packets of a host's interface are for pods. The port's gateway has the node's own
/// addresses, which pods that are masqueraded send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The addresses of the node's pods, one prefix of a family.
    pub pods: Vec<Prefix>,
    /// The UDP port of the tunnels between nodes, which are the host's.
    pub tunnel_port: Option<u16>,
}
