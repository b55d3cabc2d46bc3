//! Samples of several peers, taken in turns.
//!
//! What slows the machine down for a while slows everybody down: the first sample of one was taken
//! beside the first one of another, and nobody always comes behind the same one.

use std::collections::{BTreeMap, BTreeSet};

use crate::statistics::Estimate;

/// Samples, by what they are of and by who was measured.
#[derive(Debug)]
pub struct Samples<K>(BTreeMap<K, Vec<f64>>);

impl<K: Ord> Samples<K> {
    /// Notes one more.
    pub fn note(&mut self, of: K, value: f64) {
        self.0.entry(of).or_default().push(value);
    }

    /// Those of one series, in the order in which they were taken.
    pub fn of(&self, of: &K) -> Option<&[f64]> {
        self.0.get(of).map(Vec::as_slice)
    }

    /// The ratio of samples that were taken beside each other. What was cut off may have left a
    /// last one without its partner: that one does not count.
    pub fn ratio(&self, a: &K, b: &K) -> Option<Estimate> {
        let (a, b) = (self.of(a)?, self.of(b)?);
        let both = a.len().min(b.len());
        Some(Estimate::of_pairs(&a[..both], &b[..both], |a, b| a / b))
    }

    /// All series.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &[f64])> {
        self.0.iter().map(|(of, samples)| (of, samples.as_slice()))
    }

    /// Something of all series' keys, each once.
    pub fn each<T: Ord>(&self, part: impl FnMut(&K) -> T) -> BTreeSet<T> {
        self.0.keys().map(part).collect()
    }
}

impl<K> Default for Samples<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// All of them, in every run from another one on.
pub fn in_turns<T>(all: &[T], run: usize) -> impl Iterator<Item = &T> {
    let (before, behind) = all.split_at(run.checked_rem(all.len()).unwrap_or_default());
    behind.iter().chain(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_takes_a_turn_in_every_run_and_the_first_one_changes() {
        let turns = |run| in_turns(&["a", "b", "c"], run).copied().collect::<String>();
        assert_eq!([0, 1, 2, 3].map(turns), ["abc", "bca", "cab", "abc"]);
        assert_eq!(in_turns::<u8>(&[], 1).count(), 0);
    }

    #[test]
    fn a_sample_without_its_partner_does_not_count() {
        let mut samples = Samples::default();
        for (peer, value) in [("a", 2.0), ("b", 1.0), ("b", 1.0), ("a", 4.0), ("a", 1000.0)] {
            samples.note(peer, value);
        }
        assert_eq!(samples.ratio(&"a", &"b").map(|ratio| ratio.median), Some(3.0));
        assert!(samples.ratio(&"a", &"c").is_none(), "nobody has measured it");
    }
}
