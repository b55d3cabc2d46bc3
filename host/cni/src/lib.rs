//! The network of a container, as container runtimes ask for it (CNI 0.3.0 to 1.1.0).
//!
//! In reading order:
//! - [`call`]: what a runtime says in the environment
//! - [`network`]: what it says on standard input, in one of the [`version`]s
//! - [`plugin`]: what is done then: the six verbs
//! - [`agent`]: who does it: the node's agent, over its admin socket
//! - [`attachment`]: what both sides say of a container, [`wanted`]: what of it the runtime may choose
//! - [`departures`]: containers that went while no agent was there
//! - [`outcome`]: what a runtime is told, [`failure`]: what it is told if that fails
//!
//! The plugin has no state, and changes nothing itself.
#![forbid(unsafe_code)]

pub mod agent;
pub mod attachment;
pub mod call;
pub mod departures;
pub mod failure;
pub mod network;
pub mod outcome;
pub mod plugin;
pub mod version;
pub mod wanted;

pub use attachment::{Attach, Attached, AttachmentId, Bandwidth, segment};
pub use call::Call;
pub use departures::Departures;
pub use failure::{Code, Failure};
pub use network::Network;
pub use version::Version;
pub use wanted::{MacAddress, PortMapping, Wanted};
