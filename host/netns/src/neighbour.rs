//! Neighbours: which MAC address an IP address of a link has (ARP, RFC 826; NDP, RFC 4861).
//!
//! Owns adding, replacing, removing and listing. Never resolves anything itself.

use std::fmt;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as KernelState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{Netlink, NetlinkError};

/// One entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The name of the link it is reached through.
    pub link: String,
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address, in transmission order; `None` while it is not known.
    pub mac: Option<[u8; 6]>,
    /// How sure the kernel is.
    pub state: NeighbourState,
}

/// How sure the kernel is of a neighbour (`NUD_*` in `linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Set by hand; the kernel neither asks nor forgets.
    Permanent,
    /// Confirmed a short while ago.
    Reachable,
    /// Confirmed once; will be asked on next use.
    Stale,
    /// Used since; about to be asked.
    Delay,
    /// Being asked again.
    Probe,
    /// Being asked for the first time.
    Incomplete,
    /// Asked in vain.
    Failed,
}

impl Neighbour {
    /// An entry that stays until it is removed.
    pub fn permanent(link: impl Into<String>, address: IpAddr, mac: [u8; 6]) -> Self {
        Self { link: link.into(), address, mac: Some(mac), state: NeighbourState::Permanent }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neighbour {} on link `{}`", self.address, self.link)
    }
}

impl Netlink {
    /// Adds a neighbour.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] if the link has one with this IP address.
    pub fn add_neighbour(&self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewNeighbour(self.message(neighbour)?);
        self.apply(format_args!("adding {neighbour}"), message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Adds a neighbour, or overwrites the one with this IP address.
    pub fn replace_neighbour(&self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewNeighbour(self.message(neighbour)?);
        self.apply(format_args!("replacing {neighbour}"), message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes the neighbour with this IP address from a link.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] if there is none.
    pub fn remove_neighbour(&self, link: &str, address: IpAddr) -> Result<(), NetlinkError> {
        let message = key(self.index_of(link)?, address);
        let action = format_args!("removing neighbour {address} from link `{link}`");
        self.remove(action, RouteNetlinkMessage::DelNeighbour(message))
    }

    /// Every neighbour of the namespace; like `ip neigh`, without the entries for multicast
    /// addresses, which need no resolution.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let every = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.dump("listing neighbours", every)?;
        let names = self.names()?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| read(answer, |index| names.get(&index).cloned()))
            .collect())
    }

    fn message(&self, neighbour: &Neighbour) -> Result<NeighbourMessage, NetlinkError> {
        let mut message = key(self.index_of(&neighbour.link)?, neighbour.address);
        message.header.state = neighbour.state.into();
        if let Some(mac) = neighbour.mac {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        }
        Ok(message)
    }
}

impl From<NeighbourState> for KernelState {
    fn from(state: NeighbourState) -> Self {
        match state {
            NeighbourState::Permanent => Self::Permanent,
            NeighbourState::Reachable => Self::Reachable,
            NeighbourState::Stale => Self::Stale,
            NeighbourState::Delay => Self::Delay,
            NeighbourState::Probe => Self::Probe,
            NeighbourState::Incomplete => Self::Incomplete,
            NeighbourState::Failed => Self::Failed,
        }
    }
}

/// What identifies an entry.
pub(crate) fn key(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

/// The IP address of an entry.
pub(crate) fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    })
}

fn read(
    message: RouteNetlinkMessage,
    name_of: impl Fn(u32) -> Option<String>,
) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let state = match message.header.state {
        KernelState::Permanent => NeighbourState::Permanent,
        KernelState::Reachable => NeighbourState::Reachable,
        KernelState::Stale => NeighbourState::Stale,
        KernelState::Delay => NeighbourState::Delay,
        KernelState::Probe => NeighbourState::Probe,
        KernelState::Incomplete => NeighbourState::Incomplete,
        KernelState::Failed => NeighbourState::Failed,
        _ => return None,
    };
    let address = destination(&message)?;
    let mac = message.attributes.into_iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) => octets.try_into().ok(),
        _ => None,
    });
    Some(Neighbour { link: name_of(message.header.ifindex)?, address, mac, state })
}
