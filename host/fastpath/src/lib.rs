//! The kernel half of the flow cache: known flows never leave the kernel.
//!
//! In reading order:
//! - [`Key`], [`Verdict`]: one direction of a flow, and what is to become of its packets
//! - [`FlowCache`]: the program on the ports, and its entries
//! - [`Features`]: what the kernel has, and what of it may be used
//! - [`Counter`]: what became of packets
//!
//! ```text
//!  pod ──► tc ingress ──► entry? ──hit──► MACs, hop, count ──► peer of a veth, or a link
//!                           └─miss──► VLAN tag = port id ──► punt pair, queue of this CPU
//! ```
//!
//! An entry is a direction, not a connection; it holds no more than a packet's way. Whoever
//! inserts it keeps the flow itself. `unsafe` lives in `kernel` alone.

mod cache;
mod features;
mod kernel;
mod key;
mod layout;
mod verdict;

pub use cache::{
    AttachError, Capacity, Cursor, Event, FlowCache, InsertError, LoadError, MapFault, Settings,
    Slice,
};
pub use features::Features;
pub use key::{Key, PortId, Protocol};
pub use layout::Counter;
pub use verdict::{Closing, Egress, Forward, Generation, Hop, Usage, Verdict};
