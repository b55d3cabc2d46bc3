//! What is done with input that nobody has checked, until something gives way.
//!
//! - [`wire`]: octets taken for every header that `millrace-wire` knows
//! - [`slots`]: frames read into slots, and what is done with them then
//! - [`path`]: packets carried past a filter that answers anything
//! - [`manifest`]: modules and manifests before anything of them runs
//! - [`tables`]: updates of tables, as filters read them
//! - [`expression`]: filters of captures
//! - [`cni`]: what container runtimes say
//! - [`registry`]: what registries answer, and who is to ask them
//! - [`seeds`]: what mutation begins with
//!
//! Each is a function of octets that returns or panics. `scripts/fuzz` lets libFuzzer look for
//! octets that make it panic; what it finds is kept in `finds/` under a name that says what it
//! shows, and `tests/replay.rs` runs it ever after, as an ordinary test.
#![forbid(unsafe_code)]

pub mod cni;
pub mod expression;
pub mod manifest;
pub mod path;
pub mod registry;
pub mod seeds;
pub mod slots;
pub mod tables;
pub mod wire;

/// Something that takes octets of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its binary.
    pub name: &'static str,
    /// Returns, whatever the octets are.
    pub run: fn(&[u8]),
    /// What mutation begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "wire", run: wire::run, seeds: seeds::headers },
    Target { name: "slots", run: slots::run, seeds: seeds::frames },
    Target { name: "path", run: path::run, seeds: seeds::journeys },
    Target { name: "manifest", run: manifest::run, seeds: seeds::modules },
    Target { name: "tables", run: tables::run, seeds: tables::seeds },
    Target { name: "expression", run: expression::run, seeds: seeds::expressions },
    Target { name: "cni", run: cni::run, seeds: cni::seeds },
    Target { name: "registry", run: registry::run, seeds: registry::seeds },
];
