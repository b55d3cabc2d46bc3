//! What the cluster is, as filters are told it: tables of rows, and changes of them.
//!
//! The host compiles the cluster's objects into rows and publishes what has changed; any filter
//! may subscribe. `TABLES.md` beside this file has the octets, for guests in other languages.
//!
//! In reading order:
//! - [`Table`]: which tables there are, each with its version
//! - [`Frontend`], [`Service`]: where a Service is reached, and what is behind it
//! - [`EndpointSet`], [`Endpoint`], [`Endpoints`]: where its connections go
//! - [`Range`]: addresses that are reserved for Services; [`SourceSet`], [`Source`]: whom connections
//!   may come from
//! - [`Owner`], [`Identity`], [`Selectors`]: whose addresses are, and what they are to policies
//! - [`PolicySet`], [`Policies`], [`Clause`], [`Block`]: what those allow
//! - [`Domain`], [`Pattern`]: names that those are about
//! - [`List`], [`Element`]: values of several things
//! - [`Update`], [`Change`], [`Key`], [`Row`]: what a guest is given; [`Malformed`]
//! - [`Tables`], [`Delta`], [`Draft`]: what the host keeps and publishes
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod domain;
mod draft;
mod endpoints;
mod list;
mod malformed;
mod octets;
mod owner;
mod policy;
mod range;
mod service;
mod sources;
mod store;
mod table;
mod update;

pub use domain::{Domain, Pattern, fnv1a};
pub use draft::Draft;
pub use endpoints::{Backend, Endpoint, EndpointSet, Endpoints};
pub use list::{Element, List};
pub use malformed::Malformed;
pub use owner::{Identity, Owner, Place, Selector, Selectors};
pub use policy::{Action, Addresses, Block, Clause, Otherwise, Peer, Policies, PolicySet, Tier};
pub use range::Range;
pub use service::{Algorithm, Frontend, FrontendKind, Protocol, Service, TrafficPolicy};
pub use sources::{Source, SourceSet};
pub use store::{Delta, Tables};
pub use table::Table;
pub use update::{Change, Changes, Key, Row, Update};
