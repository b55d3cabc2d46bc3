//! Numbers for things: a thing keeps its number for as long as somebody uses it, and nothing else
//! gets that number afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The numbers of things of one kind.
#[derive(Debug)]
pub(super) struct Numbers<K: ?Sized> {
    numbers: BTreeMap<Arc<K>, u32>,
    things: BTreeMap<u32, Used<K>>,
    /// The number given out last.
    last: u32,
    /// Those that were taken or given back since they were settled.
    touched: BTreeSet<u32>,
}

#[derive(Debug)]
struct Used<K: ?Sized> {
    thing: Arc<K>,
    users: usize,
    /// Whether others know of it.
    is_settled: bool,
}

/// What has become of a number.
pub(super) enum Settled<K: ?Sized> {
    New(Arc<K>),
    Gone(Arc<K>),
}

impl<K: Ord + ?Sized> Numbers<K> {
    /// None is given out yet. The first will be the one behind `last`.
    pub(super) fn after(last: u32) -> Self {
        Self { numbers: BTreeMap::new(), things: BTreeMap::new(), last, touched: BTreeSet::new() }
    }

    /// The number of a thing, for one more user.
    pub(super) fn take(&mut self, thing: impl Into<Arc<K>>) -> u32 {
        let thing = thing.into();
        let number = match self.numbers.get(&thing) {
            Some(number) => *number,
            None => {
                self.last += 1;
                self.numbers.insert(Arc::clone(&thing), self.last);
                let used = Used { thing, users: 0, is_settled: false };
                self.things.insert(self.last, used);
                self.last
            }
        };
        self.touched.insert(number);
        self.things.get_mut(&number).expect("each number is a thing's").users += 1;
        number
    }

    /// One user less. What nobody uses any more keeps its number until it is settled that nobody
    /// does.
    pub(super) fn give_back(&mut self, number: u32) {
        if let Some(used) = self.things.get_mut(&number) {
            used.users -= 1;
            self.touched.insert(number);
        }
    }

    /// What has become of numbers that were taken or given back. Those that nobody uses are
    /// forgotten.
    pub(super) fn settle(&mut self) -> Vec<(u32, Settled<K>)> {
        let mut settled = Vec::new();
        for number in std::mem::take(&mut self.touched) {
            let Some(used) = self.things.get_mut(&number) else { continue };
            let (was_settled, thing) = (used.is_settled, Arc::clone(&used.thing));
            used.is_settled = true;
            if used.users == 0 {
                self.things.remove(&number);
                self.numbers.remove(&thing);
            }
            match (was_settled, self.things.contains_key(&number)) {
                (false, true) => settled.push((number, Settled::New(thing))),
                (true, false) => settled.push((number, Settled::Gone(thing))),
                _ => {}
            }
        }
        settled
    }

    /// The number of a thing, if somebody uses it.
    pub(super) fn number(&self, thing: &K) -> Option<u32> {
        self.numbers.get(thing).copied()
    }

    /// The thing with a number.
    pub(super) fn thing(&self, number: u32) -> Option<&K> {
        self.things.get(&number).map(|used| &*used.thing)
    }

    /// The number given out last.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// The things from one on, in order, with their numbers.
    pub(super) fn from(&self, first: Arc<K>) -> impl Iterator<Item = (&K, u32)> {
        self.numbers.range(first..).map(|(thing, number)| (&**thing, *number))
    }
}

impl<K: ?Sized> Clone for Numbers<K> {
    fn clone(&self) -> Self {
        Self {
            numbers: self.numbers.clone(),
            things: self.things.clone(),
            last: self.last,
            touched: self.touched.clone(),
        }
    }
}

impl<K: ?Sized> Clone for Used<K> {
    fn clone(&self) -> Self {
        let Self { thing, users, is_settled } = self;
        Self { thing: Arc::clone(thing), users: *users, is_settled: *is_settled }
    }
}
