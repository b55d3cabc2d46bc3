//! Answers neighbours on the uplink who ask for the addresses of load balancers.
//!
//! Owns for which the host's kernel answers, and that who knows another node by one of them is told.
//! Which node answers is not decided here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_filter::wire::builder::{self, BuildError, Ethernet, Ip};
use millrace_filter::wire::icmpv6::{self, NdOption};
use millrace_filter::wire::{MacAddr, arp, ipv6};
use millrace_netns::{
    Link, Namespace, NamespaceError, Netlink, NetlinkError, SysctlError, send_frame,
};

use crate::node::link::PROTOCOL;
use crate::node::state::{NodeState, StateError};

/// The addresses that are answered for.
pub(crate) struct Announcer {
    node: Namespace,
    net: Netlink,
    uplink: Link,
    answered: BTreeSet<IpAddr>,
}

/// Why neighbours are not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// A namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting stays as it is.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// What is changed would be forgotten.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nobody is told.
    #[error("telling neighbours of {address}: {source}")]
    Frame {
        /// The address that they should know.
        address: IpAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Announcer {
    /// Goes on with what a predecessor has begun, on a link of this thread's namespace. What has to be
    /// changed of it for that is remembered first.
    pub(crate) fn open(uplink: Link, state: &mut NodeState) -> Result<Self, AnnounceError> {
        let node = Namespace::current()?;
        let net = node.netlink()?;
        let name = &uplink.name;
        for (key, value) in [
            (format!("net.ipv6.conf.{name}.proxy_ndp"), "1"),
            // a kernel that answers for many takes its time, up to a second
            (format!("net.ipv4.neigh.{name}.proxy_delay"), "0"),
            (format!("net.ipv6.neigh.{name}.proxy_delay"), "0"),
        ] {
            let was = node.sysctl(&key)?;
            if was != value {
                state.change(|kept| {
                    kept.sysctls.entry(key.clone()).or_insert(was);
                })?;
                node.set_sysctl(&key, value)?;
            }
        }
        let there = net.proxies(PROTOCOL)?.into_iter().filter(|(link, _)| link == name);
        let answered = there.map(|(_, address)| address).collect();
        Ok(Self { node, net, uplink, answered })
    }

    /// Answers for these addresses, and for no others any more.
    ///
    /// # Errors
    /// The first thing that the kernel refused; the rest is done.
    pub(crate) fn answer_for(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), AnnounceError> {
        let mut refused = Ok(());
        for gone in &self.answered - addresses {
            match self.net.remove_proxy(&self.uplink.name, gone) {
                Ok(()) | Err(NetlinkError::Missing { .. }) => drop(self.answered.remove(&gone)),
                Err(error) => refused = refused.and(Err(error.into())),
            }
        }
        for address in addresses - &self.answered {
            let answered = self.net.add_proxy(&self.uplink.name, address, PROTOCOL);
            refused = refused.and(answered.map_err(AnnounceError::from).and_then(|()| {
                self.answered.insert(address);
                tracing::info!(%address, uplink = self.uplink.name, "is announced here");
                self.tell(address)
            }));
        }
        refused
    }

    /// Tells all neighbours, who may know another node by the address.
    fn tell(&self, address: IpAddr) -> Result<(), AnnounceError> {
        let Some(mac) = self.uplink.mac.map(MacAddr) else { return Ok(()) };
        let mut frame = [0; LONGEST];
        let length = match address {
            IpAddr::V4(v4) => gratuitous_arp(&mut frame, mac, v4),
            IpAddr::V6(v6) => unsolicited_advertisement(&mut frame, mac, v6),
        };
        let length = length.expect("the buffer is as long as the longest of both");
        let send = || send_frame(&self.uplink.name, &frame[..length]);
        self.node.run(send)?.map_err(|source| AnnounceError::Frame { address, source })
    }
}

/// RFC 5227 section 3: a request for one's own address.
fn gratuitous_arp(frame: &mut [u8], mac: MacAddr, address: Ipv4Addr) -> Result<usize, BuildError> {
    let ethernet = Ethernet::new(mac, MacAddr::BROADCAST);
    builder::arp(frame, &ethernet, &arp::Repr::request(mac, address, address))
}

/// RFC 4861 section 7.2.6, to all nodes.
fn unsolicited_advertisement(
    frame: &mut [u8],
    mac: MacAddr,
    address: Ipv6Addr,
) -> Result<usize, BuildError> {
    let ethernet = Ethernet::new(mac, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let Ip::V6(ip) = Ip::v6(address, all_nodes) else { unreachable!("it was asked for") };
    let ip = ipv6::Repr { hop_limit: icmpv6::ND_HOP_LIMIT, ..ip };
    let advertisement = icmpv6::Repr::NeighborAdvertisement {
        target: address,
        router: true,
        solicited: false,
        overrides: true,
    };
    let mut option = [0; 8];
    NdOption::TargetLinkLayer(mac).emit(&mut option);
    builder::icmpv6(frame, &ethernet, &ip, &advertisement, &option)
}

/// Octets of an advertisement: Ethernet, IPv6, ICMPv6 and its option.
const LONGEST: usize = 14 + 40 + 24 + 8;
