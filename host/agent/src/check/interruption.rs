//! Signals that would end this process, and with it the cleaning up.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Whether one has come.
pub(super) struct Interruption {
    come: Arc<(Mutex<bool>, Condvar)>,
}

/// One has come.
#[derive(Debug, thiserror::Error)]
#[error("it was interrupted")]
pub(super) struct Interrupted;

impl Interruption {
    /// From here on signals do not end this process, but for the second one.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("signals")?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _entered = runtime.enter();
            let listen = |kind| signal(kind).context("signals");
            let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
            (listen(interrupt)?, listen(terminate)?, listen(SignalKind::hangup())?)
        };
        let come = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&come);
        let attend = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if std::mem::replace(&mut *told.0.lock(), true) {
                    eprintln!("millrace: interrupted again: what it has made stays behind");
                    std::process::exit(i32::from(super::INTERRUPTED));
                }
                told.1.notify_all();
            }
        };
        let attendant = thread::Builder::new().name("millrace-signals".to_owned());
        attendant.spawn(move || runtime.block_on(attend)).context("signals")?;
        Ok(Self { come })
    }

    /// Waits for a while, unless one comes.
    ///
    /// # Errors
    /// If one has come.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Interrupted> {
        let mut come = self.come.0.lock();
        if !*come {
            self.come.1.wait_for(&mut come, time);
        }
        if *come { Err(Interrupted) } else { Ok(()) }
    }
}
