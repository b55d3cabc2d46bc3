//! CHECK, GC, STATUS and VERSION.

use std::process::Command;

use millrace_netns::Namespace;
use serde_json::json;

use crate::bed::{Bed, Container};

#[test]
fn c6_check_finds_what_was_changed_and_leaves_later_plugins_alone() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let container = Container::new();
    let mut result = bed.add(&container);
    let check = |result| bed.call("CHECK", Some(&container)).configured("prevResult", result);
    assert_eq!(check(result.clone()).make().silent(), Ok(()));
    result["interfaces"].as_array_mut().expect("a list").push(json!({"name": "ifb0"}));
    assert_eq!(check(result.clone()).make().silent(), Ok(()));

    assert_eq!(bed.call("CHECK", Some(&container)).code(), 7, "without `prevResult`");
    let old = check(result.clone()).configured("cniVersion", json!("0.3.1"));
    assert_eq!(old.code(), 1, "there was no CHECK yet");
    let stranger = Container::new();
    let unknown = bed.call("CHECK", Some(&stranger)).configured("prevResult", result.clone());
    assert_eq!(unknown.code(), 3);

    let net = container.namespace.netlink().expect("it is there");
    let address = container.addresses("eth0")[0].clone();
    net.remove_address("eth0", address.parse().expect("an address")).expect("it has it");
    let changed = check(result.clone()).refused();
    assert_eq!(changed["code"], 102);
    assert!(changed["details"].to_string().contains(&address), "{changed}");

    net.set_down("eth0").expect("it is there");
    assert!(check(result.clone()).refused()["details"].to_string().contains("is down"));
    bed.node.netlink().and_then(|node| node.delete_link(&bed.ports()[0])).expect("it is there");
    assert_eq!(check(result).code(), 102);
    bed.del(&container);
}

#[test]
fn c6_check_names_what_of_both_ends_is_not_as_it_was_made() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let container = Container::new();
    let limits = json!({"bandwidth": {"ingressRate": 8_000_000, "egressRate": 4_000_000}});
    let call = bed.call("ADD", Some(&container)).configured("runtimeConfig", limits);
    let result = call.done();
    let check = || bed.call("CHECK", Some(&container)).configured("prevResult", result.clone());
    assert_eq!(check().make().silent(), Ok(()));
    let port = bed.ports()[0].clone();
    let [node, pod] =
        [&bed.node, &container.namespace].map(|it| it.netlink().expect("it is there"));
    let (link, end) = (pod.link("eth0").expect("it is there"), node.link(&port).expect("too"));
    let mac = link.mac.expect("a veth has one");
    let text = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let other = [2, 0, 0, 0, 0, 0x55];
    let tc = |namespace: &Namespace, words: &[&str]| {
        let output = namespace.run(|| Command::new("tc").args(words).output()).expect("entered");
        let output = output.expect("iproute2 is installed");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    type Act<'a> = Box<dyn Fn() + 'a>;
    let rows: [(Act<'_>, Act<'_>, String); 5] = [
        (
            Box::new(|| pod.set_mtu("eth0", link.mtu + 1).expect("it is let")),
            Box::new(|| pod.set_mtu("eth0", link.mtu).expect("it is let")),
            format!("eth0 of the pod has an MTU of {}, not {}", link.mtu + 1, link.mtu),
        ),
        (
            Box::new(|| node.set_mtu(&port, end.mtu + 1).expect("it is let")),
            Box::new(|| node.set_mtu(&port, end.mtu).expect("it is let")),
            format!("{port} of the node has an MTU of {}, not {}", end.mtu + 1, end.mtu),
        ),
        (
            Box::new(|| pod.set_mac("eth0", other).expect("it is let")),
            Box::new(|| pod.set_mac("eth0", mac).expect("it is let")),
            format!("eth0 of the pod has address {}, not {}", text(other), text(mac)),
        ),
        (
            Box::new(|| tc(&container.namespace, &["qdisc", "del", "dev", "eth0", "root"])),
            Box::new(|| pod.shape("eth0", 4_000_000).expect("it is let")),
            "eth0 of the pod is not limited to 4000000 bits per second".to_owned(),
        ),
        (
            Box::new(|| tc(&bed.node, &["qdisc", "del", "dev", &port, "root"])),
            Box::new(|| node.shape(&port, 8_000_000).expect("it is let")),
            format!("{port} of the node is not limited to 8000000 bits per second"),
        ),
    ];
    for (spoil, mend, fault) in rows {
        spoil();
        let said = check().refused();
        assert_eq!(said["code"], 102);
        assert!(said["details"].to_string().contains(&fault), "{fault}: {said}");
        mend();
        assert_eq!(check().make().silent(), Ok(()), "{fault}");
    }
    // a pod may take less
    pod.set_mtu("eth0", 1280).expect("it is let");
    assert_eq!(check().make().silent(), Ok(()));
    bed.del(&container);
}

#[test]
fn c7_gc_detaches_what_is_not_listed_of_its_own_network_alone() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let (kept, lost, others) = (Container::new(), Container::new(), Container::new());
    bed.add(&kept);
    bed.add(&lost);
    bed.call("ADD", Some(&others)).configured("name", json!("other")).done();
    let valid = json!([{"containerID": kept.id, "ifname": "eth0"}]);
    let gc = bed.call("GC", None).configured("cni.dev/valid-attachments", valid);
    assert_eq!(gc.make().silent(), Ok(()));
    assert_eq!(kept.addresses("eth0").len(), 2);
    assert_eq!(others.addresses("eth0").len(), 2);
    assert!(lost.namespace.netlink().and_then(|net| net.link("eth0")).is_err());
    assert_eq!(bed.ports().len(), 2);
    assert_eq!(gc.configured("cniVersion", json!("1.0.0")).code(), 1, "there was no GC yet");
}

#[test]
fn status_says_whether_an_agent_is_there_and_version_needs_none() {
    let Some(bed) = Bed::new() else { return };
    assert_eq!(bed.call("STATUS", None).code(), 50);
    let version = bed.call("VERSION", None).saying(r#"{"cniVersion": "0.4.0"}"#).done();
    assert_eq!(version["cniVersion"], "0.4.0");
    let supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(version["supportedVersions"], json!(supported));
    let agent = bed.start();
    assert_eq!(bed.call("STATUS", None).make().silent(), Ok(()));
    drop(agent);
    assert_eq!(bed.call("STATUS", None).code(), 50);
}
