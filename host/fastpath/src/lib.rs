//! The kernel half of the flow cache: known flows never leave the kernel.
//!
//! In reading order:
//! - [`Key`], [`Verdict`]: one direction of a flow, and what is to become of its packets
//! - [`FlowCache`]: the programs and their maps; its ports, its entries
//! - [`Features`]: what the kernel has, and what of it may be used
//! - [`Counter`]: what became of packets
//!
//! ```text
//!  pod ──► tc ingress ──► entry? ──hit──► MACs, hop, count ──► pod, host or link
//!                           └─miss──► VLAN tag = port id ──► punt pair, queue of this CPU
//!  punt pair ──► tc ingress ──► VLAN tag = port id ──► that port's pod, host or link
//! ```
//!
//! An entry is a direction, not a connection; it holds no more than a packet's way. Whoever
//! inserts it keeps the flow itself. `unsafe` lives in `kernel` alone.

mod cache;
mod entries;
mod features;
mod kernel;
mod key;
mod layout;
mod ports;
mod verdict;

pub use cache::{Capacity, Event, FlowCache, LoadError, MapFault, Settings};
pub use entries::{Cursor, InsertError, Slice};
pub use features::Features;
pub use key::{Key, PortId, Protocol};
pub use layout::Counter;
pub use ports::AttachError;
pub use verdict::{Closing, Egress, Forward, Generation, Hop, Usage, Verdict};
