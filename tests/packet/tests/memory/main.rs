//! The packet path in memory.

mod bridge;
mod chain;
mod differential;
mod examples;
mod faults;
mod inspection;
mod live;
mod malformed;
mod pods;
mod tables;
mod tracing;
mod trains;
mod vlans;
