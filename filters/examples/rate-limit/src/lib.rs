//! Limits how many new flows each source may open, by a token bucket per source.
//!
//! The buckets live in a host map: all workers draw from the same ones, and a swap
//! of the filter does not fill them. A batch of flows is served by two calls to the host.

use std::net::IpAddr;
use std::time::Duration;

use millrace_filter::prelude::*;
use millrace_filter::record::Time;

/// What the operator configures.
#[derive(Config, Clone, Copy, Debug)]
pub struct Settings {
    /// New flows per second that a source may open in the long run.
    flows_per_second: u32,
    /// New flows that a source may open at once.
    #[config(default = 100)]
    burst: u32,
    /// Sources that are remembered; further ones are not limited.
    #[config(default = 65536)]
    sources: u32,
}

/// The filter.
pub struct RateLimit {
    limit: Limit,
    buckets: Map<Source, Bucket>,
    /// The buckets that a batch draws from, and what it draws from each.
    drawn: Entries<Source, Bucket>,
    draws: Vec<Draw>,
    /// Which of them each slot draws from.
    source_of: Vec<Option<usize>>,
    limited: Counter,
    untracked: Counter,
}

/// Thousandths of a flow: how many a bucket gets in a millisecond, and how many it holds.
#[derive(Clone, Copy, Debug)]
struct Limit {
    rate: u64,
    burst: u64,
}

/// What a batch wants of a source's bucket, and what of that it has still to give.
#[derive(Clone, Copy, Debug, Default)]
struct Draw {
    wanted: u64,
    admitted: u64,
}

/// Who opens flows.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    address: IpAddr,
}

/// What a source has left: thousandths of a flow, as of a moment.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    milliflows: u64,
    filled: Time,
}

impl Filter for RateLimit {
    const MANIFEST: Manifest = Manifest::new("rate-limit", env!("CARGO_PKG_VERSION"))
        .describes("Limits the rate of new flows per source address.")
        .wants(&[Capability::Drop])
        .rules(&[TOO_FAST])
        .map::<Source, Bucket>("buckets");
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        if settings.flows_per_second == 0 || settings.burst == 0 {
            return Err("`flows_per_second` and `burst`: must be at least 1".into());
        }
        // a bucket that has had time to fill is as good as none
        let full_after = u64::from(settings.burst).div_ceil(settings.flows_per_second.into());
        let options = MapOptions::new(settings.sources).ttl(Duration::from_secs(full_after + 1));
        Ok(Self {
            limit: Limit {
                rate: settings.flows_per_second.into(),
                burst: u64::from(settings.burst) * MILLI,
            },
            buckets: setup.map("buckets", options)?,
            drawn: Entries::new(),
            draws: Vec::new(),
            source_of: Vec::new(),
            limited: setup.counter("limited")?,
            untracked: setup.counter("untracked")?,
        })
    }

    fn flows(&mut self, slots: &[Slot], decisions: &mut [Decision]) {
        let Some(now_ns) = slots.first().map(|slot| slot.now_ns) else { return };
        self.drawn.clear();
        self.draws.clear();
        self.source_of.clear();
        for slot in slots {
            let draw = slot.source().map(|address| self.drawn.ask_once(&Source { address }));
            self.draws.resize(self.drawn.len(), Draw::default());
            if let Some(at) = draw {
                // a flow that is not new takes nothing out: each has the bucket to itself
                let others = if slot.is_new() { self.draws[at].wanted } else { 0 };
                self.draws[at].wanted = others + 1;
            }
            self.source_of.push(draw);
        }

        let (limit, draws) = (self.limit, &mut self.draws);
        self.buckets.update_all(&mut self.drawn, |at, bucket| {
            let filled = bucket.map_or(limit.burst, |b| limit.refill(b, now_ns));
            draws[at].admitted = draws[at].wanted.min(filled / MILLI);
            Bucket { milliflows: filled - draws[at].admitted * MILLI, filled: Time(now_ns) }
        });

        for ((slot, source), decision) in slots.iter().zip(&self.source_of).zip(decisions) {
            let Some(at) = *source else { continue };
            if self.drawn.get(at).is_none() {
                self.untracked.add(1);
            } else if self.draws[at].admitted > 0 {
                self.draws[at].admitted -= u64::from(slot.is_new());
            } else {
                self.limited.add(1);
                decision.drop(Reason::RateLimited).by_rule(TOO_FAST.id).once();
            }
        }
    }
}

filter!(RateLimit: flow);

impl Limit {
    fn refill(&self, bucket: &Bucket, now_ns: u64) -> u64 {
        let elapsed = now_ns.saturating_sub(bucket.filled.0);
        // rate flows per second are rate thousandths per millisecond
        let earned = elapsed.saturating_mul(self.rate) / 1_000_000;
        bucket.milliflows.saturating_add(earned).min(self.burst)
    }
}

const TOO_FAST: Rule = Rule::new(1, "too-fast", "The source opens flows faster than it may.");

/// Parts of a flow that are counted.
const MILLI: u64 = 1000;

#[cfg(test)]
mod tests {
    use millrace_filter::testing::{Rig, frames};
    use millrace_filter::{Decision, Origin};

    use super::*;

    const CONFIG: &str = r#"{"flows_per_second": 10, "burst": 5}"#;

    fn open(rig: &mut Rig<RateLimit>, source: u8) -> Decision {
        rig.flow(&frames::udp(&format!("10.0.0.{source}:1"), "10.9.9.9:53", b""))
    }

    fn admitted(rig: &mut Rig<RateLimit>, source: u8, attempts: usize) -> usize {
        (0..attempts).filter(|_| open(rig, source).control == 0).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut rig = Rig::new(CONFIG);
        assert_eq!(admitted(&mut rig, 1, 20), 5);
        rig.advance(Duration::from_millis(300));
        assert_eq!(admitted(&mut rig, 1, 20), 3);
        rig.advance(Duration::from_secs(60));
        assert_eq!(admitted(&mut rig, 1, 20), 5, "a bucket holds no more than the burst");
        assert_eq!(rig.metric("limited"), 47);
    }

    #[test]
    fn sources_do_not_use_up_each_other() {
        let mut rig = Rig::new(CONFIG);
        assert_eq!(admitted(&mut rig, 1, 20), 5);
        assert_eq!(admitted(&mut rig, 2, 20), 5);
    }

    #[test]
    fn a_swap_does_not_fill_the_buckets() {
        let mut rig = Rig::new(CONFIG);
        assert_eq!(admitted(&mut rig, 1, 20), 5);
        rig.reconfigure(CONFIG).expect("it is the same");
        assert_eq!(admitted(&mut rig, 1, 20), 0);
    }

    #[test]
    fn flows_of_a_batch_draw_in_turn_and_live_ones_draw_nothing() {
        let mut rig = Rig::<RateLimit>::new(CONFIG);
        let frame = frames::udp("10.0.0.1:1", "10.9.9.9:53", b"");
        let slot = rig.slot(1, &frame);
        let admitted = |decisions: [Decision; 8]| decisions.map(|decision| decision.control == 0);
        let live = Slot { origin: Origin::Redecide as u8, ..slot };
        assert_eq!(admitted(rig.decide_all(&[live; 8])), [true; 8]);
        let first_five = [true, true, true, true, true, false, false, false];
        assert_eq!(admitted(rig.decide_all(&[slot; 8])), first_five);
        assert_eq!(admitted(rig.decide_all(&[live; 8])), [false; 8]);
    }

    #[test]
    fn a_refusal_is_not_remembered() {
        let mut rig = Rig::new(CONFIG);
        admitted(&mut rig, 1, 5);
        let refused = open(&mut rig, 1);
        assert_eq!(refused.reason, Reason::RateLimited as u16);
        assert!(refused.stated().contains(millrace_filter::Field::Once));
    }

    #[test]
    fn sources_beyond_the_table_are_not_limited_and_counted() {
        let mut rig = Rig::<RateLimit>::new(r#"{"flows_per_second": 1, "burst": 1, "sources": 2}"#);
        for source in 1..=4 {
            assert_eq!(admitted(&mut rig, source, 1), 1);
        }
        assert_eq!(rig.metric("untracked"), 2);
    }
}
