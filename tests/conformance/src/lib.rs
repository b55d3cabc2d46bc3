//! What Kubernetes expects, as tables in YAML: each row goes the whole way from manifests to the
//! decision of the filter that ships, compiled to WebAssembly, with both families.
//!
//! - [`Services`]: the load balancer of a node, told what manifests say
//! - [`rows`]: the rows of a table
#![forbid(unsafe_code)]

mod services;

pub use services::{Outcome, Services, Source};

use serde::de::DeserializeOwned;

/// The rows of a table.
///
/// # Panics
/// If it is none.
pub fn rows<T: DeserializeOwned>(table: &str) -> Vec<T> {
    serde_norway::from_str(table).unwrap_or_else(|error| panic!("the table: {error}"))
}
