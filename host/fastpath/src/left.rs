//! What ports a predecessor has left, and by which numbers entries know them.

use std::net::{IpAddr, Ipv6Addr};

use crate::cache::MapFault;
use crate::entries::if_there;
use crate::layout::{EITHER_WAY, RawEgress, TO_TUNNEL};
use crate::{FlowCache, PortId};

/// What a port leads to, as far as its maps say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// A link with this index.
    Link(u32),
    /// A node behind a tunnel.
    Remote {
        /// The index of the link that has the tunnels.
        link: u32,
        /// The network identifier.
        vni: u32,
        /// The other end.
        address: IpAddr,
    },
}

impl FlowCache {
    /// The ports that there are, or that a predecessor has left, by their numbers.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn numbers(&self) -> Result<Vec<(PortId, Left)>, MapFault> {
        let mut left = Vec::new();
        for number in (1..=PortId::MAX).filter_map(PortId::new) {
            let egress = if_there(self.egresses.get(&number.number().into(), 0))?;
            left.extend(egress.as_ref().and_then(RawEgress::remote).map(|it| (number, it)));
        }
        let ports: Result<Vec<_>, _> = self.ports.iter().collect();
        for (link, number) in ports.map_err(MapFault)? {
            let number = u16::try_from(number).ok().and_then(PortId::new);
            left.extend(number.map(|number| (number, Left::Link(link))));
        }
        let uplinks: Result<Vec<_>, _> = self.uplinks.iter().collect();
        for (link, uplink) in uplinks.map_err(MapFault)? {
            let number = u16::try_from(uplink.port).ok().and_then(PortId::new);
            left.extend(number.map(|number| (number, Left::Link(link))));
        }
        Ok(left)
    }

    /// Forgets which node has which addresses and tunnel, and what was an uplink, where that is a
    /// predecessor's.
    pub(crate) fn forget_remotes(&mut self) -> Result<(), MapFault> {
        let keys: Result<Vec<_>, _> = self.owners.keys().collect();
        for key in keys.map_err(MapFault)? {
            let number = if_there(self.owners.get(&key, 0))?;
            let number = number.and_then(|number| u16::try_from(number & !EITHER_WAY).ok());
            if !number.and_then(PortId::new).is_some_and(|it| self.links.tunnels.leads_to(it)) {
                if_there(self.owners.remove(&key))?;
            }
        }
        for (number, left) in self.numbers()? {
            if matches!(left, Left::Remote { .. }) && !self.links.tunnels.leads_to(number) {
                self.close(number.number().into())?;
            }
        }
        let uplinks: Result<Vec<_>, _> = self.uplinks.keys().collect();
        for link in uplinks.map_err(MapFault)? {
            if !self.links.uplinks.has(link) {
                if_there(self.uplinks.remove(&link))?;
            }
        }
        Ok(())
    }
}

impl RawEgress {
    /// The node that it leads to, if it is one behind a tunnel.
    fn remote(&self) -> Option<Left> {
        if self.flags & u32::from(TO_TUNNEL) == 0 {
            return None;
        }
        let address = match self.family {
            4 => IpAddr::V4(self.remote[0].into()),
            _ => {
                let mut octets = [0; 16];
                let words = octets.chunks_exact_mut(4).zip(self.remote);
                // in network byte order
                words.for_each(|(octets, word)| octets.copy_from_slice(&word.to_ne_bytes()));
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        };
        Some(Left::Remote { link: self.ifindex, vni: self.vni, address })
    }
}
