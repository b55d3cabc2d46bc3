//! The way to the pods of other nodes.
//!
//! What is for another node's pods goes through this node's own stack, which knows that node as
//! the next hop: both are neighbours. It comes back the same way.

use std::net::IpAddr;

use millrace_control::{Node, World};
use millrace_netns::{Namespace, NetlinkError, Route, SysctlError};

/// Why other nodes are not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting stays as it is.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Has this node forward, and know the way to the pods of all others.
pub(crate) fn route(here: &Namespace, this: &Node, world: &World) -> Result<(), PeerError> {
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        if here.sysctl(key)? != "1" {
            tracing::info!(key, "set to 1: pods are reached through this node");
            here.set_sysctl(key, "1")?;
        }
    }
    let net = here.netlink()?;
    for peer in world.nodes.values().filter(|node| node.name != this.name) {
        for prefix in &peer.pod_cidrs {
            match address(peer, prefix.is_ipv4()) {
                Some(next_hop) => net.replace_route(&Route::to(*prefix).via(next_hop))?,
                None => tracing::warn!(
                    node = peer.name,
                    %prefix,
                    "its pods are not reached: the Node has no InternalIP of this family"
                ),
            }
        }
    }
    Ok(())
}

fn address(node: &Node, v4: bool) -> Option<IpAddr> {
    node.addresses.iter().copied().find(|address| address.is_ipv4() == v4)
}
