//! Runs filters that nobody has to trust.
//!
//! A filter is a core WebAssembly module that keeps to the contract in
//! `millrace-abi`. This crate checks it, compiles it, gives it memory, time and
//! capabilities, calls it, and survives whatever it does.
//!
//! In reading order:
//! - [`Sandbox`]: the engine, and what all filters on a node share
//! - [`Manifest`]: what a module says of itself
//! - `validate`: what a module must be before it is compiled ([`Refusal`])
//! - [`Module`]: a checked, compiled module; `cache` keeps compiled code
//! - [`Instance`]: one running copy of a module, and its calls
//! - `deadline`: how long a call may take; `clock`: who sees to it
//! - `imports`: what a guest may call; `memory`: what is copied, and how
//! - [`maps`]: host maps, which outlive every instance
//! - [`FilterLog`], [`Metric`]: what a filter says and counts
//! - [`Fault`]: what can go wrong in a call
//!
//! `unsafe` lives in `memory` (bytes seen as layouts) and `cache` (code this
//! crate compiled itself) alone.

mod cache;
mod clock;
mod deadline;
mod engine;
mod fault;
mod imports;
mod instance;
mod log;
mod manifest;
pub mod maps;
mod memory;
mod metrics;
mod module;
mod validate;

pub use cache::CodeCache;
pub use engine::{Sandbox, Settings};
pub use fault::{Fault, FaultClass};
pub use instance::Instance;
pub use log::{FilterLog, Level, Line};
pub use manifest::{Hook, Manifest, ManifestError, MapDeclaration, MapField, Rule};
pub use metrics::{Metric, MetricValue};
pub use module::{Grant, InstanceError, LoadError, Module, ModuleDigest, Origin};
pub use validate::{Refusal, check};

/// Nanoseconds of the clock that slots carry and guests see: `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}
