//! Other nodes, each a port behind a tunnel.
//!
//! Owns which packets may come from which node: a source belongs to one, and whoever else sends it
//! is not believed. One link has the tunnels to all nodes, and the program as long as there is one.
//! Works in the network namespace of the calling thread.

use std::collections::HashMap;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;

use crate::cache::{MapFault, ON_TUNNEL};
use crate::entries::if_there;
use crate::layout::{EITHER_WAY, RawAddress, RawEgress, TO_TUNNEL};
use crate::pins::Held;
use crate::{AttachError, FlowCache, PortId};

/// A node behind a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The index of the VXLAN link, which takes the other end from each packet (`external`).
    pub link: u32,
    /// The network identifier, 24 bits, in both directions.
    pub vni: u32,
    /// The other end, on the underlay.
    pub address: IpAddr,
    /// The sources that are the node's and no other's, and come in no other way: its pods'.
    pub owns: Vec<Prefix>,
    /// More sources that are the node's; they come without the tunnel, too: its own addresses.
    pub has: Vec<Prefix>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits they have in common; more than there are is all of them.
    pub length: u8,
}

/// Which nodes are ports, and what holds the program at their links.
#[derive(Default)]
pub(crate) struct Tunnels {
    remotes: HashMap<PortId, Remote>,
    held: HashMap<u32, Held>,
}

impl FlowCache {
    /// Makes a node behind a tunnel a port: what its link receives from there is the cache's.
    ///
    /// # Errors
    /// If the number is in use, the link is a port itself, or the kernel refuses. Nothing of it
    /// stays then.
    pub fn add_remote(&mut self, port: PortId, remote: Remote) -> Result<(), AttachError> {
        let link = remote.link;
        self.links.admit_any(link, port)?;
        if !self.links.tunnels.has(link) {
            let held = self.hold(ON_TUNNEL, link)?;
            self.links.tunnels.held.insert(link, held);
        }
        let outcome = self.lead_to(port, &remote);
        self.links.tunnels.remotes.insert(port, remote);
        if outcome.is_err() {
            // the first failure is the one to tell of
            let _ = self.remove_remote(port);
        }
        Ok(outcome?)
    }

    /// Ends what [`add_remote`](Self::add_remote) began; says whether the node was a port. Its
    /// entries stay: remove them before the port's number is given to another.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_remote(&mut self, port: PortId) -> Result<bool, MapFault> {
        let Some(remote) = self.links.tunnels.remotes.remove(&port) else { return Ok(false) };
        for prefix in remote.owns.iter().chain(&remote.has) {
            // it may be another node's by now
            let owner = if_there(self.owners.get(&prefix.key(), 0))?;
            if owner.is_some_and(|it| it & !EITHER_WAY == port.number().into()) {
                if_there(self.owners.remove(&prefix.key()))?;
            }
        }
        self.close(port.number().into())?;
        if !self.links.tunnels.remotes.values().any(|other| other.link == remote.link)
            && let Some(held) = self.links.tunnels.held.remove(&remote.link)
        {
            self.release(remote.link, held)?;
        }
        Ok(true)
    }

    /// Has packets go there, and come from there.
    fn lead_to(&mut self, port: PortId, remote: &Remote) -> Result<(), MapFault> {
        let number = u32::from(port.number());
        self.egresses.set(number, remote.egress(), 0).map_err(MapFault)?;
        for prefix in &remote.owns {
            self.owners.insert(&prefix.key(), number, 0).map_err(MapFault)?;
        }
        for prefix in &remote.has {
            self.owners.insert(&prefix.key(), number | EITHER_WAY, 0).map_err(MapFault)?;
        }
        Ok(())
    }
}

impl Remote {
    fn egress(&self) -> RawEgress {
        let (family, remote) = match self.address {
            IpAddr::V4(v4) => (4, [v4.to_bits(), 0, 0, 0]),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.segments();
                let word = |high: u16, low: u16| (u32::from(high) << 16 | u32::from(low)).to_be();
                (6, [word(a, b), word(c, d), word(e, f), word(g, h)])
            }
        };
        let (ifindex, flags) = (self.link, TO_TUNNEL.into());
        RawEgress { ifindex, flags, vni: self.vni, family, remote }
    }
}

impl Prefix {
    fn key(&self) -> Key<RawAddress> {
        let (address, bits) = match self.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96 + u32::from(self.length.min(32))),
            IpAddr::V6(v6) => (v6, u32::from(self.length.min(128))),
        };
        Key::new(bits, address.octets())
    }
}

impl Tunnels {
    /// Whether the link has tunnels.
    pub(crate) fn has(&self, link: u32) -> bool {
        self.held.contains_key(&link)
    }

    /// Whether a node has the number.
    pub(crate) fn leads_to(&self, port: PortId) -> bool {
        self.remotes.contains_key(&port)
    }
}
