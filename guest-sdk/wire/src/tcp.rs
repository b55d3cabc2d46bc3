//! TCP segments (RFC 9293).
//!
//! ```text
//!  0                               16                            31
//! ├───────────────────────────────┼───────────────────────────────┤
//! │ source port                   │ destination port              │  0
//! │ sequence number                                               │  4
//! │ acknowledgment number                                         │  8
//! │ words │   ─   │ flags         │ window                        │ 12
//! │ checksum                      │ urgent pointer                │ 16
//! │ options, 0 to 40 octets                                       │ 20
//! ```

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

use crate::checksum::{Delta, Pseudo, Sum};
use crate::ip::{IpProtocol, upper_in};
use crate::view::{ported, view};
use crate::{Malformed, Ports, field};

mod option;

pub use option::{TcpOption, TcpOptions, Timestamps};

const SEQ: usize = 4;
const ACK: usize = 8;
const WORDS: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const URGENT: usize = 18;

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;

/// The segment in a frame, of either IP version, tagged or not. Nothing if none begins there; of one
/// that is not there to its end the payload ends early.
pub fn segment_in(frame: &[u8]) -> Option<Segment<&[u8]>> {
    Segment::new_checked(upper_in(frame, IpProtocol::TCP)?).ok()
}

/// The control bits, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// The sender is done.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Hand the data on at once.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment number means something.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer means something.
    pub const URG: Flags = Flags(0x20);
    /// Congestion echo, RFC 3168.
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced, RFC 3168.
    pub const CWR: Flags = Flags(0x80);

    const NAMES: [(Flags, &str); 8] = [
        (Flags::FIN, "FIN"),
        (Flags::SYN, "SYN"),
        (Flags::RST, "RST"),
        (Flags::PSH, "PSH"),
        (Flags::ACK, "ACK"),
        (Flags::URG, "URG"),
        (Flags::ECE, "ECE"),
        (Flags::CWR, "CWR"),
    ];

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Whether this opens a connection: SYN without ACK, RST or FIN.
    #[inline]
    pub fn is_opening(self) -> bool {
        self & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN) == Flags::SYN
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Flags;

    #[inline]
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Flags;

    #[inline]
    fn not(self) -> Flags {
        Flags(!self.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
        let Some((_, first)) = set.next() else {
            return f.write_str("none");
        };

        f.write_str(first)?;
        set.try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

view! {
    /// A view of a TCP segment. TCP states no length: the segment is the whole buffer, so give it
    /// the IP payload, not the rest of the frame.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check), until a setter changes
    /// the header length. On others they do when the buffer is shorter than the fields of the
    /// header, and [`options`](Self::options) and [`payload`](Self::payload) when the header length
    /// is below 20 or past the end.
    pub struct Segment
}

ported!(Segment);

impl<B: AsRef<[u8]>> Segment<B> {
    /// Whether the header is complete. Options and checksum are not looked at.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        let present = self.octets().len();
        if present < HEADER_LEN {
            return Err(Malformed::TruncatedTcp);
        }

        let header_len = self.header_len();
        if header_len < HEADER_LEN {
            return Err(Malformed::BadTcpDataOffset);
        }
        if header_len > present {
            return Err(Malformed::TruncatedTcp);
        }
        Ok(())
    }

    /// Number of the first octet of data, or of the SYN.
    #[inline]
    pub fn seq(&self) -> u32 {
        field::u32(self.octets(), SEQ)
    }

    /// Number of the octet expected next; of no meaning without [`Flags::ACK`].
    #[inline]
    pub fn ack(&self) -> u32 {
        field::u32(self.octets(), ACK)
    }

    /// Octets of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.octets()[WORDS] >> 4) * 4
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.octets()[FLAGS])
    }

    /// The receive window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        field::u16(self.octets(), WINDOW)
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        field::u16(self.octets(), CHECKSUM)
    }

    /// Where urgent data ends, from [`seq`](Self::seq) on; of no meaning without [`Flags::URG`].
    #[inline]
    pub fn urgent(&self) -> u16 {
        field::u16(self.octets(), URGENT)
    }

    /// The options, one after the other.
    #[inline]
    pub fn options(&self) -> TcpOptions<'_> {
        TcpOptions::new(&self.octets()[HEADER_LEN..self.header_len()])
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[self.header_len()..]
    }

    /// Whether the checksum is right between these addresses.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Pseudo) -> bool {
        pseudo.cover(IpProtocol::TCP, self.octets()).checksum() == 0
    }
}

impl<'a> Segment<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }
}

/// Setters leave the checksum alone; [`clamp_mss`](Self::clamp_mss) does not.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Segment<B> {
    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        field::put_u32(self.bytes.as_mut(), SEQ, seq);
    }

    /// Sets the acknowledgment number.
    #[inline]
    pub fn set_ack(&mut self, ack: u32) {
        field::put_u32(self.bytes.as_mut(), ACK, ack);
    }

    /// Sets the octets of the header, a multiple of 4 from 20 to 60, and clears the reserved
    /// bits beside it.
    #[inline]
    pub fn set_header_len(&mut self, octets: usize) {
        self.bytes.as_mut()[WORDS] = ((octets / 4) as u8) << 4;
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) {
        self.bytes.as_mut()[FLAGS] = flags.0;
    }

    /// Sets the receive window.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        field::put_u16(self.bytes.as_mut(), WINDOW, window);
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        field::put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        field::put_u16(self.bytes.as_mut(), URGENT, urgent);
    }

    /// Computes the checksum between these addresses.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.set_checksum(0);
        let checksum = pseudo.cover(IpProtocol::TCP, self.octets()).checksum();
        self.set_checksum(checksum);
    }

    /// Completes a checksum of which the field has the pseudo-header's share ([`Sum::partial`]).
    #[inline]
    pub fn complete_checksum(&mut self) {
        let checksum = Sum::of(self.octets()).checksum();
        self.set_checksum(checksum);
    }

    /// Lowers the maximum segment size of a SYN or SYN-ACK to `limit` and carries that over to
    /// the checksum, so that neither side sends what does not fit a tunnel.
    ///
    /// Returns the size that was announced if it was larger; otherwise, and without SYN or the
    /// option, changes nothing. A partial checksum (see [`Delta::apply_partial`]) does not cover
    /// options: keep the field's value and put it back.
    pub fn clamp_mss(&mut self, limit: u16) -> Option<u16> {
        if !self.flags().contains(Flags::SYN) {
            return None;
        }
        let (at, announced) = self.mss_field()?;
        if announced <= limit {
            return None;
        }
        field::put_u16(self.bytes.as_mut(), at, limit);

        // in a field at an odd offset the octets change sides within their checksummed words
        let delta = match at % 2 {
            0 => Delta::NONE.u16(announced, limit),
            _ => Delta::NONE.u16(announced.swap_bytes(), limit.swap_bytes()),
        };
        self.set_checksum(delta.apply(self.checksum()));
        Some(announced)
    }

    /// [`payload`](Self::payload), to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        &mut self.bytes.as_mut()[start..]
    }

    /// Where the maximum segment size is announced, and as what.
    fn mss_field(&self) -> Option<(usize, u16)> {
        let mut options = self.options();
        let announced = options.find_map(|option| match option {
            Ok(TcpOption::MaxSegmentSize(size)) => Some(size),
            _ => None,
        })?;

        // the size is the last field of its option
        let end = self.header_len() - options.remaining();
        Some((end - 2, announced))
    }
}

/// A TCP header as plain data, with the options that connections are opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repr {
    /// Both ports.
    pub ports: Ports,
    /// Number of the first octet of data, or of the SYN.
    pub seq: u32,
    /// Number of the octet expected next.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// The receive window, not scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The largest segment the sender can take.
    pub max_segment_size: Option<u16>,
    /// The shift of the sender's later windows.
    pub window_scale: Option<u8>,
    /// Whether the sender understands selective acknowledgments.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
}

impl Repr {
    /// Reads a header. Other options are passed over, of repeated ones the last counts.
    pub fn parse<B: AsRef<[u8]>>(segment: &Segment<B>) -> Result<Repr, Malformed> {
        segment.check()?;
        let mut repr = Repr {
            ports: segment.ports(),
            seq: segment.seq(),
            ack: segment.ack(),
            flags: segment.flags(),
            window: segment.window(),
            urgent: segment.urgent(),
            ..Repr::default()
        };

        for option in segment.options() {
            match option? {
                TcpOption::MaxSegmentSize(size) => repr.max_segment_size = Some(size),
                TcpOption::WindowScale(shift) => repr.window_scale = Some(shift),
                TcpOption::SackPermitted => repr.sack_permitted = true,
                TcpOption::Timestamps(timestamps) => repr.timestamps = Some(timestamps),
                TcpOption::Other { .. } => {}
            }
        }
        Ok(repr)
    }

    /// Octets that [`emit`](Self::emit) writes: the header with its options.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        HEADER_LEN + self.options().map(|option| option.padded_len()).sum::<usize>()
    }

    /// Writes the header and sets the checksum to 0; [`Segment::fill_checksum`] when the data is
    /// in place.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, segment: &mut Segment<B>) {
        segment.set_source_port(self.ports.source);
        segment.set_destination_port(self.ports.destination);
        segment.set_seq(self.seq);
        segment.set_ack(self.ack);
        segment.set_header_len(self.buffer_len());
        segment.set_flags(self.flags);
        segment.set_window(self.window);
        segment.set_checksum(0);
        segment.set_urgent(self.urgent);

        let mut rest = &mut segment.bytes.as_mut()[HEADER_LEN..];
        for option in self.options() {
            let place;
            (place, rest) = rest.split_at_mut(option.padded_len());
            option.emit_padded(place);
        }
    }

    fn options(&self) -> impl Iterator<Item = TcpOption<'static>> {
        [
            self.max_segment_size.map(TcpOption::MaxSegmentSize),
            self.sack_permitted.then_some(TcpOption::SackPermitted),
            self.timestamps.map(TcpOption::Timestamps),
            self.window_scale.map(TcpOption::WindowScale),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests;
