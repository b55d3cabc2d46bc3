//! Filters are swapped while packets pass: is anything lost, overtaken or doubled, and for how
//! long does a worker stand still?
//!
//! The sender never has more on its way than fits into any ring, so that whatever is lost was lost
//! by the swap. Pauses are what workers count themselves: the time for which a change held up the
//! next burst.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use millrace_dataplane::control::Dataplane;
use millrace_dataplane::pauses::PauseCounts;
use millrace_dataplane::worker::WorkerSettings;
use millrace_traffic::Core;
use millrace_traffic::sequence::{Sequence, SequenceReport, SequenceSettings};

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::{Estimate, Interval, percentile};
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};
use crate::veth::measure::Placement;
use crate::veth::peer::{bridge, dataplane};

/// Nothing is lost.
pub const LOST: Promise = Promise::none("packets lost by swaps under load");

/// Nothing is overtaken.
pub const REORDERED: Promise = Promise::none("packets reordered by swaps under load");

/// Nothing is doubled.
pub const DUPLICATED: Promise = Promise::none("packets duplicated by swaps under load");

/// Workers hardly stand still.
pub const PAUSE: Promise =
    Promise::at_most("pause of a worker in a swap, p99", 50.0, Unit::Microseconds);

/// Swaps 1,000 times, or 100 times quickly.
///
/// # Errors
/// If no packets pass, or a swap is refused.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let swaps = plan.much(1000, 100);
    let ground = Ground::new(plan.named.as_ref())?;
    let cores = Placement::of(&Core::available())?;
    // nothing but the worker is on its core: threads stay where those that start them are
    let _stay = cores.sender.keep();
    let start = || dataplane(ground.ports(), WorkerSettings::default(), &plan.cache, cores.carrier);
    let plane = ground.host().run(start)??;
    ground.set_ends(Ends::USUAL)?;
    ground.greet()?;

    let settings =
        SequenceSettings { window: WINDOW, core: Some(cores.sender), ..Default::default() };
    let sequence = Sequence::start(ground.near(), ground.far(), settings)?;
    let swapped = swap(&plane, &sequence, swaps);
    let report = sequence.stop()?;
    let (took, pauses) = swapped?;

    let lost = |count: u64| Estimate::exact(count as f64);
    outcome.held(format!("lost in {swaps} swaps"), &LOST, lost(report.lost));
    outcome.held(format!("reordered in {swaps} swaps"), &REORDERED, lost(report.reordered));
    outcome.held(format!("duplicated in {swaps} swaps"), &DUPLICATED, lost(report.duplicated));
    let at = |part| percentile_of(&pauses, part).context("a swap holds a worker up");
    outcome.held("pause, p99", &PAUSE, at(0.99)?);
    outcome.found("pause, p50", Unit::Microseconds, at(0.5)?);
    outcome.found("pause, longest", Unit::Microseconds, at(1.0)?);
    describe(&report, &took, outcome);
    if report.lost > 0 {
        outcome.notes.push(format!("What became of packets: {:?}", plane.fates()));
        for port in plane.ports()? {
            outcome.notes.push(format!("`{}`: {:?}", port.name, port.counters));
        }
    }
    Ok(())
}

/// Swaps the bridge for itself, by a module that is another one to the host, and back. Returns how
/// many milliseconds each swap took, and how long workers stood still.
fn swap(plane: &Dataplane, sequence: &Sequence, swaps: usize) -> Result<(Vec<f64>, PauseCounts)> {
    let bridge = bridge()?;
    let modules = [marked(&bridge.module), bridge.module];
    for module in &modules {
        // what it takes to compile is measured elsewhere
        plane.sandbox().load(module, bridge.terms.memory)?;
    }
    ensure!(sequence.await_arrivals(WINDOW), "no datagram arrives");
    let before = plane.pauses();
    let mut took = Vec::with_capacity(swaps);
    for number in 0..swaps {
        let start = Instant::now();
        plane.swap(&bridge.name, &modules[number % 2], None)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        // each version carries packets before the next one comes
        let carried = sequence.await_arrivals(sequence.arrived() + WINDOW);
        ensure!(carried, "no datagram arrives after swap {}", number + 1);
    }
    Ok((took, plane.pauses().since(&before)))
}

fn describe(report: &SequenceReport, took: &[f64], outcome: &mut Outcome) {
    let mut sorted = took.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    outcome.sampled("a swap, from the request to its end", "millrace", Unit::Milliseconds, took);
    outcome.found("a swap, p50", Unit::Milliseconds, Estimate::of(took));
    let tail = Estimate::exact(percentile(&sorted, 0.99));
    outcome.found("a swap, p99", Unit::Milliseconds, tail);
    let gap = Estimate::exact(report.longest_gap.as_nanos() as f64 / 1e3);
    outcome.found("longest time without an arrival", Unit::Microseconds, gap);
    outcome.notes.push(format!(
        "{} datagrams of {} flows in {:.1} s, at most {WINDOW} of them on their way; the receiver \
         is a socket, so the longest time without an arrival includes whatever else kept it from \
         its core. The worker has a core of its own, and shares it with whatever else this machine does: \
         that is in the pauses, too. They are counted in buckets, four for each power of two, and an \
         interval is one of these.",
        report.sent,
        SequenceSettings::default().flows,
        report.elapsed.as_secs_f64()
    ));
}

/// Microseconds that `part` of all pauses were not above; its interval is the bucket's. `None` if there
/// were no pauses.
fn percentile_of(pauses: &PauseCounts, part: f64) -> Option<Estimate> {
    let total: u64 = pauses.buckets().map(|(_, count)| count).sum();
    let rank = ((total as f64 * part).ceil() as u64).clamp(1, total.max(1));
    let mut below = 0;
    for (bounds, count) in pauses.buckets() {
        if below + count >= rank {
            let (low, high) = (bounds.start as f64 / 1e3, bounds.end as f64 / 1e3);
            let inside = (rank - below) as f64 / count as f64;
            let median = low + (high - low) * inside;
            return Some(Estimate { median, interval: Some(Interval { low, high }) });
        }
        below += count;
    }
    None
}

/// The same module with a custom section more, so that its digest is another one.
fn marked(module: &[u8]) -> Vec<u8> {
    // id 0, size, length of the name, name (WebAssembly core specification, 5.5.3)
    let mark = [&[0, 1 + MARK.len() as u8, MARK.len() as u8], MARK].concat();
    [module, &mark].concat()
}

const MARK: &[u8] = b"second version";

/// Datagrams on their way: a quarter of the queue of a veth, the shortest there is.
const WINDOW: u64 = 64;

#[cfg(test)]
mod tests {
    use millrace_abi::limits;
    use millrace_dataplane::pauses::Pauses;
    use millrace_sandbox::Sandbox;

    use super::*;

    #[test]
    fn a_marked_module_is_the_same_filter_and_another_module() {
        let sandbox = Sandbox::new(&Default::default()).expect("the engine starts");
        let module = bridge().expect("it is built in").module;
        let [plain, marked] = [module.clone(), marked(&module)]
            .map(|bytes| sandbox.load(&bytes, limits::DEFAULT_MEMORY).expect("it is a filter"));
        assert_eq!(plain.manifest().name, marked.manifest().name);
        assert_ne!(plain.digest(), marked.digest());
    }

    #[test]
    fn a_percentile_of_pauses_is_in_its_bucket() {
        let counted = Pauses::default();
        for (nanoseconds, count) in [(600, 50), (20_000, 49), (700_000, 1)] {
            (0..count).for_each(|_| counted.note(nanoseconds));
        }
        let pauses = counted.read();
        for (part, low, high) in [(0.5, 0.512, 0.64), (0.99, 16.384, 20.48), (1.0, 655.36, 786.432)]
        {
            let found = percentile_of(&pauses, part).expect("there are pauses");
            assert_eq!(found.interval, Some(Interval { low, high }), "{part}");
            assert!((low..=high).contains(&found.median), "{part}: {found:?}");
        }
        assert_eq!(percentile_of(&PauseCounts::default(), 0.5), None);
    }
}
