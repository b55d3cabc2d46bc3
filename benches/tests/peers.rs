//! Everybody that the benches compare carries packets both ways, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use millrace_bench::veth::ground::{Ground, Named};
use millrace_bench::veth::peer::{Peer, Start};
use millrace_bench::veth::script::Script;
use millrace_netns::{Namespace, NamespaceError, VethSpec};
use millrace_traffic::Core;

/// A namespace; `None` for those who may not make any.
fn namespace() -> Option<Namespace> {
    match Namespace::create_unique("bench-test") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => Some(outcome.expect("root can make namespaces")),
    }
}

/// Puts a peer in place and lets packets pass, then takes it away again.
fn carry(peer: &Peer, ground: &Ground, cache: &Path) {
    let core = *Core::available().last().expect("this test runs somewhere");
    let start = Start { ground, cache, core };
    let in_place = peer.start(&start).unwrap_or_else(|error| panic!("{error:#}"));
    ground.set_ends(peer.ends(true)).expect("veths can be set");
    ground.greet().unwrap_or_else(|error| panic!("{}: {error:#}", peer.label()));
    drop(in_place);
}

#[test]
fn every_peer_carries_packets_one_after_the_other_on_the_same_ports() {
    if namespace().is_none() {
        return;
    }
    let cache = tempfile::tempdir().expect("there is room");
    let ground = Ground::new(None).expect("root can make veths");
    // as the kernel's bridge, from outside
    let script = cache.path().join("bridge.sh");
    fs::write(&script, SCRIPT).expect("there is room");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let script = Script { name: "script".to_owned(), path: script };

    for peer in Peer::all(&[script]) {
        carry(&peer, &ground, cache.path());
    }

    assert!(ground.greet().is_err(), "nobody carries packets any more");
}

#[test]
fn interfaces_that_are_named_come_back() {
    let Some(here) = namespace() else { return };
    let net = here.netlink().expect("netlink works");
    for (port, facing) in [("a", "c"), ("b", "d")] {
        net.add_veth(&VethSpec::new(port, facing)).expect("a veth can be made");
    }
    let cache = tempfile::tempdir().expect("there is room");
    let named = Named { ports: ["a", "b"].map(str::to_owned), facing: None };

    here.run(|| {
        let ground = Ground::new(Some(&named)).expect("the other ends are found");
        assert!(net.link("c").is_err() && net.link("d").is_err(), "they have moved");
        carry(&Peer::KernelBridge, &ground, cache.path());
    })
    .expect("the namespace can be entered");

    for link in ["a", "b", "c", "d"] {
        net.link(link).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn an_interface_with_an_address_is_not_taken() {
    let Some(here) = namespace() else { return };
    let net = here.netlink().expect("netlink works");
    for (port, facing) in [("a", "c"), ("b", "d")] {
        net.add_veth(&VethSpec::new(port, facing)).expect("a veth can be made");
    }
    net.add_address("d", "192.0.2.1/24".parse().expect("a prefix")).expect("it is free");
    let named = Named { ports: ["a", "b"].map(str::to_owned), facing: None };

    let refusal = here.run(|| Ground::new(Some(&named)).err()).expect("it can be entered");

    let refusal = refusal.expect("somebody uses it").to_string();
    assert!(refusal.contains("`d`") && refusal.contains("192.0.2.1"), "{refusal}");
    assert!(net.link("c").is_ok(), "nothing has moved");
}

const SCRIPT: &str = r#"#!/bin/sh -e
case $1 in
up)
    ip link add name test-bridge type bridge
    for port in "$PORT_A" "$PORT_B"; do ip link set dev "$port" master test-bridge; done
    ip link set dev test-bridge up
    ;;
down)
    ip link delete dev test-bridge
    ;;
esac
"#;
