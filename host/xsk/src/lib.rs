//! AF_XDP, made hard to misuse.
//!
//! In reading order:
//! - [`Umem`], [`Frame`]: packet buffers; who has the token has the bytes
//! - [`Xsk`]: one interface queue, with four verbs: [`Xsk::refill`], [`Xsk::receive`],
//!   [`Xsk::transmit`], [`Xsk::reclaim`]
//! - [`Program`]: the XDP program that hands frames to sockets
//! - [`Statistics`]: what the kernel counts per socket
//!
//! ```text
//!            refill                      receive
//!  free ───────────────► fill ring ─ kernel ─ rx ring ───────────► packet
//!   ▲                                                                │
//!   └──────────── completion ring ─ kernel ─ tx ring ◄───────────────┘
//!     reclaim                                           transmit
//! ```
//!
//! A frame is either a [`Frame`] in user space or lent to one socket's kernel side,
//! never both: each [`Xsk`] notes what it has lent, takes back nothing else, and
//! returns all of it when it is closed. `unsafe` lives in `umem`, `anchor` and `socket` alone.

mod anchor;
mod lent;
mod program;
mod socket;
mod umem;

pub use program::{AttachError, AttachMode, MAX_QUEUES, Program};
pub use socket::{BindMode, OpenError, Sent, Statistics, Xsk, XskSettings};
pub use umem::{FRAME_CAPACITY, FRAME_SIZE, Frame, Umem, UmemError, UmemSettings};
