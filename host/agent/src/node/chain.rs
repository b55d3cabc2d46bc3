//! What the built-in filters are told of a node's pods.

use ipnetwork::IpNetwork;
use millrace_dataplane::control::{Dataplane, StageError};
use serde_json::{Value, json};

use crate::node::attach::Pods;
use crate::node::link::{GATEWAY_MAC, HOST_MAC, HOST_PORT};

/// The chain of a node, by the names of its filters.
pub(crate) const CHAIN: [&str; 2] = ["bridge", "router"];

/// Tells the chain which pods there are.
pub(crate) fn publish(plane: &Dataplane, pods: &Pods) -> Result<(), StageError> {
    for (name, config) in CHAIN.into_iter().zip(configs(pods)) {
        plane.configure(name, &config.to_string())?;
    }
    Ok(())
}

/// The configuration of each filter of the chain.
pub(crate) fn configs(pods: &Pods) -> [Value; 2] {
    let gateways = pods.gateways();
    let (mut stations, mut routes) = (Vec::new(), Vec::new());
    for pod in pods.attached().values() {
        stations
            .push(json!({ "port": pod.port, "mac": pod.mac, "addresses": ips(&pod.addresses) }));
        routes.extend(pod.addresses.iter().map(|address| route(*address, &pod.port)));
    }
    let bridge = json!({
        "gateway": { "mac": mac_text(GATEWAY_MAC), "addresses": ips(&gateways) },
        "host": { "port": HOST_PORT, "mac": mac_text(HOST_MAC) },
        "pods": stations,
    });
    // addresses of pods that are not there are nobody's; all else is the host's to route
    for gateway in &gateways {
        let prefix = IpNetwork::new(gateway.network(), gateway.prefix());
        let prefix = prefix.expect("the length is that of an address");
        routes.push(json!({ "prefix": prefix, "kind": "unreachable" }));
        routes.push(route(*gateway, HOST_PORT));
        let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        routes.push(json!({ "prefix": everywhere, "via": [{ "port": HOST_PORT }] }));
    }
    let router = json!({ "gatewayMac": mac_text(GATEWAY_MAC), "routes": routes });
    [bridge, router]
}

fn route(address: IpNetwork, port: &str) -> Value {
    json!({ "prefix": host_prefix(address), "via": [{ "port": port }] })
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
