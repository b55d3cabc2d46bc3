//! The cases of public suites, as `tests/conformance` has them, through the compiled filter, for both
//! families, and all changes one after the other.
//!
//! - `namespaced`: Kubernetes' own suite for NetworkPolicy; `cluster`: network-policy-api's for
//!   ClusterNetworkPolicy

mod cluster;
mod namespaced;

use millrace_control::World;
use millrace_control::source::Manifests;
use millrace_rehearsal::Traffic;

/// The world of manifests that have nothing wrong.
fn world(manifests: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), manifests).expect("the folder is there");
    let read = Manifests::open(folder.path()).and_then(|manifests| manifests.read());
    let (world, complaints) = read.expect("the folder is there");
    assert!(complaints.is_empty(), "{complaints:?}");
    world
}

/// `80/tcp`.
fn traffic(text: &str) -> Traffic {
    let (port, protocol) = text.split_once('/').expect("a port and a protocol");
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        other => panic!("{other}"),
    };
    Traffic { protocol, port: port.parse().expect("a number") }
}
