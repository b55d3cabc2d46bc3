//! The flow cache between pods: network namespaces, real sockets, and entries set by the test.
//! Each test passes with the kernel's newer features, and with all of them forced off.
//!
//! Without the privilege to make namespaces the tests print a note and pass, unless `CI` is set:
//! then they fail, so that a pipeline cannot look green without having run them.
#![expect(clippy::unwrap_used, reason = "an unwrap in a test's helper is the test failing")]

mod adoption;
mod back;
mod bed;
mod captures;
mod changes;
mod edges;
mod forwarding;
mod hand_over;
mod limits;
mod misses;
mod owners;
mod processes;
mod translation;
mod tunnels;
mod uplinks;
