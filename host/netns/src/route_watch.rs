//! Whether something of a namespace's links, addresses or routes may be another: whoever has read
//! them knows when to read them again.
//!
//! Owns no picture of them. What the kernel tells is not read: a route that goes with its link goes
//! without a word for IPv4 (`fib_sync_down_dev`, net/ipv4/fib_semantics.c), and so a message says
//! that there is news, and no more.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::socket::{drain, is_overrun, receive};
use crate::{Namespace, NetlinkError};

/// Notices changes of a namespace's links, addresses and routes.
#[derive(Debug)]
pub struct RouteWatch {
    /// A member of their groups, never blocking.
    socket: Socket,
    /// For messages: "namespace `x`".
    namespace: String,
}

impl Namespace {
    /// Starts to watch the links, addresses and routes of this namespace.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn watch_routes(&self) -> Result<RouteWatch, NetlinkError> {
        let namespace = self.to_string();
        match self.run(subscribe)? {
            Ok(socket) => Ok(RouteWatch { socket, namespace }),
            Err(source) => Err(NetlinkError::Socket { namespace, source }),
        }
    }
}

impl RouteWatch {
    /// Whether anything happened since the watch began, or since this was asked last. What is read
    /// afterwards is as new as that at least.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn has_news(&self) -> Result<bool, NetlinkError> {
        let broken = |source| NetlinkError::Socket { namespace: self.namespace.clone(), source };
        match receive(&self.socket) {
            Ok(_) => {}
            // so much that there was no room to tell
            Err(error) if is_overrun(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(source) => return Err(broken(source)),
        }
        drain(&self.socket).map_err(broken)?;
        Ok(true)
    }
}

/// Joins the groups in the calling thread's namespace.
fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group as u32)?;
    }
    Ok(socket)
}

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];
