//! The clock that ends overlong calls. It advances the engine's epoch, tick by tick, for as long as a
//! call may need it, and stands still otherwise: on an idle machine it is dear to wake up.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// What calls have of it.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Ticks so far.
    now: AtomicU64,
    /// Up to which tick somebody needs it.
    needed: AtomicU64,
    stands: AtomicBool,
    over: AtomicBool,
    thread: Thread,
}

/// The thread behind it, which ends when this is dropped.
pub(crate) struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

/// How many ticks make at least `time`: the first one may come at once.
pub(crate) const fn ticks(time: Duration) -> u64 {
    time.as_nanos().div_ceil(TICK.as_nanos()) as u64 + 1
}

impl Clock {
    /// Sees to it that so many ticks come.
    #[inline]
    pub(crate) fn need(&self, ticks: u64) {
        let until = self.now.load(Relaxed) + ticks + MARGIN;
        if self.needed.load(Relaxed) < until {
            self.go_on(until);
        }
    }

    /// Once in a tick for whoever calls all the time.
    #[cold]
    fn go_on(&self, until: u64) {
        self.needed.fetch_max(until, SeqCst);
        if self.stands.load(SeqCst) {
            self.thread.unpark();
        }
    }

    fn is_needed(&self) -> bool {
        self.needed.load(SeqCst) > self.now.load(Relaxed) || self.over.load(SeqCst)
    }

    /// Returns when it is needed.
    fn stand(&self) {
        // whoever needs it from here on sees that it stands, or is seen
        self.stands.store(true, SeqCst);
        while !self.is_needed() {
            thread::park();
        }
        self.stands.store(false, SeqCst);
    }

    fn run(&self, engine: &Engine) {
        while !self.over.load(SeqCst) {
            if !self.is_needed() {
                self.stand();
            }
            thread::sleep(TICK);
            self.now.fetch_add(1, Relaxed);
            engine.increment_epoch();
        }
    }
}

impl Ticker {
    /// Starts the clock of an engine.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let (hand, clock) = std::sync::mpsc::sync_channel::<Arc<Clock>>(1);
        let run = move || {
            if let Ok(clock) = clock.recv() {
                clock.run(&engine);
            }
        };
        let thread = thread::Builder::new().name("millrace-epoch".to_owned()).spawn(run)?;
        let clock = Arc::new(Clock {
            now: AtomicU64::new(0),
            needed: AtomicU64::new(0),
            stands: AtomicBool::new(false),
            over: AtomicBool::new(false),
            thread: thread.thread().clone(),
        });
        hand.send(Arc::clone(&clock)).expect("it waits for this");
        Ok(Self { clock, thread: Some(thread) })
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.over.store(true, SeqCst);
        self.clock.thread.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The grain of deadlines.
const TICK: Duration = Duration::from_millis(5);
/// Ticks beyond those that are needed: who needs them may see the clock a little late.
const MARGIN: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something holds before long.
    fn soon(mut holds: impl FnMut() -> bool) -> bool {
        (0..20_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            holds()
        })
    }

    #[test]
    fn it_goes_as_far_as_it_is_needed_and_stands_until_it_is_again() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let clock = ticker.clock();
        let now = || clock.now.load(SeqCst);
        for ticks in [3, 1, 7] {
            assert!(soon(|| clock.stands.load(SeqCst)));
            let before = now();
            clock.need(ticks);
            assert!(soon(|| now() >= before + ticks));
            assert!(soon(|| clock.stands.load(SeqCst)));
            assert_eq!(now(), before + ticks + MARGIN);
        }
    }

    #[test]
    fn no_wake_up_is_lost_among_many_who_need_it() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let clock = ticker.clock();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let before = clock.now.load(SeqCst);
                        clock.need(1);
                        assert!(soon(|| clock.now.load(SeqCst) > before));
                    }
                });
            }
        });
    }
}
