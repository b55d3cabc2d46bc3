//! Services and their endpoints as plain data: the part of the world that says who is reached
//! by which virtual address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::world::PodNameError;
use crate::{Labels, PodName, Protocol};

/// What tells an object from others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The namespace's name.
    pub namespace: String,
    /// Its name in the namespace.
    pub name: String,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What tells it from others.
    pub name: QualifiedName,
    /// Its labels.
    pub labels: Labels,
    /// How far it is to be reached.
    pub kind: ServiceKind,
    /// Its own addresses.
    pub cluster_ips: ClusterIps,
    /// The families that it asks for addresses of, the first one first; the cluster's if it does not
    /// say.
    pub families: Vec<Family>,
    /// Of how many families it is to have an address.
    pub family_policy: FamilyPolicy,
    /// The labels of the pods behind it; without any its endpoints are somebody else's to say.
    pub selector: Labels,
    /// Its ports; their names tell them apart.
    pub ports: Vec<ServicePort>,
    /// Addresses that somebody else brings to the nodes.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of a load balancer in front of the cluster.
    pub load_balancer: Vec<LoadBalancerIp>,
    /// Who may connect to those addresses; everybody if there is no prefix.
    pub source_ranges: Vec<IpNetwork>,
    /// Whose it is to give it an address of a load balancer, if that is said.
    pub load_balancer_class: Option<String>,
    /// Whether a load balancer needs node ports.
    pub node_ports: NodePorts,
    /// Where each node says whether it has endpoints.
    pub health_check_node_port: Option<u16>,
    /// Which endpoints count for its own addresses.
    pub internal_policy: TrafficPolicy,
    /// Which count for all other addresses.
    pub external_policy: TrafficPolicy,
    /// How long a client stays with its endpoint after its last connection (`ClientIP`).
    pub affinity: Option<Duration>,
    /// Which pods count.
    pub publishes: Publishes,
    /// Which of those that count a connection gets.
    pub algorithm: Algorithm,
}

/// Which endpoint of a Service a connection gets: the annotation `millrace.dev/algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// By a hash of its addresses and ports.
    #[default]
    Maglev,
    /// The next one, on each worker of a node for itself.
    RoundRobin,
    /// By a hash of its source's address.
    SourceHash,
    /// The one with the fewest connections that this node has translated to it.
    LeastConnections,
}

/// How far a Service is to be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// From within the cluster.
    #[default]
    ClusterIp,
    /// From without, by a port of each node.
    NodePort,
    /// From without, by a load balancer's address.
    LoadBalancer,
    /// Not at all: it is a name for another name.
    ExternalName,
}

/// The addresses of a Service in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClusterIps {
    /// Nobody has given it any.
    #[default]
    Unallocated,
    /// It is to have none (`None`).
    Headless,
    /// One, or one of each family.
    Addresses(Vec<IpAddr>),
}

/// Of how many families a Service is to have an address (`ipFamilyPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// Of one.
    #[default]
    Single,
    /// Of all that the cluster has.
    Prefer,
    /// Of both.
    Require,
}

/// Whether a Service for a load balancer has node ports (KEP-1864).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodePorts {
    /// It gets those that it does not state.
    #[default]
    Allocated,
    /// It has those that it states.
    Stated,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it is the only one.
    pub name: String,
    /// With which protocol.
    pub protocol: Protocol,
    /// Its number at the Service's addresses.
    pub port: u16,
    /// Where its connections go in a pod.
    pub target: TargetPort,
    /// Its number at the nodes' addresses.
    pub node_port: Option<u16>,
}

/// A port of the pods behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// This one.
    Number(u16),
    /// The one that a pod calls so: another in each, perhaps.
    Name(String),
}

/// An address of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadBalancerIp {
    /// The address.
    pub address: IpAddr,
    /// Whose packets to it are.
    pub mode: IpMode,
}

/// Whose packets to a load balancer's address are (KEP-1860).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpMode {
    /// The cluster's: nodes see the address.
    #[default]
    Vip,
    /// The load balancer's: it sends others to the nodes.
    Proxy,
}

/// Which endpoints count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on the node that is asked.
    Local,
}

/// Which pods of a Service count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishes {
    /// Those that are ready.
    #[default]
    Ready,
    /// All (`publishNotReadyAddresses`).
    All,
}

/// Some endpoints of a Service, as whoever knows them says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// What tells it from others.
    pub name: QualifiedName,
    /// Its labels.
    pub labels: Labels,
    /// What its addresses are.
    pub family: Family,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports that each of them has.
    pub ports: Vec<SlicePort>,
}

/// What addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The pod that is there, of the slice's namespace, if it is one.
    pub pod: Option<String>,
    /// Its addresses; all lead to the same.
    pub addresses: Vec<IpAddr>,
    /// How it is.
    pub condition: Condition,
    /// The node it is on, as far as that is known.
    pub node: Option<String>,
    /// Who should rather use it than others.
    pub hints: Hints,
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// It is to be used.
    pub ready: bool,
    /// It answers, whether it is ending or not.
    pub serving: bool,
    /// It is ending.
    pub terminating: bool,
}

/// Who should rather use an endpoint than others; nobody in particular if both are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Nodes of these zones.
    pub zones: Vec<String>,
    /// These nodes.
    pub nodes: Vec<String>,
}

/// A port of a slice's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port that it is behind.
    pub name: String,
    /// With which protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// Services and all that belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// By namespace and name.
    pub services: BTreeMap<QualifiedName, Service>,
    /// By namespace and name.
    pub slices: BTreeMap<QualifiedName, EndpointSlice>,
    /// By name.
    pub ranges: BTreeMap<String, ServiceRange>,
    /// By name.
    pub pools: BTreeMap<String, AddressPool>,
}

/// Prefixes that Services get their addresses of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    /// What tells it from others.
    pub name: String,
    /// The prefixes.
    pub prefixes: Vec<IpNetwork>,
}

/// Prefixes that Services get addresses of for a load balancer, which are brought to the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// What tells it from others.
    pub name: String,
    /// The prefixes.
    pub prefixes: Vec<IpNetwork>,
    /// How others learn where they are.
    pub announcement: Announcement,
}

/// How others learn where the addresses of a pool are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announcement {
    /// One node answers who asks its neighbours for an address (ARP, RFC 826; NDP, RFC 4861).
    #[default]
    Neighbours,
    /// Whoever routes there knows.
    None,
}

impl QualifiedName {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for QualifiedName {
    type Err = PodNameError;

    /// Of `namespace/name`, or of a name in the namespace `default`.
    fn from_str(text: &str) -> Result<Self, PodNameError> {
        text.parse().map(|PodName { namespace, name }| Self { namespace, name })
    }
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// What an address is.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl Service {
    /// Whether nodes are asked if they have endpoints: a load balancer is to send to those alone that
    /// do (S18).
    pub fn has_health_check(&self) -> bool {
        self.kind == ServiceKind::LoadBalancer && self.external_policy == TrafficPolicy::Local
    }

    /// Whether it is to have an address of the pools, and has none yet: who says another class wants
    /// somebody else's.
    pub(crate) fn lacks_pool_address(&self) -> bool {
        let class = self.load_balancer_class.as_deref();
        self.kind == ServiceKind::LoadBalancer
            && self.load_balancer.is_empty()
            && class.is_none_or(|class| class == Self::POOL_CLASS)
    }

    /// The class of load balancers whose addresses are of pools; so is that of Services that say none.
    pub const POOL_CLASS: &str = "millrace.dev/address-pool";
    /// The label of Services that are somebody else's to serve.
    pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
}

impl EndpointSlice {
    /// The label that names the Service of a slice.
    pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
    /// The label of slices that are for names alone.
    pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
}
