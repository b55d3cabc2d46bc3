//! Where Services are reached from outside: ports of addresses whose packets are the cache's, although
//! the address may be the host's own.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use aya::maps::{HashMap, MapData};

use crate::FlowCache;
use crate::cache::MapFault;
use crate::entries::if_there;
use crate::layout::RawFrontend;

/// A port of an address, with a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// The address, and the port there.
    pub at: SocketAddr,
    /// The protocol's number (IANA, Assigned Internet Protocol Numbers).
    pub protocol: u8,
}

/// Those that are claimed.
pub(crate) struct Frontends {
    map: HashMap<MapData, RawFrontend, u32>,
    /// What is in there.
    claimed: HashSet<RawFrontend>,
}

impl FlowCache {
    /// Claims these, in place of those before: packets to them that come in by uplinks are the
    /// cache's, and so are ICMP errors about packets that they sent.
    ///
    /// # Errors
    /// If the kernel refuses. Some of them may be claimed then.
    pub fn claim(&mut self, frontends: impl IntoIterator<Item = Frontend>) -> Result<(), MapFault> {
        let wanted: HashSet<_> = frontends.into_iter().map(RawFrontend::from).collect();
        let frontends = &mut self.frontends;
        let gone: Vec<_> = frontends.claimed.difference(&wanted).copied().collect();
        gone.into_iter().try_for_each(|it| frontends.waive(it))?;
        wanted.into_iter().try_for_each(|it| frontends.claim(it))
    }

    /// Claims one more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn claim_also(&mut self, frontend: Frontend) -> Result<(), MapFault> {
        self.frontends.claim(frontend.into())
    }

    /// Claims one no longer.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn waive(&mut self, frontend: Frontend) -> Result<(), MapFault> {
        self.frontends.waive(frontend.into())
    }
}

impl Frontends {
    /// Those of the map, which may be a predecessor's.
    pub(crate) fn of(map: HashMap<MapData, RawFrontend, u32>) -> Result<Self, MapFault> {
        let claimed = map.keys().collect::<Result<_, _>>().map_err(MapFault)?;
        Ok(Self { map, claimed })
    }

    fn claim(&mut self, frontend: RawFrontend) -> Result<(), MapFault> {
        if !self.claimed.contains(&frontend) {
            self.map.insert(frontend, 1, 0).map_err(MapFault)?;
            self.claimed.insert(frontend);
        }
        Ok(())
    }

    fn waive(&mut self, frontend: RawFrontend) -> Result<(), MapFault> {
        if self.claimed.contains(&frontend) {
            if_there(self.map.remove(&frontend))?;
            self.claimed.remove(&frontend);
        }
        Ok(())
    }
}

impl From<Frontend> for RawFrontend {
    fn from(frontend: Frontend) -> Self {
        let address = match frontend.at.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            address: address.octets(),
            port: frontend.at.port().to_be_bytes(),
            protocol: frontend.protocol,
            zero: 0,
        }
    }
}
