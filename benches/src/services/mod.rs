//! Through a Service, tracked, by a policy: the dataplane with its built-in filters, and what a
//! kernel does by the rules that kube-proxy gives it and a chain of policies, in turns.
//!
//! All know the same cluster, of each size; everybody has a ground of his own for each, and all
//! stand side by side: to load the largest takes the kernel minutes.
//!
//! - `town`: the cluster, as a node has it whose pods are all there
//! - `nftables`, `iptables`: it, as rules; `facts`: what they are made of
//! - [`site`]: a client and the pods behind a Service
//! - [`peer`]: who carries packets between them
//! - [`measure`]: what is measured
//! - `findings`: what follows from that

mod facts;
mod findings;
mod iptables;
pub mod measure;
mod nftables;
pub mod peer;
pub mod site;
mod town;

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::sink::Sink;

use self::findings::report;
use self::measure::{Measure, Quantity, Spot};
use self::peer::{Peer, Placed};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::samples::in_turns;
use crate::statistics::Estimate;
use crate::traffic::Places;
use crate::unit::Unit;

pub use self::findings::{
    CONNECTIONS, CONNECTIONS_AGAINST_IPTABLES, CPU, FLATNESS, SMALL, STREAM, TRANSLATED,
};

/// Measures all peers with each size of a cluster.
///
/// # Errors
/// If the pods cannot be had, or a peer does not work. A kernel without what iptables needs is left
/// out, and noted.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = Places::available()?;
    let mut stands: Vec<Stand> = Vec::new();
    for &count in plan.much(&COUNTS[..], &COUNTS[..2]) {
        for peer in Peer::ALL {
            match Stand::raise(peer, count, plan, places) {
                Ok(stand) => {
                    let what = format!("told of {count} Services and policies, {}", peer.label());
                    let took = Estimate::exact(stand.placed.load);
                    outcome.found(what, Unit::Milliseconds, took);
                    stands.push(stand);
                }
                Err(error) if peer == Peer::Iptables => {
                    outcome.notes.push(format!("Without iptables for {count} Services: {error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    let mut samples = Samples::default();
    let measured = measure(plan, &stands, places, &mut samples);
    // what was measured counts, whatever has happened to the rest
    report(&samples, places, outcome);
    measured
}

/// The samples of each peer with so many Services, by quantity.
type Samples = crate::samples::Samples<(Quantity, Peer, u32)>;

fn measure(plan: &Plan, stands: &[Stand], places: Places, samples: &mut Samples) -> Result<()> {
    let time = plan.much(Duration::from_millis(400), Duration::from_millis(150));
    for measure in Measure::ALL {
        for run in 0..plan.runs(15, 6) {
            for stand in in_turns(stands, run) {
                let Stand { peer, count, sink, placed } = stand;
                let found = measure.sample(&Spot { site: &placed.site, sink, places, time });
                let found = found.with_context(|| format!("measuring `{}`", stand.label()))?;
                for (quantity, value) in found {
                    samples.note((quantity, *peer, *count), value);
                }
            }
        }
    }
    Ok(())
}

/// A peer in place, with a cluster of one size.
struct Stand {
    peer: Peer,
    count: u32,
    sink: Sink,
    placed: Placed,
}

impl Stand {
    fn raise(peer: Peer, count: u32, plan: &Plan, places: Places) -> Result<Self> {
        let placed = peer.start(count, &plan.cache, places)?;
        let sink = placed.site.sink()?;
        Ok(Self { peer, count, sink, placed })
    }

    fn label(&self) -> String {
        format!("{}, {} Services", self.peer.label(), self.count)
    }
}

/// Services, and policies.
const COUNTS: [u32; 3] = [10, 1_000, 10_000];
