//! Copies of packets as they pass, for those who look on.
//!
//! - [`Expression`]: which packets are meant
//! - `tap`: what a worker copies them with
//!
//! A worker never waits for who looks on: copies go into buffers that were made beforehand, and
//! where none is free the packet is counted as lost to the capture. Without a capture a worker has
//! no tap, and pays nothing.

mod expression;
mod tap;

use crate::counters::Fate;
use crate::verdict::Decider;

pub use expression::{Expression, Needs, ParseExpressionError, Prefix};
pub(crate) use tap::{Outlet, Tap, Wanted, tap};

/// A packet that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it came, in nanoseconds of the clock of workers.
    pub time_ns: u64,
    /// The port it came in by.
    pub port: u16,
    /// Bytes of its frame.
    pub len: u32,
    /// What became of it.
    pub fate: Fate,
    /// Who decided.
    pub by: Decider,
    /// By which of its rules; 0 if it named none.
    pub rule: u32,
    /// The port it left by; 0 if that is none, or several.
    pub egress: u16,
    /// Who carried it.
    pub carrier: Carrier,
    /// The first bytes of its frame, as it came in.
    pub frame: Vec<u8>,
}

/// Who carried a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A worker that asked the chain about it.
    Asked,
    /// A worker that remembered what was decided.
    Remembered,
    /// The kernel's flow cache.
    Kernel,
}

impl Carrier {
    /// The word used in captures.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Asked => "chain",
            Self::Remembered => "worker",
            Self::Kernel => "kernel",
        }
    }
}
