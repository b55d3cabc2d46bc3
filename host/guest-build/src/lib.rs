//! Compiles filters to WebAssembly, with whatever toolchain the machine has.
//!
//! - [`Toolchain::find`]: a Rust toolchain with the target, or Debian's packages that
//!   build the standard library along
//! - [`Build`]: one filter crate, to one `.wasm` file
//! - [`compile_c`]: one C source, likewise
//!
//! Used by the build script that embeds the built-in filters, and by `millrace filter build`.
#![forbid(unsafe_code)]

mod build;
mod c;
mod toolchain;

pub use build::{Build, BuildError, DebugInfo};
pub use c::compile_c;
pub use toolchain::{Toolchain, ToolchainError};

/// The target that filters are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";
