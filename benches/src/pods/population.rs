//! Many flows are in the kernel's cache: do the few that are busy notice?
//!
//! Each of the many is a datagram between the pods, with ends of its own; both its ways are in the
//! cache, and in the table, and stay there. Grounds with different numbers of them stand side by
//! side and take turns.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_dataplane::connections::{self, Limits, Timeouts};
use millrace_dataplane::control::{CacheSettings, Dataplane};
use millrace_fastpath::Capacity;
use millrace_traffic::burst::{BurstSettings, bursts};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::sink::Sink;

use super::peer::{Workers, dataplane};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::samples::{Samples, in_turns};
use crate::statistics::Estimate;
use crate::traffic::{Measure, Places, Quantity, Spot};
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};

/// Busy flows do not notice the others.
pub const HOT: Promise = Promise::at_least(
    "packets of 64 B of busy flows among 1,000,000 others, against those among none",
    0.95,
    Unit::Ratio,
);

/// What a flow takes of a node's memory.
pub const MEMORY: Promise = Promise::at_most("memory of the agent per flow", 512.0, Unit::Bytes);

/// Opens the flows, and sends beside them.
///
/// # Errors
/// If the pods cannot be had, or packets do not pass.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = Places::available()?;
    let counts = plan.much(&[0, 10_000, 1_000_000][..], &[0, 10_000]);
    let mut crowds = Vec::new();
    for &count in counts {
        let crowd = Crowd::open(count, LONG, plan, places)?;
        if count > 0 {
            let what = format!("to open one of {count} flows, its socket included");
            outcome.found(what, Unit::Microseconds, Estimate::exact(crowd.opening));
        }
        if count >= ENOUGH {
            outcome.held(format!("{count} flows"), &MEMORY, Estimate::exact(crowd.memory));
        }
        crowds.push(crowd);
    }
    let time = plan.much(Duration::from_millis(600), Duration::from_millis(150));
    let mut samples = Samples::default();
    for run in 0..plan.runs(15, 6) {
        for crowd in in_turns(&crowds, run) {
            for (quantity, value) in crowd.sample(places, time)? {
                samples.note((quantity, crowd.count), value);
            }
        }
    }
    for ((quantity, count), found) in samples.iter() {
        let what = format!("{}, among {count} flows", quantity.label());
        outcome.sampled(&what, "millrace", quantity.unit(), found);
    }
    for &many in counts {
        let of = |count| (Quantity::SmallRate, count);
        let ratio = samples.ratio(&of(many), &of(0)).filter(|_| many > 0);
        if let Some(ratio) = ratio {
            let what = format!("packets of 64 B among {many} flows / among none");
            outcome.held(what, &HOT, ratio);
        }
    }
    for crowd in &crowds {
        ensure!(crowd.flows()? >= u64::from(crowd.count), "flows are gone");
    }
    drop(crowds);
    let short = Crowd::open(u32::from(BurstSettings::MOST_FLOWS), SHORT, plan, places)?;
    let what = "CPU to end a flow that is silent, and to take it out of the cache";
    outcome.found(what, Unit::Microseconds, Estimate::exact(short.age()?));
    outcome.notes.push(
        "Each flow is a datagram, with both its ways in the kernel's cache. 16 of them are busy. \
         Memory is what the process has for itself; what the kernel has for the cache was taken \
         when it was made, whatever is in it."
            .to_owned(),
    );
    Ok(())
}

/// A ground with so many flows.
struct Crowd {
    count: u32,
    /// Microseconds that it took to open one.
    opening: f64,
    /// Bytes of this process that one has.
    memory: f64,
    // before the namespaces it is in
    plane: Dataplane,
    sink: Sink,
    ground: Ground,
}

impl Crowd {
    /// Opens them; they live for so long.
    fn open(count: u32, life: Duration, plan: &Plan, places: Places) -> Result<Self> {
        let ground = Ground::new(None)?;
        let timeouts = Timeouts { unreplied: life, residency: LONG, ..Timeouts::default() };
        let limits = Limits { total: ROOM as usize, per_owner: ROOM as usize };
        let connections = connections::Settings { timeouts, limits, ..<_>::default() };
        let flow_cache =
            CacheSettings { capacity: Capacity(2 * ROOM), connections, ..CacheSettings::default() };
        let plane = dataplane(&ground, &plan.cache, Workers::Everywhere, places, flow_cache)?;
        ground.set_ends(Ends::USUAL)?;
        ground.greet()?;
        let sink = ground.sink()?;

        let (before, start) = (own_memory()?, Instant::now());
        let mut left = count;
        while left > 0 {
            let flows = left.min(u32::from(BurstSettings::MOST_FLOWS));
            let core = Some(places.near);
            let settings =
                BurstSettings { flows: flows as u16, length: 1, core, ..BurstSettings::default() };
            bursts(ground.near(), ground.far(), settings)?;
            left -= flows;
        }
        let each = |all: f64| all / f64::from(count);
        let opening = each(start.elapsed().as_secs_f64() * 1e6);
        let memory = each(own_memory()? - before);
        Ok(Self { count, opening, memory, plane, sink, ground })
    }

    /// Packets of busy flows in a second, and what each takes.
    fn sample(&self, places: Places, time: Duration) -> Result<Vec<(Quantity, f64)>> {
        let ends = [self.ground.near(), self.ground.far()];
        Measure::SmallPackets.sample(&Spot::between(ends, &self.sink, places, time))
    }

    /// Microseconds of all threads for each flow that ends by itself.
    fn age(&self) -> Result<f64> {
        let (start, before, meter) = (Instant::now(), self.flows()?, CpuMeter::start()?);
        loop {
            thread::sleep(LOOK);
            let now = self.flows()?;
            if now * 10 <= before {
                let used = meter.stop()?.of_threads("");
                return Ok(used.as_nanos() as f64 / 1e3 / (before - now) as f64);
            }
            ensure!(start.elapsed() < PATIENCE, "{now} flows of {before} do not end");
        }
    }

    fn flows(&self) -> Result<u64> {
        Ok(self.plane.cache()?.context("there is a cache")?.connections)
    }
}

/// Bytes of memory that this process shares with nobody.
fn own_memory() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("reading its own status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.context("a status says so (proc_pid_status(5))")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}

/// Flows that there is room for.
const ROOM: u32 = 1_100_000;
/// So many that what else the process takes meanwhile does not count.
const ENOUGH: u32 = 100_000;
/// How long flows live that are to end, once all of them are open.
const SHORT: Duration = Duration::from_secs(10);
/// How often flows that end are counted.
const LOOK: Duration = Duration::from_millis(100);
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than the bench.
const LONG: Duration = Duration::from_secs(3600);
