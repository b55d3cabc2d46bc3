//! What is known of the cluster, and where it is known from.
//!
//! In reading order:
//! - [`World`]: nodes, namespaces and pods as plain data; what everything else is computed from
//! - [`service`]: Services, and who is behind them
//! - [`policy`]: NetworkPolicies and ClusterNetworkPolicies, and what selects pods
//! - [`gateway`]: Gateways and their routes, and what becomes of them
//! - [`filter`]: Filters, and the chains of nodes they are in
//! - [`image`]: what images in registries are called
//! - `quantity`: [`BitRate`] and [`ByteCount`], as Kubernetes writes amounts; [`word`]: words of a list
//! - [`Verdict`]: what is said of an object; [`Changes`]: what differs between two worlds
//! - [`rendezvous`]: which node does what one has to do; [`Agents`]: which nodes could
//! - [`manifest`]: the same objects as YAML, read and written; each field is checked where it is
//!   read, so that nothing behind it checks again
//! - [`compile`]: what a node's filters are told of it, as tables
//! - [`source`]: [`Manifests`](source::Manifests), a directory of YAML files, read and watched
//!
//! A bad object is reported, with file, line and field, and never keeps the rest from counting:
//!
//! ```no_run
//! use millrace_control::source::Manifests;
//!
//! let manifests = Manifests::open("manifests")?;
//! let (world, complaints) = manifests.read()?;
//! for complaint in complaints {
//!     eprintln!("{complaint}");
//! }
//! println!("{} pods on {} nodes", world.pods.len(), world.nodes.len());
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod agents;
mod changes;
pub mod compile;
pub mod filter;
pub mod gateway;
pub mod image;
pub mod manifest;
pub mod policy;
mod quantity;
pub mod rendezvous;
pub mod service;
pub mod source;
mod verdict;
pub mod word;
mod world;

pub use agents::Agents;
pub use changes::{Change, Changes};
pub use quantity::{BitRate, ByteCount, QuantityError};
pub use service::{AddressPool, EndpointSlice, QualifiedName, Service, ServiceRange, Services};
pub use verdict::Verdict;
pub use world::{
    Bandwidth, Container, ContainerPort, HostPort, Labels, Life, Namespace, Node, Pod, PodName,
    PodNetwork, PodStatus, Protocol, Readiness, Tenure, Weight, World,
};
