//! What becomes of a filter that fails.
//!
//! A worker has taken the twin already, or does as the stage's fault policy says; here a
//! new twin is built, and a version that fails too often is given up.

use std::sync::Arc;
use std::time::Duration;

use millrace_sandbox::now_ns;

use super::{FaultRecord, StageError, StageRecord, Stages};
use crate::control::status::StageState;
use crate::io::Io;
use crate::stage::FaultReport;

impl<I: Io + 'static> Stages<I> {
    /// Takes note of a fault, and mends: builds a new twin or, if the version fails too often,
    /// goes back to the one before, or ejects it.
    pub fn mend(&mut self, report: FaultReport) {
        let FaultReport { worker, stage, version, fault, remains } = report;
        let Some(at) = self.records.iter().position(|record| record.number == stage) else {
            return;
        };
        let now = now_ns();
        let record = &mut self.records[at];
        tracing::warn!(stage = %record.name, worker, version, %fault, "a filter failed");
        if let Some(remains) = &remains {
            record.retire(&**remains);
        }
        record.last_fault = Some(FaultRecord { time_ns: now, worker, version, fault });
        // faults of versions that are no more came too late to count
        let is_canary = record.canary.as_ref().is_some_and(|(_, canary)| canary.number == version);
        if record.current.number != version && !is_canary {
            return;
        }
        if remains.is_some() {
            record.mend_twins();
        }

        // each version answers for its own faults
        record.recent_faults.push((version, now));
        let window = FAULT_WINDOW.as_nanos() as u64;
        record.recent_faults.retain(|(_, time)| now - time <= window);
        if record.recent_faults.iter().filter(|(of, _)| *of == version).count() > FAULT_LIMIT {
            record.recent_faults.retain(|(of, _)| *of != version);
            let stage = Arc::clone(&record.name);
            if let Err(error) = self.give_up(at, is_canary) {
                tracing::error!(%stage, %error, "a failing filter could not be replaced");
            }
        }
    }

    /// Builds twins that are missing although no report says so: the desk was full.
    pub fn tend(&mut self) {
        let working = |record: &&mut StageRecord| record.state != StageState::Ejected;
        self.records.iter_mut().filter(working).for_each(StageRecord::mend_twins);
    }

    /// Too many faults: the canary is dismissed, or the version before is put into force, or the
    /// stage is left without a guest.
    fn give_up(&mut self, at: usize, is_canary: bool) -> Result<(), StageError> {
        let name = Arc::clone(&self.records[at].name);
        if is_canary {
            tracing::error!(stage = %name, "the canary fails too often, and is dismissed");
            return self.dismiss_canary(at);
        }
        if let Some(previous) = self.records[at].previous.take() {
            tracing::error!(stage = %name, "fails too often, and is rolled back");
            self.put_in_force(at, previous)?;
            self.records[at].state = StageState::RolledBack;
            return Ok(());
        }
        tracing::error!(stage = %name, "fails too often, and is ejected");
        let ejected = self.on_all(move |chain| {
            let version = &mut chain[at].crew.main;
            let twin = version.twin.try_lock().and_then(|mut twin| twin.take());
            (version.guest.take(), twin)
        })?;
        let record = &mut self.records[at];
        for guest in ejected.into_iter().filter_map(|(guest, _)| guest) {
            record.retire(&*guest);
        }
        record.state = StageState::Ejected;
        record.current.twins.iter().for_each(|twin| drop(twin.lock().take()));
        Ok(())
    }
}

/// Faults in [`FAULT_WINDOW`] that a version may have before it is given up.
const FAULT_LIMIT: usize = 5;
const FAULT_WINDOW: Duration = Duration::from_secs(10);
