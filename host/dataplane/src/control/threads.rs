//! The threads of a dataplane: workers on their cores, and those that look after the rest.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_netns::LinkWatch;
use millrace_sandbox::now_ns;

use crate::control::carried::Sampler;
use crate::control::dataplane::Shared;
use crate::control::settings::{Settings, StartError};
use crate::stage::FaultReport;
use crate::tracking::Upkeep;

impl Shared {
    /// Mends what fails, and clears host maps of what is dead.
    pub(super) fn mend(&self, reports: &Receiver<FaultReport>) {
        let mut next_sweep_ns = 0;
        while !self.ended.load(Ordering::Acquire) {
            match reports.recv_timeout(HEARTBEAT) {
                Ok(report) => self.stages.lock().mend(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = now_ns();
            if now >= next_sweep_ns {
                next_sweep_ns = now + SWEEP.as_nanos() as u64;
                self.sandbox.maps().sweep(now);
                self.stages.lock().tend();
            }
        }
    }

    /// Looks after connections that no packet comes of.
    pub(super) fn keep_up(&self, upkeep: &Upkeep, sampler: &Sampler) {
        while !self.ended.load(Ordering::Acquire) {
            upkeep.count(self.sandbox.maps().connections());
            let pause = upkeep.round(now_ns()).unwrap_or_else(|error| {
                tracing::error!(%error, "connections that are over stay");
                HEARTBEAT
            });
            if let Err(error) = sampler.step(now_ns()) {
                tracing::error!(%error, "what the kernel carries is not added up");
            }
            thread::sleep(pause);
        }
    }

    /// Follows what happens to interfaces.
    pub(super) fn follow(&self, mut links: LinkWatch) {
        while !self.ended.load(Ordering::Acquire) {
            match links.next_within(HEARTBEAT) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    let followed = self.ports.lock().follow(&event);
                    match followed {
                        Ok(changed) => {
                            changed.into_iter().for_each(|port| self.redecisions.post_port(port));
                        }
                        Err(error) => {
                            tracing::error!(%error, "a change of an interface is not followed");
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "interfaces are not watched any more");
                    return;
                }
            }
        }
    }
}

/// The core of each worker: as named, or the first ones that this process may use.
pub(super) fn cores(settings: &Settings) -> Result<Vec<usize>, StartError> {
    if let Some(cores) = &settings.cores {
        return Ok(cores.clone());
    }
    let allowed = rustix::thread::sched_getaffinity(None).map_err(io::Error::from)?;
    let cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    // the last ones: interrupts and everybody else tend to sit on the first ones
    let cores: Vec<usize> = cores.collect();
    let skip = cores.len().saturating_sub(settings.workers);
    Ok(cores[skip..].to_vec())
}

pub(super) fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "a worker is not pinned");
    }
}

/// Who waits for a packet on the core of its sender does not wait for those who compute there.
pub(super) fn go_first() {
    if let Err(error) = rustix::process::setpriority_process(None, FIRST) {
        tracing::warn!(%error, "a worker goes last: new flows will be slow");
    }
}

pub(super) fn spawn(
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(run)
}

/// The priority of who goes first (`nice(1)`). At a higher one a worker goes before every other
/// sender of its core as well, and 64 that connect all the time make a fifth fewer connections.
const FIRST: i32 = -10;
/// How soon threads notice that they are to end.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How often host maps are swept.
const SWEEP: Duration = Duration::from_secs(1);
