//! Everybody that carries packets between pods does so, and leaves nothing behind; whatever is
//! measured there finds something.

use std::time::Duration;

use millrace_bench::pods::measure::{Measure, Quantity, Spot};
use millrace_bench::pods::peer::{Peer, Workers};
use millrace_bench::traffic::Places;
use millrace_bench::veth::ground::Ground;
use millrace_netns::{Namespace, NamespaceError};

/// Pods; none for those who may not make any.
fn pods() -> Option<Ground> {
    match Namespace::create_unique("bench-test") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => {
            drop(outcome.expect("root can make namespaces"));
            Some(Ground::new(None).unwrap_or_else(|error| panic!("{error:#}")))
        }
    }
}

/// Connections that the kernel has tracked between the pods.
fn tracked(ground: &Ground) -> u64 {
    let count = ground.host().sysctl("net.netfilter.nf_conntrack_count");
    // who never tracked any does not say
    count.map_or(0, |count| count.parse().expect("it is a number"))
}

#[test]
fn every_peer_carries_packets_between_pods_and_the_router_alone_tracks_them() {
    let Some(ground) = pods() else { return };
    let cache = tempfile::tempdir().expect("there is room");
    let places = Places::available().expect("there are two cores");
    for peer in Peer::ALL {
        let before = tracked(&ground);

        let placed = peer.start(&ground, cache.path(), places);

        let _placed = placed.unwrap_or_else(|error| panic!("{}: {error:#}", peer.label()));
        assert_eq!(tracked(&ground) > before, peer == Peer::Routed, "{}", peer.label());
    }
    assert!(ground.greet().is_err(), "nobody carries packets any more");
}

#[test]
fn every_measure_finds_something() {
    let Some(ground) = pods() else { return };
    let sink = ground.sink().expect("the kernel takes it");
    let cache = tempfile::tempdir().expect("there is room");
    let (places, time) =
        (Places::available().expect("there are two cores"), Duration::from_millis(50));
    let peer = Peer::Millrace(Workers::Everywhere);
    let mut found = Vec::new();
    for measure in Measure::ALL {
        let placed = peer.start(&ground, cache.path(), places);
        let placed = placed.unwrap_or_else(|error| panic!("{measure:?}: {error:#}"));
        let spot = Spot { ground: &ground, sink: &sink, placed: &placed, places, time };

        let samples = measure.sample(&spot);

        let samples = samples.unwrap_or_else(|error| panic!("{measure:?}: {error:#}"));
        assert!(!samples.is_empty(), "{measure:?}");
        found.extend(samples);
    }
    for (quantity, value) in &found {
        // nothing may be what an idle host uses
        assert!(*value > 0.0 || *quantity == Quantity::IdleCpu, "{quantity:?}: {value}");
        let all = found.iter().filter(|(other, _)| other == quantity);
        assert_eq!(all.count(), 1, "each is measured once: {found:?}");
    }
}
