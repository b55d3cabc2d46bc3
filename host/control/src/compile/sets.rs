//! Numbers for sets of endpoints, or of prefixes: the same set has the same number for as long as
//! somebody uses it, and other sets have another.

use std::collections::{BTreeMap, BTreeSet};

/// The sets that there are; 0 is the number of the empty one.
#[derive(Clone, Debug)]
pub(super) struct Sets<T> {
    numbers: BTreeMap<Vec<T>, u32>,
    /// The number given out last.
    last: u32,
}

impl<T> Default for Sets<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), last: 0 }
    }
}

impl<T: Clone + Ord> Sets<T> {
    /// The number of these, which are sorted, and each is there once.
    pub(super) fn number(&mut self, of: Vec<T>) -> u32 {
        if of.is_empty() {
            return 0;
        }
        if let Some(set) = self.numbers.get(&of) {
            return *set;
        }
        self.last += 1;
        self.numbers.insert(of, self.last);
        self.last
    }

    /// The sets of these numbers; others are forgotten.
    pub(super) fn used<'s>(
        &'s mut self,
        numbers: &BTreeSet<u32>,
    ) -> impl Iterator<Item = (&'s [T], u32)> + use<'s, T> {
        self.numbers.retain(|_, set| numbers.contains(set));
        self.numbers.iter().map(|(of, set)| (of.as_slice(), *set))
    }
}
