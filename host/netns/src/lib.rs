//! Links, addresses, routes, neighbours, offloads, sysctls and network namespaces of Linux,
//! as plain synchronous calls.
//!
//! In reading order:
//! - [`Namespace`]: a network namespace as a value; run a closure or start a command in it
//! - `named`, `mountpoint`: namespaces with a name under `/run/netns`, as `ip netns` makes them
//! - `socket`: one blocking rtnetlink socket; [`Refusal`], the kernel's no
//! - [`Netlink`]: one namespace's rtnetlink; its methods live with their nouns:
//!   - [`Link`], `links`: list and change links; [`VethSpec`], [`VxlanSpec`]: make them
//!   - `shape`: how fast a link sends
//!   - [`Address`], [`Route`], [`Neighbour`]; `proxy`: addresses that are answered for
//! - [`send_frame`]: a frame that is sent as it is
//! - [`LinkWatch`]: links that appear, change and vanish; [`RouteWatch`]: that something of routes did
//! - [`Ethtool`]: features, channels and driver of a link
//! - `sysctl`: [`Namespace::sysctl`] and [`Namespace::set_sysctl`], [`sysctls_at`]
//!
//! Two namespaces joined by a veth pair:
//!
//! ```no_run
//! use millrace_netns::{Namespace, VethSpec};
//!
//! let left = Namespace::create_unique("left")?;
//! let right = Namespace::create_unique("right")?;
//! let netlink = left.netlink()?;
//! netlink.add_veth(&VethSpec::new("eth0", "eth0").peer_namespace(&right))?;
//! for (netlink, address) in [(netlink, "10.0.0.1/24"), (right.netlink()?, "10.0.0.2/24")] {
//!     netlink.add_address("eth0", address.parse()?)?;
//!     netlink.set_up("eth0")?;
//! }
//! assert!(left.command("ping").args(["-c1", "10.0.0.2"]).status()?.success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Calls block for as long as the kernel takes to answer, which is microseconds for most; no
//! runtime is involved, so they work on any thread, asynchronous or not. `unsafe` is confined to
//! `ns` (fork and unshare) and `ethtool` (one ioctl).

mod address;
mod ethtool;
mod feature;
mod frame;
mod link;
mod links;
mod mountpoint;
mod named;
mod neighbour;
mod netlink;
mod ns;
mod proxy;
mod route;
mod route_watch;
mod shape;
mod socket;
mod sysctl;
mod veth;
mod vxlan;
mod watch;

pub use address::Address;
pub use ethtool::{Channels, Driver, Ethtool, EthtoolError};
pub use feature::Feature;
pub use frame::send_frame;
pub use link::{Link, LinkKind, LinkState, Peer, Vxlan};
pub use named::unique_name;
pub use neighbour::{Neighbour, NeighbourState};
pub use netlink::{Netlink, NetlinkError};
pub use ns::{Namespace, NamespaceError};
pub use route::{Route, RouteKind, RouteProtocol, RouteTable, Scope};
pub use route_watch::RouteWatch;
pub use socket::Refusal;
pub use sysctl::{SysctlError, sysctls_at};
pub use veth::VethSpec;
pub use vxlan::{VxlanMode, VxlanSpec};
pub use watch::{LinkEvent, LinkWatch};
