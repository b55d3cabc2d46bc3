//! What a dataplane is asked to be, and why it is not.

use std::io;
use std::path::PathBuf;

use millrace_netns::NetlinkError;
use millrace_xsk::{AttachMode, UmemError, UmemSettings, XskSettings};

use crate::control::ports::PortError;
use crate::control::punt::CacheSettings;
use crate::worker::WorkerSettings;

/// Settings of a [`Dataplane`](crate::control::Dataplane).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Workers; each has a queue on every port.
    pub workers: usize,
    /// The cores they are pinned to; `None` for the first ones this process may use.
    pub cores: Option<Vec<usize>>,
    /// What each worker is like.
    pub worker: WorkerSettings,
    /// The packet memory of each.
    pub umem: UmemSettings,
    /// The rings of each socket.
    pub sockets: XskSettings,
    /// Where the XDP program runs; `None` for wherever it can.
    pub attach: Option<AttachMode>,
    /// Whether drivers that can shall not copy: possible if those of all ports can.
    pub zero_copy: bool,
    /// Where compiled filters are kept.
    pub cache: Option<PathBuf>,
    /// The kernel's flow cache, for cached ports.
    pub flow_cache: Option<CacheSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            cores: None,
            worker: WorkerSettings::default(),
            umem: UmemSettings::default(),
            sockets: XskSettings { zero_copy: false, ..XskSettings::default() },
            attach: None,
            zero_copy: false,
            cache: None,
            flow_cache: None,
        }
    }
}

/// Why there is no dataplane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
    /// The sandbox does not start.
    #[error("the WebAssembly engine does not start: {0:#}")]
    Sandbox(String),
    /// There is no packet memory.
    #[error(transparent)]
    Umem(#[from] UmemError),
    /// Interfaces cannot be watched.
    #[error("interfaces cannot be watched: {0}")]
    Watch(#[from] NetlinkError),
    /// Ports cannot be kept.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl Settings {
    /// Whether there can be such a dataplane.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let wrong = |text: String| Err(StartError::Setting(text));
        let (workers, burst) = (self.workers, self.worker.burst);
        if !(1..=MAX_WORKERS).contains(&workers) {
            return wrong(format!("there can be 1 to {MAX_WORKERS} workers, not {workers}"));
        }
        if !(1..=256).contains(&burst) {
            return wrong(format!("a burst has 1 to 256 packets, not {burst}"));
        }
        match &self.cores {
            Some(cores) if cores.len() < workers => {
                wrong(format!("{workers} workers need as many cores; {} are named", cores.len()))
            }
            _ => Ok(()),
        }
    }
}

const MAX_WORKERS: usize = 64;
