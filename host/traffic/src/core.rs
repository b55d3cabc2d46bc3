//! Cores, and threads that stay on one.

use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// A core of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Core(usize);

impl Core {
    /// The core with this number; the kernel knows whether there is one.
    pub const fn new(number: usize) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> usize {
        self.0
    }

    /// The core that the calling thread is on.
    pub fn current() -> Self {
        Self(sched_getcpu())
    }

    /// The cores that the calling thread may use, in order.
    pub fn available() -> Vec<Self> {
        match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).map(Self).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Keeps the calling thread on this core for as long as the result lives, or until the thread
    /// ends; where that is not possible it stays where it was.
    pub fn keep(self) -> Kept {
        let before = sched_getaffinity(None).ok();
        let mut set = CpuSet::new();
        if self.0 < CpuSet::MAX_CPU {
            set.set(self.0);
        }
        Kept { before: sched_setaffinity(None, &set).ok().and(before) }
    }
}

/// A thread's stay on a core.
#[must_use = "the thread stays for as long as this lives"]
pub struct Kept {
    before: Option<CpuSet>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // a core may have gone meanwhile; the kernel then chooses
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// Starts a thread, on a core if one is named.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    core: Option<Core>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let pinned = move || {
        let _stay = core.map(Core::keep);
        work()
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(pinned)
        .unwrap_or_else(|error| panic!("no thread can be started: {error}"))
}

/// What a thread returns; its panic is the caller's.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_on_its_core_and_is_free_again() {
        let all = Core::available();
        let last = *all.last().expect("this test runs somewhere");
        let stay = last.keep();
        assert_eq!(Core::available(), [last]);
        drop(stay);
        assert_eq!(Core::available(), all);
    }

    #[test]
    fn a_core_that_is_not_there_keeps_nobody() {
        let all = Core::available();
        let _stay = Core::new(CpuSet::MAX_CPU).keep();
        assert_eq!(Core::available(), all);
    }
}
