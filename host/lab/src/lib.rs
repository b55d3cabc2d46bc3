//! Nodes and pods of a cluster on one machine, made of network namespaces.
//!
//! In reading order:
//! - [`Lab`]: up, down, and what is asked of one in between; from any process, by its name
//! - `build`: from a world to a lab; `manifests`: what agents are told of it; `folder`: where it keeps what it has to remember
//! - [`Topology`], `topology`: how the nodes are wired, and their addresses; `schedule`: which pod
//!   is on which node; neither touches the kernel
//! - `ground`: the namespaces, and the wires between them
//! - [`NodeAgent`], `agent`: the program that is a node's network, started by whoever knows it
//! - `restart`: another agent in its place
//! - `attach`: what an agent is asked, as a CNI plugin asks it
//! - `container`: what runs in a pod; [`server`]: the server that does where nothing else is said
//! - `resolver`: whom pods ask for names
//! - [`State`], `state`: what was made, in a file; `process`: programs that outlive who started them
//! - [`probe`]: who reaches whom; [`client`]: asks from within a pod of any cluster; `question`: how
//!   either asks
//!
//! ```text
//!   pod   pod      pod   pod        each a namespace; all containers of one share it
//!    └─┬───┘        └──┬──┘
//!    node a          node b         each a namespace, with an agent that attaches its pods
//!      └─────┬─────────┘
//!          switch ───────── outside   (or two switches, with a router between)
//! ```
#![forbid(unsafe_code)]

mod agent;
mod attach;
mod build;
pub mod client;
mod container;
mod error;
mod folder;
mod ground;
mod lab;
mod manifests;
mod name;
pub mod probe;
mod process;
mod question;
mod resolver;
mod restart;
mod schedule;
pub mod server;
mod state;
mod topology;

pub use agent::{AgentCommand, NodeAgent, NodePlace};
pub use error::LabError;
pub use lab::{Lab, Settings};
pub use name::{LabName, LabNameError};
pub use process::Process;
pub use restart::Former;
pub use state::{AgentState, NodeState, OutsideState, PodState, Program, Role, State};
pub use topology::Topology;
