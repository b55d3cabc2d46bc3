//! What others want of a worker: closures that it runs between two bursts.
//!
//! The worker looks at one flag per round, and takes the lock only if it is set. Who
//! asks waits for the answer; the worker never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use millrace_sandbox::now_ns;
use parking_lot::Mutex;

use crate::pauses::Pauses;

/// A task for a worker of type `W`.
type Task<W> = Box<dyn FnOnce(&mut W) + Send>;

/// The worker's end: it delivers.
pub struct Mailbox<W> {
    shared: Arc<Shared<W>>,
}

/// The other end: it asks.
pub struct Postman<W> {
    shared: Arc<Shared<W>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct Shared<W> {
    waiting: AtomicBool,
    tasks: Mutex<Vec<Task<W>>>,
    closed: AtomicBool,
    /// How long deliveries held up packets.
    pauses: Pauses,
}

/// Whether a worker is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is.
    Open,
    /// It is not.
    Closed,
}

/// A worker that does nothing until this is dropped.
#[must_use]
pub struct Held {
    _release: Sender<()>,
}

/// The worker is gone, or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker does not answer")]
pub struct NoAnswer;

/// A mailbox; `wake` wakes its worker if that sleeps.
pub fn mailbox<W>(wake: impl Fn() + Send + Sync + 'static) -> (Postman<W>, Mailbox<W>) {
    let shared = Arc::new(Shared {
        waiting: AtomicBool::new(false),
        tasks: Mutex::default(),
        closed: AtomicBool::new(false),
        pauses: Pauses::default(),
    });
    let mailbox = Mailbox { shared: Arc::clone(&shared) };
    (Postman { shared, wake: Arc::new(wake) }, mailbox)
}

impl<W> Mailbox<W> {
    /// Does what was asked for since the last time.
    #[inline]
    pub fn deliver(&self, worker: &mut W) -> Delivery {
        if !self.shared.waiting.load(Ordering::Relaxed) {
            return Delivery::Open;
        }
        let start = now_ns();
        // pairs with the release in `Postman::post`: a task seen is a task taken
        self.shared.waiting.swap(false, Ordering::Acquire);
        for task in std::mem::take(&mut *self.shared.tasks.lock()) {
            task(worker);
        }
        self.shared.pauses.note(now_ns() - start);
        match self.shared.closed.load(Ordering::Acquire) {
            true => Delivery::Closed,
            false => Delivery::Open,
        }
    }
}

impl<W> Drop for Mailbox<W> {
    fn drop(&mut self) {
        // whoever waits for an answer hears that there will be none
        self.shared.closed.store(true, Ordering::Release);
        self.shared.tasks.lock().clear();
    }
}

impl<W: 'static> Postman<W> {
    /// Has the worker run `task` between two bursts, and returns what it returns.
    ///
    /// # Errors
    /// If the worker is gone, or does not answer within some seconds.
    pub fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut W) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = channel();
        self.post(Box::new(move |worker| {
            // whoever gave up waiting does not hear
            let _ = answer.send(task(worker));
        }));
        answered.recv_timeout(PATIENCE).map_err(|_| NoAnswer)
    }

    /// Holds the worker up, from when this returns to when what is returned is dropped.
    ///
    /// # Errors
    /// If the worker is gone, or does not answer within some seconds.
    pub fn hold(&self) -> Result<Held, NoAnswer> {
        let (begin, begun) = channel();
        let (release, released) = channel();
        self.post(Box::new(move |_| {
            // whoever gave up waiting does not hold it
            if begin.send(()).is_ok() {
                let _ = released.recv();
            }
        }));
        begun.recv_timeout(PATIENCE).map_err(|_| NoAnswer)?;
        Ok(Held { _release: release })
    }

    /// Has the worker end.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.post(Box::new(|_| {}));
    }

    /// How long deliveries held up packets.
    pub fn pauses(&self) -> &Pauses {
        &self.shared.pauses
    }

    fn post(&self, task: Task<W>) {
        self.shared.tasks.lock().push(task);
        self.shared.waiting.store(true, Ordering::Release);
        (self.wake)();
    }
}

impl Delivery {
    /// Whether the worker is to end.
    pub fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

/// How long a question may take: a worker is away for one call of a hook at the most.
const PATIENCE: Duration = Duration::from_secs(5);
