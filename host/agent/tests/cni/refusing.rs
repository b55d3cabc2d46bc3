//! What the kernel refuses of a node's network, and what somebody else changes of it.

use millrace_netns::{Link, Netlink, NetlinkError, VethSpec, VxlanMode, VxlanSpec};
use serde_json::Value;

use crate::bed::{Bed, until};
use crate::http;

#[test]
fn the_link_of_tunnels_is_as_it_was_made_whoever_changes_it() {
    let Some(bed) = Bed::new() else { return };
    bed.write("other.yaml", &other("other", 2, "192.0.2.2"));
    let _agent = bed.start();
    let net = bed.node.netlink().expect("netlink works");
    let like = |made: &Link| Some((made.vxlan?, made.mtu, made.up));
    let made = net.link(LINK).expect("another node is behind it");
    assert!(made.up);
    let taken = |net: &Netlink| {
        net.delete_link(LINK)?;
        let mode = VxlanMode::PointToPoint { vni: 7, remote: [192, 0, 2, 9].into() };
        match net.add_vxlan(&VxlanSpec::new(LINK, mode).port(8472)) {
            // the agent was quicker
            Ok(_) | Err(NetlinkError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    let changes: [(&str, &Change); 4] = [
        ("it is down", &|net| net.set_down(LINK)),
        ("its MTU is another", &|net| net.set_mtu(LINK, 1000)),
        ("it is gone", &|net| net.delete_link(LINK)),
        ("its name is another's", &taken),
    ];
    for (what, change) in changes {
        change(&net).unwrap_or_else(|error| panic!("{what}: {error}"));
        until(|| (like(&net.link(LINK).ok()?) == like(&made)).then_some(()));
    }
    // its port is there again, and nothing is refused
    until(|| {
        let status = status(&bed);
        let ports = status["ports"].as_array().expect("a list");
        let port = ports.iter().find(|port| port["name"] == "node:other")?;
        (port["state"] == "up" && status["refused"] == Value::Array(vec![])).then_some(())
    });
}

#[test]
fn what_the_kernel_refuses_of_tunnels_is_said_and_tried_again() {
    let Some(bed) = Bed::new() else { return };
    let net = bed.node.netlink().expect("netlink works");
    let _agent = bed.start();
    let own = bed.routes();
    // there can be one of its kind
    net.add_vxlan(&VxlanSpec::new("taken", VxlanMode::External)).expect("it is the first");
    bed.write("other.yaml", &other("other", 2, "192.0.2.2"));
    let refused = until(|| refusal(&bed));
    assert!(refused.contains("creating VXLAN link `millrace-vxlan` on port 4789"), "{refused}");
    assert_eq!(bed.routes(), own, "nothing of it is done");

    net.delete_link("taken").expect("it is there");
    until(|| (refusal(&bed).is_none() && net.link(LINK).is_ok()).then_some(()));
    until(|| bed.routes().contains(&"10.2.0.0/24".to_owned()).then_some(()));
}

#[test]
fn a_node_that_no_route_leads_to_keeps_nobody_from_the_others() {
    let Some(bed) = Bed::new() else { return };
    let net = bed.node.netlink().expect("netlink works");
    net.add_veth(&VethSpec::new("up0", "up1")).expect("there is none");
    for link in ["up0", "up1"] {
        net.set_up(link).expect("it is there");
    }
    let reach = |address: &str| {
        net.add_address("up0", address.parse().expect("an address")).expect("it is new");
    };
    reach("192.0.2.1/24");
    bed.write("near.yaml", &other("near", 2, "192.0.2.2"));
    bed.write("far.yaml", &other("far", 3, "198.51.100.2"));
    let _agent = bed.start_as(&["--tunnel=native"]);
    let has = |prefix: &str| bed.routes().iter().any(|route| route == prefix);
    assert!(has("10.2.0.0/24") && !has("10.3.0.0/24"), "{:?}", bed.routes());
    let refused = until(|| refusal(&bed));
    assert!(refused.contains("the pods of node `far` are not reached"), "{refused}");

    reach("198.51.100.1/24");
    until(|| (has("10.3.0.0/24") && refusal(&bed).is_none()).then_some(()));
    assert!(has("10.2.0.0/24"));
}

/// Somebody else's change of the link.
type Change = dyn Fn(&Netlink) -> Result<(), NetlinkError>;

fn status(bed: &Bed) -> Value {
    let (status, body) = http::ask(&bed.socket(), "GET", "/v1/status", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("it is JSON")
}

/// What is refused first, if anything is.
fn refusal(bed: &Bed) -> Option<String> {
    status(bed)["refused"][0].as_str().map(str::to_owned)
}

/// Another node.
fn other(name: &str, number: u8, address: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Node
metadata: {{name: {name}}}
spec: {{podCIDRs: [10.{number}.0.0/24]}}
status: {{addresses: [{{type: InternalIP, address: {address}}}]}}
"
    )
}

/// The link of all tunnels.
const LINK: &str = "millrace-vxlan";
