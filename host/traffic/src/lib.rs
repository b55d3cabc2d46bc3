//! Traffic between network namespaces, as pods make it, and what comes of it.
//!
//! Generators and meters for benches, tests and the demo. Everything runs between namespaces that
//! the caller names ([`End`]), on cores that the caller names ([`Core`]), for a time that the
//! caller bounds.
//!
//! - [`sequence`]: numbered datagrams, never too many at once: nothing lost, nothing overtaken?
//! - [`blast`]: as many datagrams as a pod can send; [`sink`]: how many arrive
//! - [`stream`]: TCP in bulk
//! - [`exchange`]: there and back, over TCP or UDP, and how long that takes ([`Latencies`])
//! - [`connect`]: connections, one after the other or in lanes side by side
//! - [`burst`]: flows that open with several datagrams at once: does one overtake another?
//! - [`cpu`]: what all of that costs
#![forbid(unsafe_code)]

pub mod blast;
pub mod burst;
pub mod connect;
pub mod cpu;
mod end;
mod error;
pub mod exchange;
mod latencies;
pub mod sequence;
pub mod sink;
pub mod stream;

mod core;

pub use crate::core::Core;
pub use end::{End, Server};
pub use error::TrafficError;
pub use latencies::Latencies;
