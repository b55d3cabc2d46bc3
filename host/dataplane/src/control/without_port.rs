//! Connections that were refused since no port was left to masquerade them with.

use std::cmp::Reverse;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::connections::{Endpoint, Exhaustion};
use crate::control::flows::protocol;
use crate::control::status::Label;

/// How many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithoutPort {
    /// By destination, the most first: a port serves any number of destinations at once.
    pub destinations: Vec<Crowded>,
    /// Towards others, of which there were too many to count each by itself.
    pub elsewhere: u64,
}

/// A destination that all ports were in use towards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crowded {
    /// Who was to answer; for an echo, port 0.
    pub destination: SocketAddr,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, or the protocol's number.
    pub protocol: Label,
    /// Connections that were refused.
    pub refused: u64,
}

impl WithoutPort {
    /// All of them.
    pub fn refused(&self) -> u64 {
        self.destinations.iter().map(|it| it.refused).sum::<u64>() + self.elsewhere
    }
}

impl From<Exhaustion> for WithoutPort {
    fn from(exhaustion: Exhaustion) -> Self {
        let crowded = |(number, destination, refused): (u8, Endpoint, u64)| Crowded {
            destination: SocketAddr::from(&destination),
            protocol: protocol(number),
            refused,
        };
        let mut destinations: Vec<_> = exhaustion.by_destination.into_iter().map(crowded).collect();
        destinations.sort_by_key(|it| Reverse(it.refused));
        Self { destinations, elsewhere: exhaustion.elsewhere }
    }
}
