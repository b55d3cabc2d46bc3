//! How long things took: every one of them, so that percentiles are exact.

use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.nanoseconds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nanoseconds.is_empty()
    }

    /// What `percent` of a hundred did not exceed (nearest rank); `None` without any.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let rank = (self.nanoseconds.len() as f64 * percent / 100.0).ceil() as usize;
        let last = self.nanoseconds.len().checked_sub(1)?;
        Some(Duration::from_nanos(self.nanoseconds[rank.saturating_sub(1).min(last)]))
    }

    /// The sum of all.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.iter().sum())
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let nanoseconds = durations.into_iter().map(|time| time.as_nanos() as u64);
        let mut nanoseconds: Vec<u64> = nanoseconds.collect();
        nanoseconds.sort_unstable();
        Self { nanoseconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_what_so_many_did_not_exceed() {
        let latencies: Latencies = (1..=1000).rev().map(Duration::from_micros).collect();
        for (percent, micros) in [(0.0, 1), (50.0, 500), (99.0, 990), (99.9, 999), (100.0, 1000)] {
            let found = latencies.percentile(percent);
            assert_eq!(found, Some(Duration::from_micros(micros)), "{percent}");
        }
        assert_eq!(Latencies::default().percentile(50.0), None);
    }
}
