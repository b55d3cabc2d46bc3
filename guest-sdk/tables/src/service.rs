//! Where Services are reached.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::octets::{self, Reader};
use crate::{EndpointSet, SourceSet};

/// Where a Service is reached: the key of [`Table::Services`](crate::Table::Services).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The virtual address, or that of a node.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// With which protocol.
    pub protocol: Protocol,
}

/// A transport protocol, by its number (IANA, Assigned Internet Protocol Numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 9260.
    Sctp = 132,
}

/// What is behind a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The Service's number: what decisions that depend on it are tagged with. The same for all of
    /// its frontends.
    pub number: u32,
    /// The port that the Service itself has there.
    pub port: u16,
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// Which endpoints count.
    pub policy: TrafficPolicy,
    /// The endpoints for this node, wherever they are; [`EndpointSet::NONE`] if there are none.
    pub cluster: EndpointSet,
    /// Those that are on this node.
    pub local: EndpointSet,
    /// Seconds that a client stays with the endpoint it got after its last connection; 0 if it does
    /// not.
    pub affinity_s: u32,
    /// Whom connections may come from; [`SourceSet::NONE`] if from everybody.
    pub sources: SourceSet,
    /// Which of the endpoints that count a connection gets.
    pub algorithm: Algorithm,
}

/// Which endpoint a connection gets, of those that count. Each gets as many connections as its weight
/// says, in the long run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// By a hash of the connection's addresses and ports; when endpoints come or go, few of those
    /// hashes have another endpoint.
    #[default]
    Maglev = 0,
    /// The next one.
    RoundRobin = 1,
    /// By a hash of the source's address: a client has the same, with any Service that has the same
    /// endpoints.
    SourceHash = 2,
    /// The one with the fewest live connections for its weight, on this node.
    LeastConnections = 3,
}

/// What kind of address a frontend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrontendKind {
    /// `spec.clusterIPs`: no other port of this address leads anywhere.
    ClusterIp = 0,
    /// `spec.externalIPs`.
    ExternalIp = 1,
    /// `status.loadBalancer.ingress`.
    LoadBalancer = 2,
    /// An address of this node, with `spec.ports[].nodePort`.
    NodePort = 3,
    /// What stands in for an address of this node, with such a port: for the processes of the node
    /// itself, and nobody else.
    OwnNode = 4,
}

/// Which endpoints a frontend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    Cluster = 0,
    /// Those on this node alone.
    Local = 1,
}

impl Frontend {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(octets::address(self.address));
        out.extend(self.port.to_le_bytes());
        out.extend([self.protocol as u8, 0]);
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let (address, port) = (from.address()?, from.u16()?);
        let protocol = Protocol::from_u8(from.u8()?)?;
        from.zeros::<1>()?;
        from.end(Self { address, port, protocol })
    }
}

impl Service {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.number.to_le_bytes());
        out.extend(self.cluster.0.to_le_bytes());
        out.extend(self.local.0.to_le_bytes());
        out.extend(self.affinity_s.to_le_bytes());
        out.extend(self.port.to_le_bytes());
        out.extend([self.kind as u8, self.policy as u8]);
        out.extend(self.sources.0.to_le_bytes());
        out.extend([self.algorithm as u8, 0, 0, 0]);
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let number = from.u32()?;
        let (cluster, local) = (EndpointSet(from.u32()?), EndpointSet(from.u32()?));
        let (affinity_s, port) = (from.u32()?, from.u16()?);
        let kind = from.one_of(FrontendKind::ALL, |it| it as u8)?;
        let policy = from.one_of(TrafficPolicy::ALL, |it| it as u8)?;
        let sources = SourceSet(from.u32()?);
        let algorithm = from.one_of(Algorithm::ALL, |it| it as u8)?;
        from.zeros::<3>()?;
        from.end(Self {
            number,
            port,
            kind,
            policy,
            cluster,
            local,
            affinity_s,
            sources,
            algorithm,
        })
    }
}

impl Protocol {
    /// Every protocol that has ports.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol with this number.
    #[inline]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| *protocol as u8 == number)
    }
}

impl fmt::Display for Frontend {
    /// `10.96.0.1:80/TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{}/{protocol}", SocketAddr::new(self.address, self.port))
    }
}

impl FrontendKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::ClusterIp, Self::ExternalIp, Self::LoadBalancer, Self::NodePort, Self::OwnNode];
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] =
        [Self::Maglev, Self::RoundRobin, Self::SourceHash, Self::LeastConnections];
}

impl TrafficPolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Local];
}
