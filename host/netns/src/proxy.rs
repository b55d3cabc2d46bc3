//! Addresses that a link's host answers for although they are others' (proxy ARP, RFC 1027; proxying
//! of NDP, RFC 4861 section 7.2.8).
//!
//! Owns which they are. The kernel answers only where it forwards, and has a route to the address by
//! another link; for IPv6 only with `net.ipv6.conf.LINK.proxy_ndp`.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};

use crate::neighbour::{destination, key};
use crate::{Netlink, NetlinkError, RouteProtocol};

impl Netlink {
    /// Has the host answer for an address on a link, for whoever has this protocol (Linux 5.0).
    pub fn add_proxy(
        &self,
        link: &str,
        address: IpAddr,
        protocol: RouteProtocol,
    ) -> Result<(), NetlinkError> {
        let mut message = proxy(self.index_of(link)?, address);
        message.attributes.push(NeighbourAttribute::Protocol(protocol.0.into()));
        let message = RouteNetlinkMessage::NewNeighbour(message);
        let action = format_args!("answering for {address} on link `{link}`");
        self.apply(action, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Has it not answer any more.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] if it does not.
    pub fn remove_proxy(&self, link: &str, address: IpAddr) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelNeighbour(proxy(self.index_of(link)?, address));
        self.remove(format_args!("no longer answering for {address} on link `{link}`"), message)
    }

    /// The addresses that it answers for, for whoever has this protocol; each with its link.
    pub fn proxies(&self, protocol: RouteProtocol) -> Result<Vec<(String, IpAddr)>, NetlinkError> {
        let mut every = NeighbourMessage::default();
        every.header.flags = NeighbourFlags::Proxy;
        let answers = self.dump("listing proxies", RouteNetlinkMessage::GetNeighbour(every))?;
        let names = self.names()?;
        let theirs = NeighbourAttribute::Protocol(protocol.0.into());
        let address = |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(it) if it.attributes.contains(&theirs) => {
                Some((names.get(&it.header.ifindex)?.clone(), destination(&it)?))
            }
            _ => None,
        };
        Ok(answers.into_iter().filter_map(address).collect())
    }
}

fn proxy(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = key(index, address);
    message.header.flags = NeighbourFlags::Proxy;
    message
}
