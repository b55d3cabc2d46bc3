//! The XDP program that hands an interface's frames to sockets.
//!
//! It is held by a `bpf_link`, so it goes when the process does, however that ends.
//! A queue without a socket keeps its frames in the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{MapError, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, include_bytes_aligned};

/// Queues of one interface, at most.
pub const MAX_QUEUES: u32 = 64;

/// The program on one interface; it is detached when this is dropped.
pub struct Program {
    mode: AttachMode,
    ebpf: Ebpf,
    _link: FdLink,
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before a socket buffer exists.
    Native,
    /// Behind the driver, on any interface.
    Generic,
}

impl AttachMode {
    /// The word used in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Why the program is not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel does not take the program or its map.
    #[error("the kernel does not load the XDP program: {0}; it needs CAP_BPF and CAP_NET_ADMIN")]
    Load(#[from] EbpfError),
    /// The kernel does not take the program.
    #[error("the kernel does not load the XDP program: {0}; it needs CAP_BPF and CAP_NET_ADMIN")]
    Verify(ProgramError),
    /// The interface does not take the program.
    #[error("the XDP program cannot be attached to `{interface}` in {mode} mode: {cause}{remedy}")]
    Attach {
        /// The interface.
        interface: String,
        /// "native" or "generic".
        mode: &'static str,
        /// What the kernel said.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel has no links for XDP programs.
    #[error("this kernel has no bpf_link for XDP (Linux 5.9): the program would outlive a crash")]
    NoLink,
    /// A socket cannot be entered in the map.
    #[error("queue {queue} cannot be connected: {cause}")]
    Connect {
        /// The queue.
        queue: u32,
        /// What the kernel said.
        cause: MapError,
    },
}

impl Program {
    /// Attaches the program to the interface with this index: in the driver if that has a place for
    /// it, else behind it. `interface` is its name, for messages.
    ///
    /// Works in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel does not take it in either mode, or for a reason that can be mended: behind
    /// the driver, packets would be lost for the same reason.
    pub fn attach(index: u32, interface: &str) -> Result<Self, AttachError> {
        match Self::attach_in(index, interface, AttachMode::Native) {
            Err(AttachError::Attach { cause, remedy: "", .. }) => {
                tracing::info!(interface, %cause, "no native XDP; using generic XDP");
                Self::attach_in(index, interface, AttachMode::Generic)
            }
            other => other,
        }
    }

    /// Attaches the program in one mode.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn attach_in(index: u32, interface: &str, mode: AttachMode) -> Result<Self, AttachError> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        let program: &mut Xdp = ebpf
            .program_mut("direct")
            .expect("the object, compiled with this crate, has the program")
            .try_into()
            .map_err(AttachError::Verify)?;
        program.load().map_err(AttachError::Verify)?;
        let xdp_mode = match mode {
            AttachMode::Native => XdpMode::Driver,
            AttachMode::Generic => XdpMode::Skb,
        };
        let id = program.attach_to_if_index(index, xdp_mode).map_err(|error| {
            let (cause, errno) = cause(&error);
            AttachError::Attach {
                interface: interface.to_owned(),
                mode: mode.label(),
                cause,
                remedy: remedy(errno),
            }
        })?;
        let link: XdpLink = program.take_link(id).map_err(AttachError::Verify)?;
        let link = FdLink::try_from(link).map_err(|_| AttachError::NoLink)?;
        Ok(Self { mode, ebpf, _link: link })
    }

    /// Where the program runs.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Sends the frames of `queue` to `socket` from now on.
    ///
    /// # Errors
    /// If the queue's number is [`MAX_QUEUES`] or more, or the socket is of another queue.
    pub fn connect(&mut self, queue: u32, socket: &impl AsFd) -> Result<(), AttachError> {
        let map = self.ebpf.map_mut("sockets").expect("the object has the map");
        let connect = |map| {
            let mut sockets = XskMap::try_from(map)?;
            sockets.set(queue, socket.as_fd().as_raw_fd(), 0)
        };
        connect(map).map_err(|cause| AttachError::Connect { queue, cause })
    }
}

/// What the kernel said, and its number.
fn cause(error: &ProgramError) -> (String, Option<i32>) {
    match error {
        ProgramError::SyscallError(call) => {
            (call.io_error.to_string(), call.io_error.raw_os_error())
        }
        other => {
            let source = std::error::Error::source(other);
            let errno = source
                .and_then(|source| source.downcast_ref::<io::Error>())
                .and_then(io::Error::raw_os_error);
            (source.map_or_else(|| other.to_string(), |source| format!("{other}: {source}")), errno)
        }
    }
}

fn remedy(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_ADMIN and CAP_BPF: run as root",
        Some(libc::EBUSY) => {
            "; another XDP program is there: see `ip link show`, remove it with `ip link set dev \
             NAME xdp off`"
        }
        Some(libc::ENODEV) => "; there is no such interface here (any more)",
        Some(libc::ERANGE) => {
            "; its MTU is too large for XDP, or that of the other end of a veth: lower it with `ip \
             link set dev NAME mtu 1500`"
        }
        Some(libc::ENOSPC) => {
            "; it has fewer receive queues than its peer has transmit queues: set both with \
             `ethtool -L`"
        }
        _ => "",
    }
}

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/direct.bpf.o"));
