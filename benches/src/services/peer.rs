//! Who carries packets between the client and the pods behind the Service.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use millrace_control::World;
use millrace_control::compile::{Compiler, Local};
use millrace_control::source::News;
use millrace_dataplane::control::request::Load;
use millrace_dataplane::control::{CacheSettings, Dataplane};
use millrace_filter::prelude::MacAddr;
use millrace_netns::{Neighbour, Route};
use serde_json::json;

use super::facts::{fences, portals};
use super::site::{CLIENT, ENDPOINTS, Site};
use super::{iptables, nftables, town};
use crate::changes::tell;
use crate::cluster::{HERE, Size};
use crate::pods::peer::{GATEWAY, Workers, mac, without_filters};
use crate::pods::routed::{FORWARDING, load};
use crate::pods::{GATEWAY_ADDRESS, POD_LINK};
use crate::traffic::Places;
use crate::veth::ground::Ends;
use crate::veth::peer::built_in;

/// Who carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The dataplane, with the built-in filters of a node.
    Millrace,
    /// The kernel's router, with what kube-proxy gives it for nftables.
    Nftables,
    /// The same for iptables; policies are in nftables as well.
    Iptables,
}

/// A peer in place; it goes when this is dropped.
pub struct Placed {
    // before the namespaces it is in
    _plane: Option<Dataplane>,
    /// Where it is.
    pub site: Site,
    /// How long it took to tell it of the cluster, in milliseconds.
    pub load: f64,
}

impl Peer {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Millrace, Self::Nftables, Self::Iptables];

    /// What results call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        }
    }

    /// Puts it in place with so many Services, and lets connections pass.
    ///
    /// # Errors
    /// If it cannot be, or none passes.
    pub fn start(self, services: u32, cache: &Path, places: Places) -> Result<Placed> {
        let size = Size(services);
        let start = || -> Result<Placed> {
            let site = Site::new(town::through(size))?;
            let world = town::world(size);
            let (plane, load) = match self {
                Self::Millrace => {
                    let plane = dataplane(&site, cache, places)?;
                    let load = inform(&plane, world)?;
                    (Some(plane), load)
                }
                Self::Nftables | Self::Iptables => (None, self.route(&site, &world)?),
            };
            site.ground.set_ends(Ends::USUAL)?;
            site.greet()?;
            Ok(Placed { _plane: plane, site, load })
        };
        start().with_context(|| format!("starting `{}` with {} Services", self.label(), services))
    }

    /// Has the kernel route, by rules that say what the cluster says.
    fn route(self, site: &Site, world: &World) -> Result<f64> {
        let host = site.ground.host();
        let net = host.netlink()?;
        let [a, b] = site.ground.ports();
        let pods = [(a, site.ground.near(), &[CLIENT][..]), (b, site.ground.far(), &ENDPOINTS)];
        for (port, pod, addresses) in pods {
            for address in addresses {
                net.add_neighbour(&Neighbour::permanent(port, *address, mac(pod)?))?;
                net.add_route(&Route::to((*address).into()).link(port))?;
            }
            let own = net.link(port)?.mac.context("a port has a MAC address")?;
            let gateway = IpAddr::V4(GATEWAY_ADDRESS);
            let gateway = Neighbour::permanent(POD_LINK, gateway, own);
            pod.namespace.netlink()?.add_neighbour(&gateway)?;
        }
        host.set_sysctl(FORWARDING, "1")?;

        let (portals, fences) = (portals(world), fences(world));
        let start = Instant::now();
        match self {
            Self::Iptables => {
                load(&mut host.command("iptables-nft-restore"), &iptables::services(&portals))?;
            }
            _ => load(host.command("nft").args(["-f", "-"]), &nftables::services(&portals))?,
        }
        load(host.command("nft").args(["-f", "-"]), &nftables::policies(&fences))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

/// The dataplane of a node, with its chain.
fn dataplane(site: &Site, cache: &Path, places: Places) -> Result<Dataplane> {
    let flow_cache = CacheSettings::default();
    let ground = &site.ground;
    let plane = without_filters(ground, cache, Workers::Everywhere, places, flow_cache)?;
    let numbers = plane.numbers();
    let [a, b] = ground.ports();
    let pods = [(a, ground.near(), &[CLIENT][..]), (b, ground.far(), &ENDPOINTS)];
    let (mut stations, mut routes) = (Vec::new(), Vec::new());
    for (name, pod, addresses) in pods {
        let port = numbers.get(name).context("it was just added")?;
        let mac = MacAddr(mac(pod)?).to_string();
        stations.push(json!({ "port": port, "mac": mac, "addresses": addresses }));
        let route = |to: &IpAddr| json!({ "prefix": to.to_string(), "via": [{ "port": port }] });
        routes.extend(addresses.iter().map(route));
    }
    let gateway = MacAddr(GATEWAY.mac).to_string();
    let bridge = json!({
        "gateway": { "mac": gateway, "addresses": [GATEWAY_ADDRESS] },
        "pods": stations,
    });
    let router = json!({ "gatewayMac": gateway, "routes": routes });
    for (name, config) in
        [("bridge", bridge), ("service-lb", json!({})), ("policy", json!({})), ("router", router)]
    {
        plane.load(Load { config: config.to_string(), ..built_in(name)? })?;
    }
    Ok(plane)
}

/// Tells filters of the cluster, and how many milliseconds that takes.
fn inform(plane: &Dataplane, world: World) -> Result<f64> {
    let mut compiler = Compiler::new(HERE);
    compiler.note(Local { addresses: vec![GATEWAY_ADDRESS.into()], ..Local::default() });
    let start = Instant::now();
    compiler.hear(News::World(Box::new(world)));
    tell(&mut compiler, plane)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
