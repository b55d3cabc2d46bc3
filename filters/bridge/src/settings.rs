//! What the operator configures.

use std::net::IpAddr;

use millrace_filter::prelude::*;
use millrace_filter::record::Port;

/// What the operator configures.
#[derive(Config, Clone, Debug)]
pub struct Settings {
    /// Seconds without a frame after which a station is forgotten.
    #[config(default = 300)]
    pub aging_seconds: u32,
    /// Stations that are learned behind one port; frames of further ones are dropped.
    #[config(default = 1024)]
    pub stations_per_port: u32,
    /// Stations in all.
    #[config(default = 65536)]
    pub stations: u32,
    /// Whom the segment's stations send to what is to be routed.
    pub gateway: Option<GatewaySettings>,
    /// The node's own station.
    pub host: Option<HostSettings>,
    /// The pods of the segment: where they are is known, and their ports speak for nobody else.
    #[config(default = Vec::new())]
    pub pods: Vec<PodSettings>,
    /// Ports of other nodes. Behind each is that node's gateway, with the same link-layer address
    /// as the one here, for addresses that nobody has here.
    #[config(default = Vec::new())]
    pub nodes: Vec<Port>,
}

/// The gateway, for which the bridge answers ARP and neighbour discovery.
#[derive(Config, Clone, Debug)]
pub struct GatewaySettings {
    /// Its link-layer address; frames to it are left to a router behind the bridge.
    pub mac: MacAddr,
    /// Its addresses on the segment.
    pub addresses: Vec<IpAddr>,
}

/// The node's own station. It has the gateway's addresses, and may send with any source address.
#[derive(Config, Clone, Copy, Debug)]
pub struct HostSettings {
    /// Its port.
    pub port: Port,
    /// Its link-layer address.
    pub mac: MacAddr,
}

/// A pod.
#[derive(Config, Clone, Debug)]
pub struct PodSettings {
    /// Its port, which nobody else is behind.
    pub port: Port,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Its addresses; the IPv6 link-local one that follows from `mac` is its own too.
    pub addresses: Vec<IpAddr>,
}
