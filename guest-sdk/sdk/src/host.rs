//! The host, as the rest of the SDK calls it: the real one inside WebAssembly,
//! and a stand-in natively, so that a filter's logic runs in `cargo test`.

#[cfg(target_family = "wasm")]
pub(crate) use crate::boundary::imports::*;
#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::current::*;
