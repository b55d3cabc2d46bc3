//! Where connections to Services go.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::octets::{self, Reader};

/// The number of a set of endpoints: the key of [`Table::Endpoints`](crate::Table::Endpoints).
/// Services with the same endpoints share a set, and a set never changes: other endpoints have
/// another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointSet(pub u32);

/// Where a connection may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

/// An endpoint of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How many connections it gets for each that one of weight 1 does; not 0.
    pub weight: u16,
}

/// The endpoints of a set, in ascending order, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints<'u>(&'u [u8]);

impl EndpointSet {
    /// No set: no endpoints.
    pub const NONE: Self = Self(0);
}

impl Endpoint {
    /// Nobody: connections that get this one are refused.
    pub const NOBODY: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0 };

    /// The octets of endpoints of weight 1, as [`Endpoints`] has them.
    pub fn encode_all(endpoints: &[Self]) -> Vec<u8> {
        let backends: Vec<_> = endpoints.iter().copied().map(Backend::from).collect();
        Backend::encode_all(&backends)
    }
}

impl Backend {
    /// The octets of endpoints with weights, as [`Endpoints`] has them.
    pub fn encode_all(backends: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(backends.len() * LEN);
        for Self { endpoint, weight } in backends {
            out.extend(octets::address(endpoint.address));
            out.extend(endpoint.port.to_le_bytes());
            out.extend(weight.to_le_bytes());
        }
        out
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let endpoint = Endpoint { address: from.address()?, port: from.u16()? };
        let weight = from.u16()?;
        from.end(Self { endpoint, weight }).filter(|it| it.weight > 0)
    }
}

impl From<Endpoint> for Backend {
    /// Of weight 1.
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, weight: 1 }
    }
}

impl fmt::Display for Endpoint {
    /// `10.1.0.5:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

impl<'u> Endpoints<'u> {
    /// The endpoints that [`Backend::encode_all`] has written; `None` if these octets are none, or
    /// there is no endpoint.
    pub fn new(octets: &'u [u8]) -> Option<Self> {
        let whole = !octets.is_empty() && octets.len().is_multiple_of(LEN);
        let this = Self(octets);
        let each = || octets.chunks_exact(LEN).map(Backend::decode);
        (whole && each().all(|it| it.is_some()) && this.iter().is_sorted_by(|a, b| a < b))
            .then_some(this)
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.len() / LEN
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Endpoint> + 'u {
        self.backends().map(|it| it.endpoint)
    }

    /// Each of them, with its weight.
    pub fn backends(self) -> impl Iterator<Item = Backend> + 'u {
        self.0.chunks_exact(LEN).filter_map(Backend::decode)
    }

    pub(crate) fn octets(self) -> &'u [u8] {
        self.0
    }
}

/// Octets of an endpoint.
const LEN: usize = 20;
