//! The packet path tested whole: real filters, compiled to WebAssembly, in a dataplane in
//! memory (`tests/memory`) and on interfaces in namespaces (`tests/netns`).
//!
//! - [`plane()`], [`Plane`]: a dataplane in memory, whose books are closed at the end of a test
//! - [`built_in`], [`module_as`], [`load`]: filters for it
//! - [`guests`]: filters that misbehave
#![forbid(unsafe_code)]

pub mod guests;
mod plane;

use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::control::{MemoryPlane, StageError};

pub use plane::{Plane, plane, plane_in, plane_of, plane_with, sandbox, sandbox_with};

/// What loads the built-in filter or example `filter` as the stage `name`, at the end.
///
/// # Panics
/// If there is no such filter.
pub fn built_in(name: &str, filter: &str, config: &str) -> Load {
    let module = millrace_builtin::find(filter).unwrap_or_else(|| panic!("there is no {filter}"));
    module_as(name, module.bytes.to_vec(), config)
}

/// What loads a module as the stage `name`, at the end.
pub fn module_as(name: &str, module: Vec<u8>, config: &str) -> Load {
    Load {
        name: name.to_owned(),
        module,
        config: config.to_owned(),
        position: Position::Last,
        terms: StageTerms::default(),
    }
}

/// Puts a filter into a plane's chain.
///
/// # Panics
/// If it is refused.
pub fn load(plane: &mut MemoryPlane, load: Load) {
    try_load(plane, load).unwrap_or_else(|error| panic!("{error}"));
}

/// Puts a filter into a plane's chain.
///
/// # Errors
/// If it is refused.
pub fn try_load(plane: &mut MemoryPlane, load: Load) -> Result<(), StageError> {
    let numbers: std::collections::BTreeMap<String, u16> = load
        .terms
        .ports
        .iter()
        .filter_map(|name| Some((name.clone(), plane.port(name)?.number())))
        .collect();
    plane.stages.load(load, &|name| numbers.get(name).copied())
}
