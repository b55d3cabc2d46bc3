//! VXLAN tunnels (RFC 7348), in the two shapes the dataplane has a use for.
//!
//! Owns the making of the link. Never fills a forwarding database, and has the kernel fill none: an
//! external tunnel takes its peer from each packet, the other shape has one peer.

use std::net::IpAddr;

use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::{LinkMessageBuilder, LinkVxlan};

use crate::links::check_name;
use crate::{Link, Netlink, NetlinkError};

/// A VXLAN link to be made.
#[derive(Clone, Debug)]
pub struct VxlanSpec<'a> {
    name: &'a str,
    mode: VxlanMode,
    port: u16,
    local: Option<IpAddr>,
}

/// Where a VXLAN link's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VxlanMode {
    /// Whoever sends says so for each packet, in BPF or tc (`external`, "collect metadata").
    External,
    /// To one peer, under one network identifier.
    PointToPoint {
        /// The VXLAN network identifier, 24 bits.
        vni: u32,
        /// The peer's underlay address.
        remote: IpAddr,
    },
}

impl<'a> VxlanSpec<'a> {
    /// A tunnel on the registered port, 4789.
    pub fn new(name: &'a str, mode: VxlanMode) -> Self {
        Self { name, mode, port: VXLAN_PORT, local: None }
    }

    /// The UDP port to receive on and to send to.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The underlay address to send from; otherwise routing picks one.
    pub fn local(mut self, local: IpAddr) -> Self {
        self.local = Some(local);
        self
    }
}

impl Netlink {
    /// Makes a VXLAN link, set down, and returns it.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] if the name is taken, or if another VXLAN link of the namespace
    /// has the same port and mode or identifier.
    pub fn add_vxlan(&self, spec: &VxlanSpec<'_>) -> Result<Link, NetlinkError> {
        check_name(spec.name)?;
        let mut link = LinkMessageBuilder::<LinkVxlan>::new_with_info_kind(InfoKind::Vxlan)
            .name(spec.name)
            .port(spec.port);
        link = match spec.mode {
            // learning what nobody asks for again would be a way to fill memory
            VxlanMode::External => link.collect_metadata(true).learning(false),
            VxlanMode::PointToPoint { vni, remote: IpAddr::V4(remote) } => {
                link.id(vni).remote(remote)
            }
            VxlanMode::PointToPoint { vni, remote: IpAddr::V6(remote) } => {
                link.id(vni).remote6(remote)
            }
        };
        link = match spec.local {
            Some(IpAddr::V4(local)) => link.local(local),
            Some(IpAddr::V6(local)) => link.local6(local),
            None => link,
        };
        let action = format_args!("creating VXLAN link `{}` on port {}", spec.name, spec.port);
        self.add_link(action, spec.name, link.build())
    }
}

const VXLAN_PORT: u16 = 4789;
