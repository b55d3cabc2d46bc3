//! Why there is no traffic.

use std::io;

use millrace_netns::NamespaceError;

/// Why a generator or meter does not run.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A socket does not do what it should.
    #[error("{action}: {cause}")]
    Socket {
        /// What it should do.
        action: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The counting program is not taken.
    #[error(
        "packets cannot be counted at `{interface}`: {cause}; it needs CAP_BPF and CAP_NET_ADMIN"
    )]
    Sink {
        /// The interface.
        interface: String,
        /// What the kernel said.
        cause: String,
    },
    /// The kernel does not say what is asked.
    #[error("reading {path}: {cause}")]
    Proc {
        /// What was read.
        path: String,
        /// What the kernel said, or what is wrong with what it said.
        cause: io::Error,
    },
}

impl TrafficError {
    /// What to make of an error of a socket that should do `action`.
    pub(crate) fn socket<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |cause| Self::Socket { action, cause: cause.into() }
    }
}
