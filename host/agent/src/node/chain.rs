//! What the built-in filters are told of a node's pods.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use millrace_dataplane::control::{Dataplane, StageError};
use serde_json::{Value, json};

use crate::node::attach::Pods;
use crate::node::link::{GATEWAY_MAC, HOST_MAC, HOST_PORT};

/// The chain of a node, by the names of its filters.
pub(crate) const CHAIN: [&str; 2] = ["bridge", "router"];

/// Tells the chain which pods there are.
pub(crate) fn publish(plane: &Dataplane, pods: &Pods) -> Result<(), StageError> {
    for (name, config) in CHAIN.into_iter().zip(configs(pods, &plane.numbers())) {
        plane.configure(name, &config.to_string())?;
    }
    Ok(())
}

/// The configuration of each filter of the chain; ports are known by their numbers.
pub(crate) fn configs(pods: &Pods, ports: &BTreeMap<String, u16>) -> [Value; 2] {
    let gateways = pods.gateways();
    let (mut stations, mut routes) = (Vec::new(), Vec::new());
    for pod in pods.attached().values() {
        let Some(port) = ports.get(&pod.port) else { continue };
        stations.push(json!({ "port": port, "mac": pod.mac, "addresses": ips(&pod.addresses) }));
        routes.extend(pod.addresses.iter().map(|address| route(&host_prefix(*address), *port)));
    }
    let mut nodes = Vec::new();
    for peer in pods.peers() {
        let Some(port) = ports.get(&peer.port()) else { continue };
        nodes.push(port);
        routes.extend(peer.prefixes().map(|prefix| route(&prefix.to_string(), *port)));
    }
    // addresses of pods that are not there are nobody's; all else is the host's to route
    routes.extend(pods.prefixes().map(|it| json!({ "prefix": it, "kind": "unreachable" })));
    let host = ports.get(HOST_PORT);
    if let Some(host) = host {
        for gateway in &gateways {
            let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            routes.extend([route(&host_prefix(*gateway), *host), route(everywhere, *host)]);
        }
    }
    let mut bridge = json!({
        "gateway": { "mac": mac_text(GATEWAY_MAC), "addresses": ips(&gateways) },
        "pods": stations,
        "nodes": nodes,
    });
    if let Some(host) = host {
        bridge["host"] = json!({ "port": host, "mac": mac_text(HOST_MAC) });
    }
    let router = json!({ "gatewayMac": mac_text(GATEWAY_MAC), "routes": routes });
    [bridge, router]
}

fn route(prefix: &str, port: u16) -> Value {
    json!({ "prefix": prefix, "via": [{ "port": port }] })
}

fn host_prefix(address: IpNetwork) -> String {
    format!("{}/{}", address.ip(), if address.is_ipv4() { 32 } else { 128 })
}

fn ips(addresses: &[IpNetwork]) -> Vec<String> {
    addresses.iter().map(|address| address.ip().to_string()).collect()
}

/// `02:6d:72:00:00:01`.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
