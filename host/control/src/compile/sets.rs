//! Numbers for sets of endpoints, or of prefixes: the same set has the same number for as long as
//! somebody uses it, and other sets have another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The sets that there are; 0 is the number of the empty one.
#[derive(Clone, Debug)]
pub(super) struct Sets<T> {
    numbers: BTreeMap<Arc<[T]>, u32>,
    sets: BTreeMap<u32, Used<T>>,
    /// The number given out last.
    last: u32,
    /// Those that were taken or given back since they were settled.
    touched: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
struct Used<T> {
    of: Arc<[T]>,
    users: usize,
}

/// What has become of a set.
pub(super) enum Settled<T> {
    Used(Arc<[T]>),
    Gone(Arc<[T]>),
}

impl<T> Default for Sets<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), sets: BTreeMap::new(), last: 0, touched: BTreeSet::new() }
    }
}

impl<T: Ord> Sets<T> {
    /// The number of these, which are sorted, and each is there once; for one more user.
    pub(super) fn take(&mut self, of: Vec<T>) -> u32 {
        if of.is_empty() {
            return 0;
        }
        let number = match self.numbers.get(&*of) {
            Some(number) => *number,
            None => {
                self.last += 1;
                let of: Arc<[T]> = of.into();
                self.numbers.insert(Arc::clone(&of), self.last);
                self.sets.insert(self.last, Used { of, users: 0 });
                self.last
            }
        };
        self.touched.insert(number);
        self.sets.get_mut(&number).expect("each number is a set's").users += 1;
        number
    }

    /// One user less. A set that nobody uses any more keeps its number until it is settled that
    /// nobody does.
    pub(super) fn give_back(&mut self, number: u32) {
        if let Some(set) = self.sets.get_mut(&number) {
            set.users -= 1;
            self.touched.insert(number);
        }
    }

    /// What has become of sets that were taken or given back. Those that nobody uses are forgotten.
    pub(super) fn settle(&mut self) -> Vec<(u32, Settled<T>)> {
        let mut settled = Vec::new();
        for number in std::mem::take(&mut self.touched) {
            let Some(set) = self.sets.get(&number) else { continue };
            let of = Arc::clone(&set.of);
            settled.push(match set.users {
                0 => {
                    self.sets.remove(&number);
                    self.numbers.remove(&of);
                    (number, Settled::Gone(of))
                }
                _ => (number, Settled::Used(of)),
            });
        }
        settled
    }

    /// The set of a number.
    #[cfg(test)]
    pub(super) fn of(&self, number: u32) -> &[T] {
        self.sets.get(&number).map_or(&[], |it| &it.of)
    }
}
