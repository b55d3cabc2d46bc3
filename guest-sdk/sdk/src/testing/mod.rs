//! Runs a filter natively: as `cargo test` does, without a host, root or a network.
//!
//! ```
//! use millrace_filter::prelude::*;
//! use millrace_filter::testing::{Rig, frames};
//!
//! # struct Nop;
//! # impl Filter for Nop {
//! #     const MANIFEST: Manifest = Manifest::new("nop", "1.0.0");
//! #     type Config = ();
//! #     fn new(_: (), _: &mut Setup) -> Result<Self, Error> { Ok(Self) }
//! # }
//! let mut rig = Rig::<Nop>::new("{}");
//! let decision = rig.flow(&frames::udp("10.0.0.1:5000", "10.0.0.2:53", b"a question"));
//! assert_eq!(decision, Decision::ZERO);
//! ```
//!
//! - [`Rig`]: the filter with a host of its own
//! - [`frames`]: packets, by addresses
//! - [`capture`]: packets, from a file
//! - `strategies` (with the feature `proptest`): packets for property tests
//! - [`host`]: the stand-in for the host; another one can take its place

pub mod capture;
pub mod frames;
pub mod host;
mod rig;
#[cfg(feature = "proptest")]
pub mod strategies;

pub use rig::{Outcome, Rig};
