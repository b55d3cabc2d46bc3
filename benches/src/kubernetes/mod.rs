//! A real cluster, whose pods containerd and kubelets have started: as millrace joins them, and as
//! the reference plugins of CNI and kube-proxy do, in turns.
//!
//! - [`cluster`]: a cluster, brought up and ended; [`peer`]: whose network it has
//! - [`measure`]: what is measured between its pods
//! - [`containers`]: what it takes to attach them
//! - `changes`: from the API server to pods; `api`: how it is asked
//! - `rest`: what a node's own process takes
//! - `findings`: what follows from all that, and what is promised

mod api;
mod changes;
pub mod cluster;
pub mod containers;
mod findings;
pub mod measure;
pub mod peer;
mod rest;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use self::changes::Changing;
use self::cluster::Cluster;
use self::findings::Kind;
pub use self::findings::{AT_ONCE, AT_REST, ATTACHING, CHANGE, MEMORY, ROUND_TRIP, THROUGHPUT};
use self::measure::{Measure, Way};
use self::peer::Peer;
use self::rest::Process;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::pods::peer::Places;
use crate::statistics::percentile;

/// Measures all peers, in pairs.
///
/// # Errors
/// If a cluster does not come up, or its network does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let image = plan.image.as_deref().context(
        "there is no image of millrace to bring a cluster up with: `make cluster-bench` makes one, \
         and `--image FILE` names one",
    )?;
    let places = Places::available()?;
    for (number, pair) in Peer::PAIRS.into_iter().enumerate() {
        let mut clusters = Vec::new();
        for peer in pair {
            let cluster = Cluster::up(peer, image);
            let cluster = cluster.with_context(|| format!("a cluster of `{}`", peer.label()))?;
            clusters.push((peer, cluster));
        }
        let mut samples = Samples::default();
        traffic(plan, &clusters, places, &mut samples)?;
        // the rest has nothing to do with what is between nodes
        if number == 0 {
            attach(plan, &clusters, &mut samples)?;
            change(plan, &clusters, &mut samples)?;
        }
        findings::report(&samples, pair, outcome);
    }
    outcome.notes.push(findings::NOTE.to_owned());
    Ok(())
}

/// Clusters that are up at a time.
type Clusters = [(Peer, Cluster)];

/// The clusters in their order of a run: nobody always comes behind the same one.
fn in_turns(clusters: &Clusters, run: usize) -> impl Iterator<Item = &(Peer, Cluster)> {
    (0..clusters.len()).map(move |turn| &clusters[(run + turn) % clusters.len()])
}

/// What pods send each other.
fn traffic(plan: &Plan, clusters: &Clusters, places: Places, samples: &mut Samples) -> Result<()> {
    let time = plan.much(Duration::from_millis(400), Duration::from_millis(150));
    for measure in Measure::ALL {
        for way in Way::ALL {
            for run in 0..plan.runs(12, 6) {
                for (peer, cluster) in in_turns(clusters, run) {
                    let found = measure.sample(cluster, way, places, time);
                    let what = || format!("`{}`: {measure:?} {}", peer.label(), way.label());
                    for (quantity, value) in found.with_context(what)? {
                        samples.take(Kind::Traffic(quantity, way), *peer, value);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Containers that come and go.
fn attach(plan: &Plan, clusters: &Clusters, samples: &mut Samples) -> Result<()> {
    for run in 0..plan.runs(10, 6) {
        for (peer, cluster) in in_turns(clusters, run) {
            let mut calls = containers::call(cluster, plan.much(100, 20), false)?;
            anyhow::ensure!(calls.failed.is_empty(), "`{}`: {}", peer.label(), calls.failed[0]);
            for (sorted, median, tail) in [
                (&mut calls.attach, Kind::AttachMedian, Kind::AttachTail),
                (&mut calls.detach, Kind::DetachMedian, Kind::DetachTail),
            ] {
                sorted.sort_unstable_by(f64::total_cmp);
                samples.take(median, *peer, percentile(sorted, 0.5));
                samples.take(tail, *peer, percentile(sorted, 0.99));
            }
        }
    }
    for (peer, cluster) in clusters {
        let calls = containers::call(cluster, AT_A_TIME, true)?;
        let amiss = calls.failed.iter().chain(&calls.left);
        amiss.clone().for_each(|what| eprintln!("`{}`: {what}", peer.label()));
        samples.take(Kind::AtOnce, *peer, amiss.count() as f64);
    }
    Ok(())
}

/// Services that are made, and what it takes a node to know them.
fn change(plan: &Plan, clusters: &Clusters, samples: &mut Samples) -> Result<()> {
    let mut changing = Vec::new();
    for (peer, cluster) in clusters {
        let process = Process::of(cluster, "east", peer.program())?;
        changing.push((*peer, Changing::new(cluster)?, process));
    }
    for _ in 0..plan.runs(10, 6) {
        for (peer, changing, _) in &mut changing {
            // who hears of changes once a second would take long for as many
            let count = match peer {
                Peer::Millrace(_) => 20,
                Peer::Reference(_) => 3,
            };
            let mut took = Vec::new();
            for _ in 0..count {
                took.push(changing.services(1)?.all);
            }
            took.sort_unstable_by(f64::total_cmp);
            samples.take(Kind::ChangeMedian, *peer, percentile(&took, 0.5));
            samples.take(Kind::ChangeTail, *peer, percentile(&took, 0.99));
        }
    }
    for (peer, changing, process) in &mut changing {
        let before = process.worked()?;
        let took = changing.services(MANY)?;
        let worked = process.worked()?.saturating_sub(before);
        samples.take(Kind::Many, *peer, took.all);
        samples.take(Kind::AfterMany, *peer, took.after_the_last);
        samples.take(Kind::Work, *peer, worked.as_secs_f64() * 1e3);
        rest::populate(changing.api())?;
    }
    // until what pods have caused is over
    std::thread::sleep(SETTLED);
    for run in 0..plan.runs(6, 6) {
        for turn in 0..changing.len() {
            let (peer, _, process) = &changing[(run + turn) % changing.len()];
            let time = plan.much(Duration::from_secs(10), Duration::from_secs(3));
            samples.take(Kind::AtRest, *peer, process.at_rest(time)?);
        }
    }
    for (peer, _, process) in &changing {
        let resident = process.resident()?;
        samples.take(Kind::Memory, *peer, (resident.heap + resident.code) as f64);
        samples.take(Kind::Resident, *peer, (resident.total() - resident.umem) as f64);
    }
    Ok(())
}

/// The samples of each peer.
#[derive(Default)]
struct Samples(BTreeMap<(Kind, &'static str), Vec<f64>>);

impl Samples {
    fn take(&mut self, kind: Kind, peer: Peer, value: f64) {
        self.0.entry((kind, peer.label())).or_default().push(value);
    }

    fn of(&self, kind: Kind, peer: Peer) -> Option<&[f64]> {
        self.0.get(&(kind, peer.label())).map(Vec::as_slice)
    }

    fn kinds(&self) -> std::collections::BTreeSet<Kind> {
        self.0.keys().map(|(kind, _)| *kind).collect()
    }
}

/// Containers that come at once.
const AT_A_TIME: usize = 100;
/// Services that do.
const MANY: u32 = 1_000;
const SETTLED: Duration = Duration::from_secs(10);
