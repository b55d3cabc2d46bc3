//! The kernel half of the flow cache: known flows never leave the kernel.
//!
//! In reading order:
//! - [`Key`], [`Verdict`]: one direction of a flow, and what is to become of its packets;
//!   [`Translation`]: the addresses they leave with
//! - [`FlowCache`]: the programs and their maps; its ports, its entries
//! - [`Remote`], [`Prefix`]: other nodes, behind tunnels; [`Uplink`]: links that are the host's,
//!   but for what is for pods, and for each [`Frontend`]
//! - [`Cgroup`]: whose processes are [attended](FlowCache::attend), since what they send to the node
//!   itself never comes by a link
//! - [`Acks`], [`Slot`]: how a flow goes over from user space to its entry, in order
//! - [`Features`]: what the kernel has, and what of it may be used
//! - [`Record`]: what else a successor has to know of a connection
//! - [`remove_pins`]: the end of what [outlives the process](FlowCache::load_pinned)
//! - [`Counter`]: what became of packets; [`Refuser`]: who has some dropped
//!
//! ```text
//!  pod ──► tc ingress ──► entry? ──hit──► MACs, hop, count ──► pod, host or link
//!                           └─miss──► VLAN tag = port id ──► punt pair, queue of this CPU
//!  punt pair ──► tc ingress ──► VLAN tag = port id ──► that port's pod, host or link
//! ```
//!
//! An entry is a direction, not a connection; it holds no more than a packet's way. Whoever
//! inserts it keeps the flow itself. `unsafe` lives in `kernel` alone.

mod acks;
mod cache;
mod captured;
mod carried;
mod changes;
mod entries;
mod features;
mod frontends;
mod kernel;
mod key;
mod layout;
mod left;
mod numbers;
mod object;
mod pins;
mod ports;
mod processes;
mod records;
mod refused;
mod translation;
mod tunnels;
mod uplinks;
mod verdict;

pub use acks::{Acks, Parked, Slot};
pub use cache::{Capacity, Event, FlowCache, LoadError, MapFault, Settings};
pub use captured::{CaptureFilter, CaptureRing, CarriedPacket, Tap};
pub use carried::{Carried, Reader, Traffic};
pub use changes::{Change, ChangeError};
pub use entries::{Cursor, InsertError, Slice};
pub use features::Features;
pub use frontends::Frontend;
pub use key::{Key, PortId, Protocol};
pub use layout::Counter;
pub use left::Left;
pub use pins::{HoldError, remove_pins};
pub use ports::{AttachError, MissLimit};
pub use processes::{AttendError, Cgroup};
pub use records::{Name, Record};
pub use refused::{RefusedBy, Refuser, RefuserName};
pub use translation::Translation;
pub use tunnels::{Prefix, Remote};
pub use uplinks::Uplink;
pub use verdict::{Closing, Egress, Forward, Generation, Hop, Usage, Verdict};
