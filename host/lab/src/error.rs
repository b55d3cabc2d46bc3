//! Why a lab is not up, not down, or not to be asked.

use std::io;
use std::path::PathBuf;

use millrace_control::PodName;
use millrace_netns::{NamespaceError, NetlinkError, SysctlError};

use crate::LabName;

/// What can go wrong with a lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The world has no nodes.
    #[error("there is no node for the pods: describe one, `kind: Node` with `spec.podCIDRs`")]
    NoNodes,
    /// More nodes than addresses.
    #[error("{nodes} nodes are too many for a lab: {most} are the most")]
    TooManyNodes {
        /// How many there are.
        nodes: usize,
        /// How many there may be.
        most: usize,
    },
    /// A pod is on a node that is not there.
    #[error("pod {pod}: there is no node `{node}`")]
    NoSuchNode {
        /// The pod.
        pod: PodName,
        /// The node's name.
        node: String,
    },
    /// There is a lab of this name, or what is left of one.
    #[error("lab `{lab}` is up, or was not taken down: take it down first, or choose another name")]
    UpAlready {
        /// Its name.
        lab: LabName,
    },
    /// There is no lab of this name.
    #[error("lab `{lab}` is not up; there is {}", enumerate(existing))]
    NotUp {
        /// Its name.
        lab: LabName,
        /// Those there are.
        existing: Vec<LabName>,
    },
    /// Somebody else is making it, or taking it down.
    #[error("lab `{lab}` is being made or taken down right now")]
    Busy {
        /// Its name.
        lab: LabName,
    },
    /// The lab has no pod or node of this name.
    #[error("lab `{lab}` has no {what}; it has {}", enumerate(existing))]
    Unknown {
        /// Its name.
        lab: LabName,
        /// What was asked for.
        what: String,
        /// What there is of that kind.
        existing: Vec<String>,
    },
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A link, an address, a route.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A sysctl.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A file of the lab's.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A program did not start.
    #[error("starting {what}: {source}")]
    Start {
        /// Whose.
        what: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A program ended, or never was ready.
    #[error("{what} {fault}:\n{last_words}")]
    Program {
        /// Whose.
        what: String,
        /// What it did not do.
        fault: &'static str,
        /// The end of its log.
        last_words: String,
    },
    /// A pod was not attached.
    #[error("attaching pod {pod} on node `{node}`: {reason}")]
    Attach {
        /// The pod.
        pod: PodName,
        /// Its node.
        node: String,
        /// What the node's agent says.
        reason: String,
    },
    /// Some processes do not end.
    #[error("process {pid} of lab `{lab}` does not end")]
    Undying {
        /// The lab.
        lab: LabName,
        /// One of them.
        pid: i32,
    },
}

impl LabError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

/// "`a`, `b`", or "none".
fn enumerate<T: ToString>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{}`", name.to_string())).collect::<Vec<_>>().join(", ")
}
