//! Why a port is not there.

use millrace_abi::limits;
use millrace_netns::NetlinkError;
use millrace_xsk::{AttachError, OpenError};

use super::opened::MAX_MTU;
use crate::control::punt::PuntError;
use crate::mailbox::NoAnswer;

/// Why a port is not there.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The interface is not there, or the kernel does not say.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The interface is a port already.
    #[error("`{0}` is a port already")]
    Taken(String),
    /// There is no such port.
    #[error("there is no port `{name}`; {present}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are, and which one may be meant.
        present: String,
    },
    /// The interface carries no Ethernet frames.
    #[error("`{0}` carries no Ethernet frames; only interfaces with Ethernet headers can be ports")]
    NotEthernet(String),
    /// Its packets do not fit.
    #[error(
        "`{interface}` has an MTU of {mtu}, and packets of at most {limit} bytes fit into a frame; \
         lower it with `ip link set dev {interface} mtu {limit}`",
        limit = MAX_MTU
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
    },
    /// It has fewer queues than there are workers.
    #[error(
        "`{interface}` has {queues} receive queues for {workers} workers; give it more with \
         `ethtool -L {interface} rx {workers} tx {workers}` (a veth: on both ends), or run fewer \
         workers"
    )]
    Queues {
        /// The interface.
        interface: String,
        /// Its queues.
        queues: u32,
        /// The workers.
        workers: usize,
    },
    /// All numbers are taken.
    #[error("there are {limit} ports already", limit = limits::MAX_PORT)]
    Full,
    /// There is no flow cache.
    #[error("`{0}` cannot be a cached port: this host was started without a flow cache")]
    NoCache(String),
    /// The flow cache is not there.
    #[error(transparent)]
    Punt(#[from] PuntError),
    /// The program is not taken.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A socket is not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A worker is gone.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}
