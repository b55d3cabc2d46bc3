//! Carries packets between ports, through chains of filters.
//!
//! The way of a packet, in reading order:
//! - [`worker`]: the loop
//! - [`burst`]: packets handled together; `checksum` completes what hardware left
//! - [`flows`]: verdicts that are remembered; [`tracking`], [`connections`]: of cached ports, by
//!   connection; `fragments` follow the first one of their datagram
//! - [`chain`], [`stage`]: filters asked in order; `answer` checks what they say, [`guest`] is
//!   a filter as a worker calls it
//! - [`inspect`]: the packet hook
//! - [`rewrite`], `translate`, `fragmentation`, [`reply`], [`dispatch`]: carried out
//!
//! Around it:
//! - [`verdict`]: what becomes of a packet
//! - [`port`], [`io`]: where packets come from and go to; [`xsk_io`] on interfaces, where workers
//!   `sleep`; [`memory_io`] in memory; `punt` is where those of cached ports come through
//! - [`counters`]: what became of packets; [`capture`]: copies of them
//! - [`mailbox`]: what others want of a worker; [`pauses`]: how long that holds it up
//! - [`control`]: all of it from outside
#![forbid(unsafe_code)]

mod answer;
pub mod burst;
pub mod capture;
pub mod chain;
mod checksum;
pub mod connections;
pub mod control;
pub mod counters;
pub mod dispatch;
pub mod flows;
mod fragmentation;
mod fragments;
pub mod guest;
pub mod inspect;
pub mod io;
pub mod mailbox;
pub mod memory_io;
pub mod pauses;
pub mod port;
mod punt;
pub mod reply;
pub mod rewrite;
mod sleep;
pub mod stage;
pub mod tracking;
mod translate;
pub mod verdict;
pub mod worker;
pub mod xsk_io;

pub use answer::{BadAnswer, Rights};
