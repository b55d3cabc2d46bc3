//! Packet buffers shared with the kernel, and the tokens that stand for them.
//!
//! A [`Frame`] cannot be copied or made up. While it exists its bytes belong to
//! whoever has it; giving it to an [`Xsk`](crate::Xsk) gives the bytes to the
//! kernel. A frame that is dropped is lost until its [`Umem`] is gone: keep frames
//! in collections and hand them on.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

use crate::anchor::Anchor;
use crate::socket::OpenError;

/// Bytes of a buffer; the kernel allows a page at most.
pub const FRAME_SIZE: usize = 4096;
/// Bytes of a packet that fit: the kernel keeps 256 in front.
pub const FRAME_CAPACITY: usize = FRAME_SIZE - XDP_HEADROOM;

/// `XDP_PACKET_HEADROOM` of `include/uapi/linux/bpf.h`.
const XDP_HEADROOM: usize = 256;

/// Memory for packets, shared by any number of sockets.
#[derive(Clone, Debug)]
pub struct Umem {
    inner: xsk_rs::Umem,
    id: UmemId,
    /// Every frame as it was made: empty, with its packet at the start.
    homes: Arc<[FrameDesc]>,
    /// What keeps the first socket's place, if anything does.
    pub(crate) anchor: Option<Anchor>,
}

/// One buffer, and the packet in it. As a token: move-only, and exclusive.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its Umem"]
pub struct Frame {
    desc: FrameDesc,
    umem: UmemId,
}

/// Sizes of a [`Umem`], in entries; ring sizes are powers of two.
#[derive(Clone, Copy, Debug)]
pub struct UmemSettings {
    /// Buffers.
    pub frames: u32,
    /// Entries of each socket's fill ring.
    pub fill_ring: u32,
    /// Entries of each socket's completion ring; at least its transmit ring's.
    pub completion_ring: u32,
}

impl Default for UmemSettings {
    fn default() -> Self {
        Self { frames: 8192, fill_ring: 2048, completion_ring: 2048 }
    }
}

/// Why there is no [`Umem`].
#[derive(Debug, thiserror::Error)]
pub enum UmemError {
    /// A size is out of range.
    #[error("{what} cannot be {value}: {why}")]
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: u32,
        /// What it must be.
        why: String,
    },
    /// A network namespace cannot be made.
    #[error("a network namespace cannot be made: {0}; it needs CAP_SYS_ADMIN: run as root")]
    Namespace(io::Error),
    /// The first socket cannot be opened.
    #[error("packet memory cannot be prepared: {0}")]
    Anchor(#[from] OpenError),
    /// The kernel refused.
    #[error(
        "the kernel refused {bytes} bytes of packet memory: {cause}; it needs CAP_NET_RAW and \
         either CAP_IPC_LOCK or a locked-memory limit (`ulimit -l`) of that size"
    )]
    Refused {
        /// What was asked for.
        bytes: usize,
        /// What the kernel said.
        cause: String,
    },
}

/// Tells the frames of one [`Umem`] from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UmemId(u32);

impl Umem {
    /// Makes packet memory whose first socket is whichever is opened first, in the network
    /// namespace of the calling thread.
    pub(crate) fn unanchored(settings: UmemSettings) -> Result<(Self, Vec<Frame>), UmemError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let size = |what, value, why: String| UmemError::Size { what, value, why };
        let ring = |what, value| {
            QueueSize::new(value).map_err(|error| size(what, value, error.to_string()))
        };
        let count = NonZeroU32::new(settings.frames)
            .ok_or_else(|| size("the number of frames", 0, "it must be positive".to_owned()))?;
        let frame_size =
            FrameSize::new(FRAME_SIZE as u32).expect("the constant is a size the kernel takes");
        let config = UmemConfig::builder()
            .frame_size(frame_size)
            .fill_queue_size(ring("the fill ring", settings.fill_ring)?)
            .comp_queue_size(ring("the completion ring", settings.completion_ring)?)
            .build()
            .expect("the headroom is the default one, which fits");
        let (inner, descs) = xsk_rs::Umem::new(config, count, false).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            UmemError::Refused { bytes: settings.frames as usize * FRAME_SIZE, cause }
        })?;
        let id = UmemId(NEXT.fetch_add(1, Ordering::Relaxed));
        let frames = descs.iter().map(|&desc| Frame { desc, umem: id }).collect();
        Ok((Self { inner, id, homes: descs.into(), anchor: None }, frames))
    }

    /// How many frames there are in all.
    pub fn frames(&self) -> u32 {
        self.homes.len() as u32
    }

    /// The packet in `frame`.
    ///
    /// # Panics
    /// If the frame is of another [`Umem`]; so for every method that takes one.
    #[inline]
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.check(frame);
        // SAFETY: holds because the frame is of this Umem (checked), and its token is borrowed
        // while the bytes are: nobody else, the kernel included, has it (this file's contract,
        // kept by `socket`).
        unsafe { self.inner.data(&frame.desc) }.contents()
    }

    /// Has the packet's first bytes, which hold most packets' headers, brought near.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let packet = self.bytes(frame).as_ptr();
            // SAFETY: holds for any address: a prefetch accesses nothing that a program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(packet.cast()) };
        }
    }

    /// The packet in `frame`, to be changed.
    #[inline]
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let len = frame.len();
        &mut self.buffer_mut(frame)[..len]
    }

    /// The packet in `frame` and the room behind it: [`Frame::capacity`] bytes.
    #[inline]
    pub fn buffer_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.check(frame);
        let len = frame.len();
        // SAFETY: holds as in `bytes`; the token is borrowed exclusively.
        let mut data = unsafe { self.inner.data_mut(&mut frame.desc) };
        data.cursor().set_pos(usize::MAX);
        let whole: *mut [u8] = data.contents_mut();
        data.cursor().set_pos(len);
        // SAFETY: holds because `whole` is the rest of the buffer (the cursor stops at its end),
        // which belongs to the token as the packet does, and the token stays borrowed for `'a`.
        unsafe { &mut *whole }
    }

    /// States the length of the packet in `frame`.
    ///
    /// # Panics
    /// If it is more than the buffer holds.
    #[inline]
    pub fn set_len(&self, frame: &mut Frame, len: usize) {
        self.check(frame);
        assert!(len <= frame.capacity(), "the buffer holds {} bytes", frame.capacity());
        // SAFETY: holds as in `bytes`; the token is borrowed exclusively.
        let mut data = unsafe { self.inner.data_mut(&mut frame.desc) };
        data.cursor().set_pos(len);
    }

    /// Takes a descriptor back from the kernel.
    ///
    /// # Safety
    /// The frame it describes must be of this Umem, and no token of it may exist.
    pub(crate) unsafe fn adopt(&self, desc: FrameDesc) -> Frame {
        Frame { desc, umem: self.id }
    }

    /// Takes a frame back by its number, empty.
    ///
    /// # Safety
    /// As for [`Umem::adopt`].
    ///
    /// # Panics
    /// If there is no such frame.
    pub(crate) unsafe fn restore(&self, index: usize) -> Frame {
        Frame { desc: self.homes[index], umem: self.id }
    }

    /// Which frame a descriptor is of, if its bytes lie inside one.
    #[inline]
    pub(crate) fn index(&self, desc: &FrameDesc) -> Option<usize> {
        let (index, start) = (desc.addr() / FRAME_SIZE, desc.addr() % FRAME_SIZE);
        let inside = index < self.homes.len() && start + desc.lengths().data() <= FRAME_SIZE;
        inside.then_some(index)
    }

    pub(crate) fn inner(&self) -> &xsk_rs::Umem {
        &self.inner
    }

    #[inline]
    pub(crate) fn check(&self, frame: &Frame) {
        assert!(frame.umem == self.id, "a frame is used with the Umem it belongs to");
    }
}

impl Frame {
    /// Bytes of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        self.desc.lengths().data()
    }

    /// Whether there is no packet in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes a packet may have that starts where this one does.
    #[inline]
    pub fn capacity(&self) -> usize {
        FRAME_SIZE - self.desc.addr() % FRAME_SIZE
    }

    /// What the kernel is told; the token goes.
    #[inline]
    pub(crate) fn surrender(self) -> FrameDesc {
        self.desc
    }
}
