//! Measures millrace, and says whether its promises are kept.
//!
//! Everything is compared with something, side by side in one run, sample by sample in turns: WASM
//! with the same filters compiled natively, the dataplane with the barest loop over the same
//! sockets and with what the kernel has. A verdict is about an interval, never about one number.
//!
//! In reading order:
//! - [`registry`]: the benches, and what they promise
//! - [`memory`]: what filters cost, without a network; [`native`] is what they are compared with
//! - [`veth`]: the dataplane on interfaces, beside others that carry packets there
//! - [`pods`]: pods behind the kernel's flow cache, beside what the kernel has for them
//! - [`nodes`]: the same between nodes
//! - [`kubernetes`]: real clusters: their pods, and what it takes to attach them and to know of changes
//! - [`restart`]: agents that come and go
//! - [`changes`]: clusters that change; `cluster`: of any size
//! - [`services`]: what Services and policies cost, beside what the kernel has for them
//! - [`swap`], [`load`], [`footprint`]: what other filters cost, and what rest does
//! - [`traffic`]: what is measured between two ends, whoever carries it
//! - [`samples`]: of several peers, in turns
//! - [`statistics`], [`promise`]: from samples to verdicts
//! - [`outcome`]: what was found, as it is kept; [`environment`]: where
//! - [`report`], [`drawing`]: what was found, for people
//! - [`compare`]: two runs
//! - [`cli`]: all of it from outside
#![forbid(unsafe_code)]

pub mod changes;
pub mod cli;
mod cluster;
pub mod compare;
pub mod drawing;
pub mod environment;
pub mod footprint;
pub mod kubernetes;
pub mod load;
pub mod memory;
pub mod native;
pub mod nodes;
pub mod outcome;
pub mod plan;
pub mod pods;
pub mod promise;
pub mod registry;
pub mod report;
pub mod restart;
pub mod samples;
pub mod services;
pub mod statistics;
pub mod swap;
pub mod traffic;
pub mod unit;
pub mod veth;
