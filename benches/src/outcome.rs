//! What a bench found: every sample, and what follows from them.
//!
//! This is the form that is written to disk; the report is made of it alone. A name in it is what
//! later runs are compared by.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::promise::{Bound, Promise, Verdict};
use crate::statistics::Estimate;
use crate::unit::Unit;

/// All that one run of `millrace-bench` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// The form of this file.
    pub version: u32,
    /// Where and when.
    pub environment: Environment,
    /// Whether it was a first impression.
    pub quick: bool,
    /// The benches, in the order in which they ran.
    pub benches: Vec<Outcome>,
}

/// What one bench found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The bench.
    pub bench: String,
    /// What it measures.
    pub what: String,
    /// How long it took.
    pub seconds: f64,
    /// Why there is nothing, or not everything.
    pub failure: Option<String>,
    /// What was compared with what was promised, and other comparisons.
    pub findings: Vec<Finding>,
    /// Every sample.
    pub series: Vec<Series>,
    /// What is drawn.
    pub charts: Vec<Chart>,
    /// What a reader of the numbers has to know.
    pub notes: Vec<String>,
}

/// Samples of one thing, in the order in which they were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// What was measured.
    pub what: String,
    /// On what: interleaved with its peers, sample by sample.
    pub peer: String,
    /// In which unit.
    pub unit: Unit,
    /// The samples.
    pub samples: Vec<f64>,
}

/// Something that follows from samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it says, such as `WASM / native, 3 filters, burst 64`.
    pub what: String,
    /// The unit.
    pub unit: Unit,
    /// The value.
    pub estimate: Estimate,
    /// What it is held to.
    pub held_to: Option<HeldTo>,
}

/// A promise that a finding is held to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldTo {
    /// The promise, by what it bounds.
    pub promise: String,
    /// The bound.
    pub bound: Bound,
    /// Whether it is kept.
    pub verdict: Verdict,
}

/// A drawing of estimates over a row of cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chart {
    /// Its title, which also names its file.
    pub title: String,
    /// What the cases are.
    pub across: String,
    /// The cases, from left to right.
    pub cases: Vec<String>,
    /// Whether cases follow from each other.
    pub style: Style,
    /// The unit of the estimates.
    pub unit: Unit,
    /// A bound to be drawn.
    pub bound: Option<f64>,
    /// One estimate for each case.
    pub lines: Vec<Line>,
}

/// How the points of a line are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Joined: the cases are steps of one thing.
    Joined,
    /// Each for itself.
    Apart,
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, one for each case.
    pub points: Vec<Estimate>,
}

impl Outcome {
    /// Notes samples.
    pub fn sampled(&mut self, what: &str, peer: &str, unit: Unit, samples: &[f64]) {
        let (what, peer) = (what.to_owned(), peer.to_owned());
        self.series.push(Series { what, peer, unit, samples: samples.to_vec() });
    }

    /// Notes a finding that nothing was promised about.
    pub fn found(&mut self, what: impl Into<String>, unit: Unit, estimate: Estimate) {
        self.findings.push(Finding { what: what.into(), unit, estimate, held_to: None });
    }

    /// Notes a finding, held to a promise if there is one about it.
    pub fn state(
        &mut self,
        what: impl Into<String>,
        promise: Option<&Promise>,
        unit: Unit,
        estimate: Estimate,
    ) {
        match promise {
            Some(promise) => self.held(what, promise, estimate),
            None => self.found(what, unit, estimate),
        }
    }

    /// Notes a finding, held to a promise.
    pub fn held(&mut self, what: impl Into<String>, promise: &Promise, estimate: Estimate) {
        self.findings.push(Finding {
            what: what.into(),
            unit: promise.unit,
            estimate,
            held_to: Some(HeldTo {
                promise: promise.what.to_owned(),
                bound: promise.bound,
                verdict: promise.bound.judge(&estimate),
            }),
        });
    }

    /// Notes a finding of a promise that it cannot decide, whatever its interval.
    pub fn undecided(&mut self, what: impl Into<String>, promise: &Promise, estimate: Estimate) {
        self.held(what, promise, estimate);
        let held = self.findings.last_mut().and_then(|finding| finding.held_to.as_mut());
        held.expect("it was just noted").verdict = Verdict::Inconclusive;
    }

    /// What a promise comes to: the worst of its findings, with the finding that decided; `None`
    /// if nothing was measured that it could be held to.
    pub fn verdict(&self, promise: &str) -> Option<(Verdict, &Finding)> {
        let held =
            self.findings.iter().filter_map(|finding| Some((finding.held_to.as_ref()?, finding)));
        let all = held.filter(|(held, _)| held.promise == promise);
        let worst = all.max_by(|(a, x), (b, y)| {
            let behind = |held: &HeldTo, finding: &Finding| match held.bound {
                Bound::AtLeast(_) => -finding.estimate.median,
                Bound::AtMost(_) => finding.estimate.median,
            };
            a.verdict.cmp(&b.verdict).then(behind(a, x).total_cmp(&behind(b, y)))
        });
        worst.map(|(held, finding)| (held.verdict, finding))
    }

    /// The promises that findings were held to, in their order.
    pub fn promises(&self) -> Vec<&HeldTo> {
        let mut promises: Vec<&HeldTo> = Vec::new();
        for held in self.findings.iter().filter_map(|finding| finding.held_to.as_ref()) {
            if promises.iter().all(|other| other.promise != held.promise) {
                promises.push(held);
            }
        }
        promises
    }
}

impl Finding {
    /// The estimate as people read it: `0.81 (0.79 to 0.83)`.
    pub fn value(&self) -> String {
        show(self.unit, &self.estimate)
    }
}

/// An estimate as people read it.
pub fn show(unit: Unit, estimate: &Estimate) -> String {
    let median = unit.show(estimate.median);
    match estimate.interval {
        Some(interval) if interval.low == interval.high => median,
        Some(interval) => {
            format!("{median} ({} to {})", unit.show(interval.low), unit.show(interval.high))
        }
        None => format!("{median} (too few samples)"),
    }
}

/// The form of the file that this program writes and reads.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Interval;

    const SPEED: Promise = Promise::at_least("speed", 0.7, Unit::Ratio);

    fn measured(low: f64, high: f64) -> Estimate {
        Estimate { median: (low + high) / 2.0, interval: Some(Interval { low, high }) }
    }

    #[test]
    fn a_promise_comes_to_the_worst_of_its_findings() {
        let mut outcome = Outcome::default();
        outcome.held("good", &SPEED, measured(0.8, 0.9));
        assert_eq!(outcome.verdict("speed").map(|(verdict, _)| verdict), Some(Verdict::Pass));
        outcome.held("barely", &SPEED, measured(0.6, 0.8));
        outcome.held("close", &SPEED, measured(0.65, 0.71));
        let (verdict, finding) = outcome.verdict("speed").expect("there are findings");
        assert_eq!((verdict, finding.what.as_str()), (Verdict::Inconclusive, "close"));
        outcome.held("bad", &SPEED, measured(0.5, 0.6));
        let (verdict, finding) = outcome.verdict("speed").expect("there are findings");
        assert_eq!((verdict, finding.what.as_str()), (Verdict::Fail, "bad"));
    }

    #[test]
    fn what_cannot_decide_a_promise_neither_keeps_nor_breaks_it() {
        for interval in [measured(0.8, 0.9), measured(0.1, 0.2)] {
            let mut outcome = Outcome::default();
            outcome.undecided("unclear", &SPEED, interval);
            let verdict = outcome.verdict("speed").map(|(verdict, _)| verdict);
            assert_eq!(verdict, Some(Verdict::Inconclusive));
        }
    }

    #[test]
    fn what_was_not_promised_decides_nothing() {
        let mut outcome = Outcome::default();
        outcome.found("something", Unit::Ratio, measured(0.1, 0.2));
        assert!(outcome.verdict("speed").is_none());
        assert!(outcome.promises().is_empty());
    }

    #[test]
    fn a_finding_is_read_with_its_interval() {
        assert_eq!(show(Unit::Ratio, &measured(0.8, 0.9)), "0.85 (0.80 to 0.90)");
        assert_eq!(show(Unit::Count, &Estimate::exact(0.0)), "0");
        let few = Estimate { median: 1.0, interval: None };
        assert_eq!(show(Unit::Nanoseconds, &few), "1 ns (too few samples)");
    }
}
