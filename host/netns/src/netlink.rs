//! One namespace's rtnetlink, and what goes wrong with it.
//!
//! Owns the translation of a refusal into an error that names object, cause and remedy. The
//! methods of [`Netlink`] live with their nouns: `links`, `veth`, `vxlan`, `address`, `route`,
//! `neighbour`.
//!
//! A reader must not break this: one request is on the wire at a time, so a handle can be shared
//! between threads.

use std::sync::{Mutex, PoisonError};
use std::{fmt, io};

use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::ns::enumerate;
use crate::socket::{Refusal, RouteSocket};
use crate::{Namespace, NamespaceError};

/// A handle to one namespace's rtnetlink, usable from any thread.
///
/// It stays with its namespace wherever the threads that use it are.
#[derive(Debug)]
pub struct Netlink {
    socket: Mutex<RouteSocket>,
    /// For messages: "namespace `x`".
    namespace: String,
}

impl Namespace {
    /// Opens an rtnetlink handle in this namespace.
    pub fn netlink(&self) -> Result<Netlink, NetlinkError> {
        let namespace = self.to_string();
        match self.run(RouteSocket::open)? {
            Ok(socket) => Ok(Netlink { socket: Mutex::new(socket), namespace }),
            Err(source) => Err(NetlinkError::Socket { namespace, source }),
        }
    }
}

impl Netlink {
    /// A handle to the namespace of the calling thread: the host's, in a process that was not
    /// started elsewhere.
    pub fn host() -> Result<Self, NetlinkError> {
        Namespace::current()?.netlink()
    }

    /// Asks one question that may have several answers.
    pub(crate) fn ask(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        // A panic may leave an answer in the queue, which the next request skips.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).request(message, flags)
    }

    /// Changes something; `action` says what for the error.
    pub(crate) fn apply(
        &self,
        action: impl fmt::Display,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        match self.ask(message, flags) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(NetlinkError::from_refusal(action, refusal)),
        }
    }

    /// Removes something; that it is not there is [`NetlinkError::Missing`].
    pub(crate) fn remove(
        &self,
        action: impl fmt::Display,
        message: RouteNetlinkMessage,
    ) -> Result<(), NetlinkError> {
        self.apply(action, message, 0).map_err(|error| match error {
            NetlinkError::Refused { action, refusal }
                if matches!(
                    refusal.errno(),
                    Some(libc::ESRCH | libc::ENOENT | libc::EADDRNOTAVAIL)
                ) =>
            {
                NetlinkError::Missing { action }
            }
            other => other,
        })
    }

    /// Reads a whole table.
    pub(crate) fn dump(
        &self,
        action: impl fmt::Display,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .dump(message)
            .map_err(|refusal| NetlinkError::from_refusal(action, refusal))
    }

    /// The error for a link that is not there; `link` as in "no link {link}".
    pub(crate) fn no_such_link(&self, link: String) -> NetlinkError {
        // A failure of the list must not hide the error that asked for it.
        let existing = self.links().unwrap_or_default().into_iter().map(|link| link.name).collect();
        NetlinkError::NoSuchLink { link, namespace: self.namespace.clone(), existing }
    }
}

/// Why links, addresses, routes or neighbours could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is no socket to be had.
    #[error("opening a netlink socket in {namespace}: {source}")]
    Socket {
        /// The namespace.
        namespace: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The caller lacks a privilege.
    #[error("{action}: permission denied: needs CAP_NET_ADMIN; run as root")]
    Denied {
        /// What was being done.
        action: String,
    },
    /// No link has this name or index.
    #[error("no link {link} in {namespace}; there is {}", enumerate(existing))]
    NoSuchLink {
        /// The link, in backquotes, or its index.
        link: String,
        /// The namespace it was looked for in.
        namespace: String,
        /// The names of the links there.
        existing: Vec<String>,
    },
    /// The kernel would not take the name for a link.
    #[error("`{name}` is no link name: {fault}")]
    BadName {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The thing, or one that excludes it, is there already.
    #[error("{action}: {refusal}; remove the other first, or replace it")]
    Exists {
        /// What was being done.
        action: String,
        /// The kernel's words.
        #[source]
        refusal: Refusal,
    },
    /// The thing to remove is not there.
    #[error("{action}: there is none")]
    Missing {
        /// What was being done.
        action: String,
    },
    /// IPv4 and IPv6 in one route.
    #[error("{action}: it mixes IPv4 and IPv6; only an IPv4 route may have the other's gateway")]
    MixedFamilies {
        /// What was being done.
        action: String,
    },
    /// The kernel refused for another reason.
    #[error("{action}: {refusal}")]
    Refused {
        /// What was being done.
        action: String,
        /// The kernel's words.
        #[source]
        refusal: Refusal,
    },
}

impl NetlinkError {
    pub(crate) fn from_refusal(action: impl fmt::Display, refusal: Refusal) -> Self {
        let action = action.to_string();
        match refusal.errno() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied { action },
            Some(libc::EEXIST) => Self::Exists { action, refusal },
            _ => Self::Refused { action, refusal },
        }
    }
}
