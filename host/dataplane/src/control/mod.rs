//! A running dataplane, from outside: workers are started, filters loaded and swapped,
//! ports added and watched, faults mended. Nothing in here is on the way of a packet.
//!
//! - [`Dataplane`]: everything together, on real interfaces; `settings`: what it is asked to be,
//!   `threads`: who runs in it
//! - [`MemoryPlane`]: the same in memory
//! - [`Stages`]: the chain, the same on every worker
//! - `redecide`: live connections, when the chain or what it knows has changed; `later`: when what is
//!   dropped for a time is over
//! - [`Ports`]: interfaces, and what becomes of them; `punt`: the flow cache in front of some,
//!   `succession`: in one process after another, `carried`, `kernel_drops`: what the cache carries
//!   and what it does not
//! - [`request`]: what can be asked for; [`status`], [`flows`]: what can be seen; `names`: what is mistyped
//! - [`trace`]: what would become of a packet; [`capture`]: packets as they pass

pub mod capture;
mod carried;
mod dataplane;
pub mod flows;
mod kernel_drops;
mod later;
mod memory;
mod names;
mod ports;
mod punt;
mod redecide;
pub mod request;
mod reserve;
mod settings;
mod stages;
pub mod status;
mod succession;
mod threads;
pub mod trace;
mod without_port;

pub use dataplane::Dataplane;
pub use kernel_drops::ANY_PORT;
pub use memory::MemoryPlane;
pub use millrace_fastpath::{AttendError, Capacity, Cgroup, MissLimit};
pub use names::near_miss;
pub use ports::{PortError, Ports};
pub use punt::{CacheSettings, PortRange, PuntError};
pub use redecide::{Redecided, Which};
pub use reserve::RESERVED as RESERVED_PORTS;
pub use settings::{Settings, StartError};
pub use stages::{StageError, Stages};
pub use without_port::{Crowded, WithoutPort};
