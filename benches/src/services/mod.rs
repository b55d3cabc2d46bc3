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

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::sink::Sink;

use self::findings::report;
use self::measure::{Measure, Quantity, Spot};
use self::peer::{Peer, Placed};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::pods::peer::Places;
use crate::statistics::Estimate;
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
    let time = plan.much(Duration::from_millis(400), Duration::from_millis(150));
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
    for measure in Measure::ALL {
        for run in 0..plan.runs(15, 6) {
            // nobody always comes behind the same one
            for turn in 0..stands.len() {
                let stand = &stands[(run + turn) % stands.len()];
                let spot = Spot { site: &stand.placed.site, sink: &stand.sink, places, time };
                let found = measure.sample(&spot);
                let found = found.with_context(|| format!("measuring `{}`", stand.label()))?;
                for (quantity, value) in found {
                    let of = (quantity, stand.peer, stand.count);
                    samples.0.entry(of).or_default().push(value);
                }
            }
        }
    }
    report(&samples, places, outcome);
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

/// The samples of each peer with so many Services, by quantity.
#[derive(Default)]
struct Samples(BTreeMap<(Quantity, Peer, u32), Vec<f64>>);

impl Samples {
    fn of(&self, quantity: Quantity, peer: Peer, count: u32) -> Option<&[f64]> {
        self.0.get(&(quantity, peer, count)).map(Vec::as_slice)
    }
}

/// Services, and policies.
const COUNTS: [u32; 3] = [10, 1_000, 10_000];
