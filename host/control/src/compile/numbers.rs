//! Numbers for things: a thing keeps its number for as long as somebody uses it, and nothing else
//! gets that number afterwards.

use std::collections::BTreeMap;

/// The numbers of things of one kind.
#[derive(Clone, Debug)]
pub(super) struct Numbers<K> {
    numbers: BTreeMap<K, (u32, Use)>,
    /// The number given out last.
    last: u32,
}

/// Whether a thing is in the world that is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Before,
    Now,
}

impl<K: Ord> Numbers<K> {
    /// None is given out yet. The first will be the one behind `last`.
    pub(super) fn after(last: u32) -> Self {
        Self { numbers: BTreeMap::new(), last }
    }

    /// What the next world begins with: all that is known, and nothing in use.
    pub(super) fn next(&self) -> Self
    where
        K: Clone,
    {
        let before = |(key, (number, _)): (&K, &(u32, Use))| (key.clone(), (*number, Use::Before));
        Self { numbers: self.numbers.iter().map(before).collect(), last: self.last }
    }

    /// The number of a thing, which is in use now.
    pub(super) fn number(&mut self, key: K) -> u32 {
        let last = &mut self.last;
        let (number, used) = self.numbers.entry(key).or_insert_with(|| {
            *last += 1;
            (*last, Use::Now)
        });
        *used = Use::Now;
        *number
    }

    /// Forgets what is not in use.
    pub(super) fn forget_others(&mut self) {
        self.numbers.retain(|_, (_, used)| *used == Use::Now);
    }

    /// What is in use, with its numbers.
    pub(super) fn used(&self) -> impl Iterator<Item = (&K, u32)> {
        let used = self.numbers.iter().filter(|(_, (_, used))| *used == Use::Now);
        used.map(|(key, (number, _))| (key, *number))
    }

    /// What there is, with its numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.numbers.iter().map(|(key, (number, _))| (key, *number))
    }
}
