//! Write packet filters for millrace.
//!
//! A filter decides what becomes of flows and packets. It is a library crate, compiled to
//! WebAssembly, that the host calls; its logic is plain Rust and is tested with `cargo test`.
//!
//! ```
//! use millrace_filter::prelude::*;
//!
//! /// What the operator configures.
//! #[derive(Config)]
//! struct Settings {
//!     /// Sources whose packets are dropped.
//!     deny: Vec<Prefix>,
//! }
//!
//! struct DenyList(PrefixMap<()>, Counter);
//!
//! impl Filter for DenyList {
//!     const MANIFEST: Manifest = Manifest::new("deny-list", "1.0.0").wants(&[Capability::Drop]);
//!     type Config = Settings;
//!
//!     fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
//!         let denied = settings.deny.into_iter().map(|prefix| (prefix, ()));
//!         Ok(Self(denied.collect(), setup.counter("denied")?))
//!     }
//!
//!     fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
//!         if slot.source().is_some_and(|source| self.0.longest_match(source).is_some()) {
//!             self.1.add(1);
//!             decision.drop(Reason::Denied);
//!         }
//!     }
//! }
//!
//! filter!(DenyList: flow);
//! # use millrace_filter::testing::{Rig, frames};
//! # let mut rig = Rig::<DenyList>::new(r#"{"deny": ["10.0.0.0/8"]}"#);
//! # assert_eq!(rig.flow(&frames::udp("10.1.2.3:1", "9.9.9.9:53", b"")).control, 1);
//! # assert_eq!(rig.flow(&frames::udp("8.8.8.8:1", "9.9.9.9:53", b"")).control, 0);
//! ```
//!
//! In reading order:
//! - [`Filter`], [`filter!`]: what a filter is, and how the host finds it
//! - [`Slot`], [`Decision`], [`Reason`]: what it is told and what it answers (`millrace-abi`)
//! - [`Packet`]: packets, for filters that look into them
//! - [`Manifest`], [`Rule`]: what it says of itself
//! - [`Config`]: its configuration, typed, with a schema
//! - [`Counter`], [`Gauge`], [`Histogram`]: what it counts
//! - [`tables`]: what the cluster is, for filters that subscribe (`millrace-tables`)
//! - [`Map`], [`Record`]: what it remembers beyond its own life; [`Entries`]: many at once
//! - [`Prefix`], [`PrefixMap`]: addresses by longest match
//! - [`mod@log`]: what it says
//! - `testing`: a rig that runs it natively, with frames and captures to feed it
//! - [`boundary`]: where all of that meets the host; the only unsafe file

extern crate self as millrace_filter;

pub mod boundary;
pub mod config;
mod entries;
mod filter;
mod host;
pub mod log;
mod manifest;
mod map;
mod metrics;
mod packet;
mod prefix;
pub mod record;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod text;

pub use config::Config;
pub use entries::Entries;
pub use filter::{Error, Filter, Setup};
pub use manifest::{Manifest, Rule};
pub use map::{Full, Map, MapOptions, Served};
pub use metrics::{Counter, Gauge, Histogram};
pub use millrace_abi as abi;
pub use millrace_abi::{
    Capability, Class, Control, Decision, Field, INSPECT_ALL, Origin, PortKind, Reason, Slot, Tag,
    TagKind, slot_flag,
};
pub use millrace_filter_macros::{Config, Record};
pub use millrace_tables as tables;
pub use millrace_wire as wire;
pub use packet::Packet;
pub use prefix::{Prefix, PrefixMap};
pub use record::Record;

/// Sends `frame`, from its Ethernet header on, out of `port`. Needs the capability `emit`.
///
/// Returns whether the host took it: it may have no room, or the port may not exist.
pub fn emit(port: u16, frame: &[u8]) -> bool {
    host::emit(port, frame)
}

/// Nanoseconds of a clock that never goes back; the clock of [`Slot::now_ns`], which is cheaper.
pub fn now_ns() -> u64 {
    host::now_ns()
}

/// Everything most filters use.
pub mod prelude {
    pub use crate::tables::{Table, Update};
    pub use crate::wire::MacAddr;
    pub use crate::{
        Capability, Class, Config, Counter, Decision, Entries, Error, Filter, Gauge, Histogram,
        Manifest, Map, MapOptions, Packet, Prefix, PrefixMap, Reason, Record, Rule, Setup, Slot,
        filter, log,
    };
}
