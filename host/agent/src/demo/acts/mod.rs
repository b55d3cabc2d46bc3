//! What the demo shows, in order:
//!
//! - [`traffic`]: pings, TCP and UDP between pods, and what the bridge has learned of them
//! - [`swaps`]: another module under load, again and again
//! - [`deny`]: a rule that comes, changes and goes
//! - [`dns`]: a filter that looks into packets
//! - [`nodes`]: two nodes of a cluster, and the kernel that carries what was decided;
//!   [`restart`]: agents that are killed and replaced meanwhile
//! - [`services`]: a Service whose pods change while it is asked; [`names`]: it is found by its name;
//!   [`policies`]: a NetworkPolicy
//!   that is tried, applied to live connections, and taken back; [`filters`]: a filter of one's own
//!   in the nodes' chain, by a manifest

mod deny;
mod dns;
mod filters;
mod names;
mod nodes;
mod policies;
mod restart;
mod services;
mod swaps;
mod traffic;

use std::time::Duration;

use crate::demo::lab::Lab;
use crate::demo::narrator::Narrator;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// How long TCP and UDP are sent, each.
    traffic: Duration,
    /// How often the module is swapped.
    swaps: u64,
}

impl Extent {
    /// All of it, or little.
    pub(super) fn of(quick: bool) -> Self {
        match quick {
            true => Self { traffic: Duration::from_millis(300), swaps: 50 },
            false => Self { traffic: Duration::from_secs(2), swaps: 1000 },
        }
    }
}

/// Shows everything. An error means that something did not work at all; what worked otherwise than
/// it should is in the narrator's book.
pub(super) fn play(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    traffic::play(lab, extent, narrator)?;
    swaps::play(lab, extent, narrator)?;
    deny::play(lab, narrator)?;
    dns::play(lab, narrator)?;
    nodes::play(lab, extent, narrator)?;
    services::play(&lab.cluster, narrator)?;
    names::play(&lab.cluster, narrator)?;
    policies::play(&lab.cluster, narrator)?;
    filters::play(&lab.cluster, narrator)?;
    narrator.gap();
    lab.cluster.command(narrator, &["lab", "down"]).map(drop)
}
