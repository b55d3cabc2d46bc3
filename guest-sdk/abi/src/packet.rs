//! One packet for the packet hook.

use crate::{Reason, layout};

layout! {
    /// One packet, and what the packet hook does with it.
    ///
    /// The host fills it and zeroes the answer; a zero answer passes the packet on.
    pub struct PacketRecord as "millrace_packet", 32 bytes {
        /// Where the packet's bytes lie in guest memory, from the Ethernet header on.
        0 => data: u32,
        /// How many bytes lie there: the packet, or as much of its start as there is capacity for.
        4 => len: u32,
        /// Length of the packet in bytes.
        8 => wire_len: u32,
        /// How many bytes may be used at `data`, for packets that grow: the manifest's snap length,
        /// rounded up to a multiple of 16.
        12 => capacity: u32,
        /// Which slot of the batch describes the packet.
        16 => slot: u32,
        /// Answer: MILLRACE_PACKET_*.
        20 => verdict: u8,
        /// Answer: MILLRACE_PACKET_FLAG_* bits.
        21 => flags: u8,
        /// Answer: why, for DROP; 0 is DENIED.
        22 => reason: u16,
        /// Answer: which of the filter's own rules decided; 0 if none.
        24 => rule: u32,
        /// Answer: the length of what is at `data` now, for ANSWER and REWRITTEN; 0 is `len`.
        28 => new_len: u32,
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketVerdict {
    /// On to the next stage.
    Pass = 0,
    /// Discard.
    Drop = 1,
    /// Send the bytes at `data` out of the port the packet came in by, and end here.
    Answer = 2,
}

impl PacketVerdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Drop, Self::Answer];

    /// The verdict with this number.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Pass),
            1 => Some(Self::Drop),
            2 => Some(Self::Answer),
            _ => None,
        }
    }

    /// The word used in tables, metrics and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Answer => "answer",
        }
    }
}

/// Bits of [`PacketRecord::flags`].
pub mod packet_flag {
    /// The bytes at `data` were changed and replace the packet's.
    pub const REWRITTEN: u8 = 1 << 0;
    /// The filter does not want to see more packets of this flow.
    pub const RELEASE: u8 = 1 << 1;
    /// Every bit that means something.
    pub const KNOWN: u8 = REWRITTEN | RELEASE;
}

impl PacketRecord {
    /// Discards the packet.
    #[inline]
    pub fn drop(&mut self, reason: Reason) {
        self.verdict = PacketVerdict::Drop as u8;
        self.reason = reason as u16;
    }

    /// Sends the bytes at `data`, `len` of them, back out of the ingress port.
    #[inline]
    pub fn answer(&mut self, len: u32) {
        self.verdict = PacketVerdict::Answer as u8;
        self.new_len = len;
    }

    /// Replaces the packet by the bytes at `data`, `len` of them.
    #[inline]
    pub fn rewritten(&mut self, len: u32) {
        self.flags |= packet_flag::REWRITTEN;
        self.new_len = len;
    }

    /// Asks for no more packets of this flow.
    #[inline]
    pub fn release(&mut self) {
        self.flags |= packet_flag::RELEASE;
    }
}
