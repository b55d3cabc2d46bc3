//! What a runtime is told of a container that is attached, in the version that it speaks.
//!
//! Owns that what plugins before have made stays in it, and that indices still lead to their
//! interfaces.

use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use crate::network::Previous;
use crate::{Attached, Network, Version};

/// The result of ADD.
pub fn added(network: &Network, attached: &Attached) -> Value {
    let version = network.version;
    let Previous { mut interfaces, mut ips, mut routes, mut rest } =
        network.previous.clone().unwrap_or_default();
    let mut node_end = object(json!({ "name": attached.port }));
    let mut pod_end = object(json!({
        "name": attached.id.interface, "mac": attached.mac, "sandbox": attached.netns,
    }));
    if version >= Version::V1_1_0 {
        node_end.insert("mtu".to_owned(), attached.mtu.into());
        pod_end.insert("mtu".to_owned(), attached.mtu.into());
    }
    interfaces.extend([node_end, pod_end]);
    let index = interfaces.len() - 1;
    for address in &attached.addresses {
        let gateway = gateway_of(attached, *address).map(|gateway| gateway.ip());
        let mut ip = ip_on(version, *address, index);
        if let Some(gateway) = gateway {
            ip.insert("gateway".to_owned(), json!(gateway));
            let everywhere = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            routes.push(object(json!({ "dst": everywhere, "gw": gateway })));
        }
        ips.push(ip);
    }
    let dns = network.dns.clone().map(Value::Object);
    rest.entry("dns").or_insert_with(|| dns.unwrap_or_else(|| json!({})));
    rest.insert("cniVersion".to_owned(), version.text().into());
    rest.insert("interfaces".to_owned(), json!(interfaces));
    rest.insert("ips".to_owned(), json!(ips));
    rest.insert("routes".to_owned(), json!(routes));
    Value::Object(rest)
}

/// The result of ADD of a container's own loopback, which has these addresses. What plugins before
/// have made is passed on alone, as the reference plugin does.
pub fn looped_back(network: &Network, namespace: &Path, addresses: &[IpNetwork]) -> Value {
    let version = network.version;
    let Previous { interfaces, ips, routes, mut rest } =
        network.previous.clone().unwrap_or_else(|| Previous {
            interfaces: vec![object(json!({
                "name": LOOPBACK, "mac": "00:00:00:00:00:00", "sandbox": namespace,
            }))],
            ips: addresses.iter().map(|address| ip_on(version, *address, 0)).collect(),
            ..Previous::default()
        });
    rest.entry("dns").or_insert_with(|| json!({}));
    rest.insert("cniVersion".to_owned(), version.text().into());
    rest.insert("interfaces".to_owned(), json!(interfaces));
    rest.insert("ips".to_owned(), json!(ips));
    rest.insert("routes".to_owned(), json!(routes));
    Value::Object(rest)
}

/// What of an attachment is not in the result of the ADD that made it.
pub fn missing(previous: &Previous, attached: &Attached, namespace: &Path) -> Vec<String> {
    let text = |map: &Map<String, Value>, key: &str| {
        map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut missing = Vec::new();
    let is_ours = |interface: &&Map<String, Value>| {
        text(interface, "name") == attached.id.interface
            && Path::new(&text(interface, "sandbox")) == namespace
    };
    match previous.interfaces.iter().find(is_ours) {
        None => missing.push(format!(
            "interface `{}` in {}",
            attached.id.interface,
            namespace.display()
        )),
        // a plugin behind this one may give it another
        Some(interface) if interface.contains_key("mac") => {}
        Some(_) => missing.push(format!("the link-layer address {}", attached.mac)),
    }
    let has = |address: &&IpNetwork| {
        previous.ips.iter().any(|ip| text(ip, "address") == address.to_string())
    };
    let addresses = attached.addresses.iter().filter(|address| !has(address));
    missing.extend(addresses.map(|address| format!("address {address}")));
    missing
}

/// An address of one of the result's interfaces.
fn ip_on(version: Version, address: IpNetwork, interface: usize) -> Map<String, Value> {
    let mut ip = object(json!({ "address": address, "interface": interface }));
    if version < Version::V1_0_0 {
        let family = if address.is_ipv4() { "4" } else { "6" };
        ip.insert("version".to_owned(), family.into());
    }
    ip
}

fn gateway_of(attached: &Attached, address: IpNetwork) -> Option<IpNetwork> {
    attached.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == address.is_ipv4())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The interface that every namespace has.
pub const LOOPBACK: &str = "lo";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttachmentId, Bandwidth};

    fn attached() -> Attached {
        Attached {
            id: AttachmentId { container: "a".into(), interface: "eth0".into() },
            pod: None,
            network: Some("n".into()),
            netns: "/run/netns/a".into(),
            port: "mp0000000001".into(),
            mac: "0a:00:00:00:00:01".into(),
            addresses: vec!["10.1.0.2/24".parse().unwrap(), "fd01::2/64".parse().unwrap()],
            gateways: vec!["10.1.0.1/24".parse().unwrap(), "fd01::1/64".parse().unwrap()],
            mtu: 1450,
            port_mappings: Vec::new(),
            bandwidth: Bandwidth::default(),
        }
    }

    fn result(configuration: Value) -> Value {
        added(&Network::read(configuration.to_string().as_bytes()).unwrap(), &attached())
    }

    #[test]
    fn c7_results_have_the_shape_of_their_version() {
        let latest = result(json!({ "cniVersion": "1.1.0", "name": "n" }));
        assert_eq!(
            latest,
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    { "name": "mp0000000001", "mtu": 1450 },
                    { "name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/a", "mtu": 1450 },
                ],
                "ips": [
                    { "address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1 },
                    { "address": "fd01::2/64", "gateway": "fd01::1", "interface": 1 },
                ],
                "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "::/0", "gw": "fd01::1" }],
                "dns": {},
            })
        );
        for (version, family, mtu) in [
            ("0.3.0", Some("4"), false),
            ("0.3.1", Some("4"), false),
            ("0.4.0", Some("4"), false),
            ("1.0.0", None, false),
            ("1.1.0", None, true),
        ] {
            let result = result(json!({ "cniVersion": version, "name": "n" }));
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"][0]["version"].as_str(), family, "{version}");
            assert_eq!(result["interfaces"][1]["mtu"].is_u64(), mtu, "{version}");
        }
    }

    #[test]
    fn c8_what_plugins_before_have_made_is_passed_on_and_indices_lead_where_they_led() {
        let before = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "other0", "sandbox": "/run/netns/a", "theirs": true }],
            "ips": [{ "address": "192.0.2.7/24", "interface": 0 }],
            "routes": [{ "dst": "192.0.2.0/24" }],
            "dns": { "nameservers": ["192.0.2.53"] },
            "more": 7,
        });
        let result = result(json!({
            "cniVersion": "1.0.0", "name": "n", "dns": { "domain": "ours" }, "prevResult": before,
        }));
        assert_eq!(result["interfaces"][0], before["interfaces"][0]);
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(result["ips"][0], before["ips"][0]);
        assert_eq!(result["ips"][1]["interface"], 2);
        assert_eq!(result["routes"][0], before["routes"][0]);
        assert_eq!(result["dns"], before["dns"]);
        assert_eq!(result["more"], 7);
    }

    #[test]
    fn c6_what_is_not_as_it_was_made_is_named_and_what_others_added_is_theirs() {
        let mut result = result(json!({ "cniVersion": "1.1.0", "name": "n" }));
        result["interfaces"].as_array_mut().unwrap().push(json!({ "name": "ifb0" }));
        let namespace = Path::new("/run/netns/a");
        let missing = |result: &Value, namespace| {
            super::missing(&serde_json::from_value(result.clone()).unwrap(), &attached(), namespace)
        };
        assert_eq!(missing(&result, namespace), Vec::<String>::new());
        assert_eq!(
            missing(&result, Path::new("/run/netns/b")),
            ["interface `eth0` in /run/netns/b"]
        );
        result["ips"][0]["address"] = json!("10.1.0.3/24");
        assert_eq!(missing(&result, namespace), ["address 10.1.0.2/24"]);
    }

    #[test]
    fn c2_the_result_of_a_loopback_has_its_addresses_or_what_came_before() {
        let addresses = ["127.0.0.1/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let looped_back = |configuration: Value| {
            let network = Network::read(configuration.to_string().as_bytes()).unwrap();
            super::looped_back(&network, Path::new("/run/netns/a"), &addresses)
        };
        let alone = looped_back(json!({ "cniVersion": "0.3.1", "name": "cni-loopback" }));
        assert_eq!(alone["cniVersion"], "0.3.1");
        assert_eq!(alone["interfaces"][0]["name"], "lo");
        assert_eq!(alone["interfaces"][0]["sandbox"], "/run/netns/a");
        let v4 = json!({ "address": "127.0.0.1/8", "interface": 0, "version": "4" });
        assert_eq!(alone["ips"][0], v4);
        assert_eq!(alone["ips"][1]["address"], "::1/128");

        let before = json!({ "interfaces": [{ "name": "eth0" }], "more": 7 });
        let chained =
            looped_back(json!({ "cniVersion": "1.1.0", "name": "n", "prevResult": before }));
        assert_eq!(chained["interfaces"], before["interfaces"]);
        assert_eq!((&chained["ips"], &chained["more"]), (&json!([]), &json!(7)));
    }
}
