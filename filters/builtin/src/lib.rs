//! The filters that ship with millrace, compiled to WebAssembly with this crate.
//!
//! - [`BUILT_IN`]: filters that every host knows by name
//! - [`EXAMPLES`]: filters for people to start from
#![forbid(unsafe_code)]

/// A compiled filter.
#[derive(Clone, Copy)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// The module.
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The built-in filter or example called `name`.
pub fn find(name: &str) -> Option<Module> {
    BUILT_IN.iter().chain(EXAMPLES).find(|module| module.name == name).copied()
}
