//! Another module in the place of the bridge, again and again, while packets pass.

use anyhow::{Context, bail};
use hyper::Method;
use millrace_traffic::sequence::{Sequence, SequenceSettings};

use crate::api::types::{Module, Pauses, StageStatus, SwapFilter};
use crate::demo::acts::Extent;
use crate::demo::lab::{Lab, NODE};
use crate::demo::narrator::Narrator;
use crate::output::count;

pub(super) fn play(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "Swaps under load",
        "Numbered datagrams go from alice to bob, never more than 64 on their way. Meanwhile the \
         filter that says where each of them goes is replaced: a new instance is made beside it, \
         and takes over between two bursts. What it has learned lives in the host, and stays.",
    );
    let swaps = extent.swaps;
    narrator.command(NODE, &["millrace", "filter", "swap", "bridge", "bridge"]);
    narrator.output(&format!("… and again, {} times in all", count(swaps)));

    let client = lab.host.client()?;
    let version = || -> anyhow::Result<u64> {
        Ok(client.get::<StageStatus>("/v1/filters/bridge")?.filter.number)
    };
    let first = version()?;
    let settings = SequenceSettings::default();
    let sequence = Sequence::start(lab.alice.end(), lab.bob.end(), settings)?;
    let before = Histogram::of(client.get("/v1/pauses")?);
    let swap = SwapFilter { module: Module::BuiltIn("bridge".to_owned()), config: None };
    for done in 0..swaps {
        narrator.progress(done, swaps);
        // each swap meets packets, and none of them the one before
        if !sequence.await_arrivals(sequence.arrived() + PACKETS_BETWEEN) {
            bail!("no packets arrive any more after {done} swaps");
        }
        client
            .send::<StageStatus>(Method::PUT, "/v1/filters/bridge/module", &swap)
            .with_context(|| format!("swap {done}"))?;
    }
    narrator.progress(swaps, swaps);
    sequence.await_arrivals(sequence.arrived() + PACKETS_BETWEEN);
    let pauses = Histogram::of(client.get("/v1/pauses")?).since(&before);
    let swapped = version()? - first;
    let report = sequence.stop()?;

    narrator.claim(
        swapped == swaps,
        "all swaps are done",
        format!("{} of {}", count(swapped), count(swaps)),
    );
    let of = |number: u64| format!("{} of {}", count(number), count(report.sent));
    narrator.claim(report.lost == 0, "nothing was lost", of(report.lost));
    narrator.claim(report.reordered == 0, "nothing was overtaken", of(report.reordered));
    narrator.claim(report.duplicated == 0, "nothing came twice", of(report.duplicated));
    let rate = report.received as f64 / report.elapsed.as_secs_f64();
    narrator.measure("meanwhile, packets a second", count(rate as u64));
    let below = |percent| pauses.percentile(percent) as f64 / 1000.0;
    let (usual, slow) = (below(50.0), below(99.0));
    let seen = format!("p50 < {usual:.1} µs, p99 < {slow:.1} µs");
    narrator.measure("a change holds packets up for", seen);
    Ok(())
}

/// How often the worker was held up by changes, by how long, from short to long.
struct Histogram(Vec<Pauses>);

impl Histogram {
    fn of(mut pauses: Vec<Pauses>) -> Self {
        pauses.sort_by_key(|pause| pause.below_ns);
        Self(pauses)
    }

    fn since(mut self, before: &Self) -> Self {
        for pause in &mut self.0 {
            let earlier = before.0.iter().find(|earlier| earlier.below_ns == pause.below_ns);
            pause.count -= earlier.map_or(0, |earlier| earlier.count);
        }
        self
    }

    /// What `percent` of a hundred pauses were shorter than, in nanoseconds.
    fn percentile(&self, percent: f64) -> u64 {
        let total: u64 = self.0.iter().map(|pause| pause.count).sum();
        let rank = (total as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        let within = self.0.iter().find(|pause| {
            seen += pause.count;
            seen >= rank
        });
        within.map_or(0, |pause| pause.below_ns)
    }
}

/// Packets that pass between two swaps, at least: more than are on their way.
const PACKETS_BETWEEN: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(pauses: &[(u64, u64)]) -> Histogram {
        let pauses = pauses.iter().map(|&(below_ns, count)| Pauses { below_ns, count });
        Histogram::of(pauses.collect())
    }

    #[test]
    fn pauses_from_before_are_not_counted() {
        let before = histogram(&[(1024, 50), (4096, 1)]);
        let now = histogram(&[(4096, 2), (1024, 148), (8192, 1)]).since(&before);
        assert_eq!((now.percentile(50.0), now.percentile(99.0)), (1024, 4096));
        assert_eq!(now.percentile(100.0), 8192);
    }

    #[test]
    fn no_pauses_are_short_ones() {
        assert_eq!(histogram(&[]).percentile(99.0), 0);
    }
}
