//! How soon a filter works: from its compiled code, kept by an earlier run, to the first packet,
//! and how long its compilation takes where there is none.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use millrace_abi::limits;
use millrace_builtin::{BUILT_IN, EXAMPLES};
use millrace_dataplane::control::MemoryPlane;
use millrace_dataplane::port::Vlans;
use millrace_dataplane::worker::WorkerSettings;
use millrace_sandbox::{Origin, Sandbox, Settings};

use crate::memory::workload::Workload;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::unit::Unit;
use crate::veth::peer::bridge;

/// From the cache to the first packet.
pub const FROM_CACHE: Promise = Promise::at_most(
    "load of a module from the compiled cache to its first packet",
    20.0,
    Unit::Milliseconds,
);

/// To compile.
pub const COMPILE: Promise =
    Promise::at_most("compilation of a built-in filter", 1000.0, Unit::Milliseconds);

/// Measures both.
///
/// # Errors
/// If a filter is refused, or the packet does not come through.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    // whatever is not kept yet is now
    first_packet(&plan.sandbox())?;
    let samples: Result<Vec<_>> =
        (0..plan.runs(41, 15)).map(|_| first_packet(&plan.sandbox())).collect();
    let samples = samples?;
    outcome.sampled("cache to first packet", "bridge", Unit::Milliseconds, &samples);
    outcome.held("cache to first packet, bridge", &FROM_CACHE, Estimate::of(&samples));

    for module in BUILT_IN.iter().chain(EXAMPLES) {
        let compile = |_| {
            let sandbox = sandbox(&Settings::default())?;
            let start = Instant::now();
            sandbox.load(module.bytes, limits::DEFAULT_MEMORY)?;
            Ok(milliseconds(start))
        };
        let samples: Result<Vec<_>> = (0..plan.runs(11, 6)).map(compile).collect();
        let samples = samples?;
        outcome.sampled("compilation", module.name, Unit::Milliseconds, &samples);
        outcome.held(format!("compilation, {}", module.name), &COMPILE, Estimate::of(&samples));
    }
    Ok(())
}

/// Milliseconds until a running dataplane that is told to load the bridge has sent a packet on.
fn first_packet(settings: &Settings) -> Result<f64> {
    let sandbox = Arc::new(sandbox(settings)?);
    let ports = [("near", Vlans::transparent()), ("far", Vlans::transparent())];
    let mut plane = MemoryPlane::new(Arc::clone(&sandbox), &ports, WorkerSettings::default());
    let (load, packet) = (bridge()?, Workload::new().frames[..1].to_vec());
    let module = load.module.clone();

    let start = Instant::now();
    plane.stages.load(load, &|_| None)?;
    let left = plane.pass("near", &packet);
    let took = milliseconds(start);

    ensure!(left.len() == 1 && left[0].1 == packet[0], "the packet has not come through");
    let origin = sandbox.load(&module, limits::DEFAULT_MEMORY)?.origin();
    ensure!(matches!(origin, Origin::Cached(_)), "the compiled code is not kept");
    Ok(took)
}

fn sandbox(settings: &Settings) -> Result<Sandbox> {
    Sandbox::new(settings).map_err(|error| anyhow!("the engine does not start: {error:#}"))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
