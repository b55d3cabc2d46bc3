//! What a cluster notices of a node that has an agent, and the node of others.

use std::fs;

use serde_json::Value;

use crate::bed::{Bed, Container, until};

#[test]
fn c2_runtimes_find_the_plugin_once_containers_can_be_attached() {
    let Some(bed) = Bed::new() else { return };
    assert!(!bed.conflist().exists());
    let _agent = bed.start();
    let text = fs::read_to_string(bed.conflist()).expect("it is there");
    let conflist: Value = serde_json::from_str(&text).expect("it is JSON");
    // as a runtime does: the plugin's own part, with the name and a version from above
    let mut network = conflist["plugins"][0].clone();
    network["name"] = conflist["name"].clone();
    network["cniVersion"] = conflist["cniVersion"].clone();
    let container = Container::new();
    let result = bed.call("ADD", Some(&container)).saying(&network.to_string()).done();
    assert_eq!(result["cniVersion"], "1.0.0");
}

#[test]
fn another_node_that_joins_is_reached_and_one_that_leaves_is_forgotten() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let container = Container::new();
    bed.add(&container);
    let own = bed.routes();
    let others = || {
        let mut routes = bed.routes();
        routes.retain(|route| !own.contains(route));
        routes
    };
    bed.write("other.yaml", OTHER);
    until(|| (others() == ["10.2.0.0/24", "fd02::/64"]).then_some(()));
    until(|| bed.log().contains("its pods are reached").then_some(()));
    // it is another now
    bed.write("other.yaml", &OTHER.replace("10.2.0.0", "10.3.0.0"));
    until(|| (others() == ["10.3.0.0/24", "fd02::/64"]).then_some(()));
    bed.remove("other.yaml");
    until(|| (bed.routes() == own).then_some(()));
    assert_eq!(container.addresses("eth0").len(), 2, "nothing else is touched");
    bed.del(&container);
}

const OTHER: &str = "
apiVersion: v1
kind: Node
metadata: {name: other}
spec: {podCIDRs: [10.2.0.0/24, 'fd02::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
";
