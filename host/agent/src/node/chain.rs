//! What the built-in filters are told of a node's pods.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use millrace_dataplane::control::{Dataplane, StageError};
use serde_json::{Value, json};

use crate::node::attach::{Beyond, Pods};
use crate::node::link::{GATEWAY_MAC, HOST_MAC, HOST_PORT};
use crate::node::uplink::Way;

/// The chain of a node, by the names of its filters.
pub(crate) const CHAIN: [&str; 4] = ["bridge", "service-lb", POLICY, "router"];
/// The stage whose rules policies have.
pub(crate) const POLICY: &str = "policy";

/// Tells the chain which pods there are.
pub(crate) fn publish(plane: &Dataplane, pods: &Pods) -> Result<(), StageError> {
    for (name, config) in configs(pods, &plane.numbers()) {
        plane.configure(name, &config.to_string())?;
    }
    Ok(())
}

/// The configurations of those filters of the chain that have one; ports are known by their numbers.
pub(crate) fn configs(pods: &Pods, ports: &BTreeMap<String, u16>) -> [(&'static str, Value); 2] {
    // a pod that was attached when the node had other prefixes asks for its own still
    let of_pods = pods.attached().values().flat_map(|pod| pod.gateways.clone());
    let gateways: BTreeSet<_> = pods.gateways().into_iter().chain(of_pods).collect();
    let gateways: Vec<_> = gateways.into_iter().collect();
    let mut stations = Vec::new();
    for pod in pods.attached().values() {
        let Some(port) = ports.get(&pod.port) else { continue };
        stations.push(json!({ "port": port, "mac": pod.mac, "addresses": ips(&pod.addresses) }));
    }
    let Beyond { peers, around } = pods.beyond();
    let tunnels = peers.iter().filter_map(|peer| ports.get(&peer.port()));
    let uplinks = around.uplinks().filter_map(|uplink| ports.get(uplink));
    let mut bridge = json!({
        "gateway": { "mac": mac_text(GATEWAY_MAC), "addresses": ips(&gateways) },
        "pods": stations,
        "nodes": tunnels.chain(uplinks).collect::<Vec<_>>(),
    });
    if let Some(host) = ports.get(HOST_PORT) {
        bridge["host"] = json!({ "port": host, "mac": mac_text(HOST_MAC) });
    }
    let routes = routes(pods, ports);
    let router = json!({ "gatewayMac": mac_text(GATEWAY_MAC), "routes": routes });
    [("bridge", bridge), ("router", router)]
}

/// What is where: pods here, the host, pods of other nodes, and all else.
fn routes(pods: &Pods, ports: &BTreeMap<String, u16>) -> Vec<Value> {
    let Beyond { peers, around } = pods.beyond();
    let mut routes = Routes::default();
    for pod in pods.attached().values() {
        let Some(port) = ports.get(&pod.port) else { continue };
        pod.addresses.iter().for_each(|address| routes.add(host_prefix(*address), *port));
    }
    let host = ports.get(HOST_PORT).copied();
    let uplink = around.uplink().and_then(|uplink| ports.get(uplink)).copied();
    if let Some(host) = host {
        pods.gateways().into_iter().for_each(|gateway| routes.add(host_prefix(gateway), host));
        around.here.iter().for_each(|address| routes.add(IpNetwork::from(*address), host));
    }
    // addresses of pods that are not there are nobody's
    pods.prefixes().for_each(|prefix| routes.refuse(prefix));
    for peer in peers {
        let native = uplink.or(host);
        for prefix in peer.prefixes() {
            let is_near = peer.addresses.iter().any(|it| it.is_ipv4() == prefix.is_ipv4());
            let port = match peer.tunnel {
                Some(_) => ports.get(&peer.port()).copied(),
                None => native.filter(|_| is_near),
            };
            match port {
                Some(port) => routes.add(prefix, port),
                None => routes.refuse(prefix),
            }
        }
    }
    let gateways = pods.gateways();
    let is_of_pods = |way: &&Way| gateways.iter().any(|own| own.is_ipv4() == way.to.is_ipv4());
    for way in around.ways.iter().filter(is_of_pods) {
        let own = way.by.as_ref().and_then(|by| ports.get(by)).copied();
        match (own, host) {
            (Some(port), _) if way.masquerade => routes.masquerade(way.to, port),
            (Some(port), _) | (None, Some(port)) => routes.add(way.to, port),
            (None, None) => {}
        }
    }
    routes.list()
}

/// Routes by their prefix; the first to one counts.
#[derive(Default)]
struct Routes(BTreeMap<IpNetwork, Value>);

impl Routes {
    fn add(&mut self, prefix: IpNetwork, port: u16) {
        let network = IpNetwork::new(prefix.network(), prefix.prefix());
        let network = network.expect("the length is that of a prefix");
        self.0.entry(network).or_insert_with(|| json!({ "via": [{ "port": port }] }));
    }

    fn masquerade(&mut self, prefix: IpNetwork, port: u16) {
        let route = || json!({ "via": [{ "port": port }], "masquerade": true });
        self.0.entry(prefix).or_insert_with(route);
    }

    fn refuse(&mut self, prefix: IpNetwork) {
        self.0.entry(prefix).or_insert_with(|| json!({ "kind": "unreachable" }));
    }

    fn list(self) -> Vec<Value> {
        let route = |(prefix, mut route): (IpNetwork, Value)| {
            route["prefix"] = json!(prefix);
            route
        };
        self.0.into_iter().map(route).collect()
    }
}

fn host_prefix(address: IpNetwork) -> IpNetwork {
    IpNetwork::from(address.ip())
}

fn ips(addresses: &[IpNetwork]) -> Vec<String> {
    addresses.iter().map(|address| address.ip().to_string()).collect()
}

/// `02:6d:72:00:00:01`.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The address that is written so.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    octets.try_into().ok()
}
