//! Containers that come and go on a node: one after the other, and a hundred at once.

use anyhow::{Result, ensure};

use super::containers::{self, Calls};
use super::findings::Kind;
use super::{Clusters, Samples, side_by_side};
use crate::nodes::peer::Between;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::samples::in_turns;
use crate::statistics::percentile;

/// Measures a pair of clusters.
///
/// # Errors
/// If a cluster does not come up, or a container that comes alone is not attached.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    outcome.notes.push(NOTE.to_owned());
    side_by_side(plan, Between::Vxlan, outcome, |clusters, samples, notes| {
        one_by_one(plan, clusters, samples)?;
        at_once(plan, clusters, samples, notes)
    })
}

fn one_by_one(plan: &Plan, clusters: &Clusters, samples: &mut Samples) -> Result<()> {
    for run in 0..plan.runs(10, 6) {
        for (peer, cluster) in in_turns(clusters, run) {
            let calls = containers::call(cluster, plan.much(100, 20), false)?;
            let Calls { mut attach, mut detach, failed, .. } = calls;
            ensure!(failed.is_empty(), "`{}`: {}", peer.label(), failed[0]);
            for (sorted, median, tail) in [
                (&mut attach, Kind::AttachMedian, Kind::AttachTail),
                (&mut detach, Kind::DetachMedian, Kind::DetachTail),
            ] {
                sorted.sort_unstable_by(f64::total_cmp);
                samples.note((median, *peer), percentile(sorted, 0.5));
                samples.note((tail, *peer), percentile(sorted, 0.99));
            }
        }
    }
    Ok(())
}

fn at_once(
    plan: &Plan,
    clusters: &Clusters,
    samples: &mut Samples,
    notes: &mut Vec<String>,
) -> Result<()> {
    for run in 0..plan.runs(6, 6) {
        for (peer, cluster) in in_turns(clusters, run) {
            let calls = containers::call(cluster, AT_A_TIME, true)?;
            let amiss: Vec<_> = calls.failed.iter().chain(&calls.left).collect();
            samples.note((Kind::Amiss, *peer), amiss.len() as f64);
            if let Some(first) = amiss.first() {
                let count = amiss.len();
                notes.push(format!("`{}`, {count} times of 200, such as: {first}", peer.label()));
            }
            for (all, kind) in
                [(&calls.attach, Kind::AllAttached), (&calls.detach, Kind::AllDetached)]
            {
                // all began at once
                if let Some(last) = all.iter().copied().reduce(f64::max) {
                    samples.note((kind, *peer), last);
                }
            }
        }
    }
    Ok(())
}

/// Containers that come at once.
const AT_A_TIME: usize = 100;
/// What a reader of the numbers has to know.
const NOTE: &str = "Plugins are called in a node as runtimes do it, and their processes are part of what a call \
     takes. Two clusters are up at a time.";
