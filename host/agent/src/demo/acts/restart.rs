//! Agents that come and go, while packets of known flows pass: killed, and taken over from.

use millrace_traffic::sequence::{Sequence, SequenceSettings};

use crate::demo::cluster::{Cluster, ClusterPod, Family};
use crate::demo::narrator::Narrator;
use crate::output::count;

/// Kills the agent of the pods' node, and has another one take over from the next.
pub(super) fn play(
    cluster: &Cluster,
    shop: &ClusterPod,
    cart: &ClusterPod,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    narrator.gap();
    for (words, text) in [
        (&["lab", "restart", "east", "--kill"][..], "a killed agent's flows lose nothing"),
        (&["lab", "restart", "east"], "an agent's upgrade loses nothing"),
    ] {
        let (from, to) = (shop.end(Family::V4)?, cart.end(Family::V4)?);
        let sequence = Sequence::start(from, to, SequenceSettings::default())?;
        // by then the kernel has all of its flows
        sequence.await_arrivals(KNOWN);
        cluster.command(narrator, words)?;
        let report = sequence.stop()?;
        let seen = format!("{} of {} packets", report.lost, count(report.sent));
        narrator.claim(report.lost == 0, text, seen);
    }
    Ok(())
}

/// Datagrams after which flows are known.
const KNOWN: u64 = 1000;
