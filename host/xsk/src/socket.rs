//! One interface queue, held by an AF_XDP socket.
//!
//! Frames go in by [`Xsk::refill`] and [`Xsk::transmit`], and come out by
//! [`Xsk::receive`] and [`Xsk::reclaim`]. Each verb works on one ring, and the rings
//! are not reachable otherwise. What is put in is staged, and reaches the kernel with
//! [`Xsk::commit`]: one store per burst and ring.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::{fmt, io};

use rustix::net::{SendFlags, send, sockopt};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

use crate::lent::Lent;
use crate::umem::{FRAME_SIZE, Frame, Umem, UmemSettings};

/// One queue of one interface.
///
/// Dropping it closes the socket and loses the frames that it has lent; see [`Xsk::close`].
pub struct Xsk {
    umem: Umem,
    mode: BindMode,
    lent: Lent,
    fill: FillQueue,
    fill_staged: Vec<FrameDesc>,
    rx: RxQueue,
    tx: TxQueue,
    tx_staged: Vec<FrameDesc>,
    /// Frames committed for transmission that have not come back by the completion ring.
    tx_outstanding: usize,
    tx_room: usize,
    /// Whether the kernel left some of the transmit ring for later.
    tx_left: bool,
    completion: CompQueue,
    scratch: Vec<FrameDesc>,
}

/// How a socket shares packets with its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// The driver reads and writes the Umem itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

impl BindMode {
    /// The word used in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        }
    }
}

/// Settings of an [`Xsk`].
#[derive(Clone, Copy, Debug)]
pub struct XskSettings {
    /// Entries of the receive ring, a power of two.
    pub rx_ring: u32,
    /// Entries of the transmit ring, a power of two; at most the Umem's completion ring.
    pub tx_ring: u32,
    /// Whether to try zero-copy first.
    pub zero_copy: bool,
}

impl Default for XskSettings {
    fn default() -> Self {
        Self { rx_ring: 2048, tx_ring: 2048, zero_copy: true }
    }
}

/// Why a queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name cannot be an interface's.
    #[error("`{0}` cannot be the name of an interface")]
    Name(String),
    /// A ring size is out of range.
    #[error("a ring cannot have {0} entries: it must be a power of two")]
    RingSize(u32),
    /// The kernel refused.
    #[error("queue {queue} of `{interface}` cannot be opened: {cause}{remedy}")]
    Refused {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The queue has a socket with this Umem already.
    #[error("queue {queue} of `{interface}` is open already")]
    Taken {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
}

/// What became of staged frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has taken all there was.
    All,
    /// Some are still in the ring; committing again goes on.
    Pending,
    /// The device refused at least one, which is lost: its own queue was full (`EBUSY`).
    Dropped,
    /// The device is down or gone.
    Down,
}

/// What the kernel counts for a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets dropped for other reasons, such as being too large for a frame.
    pub rx_dropped: u64,
    /// Receive descriptors that were invalid.
    pub rx_invalid: u64,
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Packets dropped because the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// Transmit descriptors that were invalid.
    pub tx_invalid: u64,
    /// How often the transmit ring was found empty.
    pub tx_ring_empty: u64,
}

impl Xsk {
    /// Opens `queue` of `interface` with packets in `umem`: zero-copy if asked for and the driver
    /// has it, else by copying.
    ///
    /// Works in the network namespace of the calling thread, and the socket stays in it.
    ///
    /// # Errors
    /// If the name or a size is wrong, or the kernel refuses.
    pub fn open(
        umem: &Umem,
        interface: &str,
        queue: u32,
        settings: XskSettings,
    ) -> Result<Self, OpenError> {
        let name = CString::new(interface).map_err(|_| OpenError::Name(interface.to_owned()))?;
        let ring = |entries| QueueSize::new(entries).map_err(|_| OpenError::RingSize(entries));
        // without a flag the kernel tries zero-copy, and falls back by itself
        let copy = if settings.zero_copy { BindFlags::empty() } else { BindFlags::XDP_COPY };
        let config = SocketConfig::builder()
            .rx_queue_size(ring(settings.rx_ring)?)
            .tx_queue_size(ring(settings.tx_ring)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(copy | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: holds because libxdp is told not to load a program of its own, which is what
        // sharing a Umem asks for (`Socket::new`).
        let opened = unsafe { Socket::new(config, umem.inner(), &Interface::new(name), queue) };
        let (tx, rx, pair) = opened.map_err(|error| {
            let cause = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<io::Error>())
                .and_then(io::Error::raw_os_error)
                .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
            let remedy = remedy(&cause);
            OpenError::Refused { interface: interface.to_owned(), queue, cause, remedy }
        })?;
        let Some((fill, completion)) = pair else {
            return Err(OpenError::Taken { interface: interface.to_owned(), queue });
        };

        let mut this = Self {
            umem: umem.clone(),
            mode: BindMode::Copy,
            lent: Lent::none(umem.frames()),
            fill,
            fill_staged: Vec::new(),
            rx,
            tx,
            tx_staged: Vec::new(),
            tx_outstanding: 0,
            tx_room: 0,
            tx_left: false,
            completion,
            scratch: vec![FrameDesc::default(); SCRATCH],
        };
        this.mode = this.find_mode();
        this.tune(settings.tx_ring);
        this.tx_room = settings.tx_ring as usize;
        Ok(this)
    }

    /// Whether the driver of `interface` can do without copying.
    pub fn probe_zero_copy(interface: &str) -> bool {
        let few = UmemSettings { frames: 64, fill_ring: 64, completion_ring: 64 };
        let rings = XskSettings { rx_ring: 64, tx_ring: 64, zero_copy: true };
        let Ok((umem, _)) = Umem::for_zero_copy(few) else { return false };
        Self::open(&umem, interface, 0, rings).is_ok_and(|xsk| xsk.mode() == BindMode::ZeroCopy)
    }

    /// How packets are shared with the driver.
    pub fn mode(&self) -> BindMode {
        self.mode
    }

    /// Gives the kernel a frame to receive into, with the next commit.
    ///
    /// # Errors
    /// Hands the frame back if the fill ring is full.
    #[inline]
    pub fn refill(&mut self, frame: Frame) -> Result<(), Frame> {
        let staged = self.fill_staged.len() as u32;
        if self.fill.nb_free(staged + 1) <= staged {
            return Err(frame);
        }
        let desc = self.lend(frame);
        self.fill_staged.push(desc);
        Ok(())
    }

    /// Takes up to `max` received packets, in order, and adds them to `packets`. Returns how many.
    #[inline]
    pub fn receive(&mut self, packets: &mut Vec<Frame>, max: usize) -> usize {
        let Self { umem, lent, rx, scratch, .. } = self;
        let scratch = &mut scratch[..max.min(SCRATCH)];
        // SAFETY: holds because the descriptors are plain output here; each becomes a frame only
        // below, if its number was lent.
        let taken = unsafe { rx.consume(scratch) };
        take_back(umem, lent, &scratch[..taken], packets);
        taken
    }

    /// Stages a packet for transmission, with the next commit.
    ///
    /// # Errors
    /// Hands the packet back if the transmit ring is full.
    #[inline]
    pub fn transmit(&mut self, packet: Frame) -> Result<(), Frame> {
        if self.tx_staged.len() >= self.tx_room {
            return Err(packet);
        }
        let desc = self.lend(packet);
        self.tx_staged.push(desc);
        Ok(())
    }

    /// Takes back frames whose packets have left, and adds them to `frames`. Returns how many.
    #[inline]
    pub fn reclaim(&mut self, frames: &mut Vec<Frame>) -> usize {
        let mut total = 0;
        while self.tx_outstanding > 0 {
            let Self { umem, lent, completion, scratch, .. } = self;
            // SAFETY: holds as in `receive`.
            let taken = unsafe { completion.consume(scratch) };
            take_back(umem, lent, &scratch[..taken], frames);
            self.tx_outstanding -= taken.min(self.tx_outstanding);
            self.tx_room += taken;
            total += taken;
            if taken < SCRATCH {
                break;
            }
        }
        total
    }

    /// Shows the kernel what was staged, and wakes it where that is needed.
    #[inline]
    pub fn commit(&mut self) -> Sent {
        if !self.fill_staged.is_empty() {
            // SAFETY: holds because each descriptor is of a frame of this Umem whose token was
            // surrendered (`lend`).
            let produced = unsafe { self.fill.produce(&self.fill_staged) };
            debug_assert_eq!(produced, self.fill_staged.len(), "`refill` has seen the room");
            self.fill_staged.clear();
        }
        if !self.tx_staged.is_empty() {
            // SAFETY: holds as for the fill ring.
            let produced = unsafe { self.tx.produce(&self.tx_staged) };
            debug_assert_eq!(produced, self.tx_staged.len(), "`transmit` has counted the room");
            self.tx_outstanding += produced;
            self.tx_room -= produced;
            self.tx_staged.clear();
            self.tx_left = true;
        }
        if !self.tx_left {
            return Sent::All;
        }
        let sent = self.kick();
        self.tx_left = sent == Sent::Pending;
        sent
    }

    /// Whether the kernel left some of the transmit ring for a later commit.
    pub fn has_left(&self) -> bool {
        self.tx_left
    }

    /// Asks the kernel to transmit what is in the ring, if it needs to be asked.
    fn kick(&self) -> Sent {
        if !self.tx.needs_wakeup() {
            return Sent::All;
        }
        let mut outcome = Sent::All;
        for _ in 0..MAX_KICKS {
            match send(self, &[], SendFlags::DONTWAIT) {
                Ok(_) => return outcome,
                // the budget of one call is used up, or a completion slot is missing
                Err(rustix::io::Errno::AGAIN) => outcome = outcome.max_of(Sent::Pending),
                Err(rustix::io::Errno::BUSY) => outcome = Sent::Dropped,
                Err(rustix::io::Errno::NOBUFS) => return outcome.max_of(Sent::Pending),
                Err(_) => return Sent::Down,
            }
        }
        outcome
    }

    /// Tells a driver that waits for it that the fill ring has frames again. Drivers that copy
    /// never wait.
    #[inline]
    pub fn wake_receiver(&mut self) {
        if self.mode == BindMode::ZeroCopy && self.fill.needs_wakeup() {
            // the outcome shows as packets, or as a poll error later
            let _ = self.rx.poll(0);
        }
    }

    /// Frames lent to the kernel.
    pub fn outstanding(&self) -> usize {
        self.lent.len()
    }

    /// What the kernel counts.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let counted = self.rx.fd().xdp_statistics()?;
        Ok(Statistics {
            rx_dropped: counted.rx_dropped(),
            rx_invalid: counted.rx_invalid_descs(),
            rx_ring_full: counted.rx_ring_full(),
            rx_fill_ring_empty: counted.rx_fill_ring_empty_descs(),
            tx_invalid: counted.tx_invalid_descs(),
            tx_ring_empty: counted.tx_ring_empty_descs(),
        })
    }

    /// Closes the socket, and returns every frame that it had lent to the kernel.
    pub fn close(self) -> Vec<Frame> {
        let Self { umem, lent, fill, rx, tx, completion, .. } = self;
        // the kernel waits until nobody uses the buffers (`xsk_release`, net/xdp/xsk.c)
        drop((fill, rx, tx, completion));
        // SAFETY: holds because each number was lent to this socket, which is closed: the kernel
        // does not use the frame any more, and no token of it exists.
        lent.iter().map(|index| unsafe { umem.restore(index) }).collect()
    }

    fn lend(&mut self, frame: Frame) -> FrameDesc {
        self.umem.check(&frame);
        let desc = frame.surrender();
        let index = desc.addr() / FRAME_SIZE;
        let fresh = self.lent.add(index);
        debug_assert!(fresh, "a frame with a token is not lent");
        desc
    }

    /// Asks the kernel which mode it chose; kernels before 5.3 do not say, and copy.
    fn find_mode(&self) -> BindMode {
        let mut flags: u32 = 0;
        let mut len = size_of_val(&flags) as libc::socklen_t;
        // SAFETY: holds because the option's value is a `u32` (`struct xdp_options`), and both
        // pointers are to locals that outlive the call.
        let outcome = unsafe {
            libc::getsockopt(
                self.rx.fd().as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_OPTIONS,
                (&raw mut flags).cast(),
                &raw mut len,
            )
        };
        match outcome == 0 && flags & libc::XDP_OPTIONS_ZEROCOPY != 0 {
            true => BindMode::ZeroCopy,
            false => BindMode::Copy,
        }
    }

    /// Asks for as much as the kernel gives: one wake-up for a whole ring (6.17), and room for
    /// packets on their way. Older kernels keep their defaults, and take more wake-ups.
    fn tune(&mut self, tx_ring: u32) {
        if let Err(error) = sockopt::set_socket_send_buffer_size_force(&*self, SEND_BUFFER) {
            tracing::debug!(%error, "the send buffer keeps its size");
        }
        let budget = libc::c_uint::from(tx_ring);
        // SAFETY: holds because the option's value is a `u32`, borrowed for the call, and the
        // descriptor is open as long as `self`.
        unsafe {
            libc::setsockopt(
                self.rx.fd().as_raw_fd(),
                libc::SOL_XDP,
                XDP_MAX_TX_SKB_BUDGET,
                (&raw const budget).cast(),
                size_of_val(&budget) as libc::socklen_t,
            )
        };
    }
}

impl fmt::Debug for Xsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xsk").field("mode", &self.mode).field("lent", &self.lent.len()).finish()
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: holds because the socket is closed only when its queues are dropped, and `self`,
        // borrowed for as long as the result, has them.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }
}

impl Sent {
    /// The worse of the two.
    fn max_of(self, other: Self) -> Self {
        if self == Self::All { other } else { self }
    }
}

/// Makes tokens of what a ring named, if it was lent.
#[inline]
fn take_back(umem: &Umem, lent: &mut Lent, descs: &[FrameDesc], frames: &mut Vec<Frame>) {
    for desc in descs {
        match umem.index(desc) {
            Some(index) if lent.remove(index) => {
                // SAFETY: holds because the number is inside this Umem and was lent, so that no
                // token of it exists; it is lent no more.
                frames.push(unsafe { umem.adopt(*desc) });
            }
            _ => {
                tracing::error!(address = desc.addr(), "the kernel named a frame it does not have")
            }
        }
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_RAW and CAP_BPF: run as root",
        Some(libc::EBUSY) => "; another program has it: stop that, or name another queue",
        Some(libc::ENODEV | libc::ENXIO) => "; there is no such interface here (any more)",
        Some(libc::EINVAL) => "; the interface may have fewer queues: see `ethtool -l`",
        Some(libc::ENOBUFS | libc::ENOMEM) => "; the kernel is out of memory for packets",
        Some(libc::EAFNOSUPPORT) => "; the kernel was built without CONFIG_XDP_SOCKETS",
        _ => "",
    }
}

/// Descriptors moved per call of a ring.
const SCRATCH: usize = 256;
/// Wake-ups in a row, at most: a full ring at the kernel's default budget of 32.
const MAX_KICKS: usize = 64;
/// Bytes of packets on their way through a device that copies (about 10,000 full-size ones).
const SEND_BUFFER: usize = 16 << 20;
/// `include/uapi/linux/if_xdp.h`, since 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
