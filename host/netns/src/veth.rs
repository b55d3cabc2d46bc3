//! Veth pairs: two links, a frame sent into one arrives at the other.
//!
//! Owns the making of a pair in one message, so that there is never half of one. Never changes
//! a pair afterwards; both ends are ordinary links.
//!
//! A reader must not break this: queue counts go to both ends alike. Left to itself the kernel
//! gives the other end a default of its own, and the driver refuses an XDP program on an end
//! with fewer receive queues than its peer has transmit queues (`veth_xdp_set`).

use std::os::fd::AsRawFd;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::links::check_name;
use crate::{Link, Namespace, Netlink, NetlinkError};

/// A veth pair to be made: the near end in the handle's namespace, the peer there or elsewhere.
#[derive(Clone, Debug)]
pub struct VethSpec<'a> {
    name: &'a str,
    peer: &'a str,
    peer_namespace: Option<&'a Namespace>,
    mac: Option<[u8; 6]>,
    peer_mac: Option<[u8; 6]>,
    mtu: Option<u32>,
    queues: Option<u32>,
}

impl<'a> VethSpec<'a> {
    /// A pair with the kernel's defaults: MTU 1500, random addresses, one queue in use.
    pub fn new(name: &'a str, peer: &'a str) -> Self {
        Self {
            name,
            peer,
            peer_namespace: None,
            mac: None,
            peer_mac: None,
            mtu: None,
            queues: None,
        }
    }

    /// Puts the peer there, where its name may equal the near end's.
    pub fn peer_namespace(mut self, namespace: &'a Namespace) -> Self {
        self.peer_namespace = Some(namespace);
        self
    }

    /// The near end's address.
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The peer's address.
    pub fn peer_mac(mut self, mac: [u8; 6]) -> Self {
        self.peer_mac = Some(mac);
        self
    }

    /// The MTU of both ends, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// As many receive and as many transmit queues, all in use, on both ends.
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = Some(queues);
        self
    }

    /// What both ends have in common, and what tells them apart.
    fn end<T>(
        &self,
        end: LinkMessageBuilder<T>,
        name: &str,
        mac: Option<[u8; 6]>,
    ) -> LinkMessageBuilder<T> {
        let mut end = end.name(name);
        if let Some(mac) = mac {
            end = end.address(mac.to_vec());
        }
        if let Some(mtu) = self.mtu {
            end = end.mtu(mtu);
        }
        if let Some(queues) = self.queues {
            end = end
                .append_extra_attribute(LinkAttribute::NumRxQueues(queues))
                .append_extra_attribute(LinkAttribute::NumTxQueues(queues));
        }
        end
    }
}

impl Netlink {
    /// Makes a veth pair, both ends down, and returns the near end.
    ///
    /// # Errors
    /// [`NetlinkError::Exists`] if either name is taken in its namespace.
    pub fn add_veth(&self, spec: &VethSpec<'_>) -> Result<Link, NetlinkError> {
        check_name(spec.name)?;
        check_name(spec.peer)?;
        let mut peer = spec.end(LinkUnspec::new_with_index(0), spec.peer, spec.peer_mac);
        if let Some(namespace) = spec.peer_namespace {
            peer = peer.setns_by_fd(namespace.fd().as_raw_fd());
        }
        let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        let message = spec.end(near, spec.name, spec.mac).build();
        let action = format_args!("creating veth `{}` with peer `{}`", spec.name, spec.peer);
        self.add_link(action, spec.name, message)
    }
}
