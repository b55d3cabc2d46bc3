//! Connections that are refused for a time, and when each is decided anew.
//!
//! Owns the order. A filter that refuses one for a time (`REVALIDATE`) waits for something that
//! nobody tells the host of, such as what it learns of other packets. Of more than there is room for
//! the rest waits for what its tags name.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Who waits until when.
pub(super) struct Later<Id> {
    due: BTreeSet<(u64, Id)>,
    of: HashMap<Id, u64>,
}

impl<Id: Copy + Ord + Hash> Later<Id> {
    /// Nobody.
    pub(super) fn new() -> Self {
        Self { due: BTreeSet::new(), of: HashMap::new() }
    }

    /// Has a connection be decided anew when this time is over, in place of what was said before.
    pub(super) fn put(&mut self, id: Id, now_ns: u64, after: Duration) {
        self.forget(id);
        if self.of.len() < MOST {
            let due_ns = now_ns.saturating_add(after.as_nanos() as u64);
            self.due.insert((due_ns, id));
            self.of.insert(id, due_ns);
        }
    }

    /// Has it wait no longer.
    pub(super) fn forget(&mut self, id: Id) {
        if let Some(due_ns) = self.of.remove(&id) {
            self.due.remove(&(due_ns, id));
        }
    }

    /// How long the first one has to wait yet, if any does.
    pub(super) fn wait(&self, now_ns: u64) -> Option<Duration> {
        let (due_ns, _) = self.due.first()?;
        Some(Duration::from_nanos(due_ns.saturating_sub(now_ns)))
    }

    /// Those whose time is over, so many at most.
    pub(super) fn take(&mut self, now_ns: u64, most: usize) -> Vec<Id> {
        let over = self.due.iter().take_while(|(due_ns, _)| *due_ns <= now_ns).take(most);
        let ids: Vec<_> = over.map(|(_, id)| *id).collect();
        ids.iter().for_each(|id| self.forget(*id));
        ids
    }
}

/// Asked about once a second these take a worker some hundredths of its time.
const MOST: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_waits_is_taken_when_its_time_is_over_and_the_last_word_about_it_counts() {
        let mut later = Later::new();
        assert_eq!(later.wait(0), None);
        for (id, after) in [('a', 3), ('b', 1), ('c', 2), ('d', 1), ('a', 1)] {
            later.put(id, 0, after * SECOND);
        }
        later.forget('b');
        assert_eq!(later.wait(0), Some(SECOND));
        assert_eq!(later.take(SECOND.as_nanos() as u64 - 1, 9), []);
        let late = 5 * SECOND.as_nanos() as u64;
        assert_eq!(later.wait(late), Some(Duration::ZERO));
        assert_eq!(later.take(late, 2), ['a', 'd']);
        assert_eq!(later.take(late, 2), ['c']);
        assert_eq!((later.take(late, 2), later.wait(late)), (vec![], None));
    }

    #[test]
    fn of_too_many_the_rest_does_not_wait() {
        let mut later = Later::new();
        (0..MOST + 5).for_each(|id| later.put(id, 0, SECOND));
        later.put(0, 0, SECOND);
        assert_eq!(later.take(u64::MAX, usize::MAX).len(), MOST);
    }
}
