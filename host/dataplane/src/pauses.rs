//! How long workers stood still, counted in four buckets for each power of two of nanoseconds.
//!
//! ```text
//! 0 │ 1 │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │ 8 9 │ 10 11 │ 12 13 │ 14 15 │ 16 … 19 │ 20 … 23 │ …
//! ```
//! A bound is at most a quarter above the one before it, from 4 on.

use std::array;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pauses of one worker, which counts them while others read.
#[derive(Debug)]
pub struct Pauses([AtomicU64; BUCKETS]);

/// Pauses as they were counted at some time, of one worker or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseCounts([u64; BUCKETS]);

impl Pauses {
    /// Counts a pause.
    pub fn note(&self, nanoseconds: u64) {
        self.0[bucket_of(nanoseconds)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> PauseCounts {
        PauseCounts(array::from_fn(|bucket| self.0[bucket].load(Ordering::Relaxed)))
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl PauseCounts {
    /// Adds those of another worker.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Those that have come since `before`, which was read earlier.
    pub fn since(&self, before: &Self) -> Self {
        Self(array::from_fn(|bucket| self.0[bucket] - before.0[bucket]))
    }

    /// The buckets that are not empty, from short to long: between which nanoseconds, and how
    /// many. What is longer than all buckets is in the last one.
    pub fn buckets(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (lower_bound(bucket)..lower_bound(bucket + 1), *count))
    }
}

impl Default for PauseCounts {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

fn bucket_of(nanoseconds: u64) -> usize {
    // below four there are fewer numbers than buckets
    let Some(octave) = nanoseconds.checked_ilog2().and_then(|power| power.checked_sub(2)) else {
        return nanoseconds as usize;
    };
    // the highest bit and the two behind it, as 4 to 7
    let quarter = (nanoseconds >> octave) as usize;
    (4 * octave as usize + quarter).min(BUCKETS - 1)
}

/// The shortest pause of a bucket, which the bucket before it is below.
fn lower_bound(bucket: usize) -> u64 {
    match bucket.checked_sub(4) {
        None => bucket as u64,
        Some(above) => (4 + above as u64 % 4) << (above / 4),
    }
}

/// The last one ends at 2 to the power 40: 18 minutes.
const BUCKETS: usize = 156;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_within_the_bounds_of_its_bucket() {
        let near = |power: u32| (-2..=2).map(move |off| (1u64 << power).saturating_add_signed(off));
        let quarters = (2..40).flat_map(|power| (4..8).map(move |quarter| quarter << (power - 2)));
        let all = (0..5000).chain((12..40).flat_map(near)).chain(quarters);
        for nanoseconds in all.filter(|nanoseconds| *nanoseconds < 1 << 40) {
            let bucket = bucket_of(nanoseconds);
            let bounds = lower_bound(bucket)..lower_bound(bucket + 1);
            assert!(bounds.contains(&nanoseconds), "{nanoseconds} in {bounds:?}");
        }
    }

    #[test]
    fn bounds_are_at_most_a_quarter_apart_and_end_at_a_power_of_two() {
        for bucket in 4..BUCKETS {
            let (low, high) = (lower_bound(bucket), lower_bound(bucket + 1));
            assert!(low < high && 4 * (high - low) <= low, "{low}..{high}");
        }
        assert_eq!(lower_bound(BUCKETS), 1 << 40);
    }

    #[test]
    fn what_is_longer_than_all_buckets_is_in_the_last_one() {
        let pauses = Pauses::default();
        pauses.note(u64::MAX);
        pauses.note((1 << 40) - 1);
        assert_eq!(pauses.read().buckets().collect::<Vec<_>>(), [(7 << 37..1 << 40, 2)]);
    }

    #[test]
    fn fifty_microseconds_are_told_from_forty_and_from_sixty() {
        let pauses = Pauses::default();
        [40_000, 50_000, 60_000].into_iter().for_each(|pause| pauses.note(pause));
        let found: Vec<_> = pauses.read().buckets().map(|(bounds, _)| bounds).collect();
        assert_eq!(found, [32_768..40_960, 49_152..57_344, 57_344..65_536]);
    }

    #[test]
    fn counts_add_up_and_what_was_before_is_taken_off() {
        let (one, other) = (Pauses::default(), Pauses::default());
        one.note(600);
        let before = one.read();
        one.note(600);
        other.note(600);
        other.note(20_000);
        let mut all = one.read();
        all.add(&other.read());
        let since: Vec<_> = all.since(&before).buckets().collect();
        assert_eq!(since, [(512..640, 2), (16_384..20_480, 1)]);
    }
}
