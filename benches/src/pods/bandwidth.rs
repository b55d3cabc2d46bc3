//! Pods whose links are limited, as the capability `bandwidth` of the CNI plugin does it: what they
//! send and what they receive, against the limit.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_dataplane::control::CacheSettings;

use super::POD_LINK;
use super::peer::{self, Workers};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::samples::Samples;
use crate::statistics::Estimate;
use crate::traffic::{Measure, Places, Quantity, Spot};
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};

/// A pod has what it was given.
pub const LEAST: Promise =
    Promise::at_least("a TCP stream of a pod, against its bandwidth limit", 0.9, Unit::Ratio);

/// And no more.
pub const MOST: Promise = Promise::at_most(
    "a TCP stream of a pod, against its bandwidth limit, at most",
    1.1,
    Unit::Ratio,
);

/// Measures each limit at either side.
///
/// # Errors
/// If the pods cannot be had, or nothing passes.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = Places::available()?;
    // what may be sent at once, and waits, is to be little of it
    let time = plan.much(Duration::from_secs(4), Duration::from_secs(1));
    let mut samples = Samples::default();
    for limit in LIMITS {
        for side in [Side::Sender, Side::Receiver] {
            let ground = Ground::new(None)?;
            side.shape(&ground, limit).with_context(|| side.label())?;
            let (workers, settings) = (Workers::Everywhere, CacheSettings::default());
            let _plane = peer::dataplane(&ground, &plan.cache, workers, places, settings)?;
            ground.set_ends(Ends::USUAL)?;
            ground.greet()?;
            let sink = ground.sink()?;
            let spot = Spot::between([ground.near(), ground.far()], &sink, places, time);
            for _ in 0..plan.runs(8, 6) {
                for (quantity, value) in Measure::Stream.sample(&spot)? {
                    if quantity == Quantity::StreamRate {
                        samples.note((side, limit), value * WITH_HEADERS / limit as f64);
                    }
                }
            }
        }
    }
    for ((side, limit), found) in samples.iter() {
        let what = format!("{} at {} Mbit/s", side.label(), limit / 1_000_000);
        outcome.sampled(&what, "millrace", Unit::Ratio, found);
        for promise in [&LEAST, &MOST] {
            outcome.held(what.clone(), promise, Estimate::of(found));
        }
    }
    outcome.notes.push("Headers are counted: those of Ethernet, IPv4 and TCP.".to_owned());
    Ok(())
}

/// Whose link is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// What a pod sends.
    Sender,
    /// What it receives.
    Receiver,
}

impl Side {
    fn label(self) -> &'static str {
        match self {
            Self::Sender => "what a limited pod sends",
            Self::Receiver => "what a limited pod receives",
        }
    }

    /// Has the link send no more, before the dataplane knows it.
    fn shape(self, ground: &Ground, limit: u64) -> Result<()> {
        let (place, link) = match self {
            Self::Sender => (ground.near().namespace, POD_LINK),
            Self::Receiver => (ground.host(), ground.ports()[1]),
        };
        Ok(place.netlink()?.shape(link, limit)?)
    }
}

/// Bits per second.
const LIMITS: [u64; 3] = [10_000_000, 100_000_000, 1_000_000_000];
/// Bytes of a full frame, for one of its payload, with TCP's timestamps.
const WITH_HEADERS: f64 = 1514.0 / 1448.0;
