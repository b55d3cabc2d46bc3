//! The kernel takes flows over while their first packets are still on their way through user
//! space: does a later one overtake them?
//!
//! Each flow opens with a burst, and is new to whoever carries it.

use anyhow::{Context, Result};
use millrace_traffic::burst::{BurstSettings, bursts};

use super::peer::{Peer, Workers};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::traffic::Places;
use crate::unit::Unit;
use crate::veth::ground::Ground;

/// Nothing is overtaken.
pub const REORDERED: Promise =
    Promise::none("flows of 3,000 reordered when the kernel takes them over");

/// Sends bursts of each length, with the workers in each place.
///
/// # Errors
/// If the pods cannot be had, or a peer does not work.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(None)?;
    let places = Places::available()?;
    let mut lost = 0;
    for length in LENGTHS {
        for peer in PEERS {
            let _placed = peer.start(&ground, &plan.cache, places)?;
            let settings =
                BurstSettings { length, core: Some(places.near), ..BurstSettings::default() };
            let report = bursts(ground.near(), ground.far(), settings)
                .with_context(|| format!("bursts over `{}`", peer.label()))?;
            let what = format!("flows with bursts of {length}, {}", peer.label());
            let reordered = Estimate::exact(report.reordered_flows as f64);
            match peer {
                Peer::Millrace(_) => outcome.held(what, &REORDERED, reordered),
                _ => outcome.found(what, Unit::Count, reordered),
            }
            lost += report.lost;
        }
    }
    outcome.found("datagrams that did not arrive", Unit::Count, Estimate::exact(lost as f64));
    outcome.notes.push(format!(
        "{} flows for each of these, one after the other, whose datagrams are sent one right after \
         the other on core {}. A worker apart is on core {}.",
        BurstSettings::default().flows,
        places.near.number(),
        places.apart.number()
    ));
    Ok(())
}

const LENGTHS: [u32; 3] = [2, 10, 50];

const PEERS: [Peer; 4] = [
    Peer::Millrace(Workers::Everywhere),
    Peer::Millrace(Workers::ApartAsleep),
    Peer::Millrace(Workers::ApartSpinning),
    Peer::KernelBridge,
];
