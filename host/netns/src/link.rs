//! What a link is: the answer to `ip link show`, read from an rtnetlink message.
//!
//! Owns the reading. Never talks to the kernel; `links` does.
//!
//! A reader must not break this: a [`Link`] holds only what stays put while nobody changes the
//! link (no counters), since [`LinkWatch`](crate::LinkWatch) reports a change when two differ.

use std::fmt;

use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    State,
};

use crate::shape::is_shaper;

/// A network interface as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number the kernel knows it by in its namespace (`ifindex`).
    pub index: u32,
    /// Unique in its namespace, at most 15 bytes.
    pub name: String,
    /// Its own address, in transmission order; `None` where the link layer has no 48-bit ones.
    pub mac: Option<[u8; 6]>,
    /// Largest network-layer packet, in bytes.
    pub mtu: u32,
    /// What made it.
    pub kind: LinkKind,
    /// Whether its frames start with an Ethernet header (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// Whether it was set up (`IFF_UP`).
    pub up: bool,
    /// Whether there is somebody at the other end (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Both of these in one, as RFC 2863 has it.
    pub state: LinkState,
    /// Whether a queueing discipline of its own decides how fast it sends.
    pub shaped: bool,
    /// Index of the bridge or bond it is a port of.
    pub master: Option<u32>,
    /// The other end of a veth pair, or what a tunnel or VLAN runs on.
    pub peer: Option<Peer>,
    /// What its tunnels are like, if it is one of VXLAN's.
    pub vxlan: Option<Vxlan>,
    /// Receive queues there is room for; [`Channels`](crate::Channels) says how many are used.
    pub rx_queues: u32,
    /// Transmit queues there is room for.
    pub tx_queues: u32,
}

/// The link that another link is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its own namespace.
    pub index: u32,
    /// The number that the link's namespace knows the peer's by (`ip netns list-id`); `None` if
    /// they share one.
    pub namespace: Option<i32>,
}

/// What the tunnels of a link are like (`IFLA_VXLAN_*` in `linux/if_link.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Whether who sends says of each packet where it goes.
    pub external: bool,
    /// The network identifier; 0 of an external one.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Whether it learns who is behind which tunnel.
    pub learning: bool,
}

/// What made a link (`IFLA_INFO_KIND`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Hardware, or what poses as it: the kernel gives no kind.
    Device,
    /// The namespace's own `lo`.
    Loopback,
    /// One end of a pair.
    Veth,
    /// A learning bridge.
    Bridge,
    /// A VXLAN tunnel, RFC 7348.
    Vxlan,
    /// A tun or tap device.
    Tun,
    /// Any other, by the kernel's name for it.
    Other(String),
}

/// The operational state (RFC 2863 §3.1.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The driver does not say; `lo` is always so.
    Unknown,
    /// A part is missing.
    NotPresent,
    /// No carrier, or set down.
    Down,
    /// What it runs on is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for something outside, such as authentication.
    Dormant,
    /// Ready to carry packets.
    Up,
}

impl Link {
    /// Reads a whole link. Attributes that a message lacks are left empty or zero.
    pub(crate) fn from_message(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let layer = message.header.link_layer_type;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            kind: match layer {
                LinkLayerType::Loopback => LinkKind::Loopback,
                _ => LinkKind::Device,
            },
            ethernet: layer == LinkLayerType::Ether,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            state: LinkState::Unknown,
            shaped: false,
            master: None,
            peer: None,
            vxlan: None,
            rx_queues: 0,
            tx_queues: 0,
        };
        let mut peer_namespace = None;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(octets) => link.mac = octets.try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Qdisc(discipline) => link.shaped = is_shaper(&discipline),
                LinkAttribute::OperState(state) => link.state = state.into(),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(0) => {}
                LinkAttribute::Link(index) => link.peer = Some(Peer { index, namespace: None }),
                LinkAttribute::LinkNetNsId(id) => peer_namespace = Some(id),
                LinkAttribute::NumRxQueues(count) => link.rx_queues = count,
                LinkAttribute::NumTxQueues(count) => link.tx_queues = count,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = kind.into(),
                            LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(vxlan(data)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(peer) = &mut link.peer {
            peer.namespace = peer_namespace;
        }
        link
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn vxlan(data: Vec<InfoVxlan>) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for attribute in data {
        match attribute {
            InfoVxlan::CollectMetadata(external) => vxlan.external = external,
            InfoVxlan::Id(vni) => vxlan.vni = vni,
            InfoVxlan::Port(port) => vxlan.port = port,
            InfoVxlan::Learning(learning) => vxlan.learning = learning,
            _ => {}
        }
    }
    vxlan
}

impl From<InfoKind> for LinkKind {
    fn from(kind: InfoKind) -> Self {
        match kind {
            InfoKind::Veth => Self::Veth,
            InfoKind::Bridge => Self::Bridge,
            InfoKind::Vxlan => Self::Vxlan,
            InfoKind::Tun => Self::Tun,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<State> for LinkState {
    fn from(state: State) -> Self {
        match state {
            State::NotPresent => Self::NotPresent,
            State::Down => Self::Down,
            State::LowerLayerDown => Self::LowerLayerDown,
            State::Testing => Self::Testing,
            State::Dormant => Self::Dormant,
            State::Up => Self::Up,
            _ => Self::Unknown,
        }
    }
}
