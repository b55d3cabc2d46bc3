//! From samples to estimates: medians, and intervals that have the true median in them 95 times
//! out of 100.
//!
//! Intervals of one series, and of two that were measured in turns, are made of order statistics:
//! the number of samples below the true median is binomial, whatever the samples' distribution.
//! Runs that know nothing of each other are compared by bootstrap. A sample too few and there is
//! no interval, rather than a wrong one.

use serde::{Deserialize, Serialize};

/// A value, and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median of what was measured.
    pub median: f64,
    /// Where the true one is, at 95 %; `None` for fewer than [`FEWEST`] samples.
    pub interval: Option<Interval>,
}

/// From one value to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The fewest samples that say anything at 95 %: all of six are above the median, or all below it,
/// in 3 % of all cases.
pub const FEWEST: usize = 6;

impl Estimate {
    /// Something that was counted rather than sampled.
    pub const fn exact(value: f64) -> Self {
        Self { median: value, interval: Some(Interval { low: value, high: value }) }
    }

    /// The median of samples.
    ///
    /// # Panics
    /// If there are none, or one is not a number; so for all of this file.
    pub fn of(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        let interval = outermost(sorted.len())
            .map(|k| Interval { low: sorted[k], high: sorted[sorted.len() - 1 - k] });
        Self { median: middle(&sorted), interval }
    }

    /// What `of` makes of pairs of samples that were taken one right after the other, so that what
    /// slows down the machine for a while slows down both.
    ///
    /// # Panics
    /// If the series are not of one length.
    pub fn of_pairs(a: &[f64], b: &[f64], of: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(a.len(), b.len(), "each sample has a partner");
        let pairs: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| of(a, b)).collect();
        Self::of(&pairs)
    }

    /// The ratio of the medians of two runs that know nothing of each other.
    pub fn of_medians(new: &[f64], old: &[f64]) -> Self {
        let (new, old) = (sorted(new), sorted(old));
        let median = middle(&new) / middle(&old);
        if new.len() < FEWEST || old.len() < FEWEST {
            return Self { median, interval: None };
        }
        let mut dice = Dice(SEED);
        let ratios: Vec<f64> =
            (0..RESAMPLES).map(|_| dice.resampled(&new) / dice.resampled(&old)).collect();
        let ratios = sorted(&ratios);
        let tail = RESAMPLES * 25 / 1000;
        Self {
            median,
            interval: Some(Interval { low: ratios[tail], high: ratios[RESAMPLES - 1 - tail] }),
        }
    }
}

/// The value that `part` of all samples are not above, 0 to 1 (nearest rank).
///
/// # Panics
/// If there are no samples.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    assert!(!samples.is_empty(), "there are samples");
    assert!(samples.iter().all(|sample| !sample.is_nan()), "samples are numbers");
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// How many of `n` sorted samples can be left out at either end, so that the true median is
/// outside of the rest in at most 5 % of all cases.
fn outermost(n: usize) -> Option<usize> {
    // in logarithms: half to the power of a thousand is no double
    let mut ways = 0.0_f64;
    let mut tail = 0.0;
    let mut left_out = None;
    for k in 0..n / 2 {
        tail += (ways - n as f64 * std::f64::consts::LN_2).exp();
        if tail > 0.025 {
            break;
        }
        left_out = Some(k);
        ways += (((n - k) as f64) / ((k + 1) as f64)).ln();
    }
    left_out
}

/// Chance that comes out the same every time (SplitMix64; Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * n as u128) >> 64) as usize
    }

    /// The median of as many samples, drawn with replacement.
    fn resampled(&mut self, sorted: &[f64]) -> f64 {
        let mut drawn: Vec<usize> = sorted.iter().map(|_| self.below(sorted.len())).collect();
        drawn.sort_unstable();
        let half = drawn.len() / 2;
        match drawn.len() % 2 {
            1 => sorted[drawn[half]],
            _ => (sorted[drawn[half - 1]] + sorted[drawn[half]]) / 2.0,
        }
    }
}

const RESAMPLES: usize = 4000;
const SEED: u64 = 0x6d69_6c6c_7261_6365;

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Option<Interval> {
        Some(Interval { low, high })
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_tables() {
        // ranks as in Conover, Practical Nonparametric Statistics, table A3, for p = 0.5
        for (n, low, high) in [(6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15), (30, 10, 21)] {
            let samples: Vec<f64> = (1..=n).rev().map(f64::from).collect();
            let expected = interval(f64::from(low), f64::from(high));
            assert_eq!(Estimate::of(&samples).interval, expected, "{n} samples");
        }
        let thousands: Vec<f64> = (1..=2000).map(f64::from).collect();
        let found = Estimate::of(&thousands).interval.expect("these are enough");
        assert!((955.0..960.0).contains(&found.low), "1000 - 0.98 * sqrt(2000): {found:?}");
    }

    #[test]
    fn too_few_samples_have_a_median_and_no_interval() {
        let estimate = Estimate::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(estimate, Estimate { median: 3.0, interval: None });
        assert_eq!(Estimate::of_medians(&[1.0; 5], &[2.0; 50]).interval, None);
    }

    #[test]
    fn pairs_cancel_what_both_suffer_from() {
        let slow: Vec<f64> = (0..12).map(|n| if n % 3 == 0 { 900.0 } else { 100.0 }).collect();
        let half: Vec<f64> = slow.iter().map(|sample| sample / 2.0).collect();
        let estimate = Estimate::of_pairs(&half, &slow, |a, b| a / b);
        assert_eq!(estimate, Estimate { median: 0.5, interval: interval(0.5, 0.5) });
    }

    #[test]
    fn a_bootstrap_has_the_true_ratio_in_it_as_often_as_it_says() {
        let mut dice = Dice(7);
        let mut noisy = |centre: f64| -> Vec<f64> {
            (0..21).map(|_| centre + (dice.below(1000) as f64 - 499.5) / 50.0).collect()
        };
        let hits = (0..200).filter(|_| {
            let (new, old) = (noisy(120.0), noisy(100.0));
            let interval = Estimate::of_medians(&new, &old).interval.expect("these are enough");
            interval.low <= 1.2 && 1.2 <= interval.high
        });
        let hits = hits.count();
        assert!((180..=200).contains(&hits), "{hits} of 200");
    }

    #[test]
    fn a_percentile_is_a_sample_that_so_many_are_not_above() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        for (part, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)] {
            assert_eq!(percentile(&samples, part), expected);
        }
    }
}
