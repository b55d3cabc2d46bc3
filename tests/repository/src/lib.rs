//! The rules of this repository that no compiler knows.
//!
//! - [`Repository`]: its crates and its text files, as git sees them
//! - [`levels`]: which crate may depend on which
//! - [`manifests`]: what every crate has
//! - [`unsafety`]: where `unsafe` may stand, and what stands above it
//! - [`walks`]: the breadcrumbs that lead a reader from file to file
//! - [`texts`]: what no file contains, and how long one gets
//! - [`unwraps`]: no `unwrap()` but in tests
//!
//! A rule is a function from the repository to [`Complaint`]s. `tests/rules.rs` expects none; the
//! tests beside each rule show that it sees what it is there for.
#![forbid(unsafe_code)]

mod complaint;
pub mod levels;
pub mod manifests;
mod repository;
pub mod texts;
mod tokens;
pub mod unsafety;
pub mod unwraps;
pub mod walks;

pub use complaint::Complaint;
pub use repository::{Dependency, Package, Purpose, Repository, Target, TextFile};
