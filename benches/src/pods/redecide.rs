//! The chain changes while 100,000 flows are alive: how soon are all of them decided anew, and does
//! a packet notice?
//!
//! Each flow is a datagram between the pods, with ends of its own: it is in the table, and both its
//! ways are in the kernel's cache. A few more flows go on all the while.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_dataplane::connections::{self, Timeouts};
use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::control::{CacheSettings, Dataplane, Redecided, Which};
use millrace_fastpath::Capacity;
use millrace_traffic::burst::{BurstSettings, bursts};
use millrace_traffic::sequence::{Sequence, SequenceSettings};

use super::peer::{Workers, dataplane};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::traffic::Places;
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};

/// All flows, soon.
pub const ALL: Promise =
    Promise::at_most("deciding 100,000 live flows anew", 500.0, Unit::Milliseconds);

/// Nothing is lost.
pub const LOST: Promise =
    Promise::none("packets lost or reordered while live flows are decided anew");

/// Opens the flows, and has them decided anew.
///
/// # Errors
/// If the pods cannot be had, or packets do not pass.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(None)?;
    let places = Places::available()?;
    let timeouts = Timeouts { unreplied: LONG, residency: LONG, ..Timeouts::default() };
    let flow_cache = CacheSettings {
        capacity: Capacity(3 * FLOWS),
        connections: connections::Settings { timeouts, ..connections::Settings::default() },
        ..CacheSettings::default()
    };
    let plane = dataplane(&ground, &plan.cache, Workers::Everywhere, places, flow_cache)?;
    ground.set_ends(Ends::USUAL)?;
    ground.greet()?;
    let module = millrace_builtin::find("deny-list").context("no deny-list is built in")?;
    plane.load(Load {
        name: DENY.to_owned(),
        module: module.bytes.to_vec(),
        config: DENY_NONE.to_owned(),
        position: Position::First,
        terms: StageTerms::default(),
    })?;

    for _ in 0..FLOWS / u32::from(BurstSettings::MOST_FLOWS) {
        let settings = BurstSettings {
            flows: BurstSettings::MOST_FLOWS,
            length: 1,
            core: Some(places.near),
            ..BurstSettings::default()
        };
        bursts(ground.near(), ground.far(), settings)?;
    }
    let settings =
        SequenceSettings { window: WINDOW, core: Some(places.near), ..Default::default() };
    let sequence = Sequence::start(ground.near(), ground.far(), settings)?;
    ensure!(sequence.await_arrivals(WINDOW), "no datagram arrives");
    let same = again_and_again(plan, &plane, &sequence);
    let report = sequence.stop()?;
    let same = same?;
    let turns = (0..plan.runs(10, 3)).flat_map(|_| [DENY_ALL, DENY_NONE]);
    let changed = turns.map(|config| change(&plane, config)).collect::<Result<Vec<_>>>()?;

    for (what, samples) in
        [("all flows, none of them changed", &same), ("all flows, denied or allowed", &changed)]
    {
        outcome.sampled(what, "millrace", Unit::Milliseconds, samples);
    }
    outcome.held("all flows, none of them changed", &ALL, Estimate::of(&same));
    outcome.held("all flows, denied or allowed", &ALL, Estimate::of(&changed));
    let failed = Estimate::exact((report.lost + report.reordered) as f64);
    outcome.held("lost or reordered where nothing changed", &LOST, failed);
    let gap = Estimate::exact(report.longest_gap.as_nanos() as f64 / 1e3);
    outcome.found("longest time without an arrival", Unit::Microseconds, gap);
    outcome.notes.push(format!(
        "{FLOWS} flows of a datagram each, both ways in the kernel's cache; {} datagrams of {} other \
         flows in the meantime, with at most {WINDOW} on their way.",
        report.sent,
        SequenceSettings::default().flows,
    ));
    Ok(())
}

/// Milliseconds until all flows are decided anew, and as before.
fn again_and_again(plan: &Plan, plane: &Dataplane, sequence: &Sequence) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for _ in 0..plan.runs(20, 6) {
        let start = Instant::now();
        let came_to = plane.redecide(&Which::All);
        took.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(came_to.same >= u64::from(FLOWS), "flows are gone: {came_to:?}");
        ensure!(came_to.same == came_to.connections(), "flows have changed: {came_to:?}");
        ensure!(sequence.await_arrivals(sequence.arrived() + WINDOW), "no datagram arrives");
    }
    Ok(took)
}

/// Milliseconds from a configuration to the last flow that it changes.
fn change(plane: &Dataplane, config: &str) -> Result<f64> {
    let before = redecided(plane)?;
    let start = Instant::now();
    plane.configure(DENY, config)?;
    loop {
        let now = redecided(plane)?;
        if now.changed + now.dropped >= before.changed + before.dropped + u64::from(FLOWS) {
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(start.elapsed() < LONG, "flows stay as they were: {now:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn redecided(plane: &Dataplane) -> Result<Redecided> {
    Ok(plane.cache()?.context("there is a cache")?.redecided)
}

const FLOWS: u32 = 100_000;
/// Longer than the bench.
const LONG: Duration = Duration::from_secs(600);
/// Datagrams on their way.
const WINDOW: u64 = 64;
const DENY: &str = "deny";
const DENY_ALL: &str = r#"{"rules": [{"protocol": "udp"}]}"#;
const DENY_NONE: &str = r#"{"rules": []}"#;
