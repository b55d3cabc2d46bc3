//! Two runs, side by side.
//!
//! Runs that were not interleaved can differ because the machine did: a difference is stated only
//! where the whole interval of the ratio is beyond `NOISE`, and environments that differ are
//! named first.

use std::fmt;

use crate::outcome::{Results, Series, show};
use crate::statistics::Estimate;
use crate::unit::Unit;

/// How a later run differs from an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What of the environment is different: name, before, after.
    pub environment: Vec<(String, String, String)>,
    /// What both have measured.
    pub rows: Vec<Row>,
    /// What only one of them has.
    pub alone: Vec<String>,
}

/// One thing that both runs measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What.
    pub what: String,
    /// The earlier median.
    pub old: f64,
    /// The later one.
    pub new: f64,
    /// In which unit.
    pub unit: Unit,
    /// The later one divided by the earlier one.
    pub ratio: Estimate,
    /// What that means.
    pub change: Change,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It got better.
    Better,
    /// It got worse.
    Worse,
    /// It did not change, as far as can be seen.
    Same,
}

impl Comparison {
    /// Compares two runs.
    pub fn of(old: &Results, new: &Results) -> Self {
        let (before, after) = (named(old), named(new));
        let partner = |all: &[(String, &Series)], name: &str| {
            all.iter().find(|(other, _)| other == name).map(|&(_, series)| series.clone())
        };
        let mut rows = Vec::new();
        let mut alone = Vec::new();
        for (name, new) in &after {
            match partner(&before, name) {
                Some(old) if old.unit == new.unit => rows.push(Row::of(name, &old, new)),
                _ => alone.push(format!("{name} (new)")),
            }
        }
        let gone = before.iter().filter(|(name, _)| partner(&after, name).is_none());
        alone.extend(gone.map(|(name, _)| format!("{name} (old)")));
        Self { environment: differences(old, new), rows, alone }
    }
}

impl Row {
    fn of(what: &str, old: &Series, new: &Series) -> Self {
        let ratio = Estimate::of_medians(&new.samples, &old.samples);
        let median = |series: &Series| Estimate::of(&series.samples).median;
        Self {
            what: what.to_owned(),
            old: median(old),
            new: median(new),
            unit: new.unit,
            ratio,
            change: Change::of(&ratio, new.unit),
        }
    }
}

impl Change {
    fn of(ratio: &Estimate, unit: Unit) -> Self {
        let Some(interval) = ratio.interval else { return Self::Same };
        match (interval.low > 1.0 + NOISE, interval.high < 1.0 - NOISE) {
            (true, _) if unit.more_is_better() => Self::Better,
            (true, _) => Self::Worse,
            (_, true) if unit.more_is_better() => Self::Worse,
            (_, true) => Self::Better,
            _ => Self::Same,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, old, new) in &self.environment {
            writeln!(f, "{name}: {old} before, {new} now")?;
        }
        for row in &self.rows {
            let change = match row.change {
                Change::Better => "better",
                Change::Worse => "WORSE",
                Change::Same => "",
            };
            let (old, new) = (row.unit.show(row.old), row.unit.show(row.new));
            let ratio = show(Unit::Ratio, &row.ratio);
            writeln!(f, "{change:<7}{}: {old} → {new}, × {ratio}", row.what)?;
        }
        for name in &self.alone {
            writeln!(f, "{:<7}{name}", "-")?;
        }
        let count = |wanted| self.rows.iter().filter(|row| row.change == wanted).count();
        let (better, worse) = (count(Change::Better), count(Change::Worse));
        writeln!(f, "{better} better, {worse} worse, of {}", self.rows.len())
    }
}

/// Every series by its full name.
fn named(results: &Results) -> Vec<(String, &Series)> {
    let full = |bench: &str, series: &Series| format!("{bench}: {}, {}", series.what, series.peer);
    let of_bench = |outcome: &'_ crate::outcome::Outcome| -> Vec<(String, usize)> {
        outcome.series.iter().enumerate().map(|(at, s)| (full(&outcome.bench, s), at)).collect()
    };
    results
        .benches
        .iter()
        .flat_map(|outcome| {
            of_bench(outcome).into_iter().map(|(name, at)| (name, &outcome.series[at]))
        })
        .collect()
}

fn differences(old: &Results, new: &Results) -> Vec<(String, String, String)> {
    let (before, after) = (old.environment.rows(), new.environment.rows());
    let same_kind = before.into_iter().zip(after).filter(|((name, old), (other, new))| {
        name == other && old != new && name != "date" && name != "load before"
    });
    same_kind.map(|((name, old), (_, new))| (name, old, new)).collect()
}

/// How much medians of one program differ from run to run on a quiet machine.
const NOISE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::outcome::{Outcome, VERSION};

    fn results(commit: &str, series: &[(&str, Unit, f64)]) -> Results {
        let series = series.iter().map(|&(what, unit, centre)| Series {
            what: what.to_owned(),
            peer: "wasm".to_owned(),
            unit,
            samples: (0..21).map(|n| centre + f64::from(n % 5) * centre / 1000.0).collect(),
        });
        let outcome =
            Outcome { bench: "b".to_owned(), series: series.collect(), ..Outcome::default() };
        Results {
            version: VERSION,
            environment: Environment { commit: commit.to_owned(), ..Environment::default() },
            quick: false,
            benches: vec![outcome],
        }
    }

    #[test]
    fn better_is_faster_for_times_and_more_for_rates() {
        let old = results(
            "a",
            &[
                ("time", Unit::Nanoseconds, 100.0),
                ("rate", Unit::PacketsPerSecond, 100.0),
                ("steady", Unit::Nanoseconds, 100.0),
            ],
        );
        let new = results(
            "b",
            &[
                ("time", Unit::Nanoseconds, 80.0),
                ("rate", Unit::PacketsPerSecond, 80.0),
                ("steady", Unit::Nanoseconds, 101.0),
            ],
        );
        let comparison = Comparison::of(&old, &new);
        let changes: Vec<_> = comparison.rows.iter().map(|row| row.change).collect();
        assert_eq!(changes, [Change::Better, Change::Worse, Change::Same]);
        assert_eq!(comparison.environment, [("commit".into(), "a".into(), "b".into())]);
        let text = comparison.to_string();
        assert!(text.contains("WORSE  b: rate, wasm: 100 pps → 80.2 pps"), "{text}");
        assert!(text.ends_with("1 better, 1 worse, of 3\n"), "{text}");
    }

    #[test]
    fn what_only_one_run_has_is_named() {
        let old = results("a", &[("gone", Unit::Nanoseconds, 1.0)]);
        let new = results("a", &[("fresh", Unit::Nanoseconds, 1.0)]);
        let comparison = Comparison::of(&old, &new);
        assert!(comparison.rows.is_empty());
        assert_eq!(comparison.alone, ["b: fresh, wasm (new)", "b: gone, wasm (old)"]);
    }

    #[test]
    fn too_few_samples_show_no_change() {
        let mut old = results("a", &[("time", Unit::Nanoseconds, 100.0)]);
        old.benches[0].series[0].samples.truncate(3);
        let new = results("a", &[("time", Unit::Nanoseconds, 10.0)]);
        assert_eq!(Comparison::of(&old, &new).rows[0].change, Change::Same);
    }
}
