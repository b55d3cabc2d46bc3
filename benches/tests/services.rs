//! Everybody that is measured through Services lets through what a policy allows, and nothing else.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use millrace_bench::services::measure::{Measure, Spot};
use millrace_bench::services::peer::{Peer, Placed};
use millrace_bench::traffic::Places;
use millrace_netns::{Namespace, NamespaceError};

/// A peer with a small cluster; none for those who may not make namespaces.
fn place(peer: Peer) -> Option<Placed> {
    match Namespace::create_unique("bench-test") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            return None;
        }
        outcome => drop(outcome.expect("root can make namespaces")),
    }
    let cache = tempfile::tempdir().expect("there is room");
    let places = Places::available().expect("there are two cores");
    let placed = peer.start(10, cache.path(), places);
    Some(placed.unwrap_or_else(|error| panic!("{error:#}")))
}

#[test]
fn every_peer_has_the_policy_in_force() {
    for peer in Peer::ALL {
        let Some(Placed { site, .. }) = &place(peer) else { return };
        let pods = site.ground.far();
        for (port, open) in [(8080, true), (8081, false)] {
            let at = SocketAddr::new(pods.address, port);
            let listener = pods.namespace.run(|| TcpListener::bind(at)).expect("it can be entered");
            let _listener = listener.expect("it is free");
            let client = site.client().namespace;

            let opened = client.run(|| TcpStream::connect_timeout(&at, PATIENCE));

            let opened = opened.expect("it can be entered");
            assert_eq!(opened.is_ok(), open, "{}, {port}: {opened:?}", peer.label());
        }
    }
}

#[test]
fn every_measure_finds_something_with_every_peer() {
    for peer in Peer::ALL {
        let Some(Placed { site, .. }) = &place(peer) else { return };
        let sink = site.sink().expect("the kernel takes it");
        let places = Places::available().expect("there are two cores");
        let spot = Spot { site, sink: &sink, places, time: Duration::from_millis(50) };
        let mut found = Vec::new();
        for measure in Measure::ALL {
            let samples = measure.sample(&spot);
            let samples = samples.unwrap_or_else(|error| panic!("{measure:?}: {error:#}"));
            assert!(!samples.is_empty(), "{measure:?}");
            found.extend(samples);
        }
        for (quantity, value) in &found {
            assert!(*value > 0.0, "{quantity:?}: {value}");
            let all = found.iter().filter(|(other, _)| other == quantity);
            assert_eq!(all.count(), 1, "each is measured once: {found:?}");
        }
    }
}

const PATIENCE: Duration = Duration::from_millis(300);
