//! Answers neighbours on the uplink who ask for the addresses of load balancers.
//!
//! Owns for which the host's kernel answers, and that who knows another node by one of them is told:
//! twice, and again when the link was down or has another address of its own. Which node answers is
//! not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

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
    /// As it was when it was looked at last.
    uplink: Link,
    answered: BTreeSet<IpAddr>,
    /// What neighbours are yet to be told, and how often.
    owed: BTreeMap<IpAddr, u32>,
    /// When that is looked at next.
    due: Instant,
    is_refused: bool,
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
        let answered: BTreeSet<_> = there.map(|(_, address)| address).collect();
        // the predecessor may not have come to it
        let owed = answered.iter().map(|address| (*address, TIMES)).collect();
        Ok(Self { node, net, uplink, answered, owed, due: Instant::now(), is_refused: false })
    }

    /// Answers for these addresses, and for no others any more; neighbours are to be
    /// [told](Self::remind).
    ///
    /// # Errors
    /// The first thing that the kernel refused; the rest is done.
    pub(crate) fn answer_for(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), AnnounceError> {
        let mut refused = Ok(());
        for gone in &self.answered - addresses {
            match self.net.remove_proxy(&self.uplink.name, gone) {
                Ok(()) | Err(NetlinkError::Missing { .. }) => {
                    self.answered.remove(&gone);
                    self.owed.remove(&gone);
                }
                Err(error) => refused = refused.and(Err(error.into())),
            }
        }
        for address in addresses - &self.answered {
            let answered = self.answer(address).map_err(AnnounceError::from);
            refused = refused.and(answered.map(|()| {
                tracing::info!(%address, uplink = self.uplink.name, "is announced here");
                self.due = Instant::now();
            }));
        }
        refused
    }

    /// Tells neighbours what they are to be told by now, and answers again for what the kernel has
    /// forgotten, as it does when the link goes down. Says how it went, if it failed or has before:
    /// what is left is done another time.
    pub(crate) fn remind(&mut self, now: Instant) -> Option<Result<(), AnnounceError>> {
        if now < self.due {
            return None;
        }
        self.due = now + EVERY;
        let outcome = match self.answered.is_empty() {
            true => Ok(()),
            false => self.look_after().and_then(|()| self.tell_all()),
        };
        let was_refused = std::mem::replace(&mut self.is_refused, outcome.is_err());
        (was_refused || outcome.is_err()).then_some(outcome)
    }

    /// Whether something was refused when neighbours were last told.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    fn look_after(&mut self) -> Result<(), AnnounceError> {
        let uplink = self.net.link(&self.uplink.name)?;
        let proxies = self.net.proxies(PROTOCOL)?;
        let there: BTreeSet<_> = proxies
            .into_iter()
            .filter(|(link, _)| *link == uplink.name)
            .map(|(_, address)| address)
            .collect();
        for forgotten in &self.answered - &there {
            self.answer(forgotten)?;
            tracing::info!(address = %forgotten, uplink = uplink.name, "is announced here again");
        }
        let standing = |link: &Link| (link.mac, link.up, link.carrier);
        if standing(&uplink) != standing(&self.uplink) {
            self.owed.extend(self.answered.iter().map(|address| (*address, TIMES)));
        }
        self.uplink = uplink;
        Ok(())
    }

    fn answer(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        self.net.add_proxy(&self.uplink.name, address, PROTOCOL)?;
        self.answered.insert(address);
        self.owed.insert(address, TIMES);
        Ok(())
    }

    fn tell_all(&mut self) -> Result<(), AnnounceError> {
        let mut refused = Ok(());
        for (address, times) in std::mem::take(&mut self.owed) {
            let told = self.tell(address);
            let left = if told.is_ok() { times - 1 } else { times };
            if left > 0 {
                self.owed.insert(address, left);
            }
            refused = refused.and(told);
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

/// How often neighbours are told of an address: RFC 5227 section 1.1 (`ANNOUNCE_NUM`), and no more than
/// RFC 4861 section 7.2.6 has it.
const TIMES: u32 = 2;
/// How soon again (`ANNOUNCE_INTERVAL` there).
const EVERY: Duration = Duration::from_secs(2);
/// Octets of an advertisement: Ethernet, IPv6, ICMPv6 and its option.
const LONGEST: usize = 14 + 40 + 24 + 8;
