//! Gives a [`Umem`] a first socket that stays.
//!
//! libxdp makes a Umem's first socket together with it and never closes it; the
//! kernel binds no further socket to a Umem whose first one has lost its device.
//! So the first one goes where no device ever goes: to the loopback of a network
//! namespace that nobody else sees, and that ends with the Umem.
#![allow(unsafe_code)]

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::socket::{Xsk, XskSettings};
use crate::umem::{Frame, Umem, UmemError, UmemSettings};

/// The socket that stays. Never used, only kept.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    _socket: Arc<Mutex<Xsk>>,
}

impl Umem {
    /// Makes packet memory for sockets that copy, and the tokens of all its frames. Sockets of any
    /// interface, in any network namespace, can use it, and come and go.
    ///
    /// # Errors
    /// If a size is out of range or the kernel refuses.
    pub fn new(settings: UmemSettings) -> Result<(Self, Vec<Frame>), UmemError> {
        let anchored = || {
            // SAFETY: holds because the thread ends with this closure: nothing else sees the
            // namespace change.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(UmemError::Namespace(io::Error::last_os_error()));
            }
            let (mut umem, frames) = Self::unanchored(settings)?;
            let socket = Xsk::open(&umem, "lo", 0, RINGS)?;
            umem.anchor = Some(Anchor { _socket: Arc::new(Mutex::new(socket)) });
            Ok((umem, frames))
        };
        thread::scope(|scope| scope.spawn(anchored).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Makes packet memory for sockets whose drivers do not copy. The first socket decides that
    /// they all do not; its interface must stay, and all must be in the network namespace of the
    /// calling thread, or an interface that happens to have the same index is taken.
    ///
    /// # Errors
    /// As [`Umem::new`].
    pub fn for_zero_copy(settings: UmemSettings) -> Result<(Self, Vec<Frame>), UmemError> {
        Self::unanchored(settings)
    }
}

/// The smallest rings: nothing ever goes through them.
const RINGS: XskSettings = XskSettings { rx_ring: 1, tx_ring: 1, zero_copy: false };
