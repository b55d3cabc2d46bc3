//! The contract between the millrace host and its filters.
//!
//! A filter is a core WebAssembly module. This crate says, for both sides and
//! once, what lies in memory between them and what the numbers mean; `ABI.md`
//! beside it says the same in prose, completely enough to write a guest from,
//! and `include/millrace.h` in C.
//!
//! In reading order:
//! - [`Slot`]: what a filter is told about a packet or a flow
//! - [`Decision`]: what it answers for a flow; [`Control`], [`Tag`]
//! - [`PacketRecord`]: one packet for the packet hook; [`PacketVerdict`]
//! - [`MapShape`]: what a host map holds
//! - [`Reason`]: the one table of drop reasons
//! - [`Capability`], [`ClassSet`]: what a filter may do and wants to see
//! - [`names`]: exports, imports and sections; [`limits`]
//! - [`mod@layout`]: how layouts are declared and checked; [`header`]: the C header
//!
//! Every layout is `repr(C)`, little endian, free of padding, valid for every
//! bit pattern, and asserted at compile time on both sides. Nothing in here
//! depends on anything.
#![no_std]
#![forbid(unsafe_code)]

mod capability;
mod class;
mod decision;
pub mod header;
pub mod layout;
pub mod limits;
mod map;
pub mod names;
mod packet;
mod port;
mod reason;
mod slot;

pub use capability::{Capability, CapabilitySet};
pub use class::{Class, ClassSet};
pub use decision::{Control, Decision, Field, FieldSet, INSPECT_ALL, Tag, TagKind};
pub use map::MapShape;
pub use packet::{PacketRecord, PacketVerdict, packet_flag};
pub use port::{NO_PORT, PortKind};
pub use reason::{Reason, ReasonGroup};
pub use slot::{Origin, Slot, slot_flag};

/// The version of this contract. A module states the version it was built for
/// in its manifest, and the host refuses any other.
///
/// Frozen: `ABI.md`, section 1, says what may be added to a version and what
/// may not change in it.
pub const ABI_VERSION: u32 = 1;
