//! Uplinks: links that are the host's, but for what is for pods.
//!
//! Owns which packets that are. A reader must not break this: what is not claimed goes on into the
//! host's stack as it is, whatever becomes of this process.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::cache::{MapFault, ON_UPLINK};
use crate::entries::if_there;
use crate::layout::{RESERVED_WORDS, RawEcho, RawEgress, RawUplink};
use crate::pins::Held;
use crate::{AttachError, Egress, FlowCache, PortId, Prefix};

/// A link of the host's by which pods are reached, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub link: u32,
    /// What its packets are addressed to and from, on their way to user space.
    pub gateway_mac: [u8; 6],
    /// The node's own addresses that pods send from, one of a family.
    pub addresses: Vec<IpAddr>,
    /// The addresses of the node's pods, one prefix of a family.
    pub pods: Vec<Prefix>,
    /// The UDP port of the tunnels between nodes, which are the host's.
    pub tunnel_port: Option<u16>,
}

/// What holds the program at uplinks, by their index.
#[derive(Default)]
pub(crate) struct Uplinks(HashMap<u32, (PortId, Held)>);

impl FlowCache {
    /// Makes a link of the host's a port as well: packets for the node's pods are the cache's, and
    /// so are those for its own addresses that are for ports that are [reserved](Self::reserve), or
    /// answer an echo that is [expected](Self::expect_echo); ICMP errors about such packets too.
    /// All others go on into the host's stack, but for those whose source is a pod here, or
    /// [behind a tunnel](crate::Remote::owns).
    ///
    /// # Errors
    /// If the link or the number is in use, or the kernel refuses.
    pub fn add_uplink(&mut self, port: PortId, uplink: &Uplink) -> Result<(), AttachError> {
        let link = uplink.link;
        self.links.admit_any(link, port)?;
        if self.links.tunnels.has(link) {
            return Err(AttachError::IsPort(link));
        }
        let egress = RawEgress::from(Egress::Neighbour(link));
        self.egresses.set(port.number().into(), egress, 0).map_err(MapFault)?;
        self.uplinks.insert(link, uplink.raw(port), 0).map_err(MapFault)?;
        match self.hold(ON_UPLINK, link) {
            Ok(held) => {
                self.links.uplinks.0.insert(link, (port, held));
                Ok(())
            }
            Err(error) => {
                self.uplinks.remove(&link).map_err(MapFault)?;
                self.close(port.number().into())?;
                Err(error)
            }
        }
    }

    /// Ends what [`add_uplink`](Self::add_uplink) began; says whether the link was one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_uplink(&mut self, link: u32) -> Result<bool, MapFault> {
        let Some((port, held)) = self.links.uplinks.0.remove(&link) else { return Ok(false) };
        self.release(link, held)?;
        if_there(self.uplinks.remove(&link))?;
        self.close(port.number().into())?;
        Ok(true)
    }

    /// Says which ports of the node's addresses are pods', in place of those before: packets to
    /// them that come in by uplinks are the cache's.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn reserve(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<(), MapFault> {
        let mut words = vec![0u32; RESERVED_WORDS];
        for port in ports {
            words[usize::from(port / 32)] |= 1 << (port % 32);
        }
        for (at, word) in (0..).zip(words) {
            self.reserved.set(at, word, 0).map_err(MapFault)?;
        }
        Ok(())
    }

    /// Claims the answers to echoes with this identifier that a peer is asked for from the node's
    /// own address.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn expect_echo(&mut self, peer: IpAddr, identifier: u16) -> Result<(), MapFault> {
        self.echoes.insert(RawEcho::new(peer, identifier), 1, 0).map_err(MapFault)
    }

    /// Leaves them to the host again.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_echo(&mut self, peer: IpAddr, identifier: u16) -> Result<(), MapFault> {
        if_there(self.echoes.remove(&RawEcho::new(peer, identifier))).map(drop)
    }
}

impl Uplink {
    fn raw(&self, port: PortId) -> RawUplink {
        let mut raw = RawUplink {
            port: port.number().into(),
            gateway_mac: self.gateway_mac,
            tunnel_port: self.tunnel_port.unwrap_or(0).to_be_bytes(),
            own4: [0; 4],
            // no address is these, with no bit of it
            pods4: [0xff; 4],
            mask4: [0; 4],
            own6: [0; 16],
            pods6: [0xff; 16],
            mask6: [0; 16],
        };
        for address in &self.addresses {
            match address {
                IpAddr::V4(v4) => raw.own4 = v4.octets(),
                IpAddr::V6(v6) => raw.own6 = v6.octets(),
            }
        }
        for prefix in &self.pods {
            match prefix.address {
                IpAddr::V4(v4) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length.min(32)));
                    let mask = mask.unwrap_or(0);
                    raw.mask4 = mask.to_be_bytes();
                    raw.pods4 = (v4.to_bits() & mask).to_be_bytes();
                }
                IpAddr::V6(v6) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length.min(128)));
                    let mask = mask.unwrap_or(0);
                    raw.mask6 = mask.to_be_bytes();
                    raw.pods6 = (v6.to_bits() & mask).to_be_bytes();
                }
            }
        }
        raw
    }
}

impl RawEcho {
    fn new(peer: IpAddr, identifier: u16) -> Self {
        let peer = match peer {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { peer: peer.octets(), identifier: identifier.to_be_bytes(), zero: 0 }
    }
}

impl Uplinks {
    /// Whether the link is one.
    pub(crate) fn has(&self, link: u32) -> bool {
        self.0.contains_key(&link)
    }

    /// Whether one has the number.
    pub(crate) fn leads_to(&self, port: PortId) -> bool {
        self.0.values().any(|(id, _)| *id == port)
    }
}
