//! TCP options (RFC 9293 §3.1; RFC 7323 for timestamps and window scale, RFC 2018 for selective
//! acknowledgments).

use crate::{Malformed, field};

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAX_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const TIMESTAMPS: u8 = 8;

const KIND: usize = 0;
const LEN: usize = 1;
const DATA: usize = 2;

/// One TCP option. A known kind with a length it must not have counts as `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// The largest segment the sender can take, in octets of data.
    MaxSegmentSize(u16),
    /// The shift of the sender's later windows.
    WindowScale(u8),
    /// The sender understands selective acknowledgments.
    SackPermitted,
    /// Timestamps.
    Timestamps(Timestamps),
    /// Any other option.
    Other {
        /// The option's number.
        kind: u8,
        /// What follows number and length.
        data: &'a [u8],
    },
}

/// The timestamps option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The other side's clock, echoed.
    pub echo: u32,
}

impl TcpOption<'_> {
    /// Octets that [`emit`](Self::emit) writes.
    pub const fn buffer_len(&self) -> usize {
        match self {
            TcpOption::MaxSegmentSize(_) => 4,
            TcpOption::WindowScale(_) => 3,
            TcpOption::SackPermitted => 2,
            TcpOption::Timestamps(_) => 10,
            TcpOption::Other { data, .. } => 2 + data.len(),
        }
    }

    /// Writes the option to the start of `octets`, without padding.
    ///
    /// # Panics
    /// When `octets` is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit(&self, octets: &mut [u8]) {
        let octets = &mut octets[..self.buffer_len()];
        octets[LEN] = octets.len() as u8;
        octets[KIND] = match *self {
            TcpOption::MaxSegmentSize(size) => {
                field::put_u16(octets, DATA, size);
                MAX_SEGMENT_SIZE
            }
            TcpOption::WindowScale(shift) => {
                octets[DATA] = shift;
                WINDOW_SCALE
            }
            TcpOption::SackPermitted => SACK_PERMITTED,
            TcpOption::Timestamps(Timestamps { value, echo }) => {
                field::put_u32(octets, DATA, value);
                field::put_u32(octets, DATA + 4, echo);
                TIMESTAMPS
            }
            TcpOption::Other { kind, data } => {
                octets[DATA..].copy_from_slice(data);
                kind
            }
        };
    }

    /// Octets of the option, rounded up to words.
    pub(super) const fn padded_len(&self) -> usize {
        self.buffer_len().next_multiple_of(4)
    }

    /// Fills `place`, of [`padded_len`](Self::padded_len) octets, with no-operations and the
    /// option behind them.
    pub(super) fn emit_padded(&self, place: &mut [u8]) {
        let (padding, option) = place.split_at_mut(place.len() - self.buffer_len());
        padding.fill(NO_OPERATION);
        self.emit(option);
    }
}

/// An iterator over the options of a segment, without the padding between them.
///
/// It ends at the end-of-options mark, at the end of the header, or after
/// [`Malformed::BadTcpOption`].
#[derive(Debug, Clone)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptions<'a> {
    #[inline]
    pub(super) fn new(octets: &'a [u8]) -> Self {
        TcpOptions { rest: octets }
    }

    /// Octets of the header behind the last option taken.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<TcpOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while let [NO_OPERATION, rest @ ..] = self.rest {
            self.rest = rest;
        }

        let rest = core::mem::take(&mut self.rest);
        let &[kind, ..] = rest else {
            return None;
        };
        if kind == END_OF_OPTIONS {
            return None;
        }
        let stated = rest.get(LEN).map_or(0, |len| usize::from(*len));
        let Some(data) = rest.get(DATA..stated) else {
            return Some(Err(Malformed::BadTcpOption));
        };
        self.rest = &rest[stated..];

        Some(Ok(match (kind, data) {
            (MAX_SEGMENT_SIZE, &[a, b]) => TcpOption::MaxSegmentSize(u16::from_be_bytes([a, b])),
            (WINDOW_SCALE, &[shift]) => TcpOption::WindowScale(shift),
            (SACK_PERMITTED, []) => TcpOption::SackPermitted,
            (TIMESTAMPS, [_, _, _, _, _, _, _, _]) => TcpOption::Timestamps(Timestamps {
                value: field::u32(data, 0),
                echo: field::u32(data, 4),
            }),
            _ => TcpOption::Other { kind, data },
        }))
    }
}

impl core::iter::FusedIterator for TcpOptions<'_> {}
