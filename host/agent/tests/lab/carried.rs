//! What the kernel carries of what pods send, and what is said of it.

use std::net::SocketAddr;

use serde_json::Value;

use crate::bed::{Bed, NODES, PODS, until};
use crate::talk::{ECHO, EXCHANGES, exchange};

#[test]
fn f11_the_kernel_carries_an_exchange_between_pods_and_flows_says_so() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    for address in addresses {
        let server = SocketAddr::new(address, ECHO);
        let stream = exchange(&shop, server, "default/cart");
        let flow = bed.flow("east", &stream);
        assert_eq!(flow["original"]["destination"], server.to_string());
        assert_eq!(
            (&flow["state"], &flow["clientPod"]),
            (&"established".into(), &"default/shop".into())
        );
        assert_eq!(flow["serverPod"], "default/cart");
        assert!(["bridge", "router"].iter().any(|stage| flow["original"]["by"] == *stage));
        for way in ["original", "reply"] {
            let (all, kernel) = (&flow[way]["packets"], &flow[way]["kernelPackets"]);
            let (all, kernel) = (all.as_u64().unwrap(), kernel.as_u64().unwrap());
            // all but those of the handshake, at most
            assert!(kernel >= EXCHANGES && all >= kernel && all - kernel <= 2, "{flow:#}");
        }
    }

    let status = bed.asked("east", &["status"]);
    let cache = &status["cache"];
    assert!(cache["packets"]["hit"].as_u64() >= Some(2 * EXCHANGES), "{cache:#}");
    assert!(cache["opened"].as_u64() >= Some(2), "{cache:#}");
    assert_eq!((&cache["full"], &cache["refused"]), (&0.into(), &0.into()), "{cache:#}");
    let elsewhere = bed.asked("west", &["flows", "--pod", "bank"]);
    assert!(elsewhere["flows"].as_array().expect("a list").is_empty(), "{elsewhere:#}");
}

#[test]
fn the_kernel_carries_an_exchange_between_nodes_in_the_tunnel_on_both_of_them() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("bank");
    for address in addresses {
        let stream = exchange(&shop, SocketAddr::new(address, ECHO), "default/bank");
        let (there, here) = (("east", "node:west", "original"), ("west", "node:east", "reply"));
        for (node, peer, leaves) in [there, here] {
            let flow = bed.flow(node, &stream);
            let comes = if leaves == "original" { "reply" } else { "original" };
            assert_eq!(flow[leaves]["egress"], peer, "{flow:#}");
            assert_eq!(flow[comes]["ingress"], "underlay", "{flow:#}");
            for way in [leaves, comes] {
                assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
            }
        }
    }
}

#[test]
fn f13_the_link_of_a_pod_is_limited_as_its_annotations_say() {
    let annotated = "name: shop\n  annotations:\n    kubernetes.io/ingress-bandwidth: 50M\n    \
        kubernetes.io/egress-bandwidth: 50M\n";
    let pods = PODS.replacen("name: shop\n", annotated, 1);
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", &*pods)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let limits = |place: &str| {
        bed.done(&["exec", place, "--", "tc", "qdisc", "show"]).matches("qdisc tbf").count()
    };
    assert_eq!(["shop", "cart", "node:east", "node:west"].map(limits), [1, 0, 1, 0]);

    let (cart, _) = bed.pod("cart");
    let (_, addresses) = bed.pod("shop");
    for address in addresses {
        let stream = exchange(&cart, SocketAddr::new(address, ECHO), "default/shop");
        let flow = bed.flow("east", &stream);
        for way in ["original", "reply"] {
            assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
        }
    }
}

#[test]
fn a_ports_counters_include_what_the_kernel_carried() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    exchange(&shop, SocketAddr::new(addresses[0], ECHO), "default/cart");

    let named = |ports: &Value, pod: &str| {
        let ports = ports.as_array().expect("a list").iter();
        ports.clone().find(|port| port["pod"] == format!("default/{pod}")).cloned()
    };
    let ports = until(|| {
        let ports = bed.asked("east", &["ports"]);
        let shop = named(&ports, "shop")?;
        (shop["counters"]["rxKernelPackets"].as_u64() >= Some(EXCHANGES)).then_some(ports)
    });
    for (pod, came, left) in [("shop", "rx", "tx"), ("cart", "rx", "tx")] {
        let port = named(&ports, pod).expect("it has a port");
        let counters = &port["counters"];
        let count = |key: String| counters[key].as_u64().expect("it is counted");
        for way in [came, left] {
            let kernel = count(format!("{way}KernelPackets"));
            assert!(kernel >= EXCHANGES, "{pod} {way}: {counters:#}");
            assert!(count(format!("{way}Packets")) >= kernel, "{pod} {way}: {counters:#}");
            assert!(count(format!("{way}KernelBytes")) > kernel * 60, "{counters:#}");
        }
        assert_eq!((&port["attached"], &port["kind"]), (&"cache".into(), &"pod".into()));
        assert!(port["mac"].is_string());
        assert_eq!(port["addresses"].as_array().map(Vec::len), Some(2), "{port:#}");
    }
    let stats = bed.asked("east", &["stats"]);
    let port = named(&ports, "shop").expect("it has a port")["name"].clone();
    assert_eq!(stats["pods"][port.as_str().expect("a name")], "default/shop");

    // by what they are, and the most first
    let flows =
        bed.asked("east", &["flows", "--proto", "tcp", "--sort", "packets", "--limit", "1"]);
    let flow = &flows["flows"][0];
    assert!(flow["original"]["packets"].as_u64() >= Some(EXCHANGES), "{flows:#}");
    let none = bed.asked("east", &["flows", "--proto", "sctp"]);
    assert!(none["flows"].as_array().expect("a list").is_empty(), "{none:#}");
}
