//! Who carries packets between the nodes: the dataplane, or the kernel as Flannel sets it up, each
//! with a tunnel and without.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_abi::PortKind;
use millrace_dataplane::control::request::{AddPort, Beyond, Load, Prefix, Tunnel, Uplink};
use millrace_dataplane::control::{CacheSettings, Dataplane, Settings};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_netns::{Neighbour, Route, VxlanMode, VxlanSpec};
use millrace_traffic::Core;
use serde_json::{Value, json};
use std::net::IpAddr;

use super::ground::{Ground, POD_PORT, Site, TUNNEL_OVERHEAD, UNDERLAY, UNDERLAY_MTU};
use crate::veth::peer::built_in;

/// Who carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The dataplane on each node.
    Millrace(Between),
    /// The kernel on each node: a bridge for pods, and routes.
    Kernel(Between),
}

/// How packets pass between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Between {
    /// In a tunnel.
    Vxlan,
    /// As they are.
    Native,
}

/// A peer in place on a ground of its own.
pub struct Placed {
    // before the namespaces they are in
    _planes: Vec<Dataplane>,
    /// Where it is.
    pub ground: Ground,
}

impl Peer {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 4] = [
        Self::Millrace(Between::Vxlan),
        Self::Kernel(Between::Vxlan),
        Self::Millrace(Between::Native),
        Self::Kernel(Between::Native),
    ];

    /// What results call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Millrace(Between::Vxlan) => "millrace, VXLAN",
            Self::Millrace(Between::Native) => "millrace, native",
            Self::Kernel(Between::Vxlan) => "kernel bridge + VXLAN + routing",
            Self::Kernel(Between::Native) => "kernel bridge + routing",
        }
    }

    /// Puts it in place, and lets a packet pass in each direction.
    ///
    /// # Errors
    /// If it cannot be, or nothing passes.
    pub fn start(self, cache: &Path) -> Result<Placed> {
        let place = || -> Result<Placed> {
            let (Self::Millrace(between) | Self::Kernel(between)) = self;
            let ground = Ground::new(between.mtu())?;
            let mut planes = Vec::new();
            for (here, there) in ground.pairs() {
                between.lay(here, there, self)?;
                match self {
                    Self::Millrace(_) => planes.push(between.dataplane(here, there, cache)?),
                    Self::Kernel(_) => between.kernel(here, there)?,
                }
            }
            ground.greet()?;
            Ok(Placed { _planes: planes, ground })
        };
        place().with_context(|| format!("starting `{}`", self.label()))
    }
}

impl Between {
    fn mtu(self) -> u32 {
        match self {
            Self::Vxlan => UNDERLAY_MTU - TUNNEL_OVERHEAD,
            Self::Native => UNDERLAY_MTU,
        }
    }

    /// Makes the tunnel of a node, and its route to the other one's pods.
    fn lay(self, here: &Site, there: &Site, peer: Peer) -> Result<()> {
        let net = here.node.netlink()?;
        if self == Self::Native {
            net.add_route(&Route::to(there.pods()).via(there.address()))?;
            return Ok(());
        }
        let mode = match peer {
            Peer::Millrace(_) => VxlanMode::External,
            Peer::Kernel(_) => VxlanMode::PointToPoint { vni: VNI, remote: there.address() },
        };
        net.add_vxlan(&VxlanSpec::new(TUNNEL, mode).local(here.address()))?;
        here.node.set_sysctl(&format!("net.ipv6.conf.{TUNNEL}.disable_ipv6"), "1")?;
        net.set_mtu(TUNNEL, self.mtu())?;
        Ok(net.set_up(TUNNEL)?)
    }

    /// The kernel, as Flannel has it.
    fn kernel(self, here: &Site, there: &Site) -> Result<()> {
        let net = here.node.netlink()?;
        net.add_bridge(BRIDGE)?;
        here.node.set_sysctl(&format!("net.ipv6.conf.{BRIDGE}.disable_ipv6"), "1")?;
        net.enslave(POD_PORT, BRIDGE)?;
        net.set_mtu(BRIDGE, self.mtu())?;
        net.set_up(BRIDGE)?;
        let gateway = format!("{}/{}", here.gateway(), here.pods().prefix()).parse()?;
        net.add_address(BRIDGE, gateway)?;
        if self == Self::Vxlan {
            // each node's tunnel has an address of its pods' network, which is the next hop there
            let [own, next_hop] = [here, there].map(|site| site.pods().network());
            net.set_mac(TUNNEL, tunnel_mac(own))?;
            net.add_address(TUNNEL, own.into())?;
            net.add_neighbour(&Neighbour::permanent(TUNNEL, next_hop, tunnel_mac(next_hop)))?;
            net.add_route(&Route::to(there.pods()).via(next_hop).link(TUNNEL).onlink())?;
        }
        Ok(())
    }

    /// The dataplane, as `millrace node` has it.
    fn dataplane(self, here: &Site, there: &Site, cache: &Path) -> Result<Dataplane> {
        let settings = Settings {
            workers: Core::available().len(),
            worker: WorkerSettings { spin: Duration::ZERO, ..WorkerSettings::default() },
            cache: Some(cache.into()),
            flow_cache: Some(CacheSettings::default()),
            ..Settings::default()
        };
        let plane = here.node.run(|| Dataplane::start(&settings))??;
        let v4 = |address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        };
        let gateway = Gateway { mac: GATEWAY_MAC, v4: v4(here.gateway()), v6: None };
        plane.add_port(AddPort {
            interface: POD_PORT.to_owned(),
            kind: PortKind::Pod,
            vlans: Vlans::access(0),
            hold: Hold::Cached(Station { mac: here.pod_mac()?, gateway }),
            beyond: None,
        })?;
        let prefix = |site: &Site| {
            let pods = site.pods();
            Prefix { address: pods.network(), length: pods.prefix() }
        };
        let (interface, kind, gateway, beyond) = match self {
            Self::Vxlan => {
                let (interface, remote) = (TUNNEL.to_owned(), there.address());
                let (owns, has) = (vec![prefix(there)], Vec::new());
                let tunnel = Tunnel { interface, vni: VNI, remote, owns, has };
                ("there", PortKind::Remote, gateway, Beyond::Tunnel(tunnel))
            }
            Self::Native => {
                let uplink = Uplink { pods: vec![prefix(here)], tunnel_port: None };
                let gateway = Gateway { v4: v4(here.address()), ..gateway };
                (UNDERLAY, PortKind::Uplink, gateway, Beyond::Uplink(uplink))
            }
        };
        plane.add_port(AddPort {
            interface: interface.to_owned(),
            kind,
            vlans: Vlans::access(0),
            hold: Hold::Cached(Station { mac: GATEWAY_MAC, gateway }),
            beyond: Some(beyond),
        })?;
        for load in chain(here, there, &plane, interface)? {
            plane.load(load)?;
        }
        Ok(plane)
    }
}

/// Bridge and router of a node, which know the pod, and the way to the other node's.
fn chain(here: &Site, there: &Site, plane: &Dataplane, beyond: &str) -> Result<[Load; 2]> {
    let numbers = plane.numbers();
    let number = |port: &str| numbers.get(port).copied().context("it was just added");
    let (pod, beyond) = (number(POD_PORT)?, number(beyond)?);
    let gateway = mac_text(GATEWAY_MAC);
    let bridge = json!({
        "gateway": { "mac": gateway, "addresses": [here.gateway()] },
        "pods": [{
            "port": pod,
            "mac": mac_text(here.pod_mac()?),
            "addresses": [here.pod_address()],
        }],
        "nodes": [beyond],
    });
    let route = |prefix: String, port: u16| json!({ "prefix": prefix, "via": [{ "port": port }] });
    let router = json!({
        "gatewayMac": gateway,
        "routes": [
            route(format!("{}/32", here.pod_address()), pod),
            route(there.pods().to_string(), beyond),
        ],
    });
    let load = |name: &str, config: Value| -> Result<Load> {
        Ok(Load { config: config.to_string(), ..built_in(name)? })
    };
    Ok([load("bridge", bridge)?, load("router", router)?])
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The link-layer address of a node's tunnel, by the address it has.
fn tunnel_mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [2, 0, a, b, c, d]
        }
        IpAddr::V6(_) => [2; 6],
    }
}

const BRIDGE: &str = "cni0";
const TUNNEL: &str = "vxlan0";
const VNI: u32 = 1;
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
