//! Asks a cluster's policies who may talk to whom, without any network: worlds are compiled as for
//! its nodes, and the filter that judges there judges here, as WebAssembly.
//!
//! - [`Rehearsal`], [`End`], [`Answer`]: a cluster, and questions about its pods
//! - [`Judge`], [`Connection`], [`Verdict`]: one node's filter
//!
//! Services are not looked at: a connection is judged as it is behind them.
#![forbid(unsafe_code)]

mod cluster;
mod judge;

pub use cluster::{Answer, End, Rehearsal, Traffic};
pub use judge::{Bench, Connection, Judge, RehearsalError, Verdict};
