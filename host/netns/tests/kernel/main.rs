//! The crate against a real kernel: every test makes namespaces of its own and is root there.
//!
//! Without the privilege to make namespaces the tests print a note and pass, unless `CI` is set:
//! then they fail, so that a pipeline cannot look green without having run them.
#![expect(clippy::unwrap_used, reason = "an unwrap in a test's helper is the test failing")]

mod ethtool;
mod ground;
mod links;
mod namespaces;
mod neighbours;
mod routes;
mod sysctl;
mod watch;
