//! Names in a lab: a real DNS server in a pod behind kube-dns, and pods that resolve by it.

use std::collections::BTreeSet;

use crate::bed::{Bed, NODES, PODS, until};

#[test]
fn pods_resolve_names_by_a_server_behind_a_service_and_connect_by_them() {
    let manifests = [
        ("nodes.yaml", NODES),
        ("pods.yaml", PODS),
        ("services.yaml", SERVICES),
        ("dns.yaml", DNS),
    ];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let resolved = |name: &str| {
        let output = bed.lab(&["exec", "shop", "--", "getent", "ahosts", name]);
        let text = String::from_utf8(output.stdout).expect("it is text");
        let first = |line: &str| line.split(' ').next().map(str::to_owned);
        (output.status.success(), text.lines().filter_map(first).collect::<BTreeSet<_>>())
    };
    // the server may have to start yet
    until(|| resolved("store").0.then_some(()));
    let both = BTreeSet::from(["10.96.0.10".to_owned(), "fd96::10".to_owned()]);
    for name in ["store", "store.default", "store.default.svc.cluster.local"] {
        assert_eq!(resolved(name), (true, both.clone()), "{name}");
    }
    assert_eq!(resolved("bakery.default.svc.cluster.local"), (false, BTreeSet::new()));

    // whoever serves it there echoes its name
    let words = ["exec", "shop", "--", "sh", "-c", "echo hello | nc -N store 7"];
    let servers: BTreeSet<String> =
        (0..20).map(|_| bed.done(&words).split(' ').next().expect("a word").to_owned()).collect();
    assert_eq!(servers, BTreeSet::from(["default/bank".to_owned(), "default/cart".to_owned()]));

    // nothing of it is the machine's
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(!config.contains("10.96.0.53"), "{config}");
    assert!(!bed.done(&["exec", "node:east", "--", "cat", "/etc/resolv.conf"]).contains("10.96"));
}

const SERVICES: &str = include_str!("../../../../examples/lab/services.yaml");
const DNS: &str = include_str!("../../../../examples/lab/dns.yaml");
