//! Links: listed, looked up, changed, tied to a bridge, moved and deleted.
//!
//! Owns every link operation that is one small message. Making the kinds that need a
//! specification is in `veth` and `vxlan`.
//!
//! A reader must not break this: links are named by their names, which the kernel resolves in
//! the same step, so that no index of a vanished link is ever reused by mistake.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::AsRawFd;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use crate::{Link, Namespace, Netlink, NetlinkError, Refusal};

impl Netlink {
    /// Every link of the namespace.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let answers = self.dump("listing links", query(LinkUnspec::new_with_index(0)))?;
        Ok(answers.into_iter().filter_map(new_link).collect())
    }

    /// The link with this name.
    pub fn link(&self, name: &str) -> Result<Link, NetlinkError> {
        self.find(LinkUnspec::new_with_name(name), format!("`{name}`"))
    }

    /// The link with this index.
    pub fn link_by_index(&self, index: u32) -> Result<Link, NetlinkError> {
        self.find(LinkUnspec::new_with_index(index), format!("with index {index}"))
    }

    /// Makes a bridge, without spanning tree, and returns it.
    pub fn add_bridge(&self, name: &str) -> Result<Link, NetlinkError> {
        check_name(name)?;
        let action = format_args!("creating bridge `{name}`");
        self.add_link(action, name, LinkBridge::new(name).build())
    }

    /// Deletes a link, and with one end of a veth pair the other.
    pub fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        let action = format_args!("deleting link `{name}`");
        self.by_name(name, self.apply(action, RouteNetlinkMessage::DelLink(message), 0))
    }

    /// Sets a link up.
    pub fn set_up(&self, name: &str) -> Result<(), NetlinkError> {
        self.change(name, format_args!("setting link `{name}` up"), |link| link.up())
    }

    /// Sets a link down, which also removes its routes.
    pub fn set_down(&self, name: &str) -> Result<(), NetlinkError> {
        self.change(name, format_args!("setting link `{name}` down"), |link| link.down())
    }

    /// Sets the MTU, in bytes.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let action = format_args!("setting the MTU of link `{name}` to {mtu}");
        self.change(name, action, |link| link.mtu(mtu))
    }

    /// Sets the link's own address.
    pub fn set_mac(&self, name: &str, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let action = format_args!("setting the MAC address of link `{name}`");
        self.change(name, action, |link| link.address(mac.to_vec()))
    }

    /// Gives a link another name. Kernels before 6.2 want it down for that.
    pub fn rename(&self, name: &str, new: &str) -> Result<(), NetlinkError> {
        check_name(new)?;
        // with a new name in it, the message has to find the link by index
        let link = self.link(name)?;
        let message = LinkUnspec::new_with_index(link.index).name(new).build();
        let action = format_args!("renaming link `{name}` to `{new}`");
        self.by_name(name, self.apply(action, RouteNetlinkMessage::NewLink(message), 0))
    }

    /// Moves a link into another namespace, where it arrives set down and without addresses.
    pub fn move_to(&self, name: &str, namespace: &Namespace) -> Result<(), NetlinkError> {
        let action = format_args!("moving link `{name}` to {namespace}");
        self.change(name, action, |link| link.setns_by_fd(namespace.fd().as_raw_fd()))
    }

    /// Makes a link a port of a bridge.
    pub fn enslave(&self, name: &str, master: &str) -> Result<(), NetlinkError> {
        let master_index = self.link(master)?.index;
        let action = format_args!("making link `{name}` a port of `{master}`");
        self.change(name, action, |link| link.controller(master_index))
    }

    /// Takes a link out of its bridge. Without effect on one that is in none.
    pub fn release(&self, name: &str) -> Result<(), NetlinkError> {
        let action = format_args!("releasing link `{name}` from its master");
        self.change(name, action, |link| link.nocontroller())
    }

    /// Makes a link and reads it back.
    pub(crate) fn add_link(
        &self,
        action: impl fmt::Display,
        name: &str,
        message: LinkMessage,
    ) -> Result<Link, NetlinkError> {
        self.apply(action, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        self.link(name)
    }

    /// The index of a link, for the messages that want one.
    pub(crate) fn index_of(&self, name: &str) -> Result<u32, NetlinkError> {
        self.link(name).map(|link| link.index)
    }

    /// Names by index, for the tables that hold indexes.
    pub(crate) fn names(&self) -> Result<HashMap<u32, String>, NetlinkError> {
        Ok(self.links()?.into_iter().map(|link| (link.index, link.name)).collect())
    }

    fn find(
        &self,
        wanted: LinkMessageBuilder<LinkUnspec>,
        description: String,
    ) -> Result<Link, NetlinkError> {
        match self.ask(query(wanted), 0) {
            Ok(answers) => answers.into_iter().find_map(new_link),
            Err(refusal) if is_unknown(&refusal) => None,
            Err(refusal) => {
                let action = format_args!("looking for link {description}");
                return Err(NetlinkError::from_refusal(action, refusal));
            }
        }
        .ok_or_else(|| self.no_such_link(description))
    }

    fn change(
        &self,
        name: &str,
        action: impl fmt::Display,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetlinkError> {
        let message = change(LinkUnspec::new_with_name(name)).build();
        self.by_name(name, self.apply(action, RouteNetlinkMessage::NewLink(message), 0))
    }

    /// Says which links there are if it was the name that failed.
    fn by_name(&self, name: &str, outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
        outcome.map_err(|error| match error {
            NetlinkError::Refused { refusal, .. } if is_unknown(&refusal) => {
                self.no_such_link(format!("`{name}`"))
            }
            other => other,
        })
    }
}

/// Checks a new name as `dev_valid_name` in net/core/dev.c does, and refuses `%`, which would
/// make it a pattern.
pub(crate) fn check_name(name: &str) -> Result<(), NetlinkError> {
    let fault = match name {
        "" => "it is empty",
        "." | ".." => "it is a directory",
        _ if name.len() > MAX_NAME_LEN => "it is longer than 15 bytes",
        _ if name.contains(['/', ':', '%']) => "it contains `/`, `:` or `%`",
        _ if name.contains(char::is_whitespace) => "it contains a space",
        _ => return Ok(()),
    };
    Err(NetlinkError::BadName { name: name.to_owned(), fault })
}

/// Asks without the counters, which are most of an answer.
pub(crate) fn query(link: LinkMessageBuilder<LinkUnspec>) -> RouteNetlinkMessage {
    let lean = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    RouteNetlinkMessage::GetLink(link.append_extra_attribute(lean).build())
}

/// The link that a message announces or describes.
pub(crate) fn new_link(message: RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
        _ => None,
    }
}

fn is_unknown(refusal: &Refusal) -> bool {
    refusal.errno() == Some(libc::ENODEV)
}

/// `IFNAMSIZ` without the terminating zero.
const MAX_NAME_LEN: usize = 15;
