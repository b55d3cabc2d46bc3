//! What is promised, and whether it is kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::statistics::Estimate;
use crate::unit::Unit;

/// A promise: a bound for something that a bench measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// What is bounded, in the words of the specification.
    pub what: &'static str,
    /// The bound.
    pub bound: Bound,
    /// In which unit.
    pub unit: Unit,
    /// What we would like to have.
    pub aim: Option<f64>,
}

/// A bound, itself allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// Whether a promise is kept. What is worse comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The whole interval is where it should be.
    Pass,
    /// The bound is inside the interval, or there is none: measure longer.
    Inconclusive,
    /// The whole interval is where it should not be.
    Fail,
}

impl Promise {
    /// That something is not less.
    pub const fn at_least(what: &'static str, bound: f64, unit: Unit) -> Self {
        Self { what, bound: Bound::AtLeast(bound), unit, aim: None }
    }

    /// That something is not more.
    pub const fn at_most(what: &'static str, bound: f64, unit: Unit) -> Self {
        Self { what, bound: Bound::AtMost(bound), unit, aim: None }
    }

    /// That something never happens.
    pub const fn none(what: &'static str) -> Self {
        Self::at_most(what, 0.0, Unit::Count)
    }

    /// The bound as people write it: `≥ 0.70`, `≤ 12 ns`.
    pub fn value(&self) -> String {
        let (sign, value) = match self.bound {
            Bound::AtLeast(value) => ("≥", value),
            Bound::AtMost(value) => ("≤", value),
        };
        let aim = self.aim.map(|aim| format!(" (aim {})", self.unit.show(aim)));
        format!("{sign} {}{}", self.unit.show(value), aim.unwrap_or_default())
    }
}

impl Bound {
    /// Whether what was measured keeps to the bound.
    pub fn judge(self, measured: &Estimate) -> Verdict {
        let Some(interval) = measured.interval else { return Verdict::Inconclusive };
        let (all, none) = match self {
            Self::AtLeast(bound) => (interval.low >= bound, interval.high < bound),
            Self::AtMost(bound) => (interval.high <= bound, interval.low > bound),
        };
        match (all, none) {
            (true, _) => Verdict::Pass,
            (_, true) => Verdict::Fail,
            _ => Verdict::Inconclusive,
        }
    }

    /// The value at the bound.
    pub fn value(self) -> f64 {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Fail => "FAIL",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Interval;

    fn measured(low: f64, high: f64) -> Estimate {
        Estimate { median: (low + high) / 2.0, interval: Some(Interval { low, high }) }
    }

    #[test]
    fn the_whole_interval_decides() {
        for (bound, low, high, verdict) in [
            (Bound::AtLeast(0.7), 0.71, 0.80, Verdict::Pass),
            (Bound::AtLeast(0.7), 0.70, 0.70, Verdict::Pass),
            (Bound::AtLeast(0.7), 0.69, 0.80, Verdict::Inconclusive),
            (Bound::AtLeast(0.7), 0.50, 0.69, Verdict::Fail),
            (Bound::AtMost(12.0), 5.0, 12.0, Verdict::Pass),
            (Bound::AtMost(12.0), 11.0, 13.0, Verdict::Inconclusive),
            (Bound::AtMost(12.0), 12.1, 13.0, Verdict::Fail),
            (Bound::AtMost(0.0), 0.0, 0.0, Verdict::Pass),
        ] {
            assert_eq!(bound.judge(&measured(low, high)), verdict, "{bound:?} {low} {high}");
        }
    }

    #[test]
    fn without_an_interval_nothing_is_concluded() {
        let few = Estimate { median: 100.0, interval: None };
        assert_eq!(Bound::AtLeast(0.7).judge(&few), Verdict::Inconclusive);
    }

    #[test]
    fn the_worst_verdict_is_the_greatest() {
        let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive];
        assert_eq!(verdicts.into_iter().max(), Some(Verdict::Fail));
    }

    #[test]
    fn a_promise_reads_as_people_write_it() {
        let promise = |bound, unit, aim| Promise { what: "speed", bound, unit, aim }.value();
        assert_eq!(promise(Bound::AtLeast(0.7), Unit::Ratio, Some(0.85)), "≥ 0.70 (aim 0.85)");
        assert_eq!(promise(Bound::AtMost(12.0), Unit::Nanoseconds, None), "≤ 12 ns");
    }
}
