//! The connections that go through the node: what user space knows of all of them, cached in the
//! kernel or not.
//!
//! - [`Key`]: one direction as its packets look; [`Way`]: what happens to them
//! - [`State`], [`TcpState`]: how far a connection has come, [`Timeouts`]: how long it lives
//! - [`Connections`]: all of them; `shard` a part under one lock, `connection` one
//! - `open`, `leave`: how they come and go; `anew`: what is decided while they live
//! - `inspected`: what stages still want to see of them
//! - `loads`: how many of them each endpoint has
//! - `share`, `cache_share`: who has to make room for others, in `row`s; [`Masquerade`]: ports
//! - `index` finds by key, `list` by label, `wheel` by time; `slab` has the memory
//! - [`Limits`]: each owner its share
//! - [`Record`]: what has to be kept to `resume` a connection in another process
//!
//! Nothing here waits, asks the kernel or reads a clock. A connection leaves in two steps, since
//! the kernel may know better how alive it is: what is due is named, and let go when the kernel's
//! entries are gone. Until then its keys, and with them its port of a translation, are taken.

mod anew;
mod cache_share;
mod connection;
mod index;
mod inspected;
mod key;
mod leave;
mod list;
mod loads;
mod marks;
mod open;
mod opener;
mod owners;
mod ports;
mod record;
mod resume;
mod row;
mod shard;
mod share;
mod slab;
mod state;
mod table;
mod tcp;
mod walk;
mod way;
mod wheel;

#[cfg(test)]
mod tests;

pub use anew::{Anew, AnewError, Before};
pub use connection::{Labels, Traffic};
pub use inspected::{Showing, Side};
pub use key::{Direction, Endpoint, Key, Zone};
pub use leave::{Due, Retirement};
pub use open::{OpenError, Opened, Opening, may_open};
pub use owners::{Limits, OwnerCounts};
pub use ports::{Exhaustion, Masquerade};
pub use record::{Name, Record};
pub use state::{State, Timeouts};
pub use table::{Closing, ConnectionId, Connections, Found, Packet, Settings, Standing, Usage};
pub use tcp::{Step, TcpState};
pub use walk::{Cursor, View};
pub use way::{Hop, Link, Translation, Way};
