//! Interfaces that come, change and go while a host runs.

use serde_json::{Value, json};

use crate::bed::{Bed, Host};

fn state(ports: &Value, port: &str) -> Value {
    let mut ports = ports.as_array().expect("a list").iter();
    ports.find(|found| found["name"] == port).map_or(Value::Null, |found| found["state"].clone())
}

fn becomes(host: &Host<'_>, port: &str, wanted: &str) {
    host.until(&["ports"], |ports| state(ports, port) == wanted);
}

#[test]
fn an_interface_that_vanishes_is_waited_for_and_taken_up_when_it_returns() {
    let Some(bed) = Bed::new(3) else { return };
    let [a, b, c] = &bed.pods[..] else { unreachable!("there are three") };
    let host = bed.run(&["--filter=bridge"]);
    assert!(a.pings(b));

    bed.namespace.netlink().expect("netlink works").delete_link("veth-a").expect("it is there");
    becomes(&host, "veth-a", "gone");
    let status = host.ask(&["status"]);
    assert!(status.contains("! port veth-a: its interface is gone, and is waited for"), "{status}");
    assert!(b.pings(c), "others are not disturbed");

    a.plug(&bed.namespace);
    becomes(&host, "veth-a", "up");
    assert!(a.pings(b) && c.pings(a));
    assert!(!host.ask(&["status"]).contains('!'));
}

#[test]
fn an_interface_that_is_down_or_has_another_mtu_is_shown_as_it_is() {
    let Some(bed) = Bed::new(2) else { return };
    let host = bed.run(&["--filter=bridge"]);
    let net = bed.namespace.netlink().expect("netlink works");
    net.set_down("veth-b").expect("it is there");
    becomes(&host, "veth-b", "down");
    let notes = host.ask(&["ports"]);
    let remedy = "! veth-b: the interface is down: `ip link set dev veth-b up`";
    assert!(notes.contains(remedy), "{notes}");

    net.set_up("veth-b").expect("it is there");
    becomes(&host, "veth-b", "up");
    net.set_mtu("veth-b", 1400).expect("it is there");
    host.until(&["ports"], |ports| ports[1]["mtu"] == 1400);
    assert!(bed.pods[0].pings(&bed.pods[1]));
}

#[test]
fn ports_are_added_to_a_running_host_and_taken_away() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=bridge"]);
    assert!(a.pings(b));

    assert_eq!(host.ask(&["port", "remove", "veth-b"]), "port veth-b is removed\n");
    assert!(a.is_cut_off_from(b));
    assert_eq!(state(&host.json(&["ports"]), "veth-b"), Value::Null);

    let added = host.json(&["port", "add", "veth-b,kind=pod,vlans=trunk:10+20+native:1"]);
    assert_eq!((&added["name"], &added["kind"]), (&json!("veth-b"), &json!("pod")));
    assert_eq!(added["vlans"], "trunk:10+20+native:1");
    let refused = host.refuses(&["port", "add", "veth-b"]);
    assert_eq!(refused, "millrace: `veth-b` is a port already\n");

    assert_eq!(host.json(&["port", "remove", "veth-b"]), json!({"removed": "veth-b"}));
    let added = host.ask(&["port", "add", "veth-b"]);
    assert!(added.starts_with("PORT") && added.contains("veth-b"), "{added}");
    assert!(a.pings(b));
}
