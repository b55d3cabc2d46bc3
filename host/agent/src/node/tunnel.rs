//! The tunnels to other nodes: one link has all of them (VXLAN, RFC 7348).
//!
//! What goes through is addressed from gateway to gateway, and these have the same address on every
//! node. So an answer to what came in has but to change its ends.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_dataplane::control::request::{AddPort, Beyond, Prefix, Tunnel};
use millrace_dataplane::port::{Hold, Station, Vlans};
use millrace_netns::{Namespace, NetlinkError, Vxlan, VxlanMode, VxlanSpec};

use crate::node::attach::gateway;
use crate::node::link::{GATEWAY_MAC, keep_quiet};
use crate::node::peers::{Mode, Peer, PeerError};

/// How nodes are joined. It is the same for all nodes of a cluster.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TunnelArgs {
    /// How pods of other nodes are reached: in VXLAN tunnels, as they are, or in tunnels to other
    /// subnets alone.
    #[arg(long = "tunnel", value_name = "MODE", value_enum, default_value_t)]
    pub(crate) mode: Mode,

    /// The UDP port of the tunnels.
    #[arg(long, value_name = "PORT", default_value_t = 4789)]
    tunnel_port: u16,

    /// The network identifier (VNI) of the tunnels, below 2^24.
    #[arg(long, value_name = "VNI", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(..1 << 24))]
    tunnel_vni: u32,
}

impl TunnelArgs {
    /// The same, as arguments of another program.
    pub(crate) fn words(&self) -> [String; 3] {
        let mode = self.mode.to_possible_value().expect("no mode is hidden");
        [
            format!("--tunnel={}", mode.get_name()),
            format!("--tunnel-port={}", self.tunnel_port),
            format!("--tunnel-vni={}", self.tunnel_vni),
        ]
    }

    /// Bytes of the largest IP packet of a pod, where `underlay` are those of one between nodes, and
    /// tunnels lead to these.
    pub(crate) fn mtu(&self, underlay: u32, ends: impl Iterator<Item = IpAddr>) -> u32 {
        let overhead = ends.map(|end| match (self.mode, end) {
            (Mode::Native, _) => 0,
            (_, IpAddr::V4(_)) => OVERHEAD_V4,
            (_, IpAddr::V6(_)) => OVERHEAD_V6,
        });
        underlay.saturating_sub(overhead.max().unwrap_or(0))
    }

    /// Makes the link. One that is there stays if it is as it should be: flows lead through it.
    /// There is none if no node is behind a tunnel.
    pub(crate) fn make_link(
        &self,
        node: &Namespace,
        peers: &[Peer],
        mtu: u32,
    ) -> Result<(), PeerError> {
        let net = node.netlink()?;
        let is_wanted = peers.iter().any(|peer| peer.tunnel.is_some());
        let like = Vxlan { external: true, vni: 0, port: self.tunnel_port, learning: false };
        let present = match net.link(LINK) {
            Ok(link) if is_wanted && link.vxlan == Some(like) => Some(link),
            Ok(_) => {
                tracing::info!(link = LINK, "removed: it is not as tunnels need it");
                net.delete_link(LINK)?;
                None
            }
            Err(NetlinkError::NoSuchLink { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let link = match present {
            _ if !is_wanted => return Ok(()),
            Some(link) => link,
            None => {
                let spec = VxlanSpec::new(LINK, VxlanMode::External).port(self.tunnel_port);
                net.add_vxlan(&spec)?
            }
        };
        if link.mtu != mtu {
            net.set_mtu(LINK, mtu)?;
        }
        if !link.up {
            keep_quiet(node, LINK)?;
            net.set_up(LINK)?;
        }
        Ok(())
    }

    /// The UDP port of the tunnels.
    pub(crate) fn udp_port(&self) -> u16 {
        self.tunnel_port
    }

    /// The ports of the nodes behind tunnels.
    pub(crate) fn ports(&self, peers: &[Peer], gateways: &[IpNetwork]) -> Vec<AddPort> {
        let port = |peer: &Peer| {
            let tunnel = Tunnel {
                interface: LINK.to_owned(),
                vni: self.tunnel_vni,
                remote: peer.tunnel?,
                owns: peer.pod_cidrs.iter().copied().map(prefix).collect(),
                has: peer.addresses.iter().map(|address| prefix((*address).into())).collect(),
            };
            let station = Station { mac: GATEWAY_MAC, gateway: gateway(gateways) };
            Some(AddPort {
                interface: peer.port(),
                kind: PortKind::Remote,
                vlans: Vlans::access(0),
                hold: Hold::Cached(station),
                beyond: Some(Beyond::Tunnel(tunnel)),
            })
        };
        peers.iter().filter_map(port).collect()
    }
}

impl Peer {
    /// The name of its port, if it is behind a tunnel.
    pub(crate) fn port(&self) -> String {
        format!("node:{}", self.name)
    }

    /// What it has: addresses of pods, and its own.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        let own = self.addresses.iter().copied().map(IpNetwork::from);
        self.pod_cidrs.iter().copied().chain(own)
    }
}

pub(crate) fn prefix(network: IpNetwork) -> Prefix {
    Prefix { address: network.network(), length: network.prefix() }
}

/// The link of all tunnels.
pub(crate) const LINK: &str = "millrace-vxlan";
/// Bytes that a tunnel takes: the headers of IPv4, UDP and VXLAN, and the inner Ethernet header.
const OVERHEAD_V4: u32 = 20 + 8 + 8 + 14;
/// The same with IPv6.
const OVERHEAD_V6: u32 = 40 + 8 + 8 + 14;
