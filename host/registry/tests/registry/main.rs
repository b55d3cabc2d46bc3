//! Modules in a registry that runs: Debian's `docker-registry`, on a loopback or in a namespace.
//!
//! - `bed`: a registry for a test; `wire`: plain HTTP, both ends of it
//! - `images`: what is there and what is not; `rights`: who may ask; `ways`: by which way

mod bed;
mod images;
mod rights;
mod ways;
mod wire;
