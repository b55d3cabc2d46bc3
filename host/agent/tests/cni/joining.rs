//! What a cluster notices of a node that has an agent, and the node of others.

use std::fs;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::attaching::{greet, listen};
use crate::bed::{Bed, Container, NODE, until};

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

#[test]
fn an_agent_whose_node_has_other_prefixes_ends_and_the_next_one_gives_addresses_of_those() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let [old, beside] = [(); 2].map(|()| Container::new());
    bed.add(&old);
    bed.add(&beside);
    bed.write("node.yaml", &NODE.replace("10.1.0.0", "10.9.0.0").replace("fd01::", "fd09::"));
    assert_eq!(agent.ended_by(), None, "it ends by itself");
    assert!(bed.log().contains("the Node has other podCIDRs"), "{}", bed.log());

    let _agent = bed.start();
    assert_eq!(bed.log().matches("of a prefix that the Node has no more").count(), 2);
    let new = Container::new();
    bed.add(&new);
    let [old_at, beside_at, new_at] = [&old, &beside, &new].map(|it| it.addresses("eth0"));
    assert!(old_at[0].starts_with("10.1.0.") && old_at[1].starts_with("fd01::"), "{old_at:?}");
    assert!(new_at[0].starts_with("10.9.0.") && new_at[1].starts_with("fd09::"), "{new_at:?}");
    // who has an address of before is reached on the node as long as it is there
    for (from, to, addresses) in
        [(&old, &beside, &beside_at), (&old, &new, &new_at), (&new, &old, &old_at)]
    {
        for address in addresses {
            let address: IpNetwork = address.parse().expect("an address");
            let listener = listen(&to.namespace, (address.ip(), 0).into());
            let at = listener.local_addr().expect("it is bound");
            assert_eq!(greet(&from.namespace, listener, at), "hello", "{address}");
        }
    }
    [&old, &beside, &new].into_iter().for_each(|container| bed.del(container));
    assert_eq!(bed.ports(), [""; 0]);
}

const OTHER: &str = "
apiVersion: v1
kind: Node
metadata: {name: other}
spec: {podCIDRs: [10.2.0.0/24, 'fd02::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
";
