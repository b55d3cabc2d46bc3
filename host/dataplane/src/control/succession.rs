//! One process after another on the same maps, links and ports.
//!
//! ```text
//!  successor    prepares ─► asks ─► misses come to it ─► resumes connections ─► workers go on
//!  predecessor  ············ leaves: takes nothing away ─► drains ─► ends
//! ```
//! Links that are ports have a program at any time, and cached flows never notice. Misses that
//! come to the successor before it has all connections wait in its sockets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millrace_sandbox::now_ns;

use crate::control::dataplane::Dataplane;
use crate::control::ports::{PortError, Ports};
use crate::control::punt::{Punt, PuntError};
use crate::control::redecide::Which;
use crate::io::Io;
use crate::mailbox::{Held, NoAnswer};
use crate::port::PortId;
use crate::tracking::{Charge, Resumed, Succession};

impl Dataplane {
    /// Takes the flow cache over from a predecessor, if it is one that
    /// [outlives](crate::control::CacheSettings::pins) its process: for when all ports are there, and the chain is
    /// whole. Misses come here from then on; `drained` returns when the predecessor, if it lives,
    /// has nothing of them any more, and host maps have what it knew. What they say of ports that are
    /// gone is forgotten.
    ///
    /// # Errors
    /// If the kernel refuses, or a worker is gone; and that of `drained`: nothing was taken away then.
    pub fn take_over<E: From<PortError>>(
        &self,
        drained: impl FnOnce() -> Result<(), E>,
    ) -> Result<Resumed, E> {
        let resumed = {
            let mut ports = self.shared.ports.lock();
            let _held = ports.take_misses()?;
            drained()?;
            ports.resume()?
        };
        let ports: BTreeSet<u16> = self.numbers().into_values().collect();
        self.shared.stages.lock().forget_ports(&|number| !ports.contains(&number));
        // what they were decided by may have changed in between
        self.shared.redecisions.post(&Which::All);
        Ok(resumed)
    }

    /// Takes nothing away any more, so that a successor can read all there is. All else goes on.
    pub fn leave(&self) {
        self.shared.ports.lock().leave();
    }

    /// Goes on as before, since the successor is none.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stay(&self) -> Result<(), PortError> {
        self.shared.ports.lock().stay()
    }

    /// Returns when nothing is left to do here, misses going to a successor.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn drain(&self) -> Result<(), PortError> {
        self.shared.ports.lock().drain()
    }
}

impl Ports {
    /// Has misses come here, where they wait for what is returned to be dropped.
    fn take_misses(&self) -> Result<Vec<Held>, PortError> {
        let Some(punt) = &self.punt else { return Ok(Vec::new()) };
        let Some(succession) = punt.succession() else { return Ok(Vec::new()) };
        let held: Result<_, NoAnswer> =
            self.workers.iter().map(|hand| hand.postman.hold()).collect();
        let held = held?;
        punt.take_misses(&self.namespace)?;
        succession.beat(LASTS).map_err(PuntError::from)?;
        Ok(held)
    }

    /// Has connections of a predecessor go on, which has nothing left to do.
    fn resume(&mut self) -> Result<Resumed, PortError> {
        let Some(punt) = &self.punt else { return Ok(Resumed::default()) };
        let Some(succession) = punt.succession() else { return Ok(Resumed::default()) };
        let ports: BTreeSet<u16> = self.records.values().map(|record| record.id.number()).collect();
        let resumed = succession.resume(&ports, now_ns()).map_err(PuntError::from)?;
        succession.set_charge(Charge::Own);

        self.left.clear();
        punt.let_go_others(&self.namespace)?;
        Ok(resumed)
    }

    /// Takes nothing away any more, so that a successor can read all there is.
    pub(super) fn leave(&self) {
        if let Some(succession) = self.punt.as_ref().and_then(Punt::succession) {
            succession.set_charge(Charge::Leaving);
        }
    }

    /// Goes on, since there is no successor.
    pub(super) fn stay(&self) -> Result<(), PortError> {
        let Some(punt) = &self.punt else { return Ok(()) };
        punt.take_misses(&self.namespace)?;
        if let Some(succession) = punt.succession() {
            succession.set_charge(Charge::Own);
        }
        Ok(())
    }

    /// Waits until all misses that came here have left again, and leaves the rest to a successor.
    ///
    /// What has come is counted, and what has left; what the kernel still has between the two ends
    /// of the punt pair is not, by anybody: veth counts a packet when its far end is polled for it.
    /// That is due in microseconds, so that some looks without a packet do.
    pub(super) fn drain(&self) -> Result<(), PortError> {
        let give_up = Instant::now() + PATIENCE;
        let mut quiet = 0;
        let mut before = None;
        while quiet < QUIET && Instant::now() < give_up {
            let mut bursts = 0;
            let mut is_empty = true;
            for hand in &self.workers {
                let (done, staged, left) = hand.postman.ask(|worker| {
                    let (staged, left) =
                        (worker.io.staged(PortId::PUNT), worker.io.left(PortId::PUNT));
                    (worker.bursts(), staged, left)
                })?;
                bursts += done;
                is_empty &= staged == left;
            }
            let same = before.replace(bursts) == Some(bursts);
            quiet = if same && is_empty { quiet + 1 } else { 0 };
            thread::sleep(PAUSE);
        }
        if let Some(succession) = self.punt.as_ref().and_then(Punt::succession) {
            succession.leave();
        }
        Ok(())
    }

    /// What says that this process lives, if anybody listens.
    pub(super) fn succession(&self) -> Option<Arc<Succession>> {
        self.punt.as_ref().and_then(Punt::succession).cloned()
    }
}

/// Says again and again that misses are taken here, and at the end that they are not.
pub(super) fn live(succession: &Succession, ended: &AtomicBool) {
    let beat = |lasts| {
        if matches!(succession.charge(), Charge::Own | Charge::Leaving)
            && let Err(error) = succession.beat(lasts)
        {
            tracing::error!(%error, "the kernel does not hear that this process lives");
        }
    };
    while !ended.load(Ordering::Acquire) {
        beat(LASTS);
        thread::sleep(EVERY);
    }
    beat(Duration::ZERO);
}

/// For how long misses are sent here after a sign of life: a worker may have to wait for its CPU.
const LASTS: Duration = Duration::from_secs(2);
/// How often there is one.
const EVERY: Duration = Duration::from_millis(250);
/// How long draining may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks without a packet, after which none is on its way any more.
const QUIET: u32 = 3;
const PAUSE: Duration = Duration::from_millis(2);
