//! What filters cost in memory: no network, no kernel, no root.
//!
//! - [`recipe`]: the chains, as WebAssembly and native
//! - [`workload`]: the packets
//! - [`filters`]: filters alone
//! - [`rounds`]: with parse, flow map and dispatch
//! - [`calls`]: the boundary alone
//! - [`instructions`]: the same loops under callgrind
pub mod calls;
pub mod filters;
pub mod instructions;
pub mod recipe;
pub mod rounds;
pub mod workload;
