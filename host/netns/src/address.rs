//! Addresses of links.
//!
//! Owns adding, removing and listing. Never chooses an address.
//!
//! A reader must not break this: IPv6 addresses are added without duplicate address detection
//! (RFC 4862 §5.4). They come from an allocator, and one that is tentative for a second would
//! not answer its first packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use crate::{Netlink, NetlinkError};

/// An address on a link, with the network that is reachable through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address itself, host bits and all, and its prefix length.
    pub network: IpNetwork,
}

impl Netlink {
    /// Adds an address, usable at once on a link that is up.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] if the link has it.
    pub fn add_address(&self, link: &str, address: IpNetwork) -> Result<(), NetlinkError> {
        let mut message = message(self.index_of(link)?, address);
        message.header.flags = AddressHeaderFlags::Nodad;
        let action = format_args!("adding address {address} to link `{link}`");
        self.apply(action, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes an address.
    ///
    /// # Errors
    /// [`NetlinkError::Missing`] if the link has it not.
    pub fn remove_address(&self, link: &str, address: IpNetwork) -> Result<(), NetlinkError> {
        let message = message(self.index_of(link)?, address);
        let action = format_args!("removing address {address} from link `{link}`");
        self.remove(action, RouteNetlinkMessage::DelAddress(message))
    }

    /// The addresses of one link.
    pub fn addresses_of(&self, link: &str) -> Result<Vec<IpNetwork>, NetlinkError> {
        let index = self.index_of(link)?;
        let addresses = self.addresses()?.into_iter();
        Ok(addresses.filter(|address| address.link == index).map(|a| a.network).collect())
    }

    /// Every address of the namespace.
    pub fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let every = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump("listing addresses", every)?;
        Ok(answers.into_iter().filter_map(read).collect())
    }
}

fn message(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address.ip(), address.prefix())
            .build(),
        IpNetwork::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(address.ip(), address.prefix())
            .build(),
    }
}

fn read(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    // On a point-to-point link `Address` is the other side; the own one is `Local` wherever
    // there is one.
    let (mut local, mut address) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => address = Some(ip),
            _ => {}
        }
    }
    let network = IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address { link: message.header.index, network })
}
