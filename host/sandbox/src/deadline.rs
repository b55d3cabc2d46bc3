//! How long a call may take.
//!
//! The engine's epoch says when a call is late on the clock on the wall, and costs
//! a call nothing. But a thread that had to wait for its core has used no time of it:
//! so a late call is interrupted only once its thread has run for as long as it may.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::clock::ticks;

/// The time of the call in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    allowed: Duration,
    /// What the thread had run when the call was first found to be late.
    late_since: Option<Duration>,
}

impl Deadline {
    /// A call that begins now, and may take `allowed`.
    pub(crate) fn new(allowed: Duration) -> Self {
        Self { allowed, late_since: None }
    }

    /// Decides about a call that is late on the wall clock.
    pub(crate) fn late(&mut self) -> UpdateDeadline {
        let run = thread_time();
        match self.late_since {
            None => {
                self.late_since = Some(run);
                UpdateDeadline::Continue(ticks(self.allowed))
            }
            Some(since) if run.saturating_sub(since) < self.allowed => UpdateDeadline::Continue(1),
            Some(_) => UpdateDeadline::Interrupt,
        }
    }
}

/// For how long this thread has run.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const ALLOWED: Duration = Duration::from_millis(2);

    #[test]
    fn a_call_whose_thread_runs_is_interrupted() {
        let mut deadline = Deadline::new(ALLOWED);
        assert!(matches!(deadline.late(), UpdateDeadline::Continue(_)), "it may only have waited");
        let start = thread_time();
        while thread_time() - start < ALLOWED {}
        assert!(matches!(deadline.late(), UpdateDeadline::Interrupt));
    }

    #[test]
    fn a_call_whose_thread_waits_goes_on() {
        let mut deadline = Deadline::new(Duration::from_secs(60));
        for _ in 0..100 {
            thread::yield_now();
            assert!(matches!(deadline.late(), UpdateDeadline::Continue(_)));
        }
    }
}
