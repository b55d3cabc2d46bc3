//! ICMP for IPv4 (RFC 792): echo, and the errors that quote the packet they are about.
//!
//! ```text
//!  0      1      2          4                    8
//! ├──────┼──────┼──────────┼────────────────────┼──────────────────────────
//! │ type │ code │ checksum │ depends on the type│ echo data, or a quote …
//! ```
//!
//! The checksum covers the message alone, no addresses.

use crate::checksum::Sum;
use crate::view::view;
use crate::{Malformed, field};

const KIND: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const REST: usize = 4;
const IDENT: usize = 4;
const QUOTE_WORDS: usize = 5;
const SEQUENCE: usize = 6;
const NEXT_HOP_MTU: usize = 6;

/// Octets before echo data or quote.
pub const HEADER_LEN: usize = 8;

/// Octets an IPv4 packet with an ICMP error should not exceed (RFC 1812 §4.3.2.3).
pub const MAX_ERROR_LEN: usize = 576;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Kind(pub u8);

impl Kind {
    /// Answers an echo request.
    pub const ECHO_REPLY: Kind = Kind(0);
    /// A packet could not be delivered.
    pub const DESTINATION_UNREACHABLE: Kind = Kind(3);
    /// Slow down (deprecated, RFC 6633).
    pub const SOURCE_QUENCH: Kind = Kind(4);
    /// There is a better way.
    pub const REDIRECT: Kind = Kind(5);
    /// Asks for an echo reply.
    pub const ECHO_REQUEST: Kind = Kind(8);
    /// A packet ran out of hops, or was not reassembled in time.
    pub const TIME_EXCEEDED: Kind = Kind(11);
    /// A packet's header makes no sense.
    pub const PARAMETER_PROBLEM: Kind = Kind(12);

    /// Whether the message is about a packet, which it quotes.
    #[inline]
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::DESTINATION_UNREACHABLE
                | Self::SOURCE_QUENCH
                | Self::REDIRECT
                | Self::TIME_EXCEEDED
                | Self::PARAMETER_PROBLEM
        )
    }

    /// Whether the header may state how long the quote is, because more follows it (RFC 4884).
    #[inline]
    const fn is_extensible(self) -> bool {
        matches!(
            self,
            Self::DESTINATION_UNREACHABLE | Self::TIME_EXCEEDED | Self::PARAMETER_PROBLEM
        )
    }
}

/// Why a destination is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route to the network.
    pub const NETWORK: Unreachable = Unreachable(0);
    /// The host does not answer.
    pub const HOST: Unreachable = Unreachable(1);
    /// The host does not speak the protocol.
    pub const PROTOCOL: Unreachable = Unreachable(2);
    /// Nobody listens at the port.
    pub const PORT: Unreachable = Unreachable(3);
    /// Too large for the next hop, and not to be fragmented (RFC 1191).
    pub const FRAGMENTATION_NEEDED: Unreachable = Unreachable(4);
    /// Forbidden by a filter (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: Unreachable = Unreachable(13);
}

/// Whose time was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TimeExceeded(pub u8);

impl TimeExceeded {
    /// The TTL came to 0 on the way.
    pub const TRANSIT: TimeExceeded = TimeExceeded(0);
    /// Fragments were missing for too long.
    pub const REASSEMBLY: TimeExceeded = TimeExceeded(1);
}

/// As much of the offending IPv4 `packet` as an error should quote: the packet with the error
/// stays within [`MAX_ERROR_LEN`].
#[inline]
pub fn quote(packet: &[u8]) -> &[u8] {
    const ROOM: usize = MAX_ERROR_LEN - crate::ipv4::HEADER_LEN - HEADER_LEN;
    &packet[..packet.len().min(ROOM)]
}

view! {
    /// A view of an ICMP message. ICMP states no length: the message is the whole buffer, so give it
    /// the IP payload, not the rest of the frame.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`HEADER_LEN`].
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// Whether the header is complete. The checksum is not looked at.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedIcmpv4);
        }
        Ok(())
    }

    /// What the message is.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind(self.octets()[KIND])
    }

    /// The detail; what it means depends on the kind.
    #[inline]
    pub fn code(&self) -> u8 {
        self.octets()[CODE]
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        field::u16(self.octets(), CHECKSUM)
    }

    /// Identifier of an echo request or reply; of no meaning in other kinds.
    #[inline]
    pub fn ident(&self) -> u16 {
        field::u16(self.octets(), IDENT)
    }

    /// Sequence number of an echo request or reply; of no meaning in other kinds.
    #[inline]
    pub fn sequence(&self) -> u16 {
        field::u16(self.octets(), SEQUENCE)
    }

    /// The MTU to use where fragmentation is needed, 0 if the router does not say (RFC 1191
    /// §4); of no meaning in other kinds.
    #[inline]
    pub fn next_hop_mtu(&self) -> u16 {
        field::u16(self.octets(), NEXT_HOP_MTU)
    }

    /// Everything behind the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..]
    }

    /// The head of the packet that an error is about, for
    /// [`ipv4::Packet::new_quoted`](crate::ipv4::Packet::new_quoted); `None` if this is no error.
    #[inline]
    pub fn quoted(&self) -> Option<&[u8]> {
        self.kind().is_error().then(|| &self.octets()[HEADER_LEN..self.quote_end()])
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        Sum::of(self.octets()).checksum() == 0
    }

    #[inline]
    fn quote_end(&self) -> usize {
        let end = self.octets().len();
        match self.octets()[QUOTE_WORDS] {
            words if words > 0 && self.kind().is_extensible() => {
                end.min(HEADER_LEN + usize::from(words) * 4)
            }
            _ => end,
        }
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// Setters leave the checksum alone.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets what the message is.
    #[inline]
    pub fn set_kind(&mut self, kind: Kind) {
        self.bytes.as_mut()[KIND] = kind.0;
    }

    /// Sets the detail.
    #[inline]
    pub fn set_code(&mut self, code: u8) {
        self.bytes.as_mut()[CODE] = code;
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        field::put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }

    /// Sets the identifier of an echo.
    #[inline]
    pub fn set_ident(&mut self, ident: u16) {
        field::put_u16(self.bytes.as_mut(), IDENT, ident);
    }

    /// Sets the sequence number of an echo.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u16) {
        field::put_u16(self.bytes.as_mut(), SEQUENCE, sequence);
    }

    /// Computes the checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = Sum::of(self.octets()).checksum();
        self.set_checksum(checksum);
    }

    /// Everything behind the header, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }

    /// [`quoted`](Self::quoted), to be changed.
    #[inline]
    pub fn quoted_mut(&mut self) -> Option<&mut [u8]> {
        let end = self.quote_end();
        self.kind().is_error().then(|| &mut self.bytes.as_mut()[HEADER_LEN..end])
    }
}

/// An ICMP header as plain data; echo data or quote are the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repr {
    /// Asks for an echo reply.
    EchoRequest {
        /// Tells the sender's conversations apart.
        ident: u16,
        /// Counts the requests.
        sequence: u16,
    },
    /// Answers an echo request.
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        sequence: u16,
    },
    /// A packet could not be delivered.
    DestinationUnreachable {
        /// Why.
        code: Unreachable,
        /// What fits, where fragmentation is needed; 0 otherwise.
        next_hop_mtu: u16,
    },
    /// A packet ran out of hops, or was not reassembled in time.
    TimeExceeded {
        /// Which of the two.
        code: TimeExceeded,
    },
    /// Any other message.
    Other {
        /// What it is.
        kind: Kind,
        /// The detail.
        code: u8,
        /// The other four octets of the header.
        rest: [u8; 4],
    },
}

impl Repr {
    /// Reads a header. The checksum is not verified.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        let (ident, sequence) = (packet.ident(), packet.sequence());
        let code = packet.code();

        Ok(match packet.kind() {
            Kind::ECHO_REQUEST => Repr::EchoRequest { ident, sequence },
            Kind::ECHO_REPLY => Repr::EchoReply { ident, sequence },
            Kind::DESTINATION_UNREACHABLE => Repr::DestinationUnreachable {
                code: Unreachable(code),
                next_hop_mtu: packet.next_hop_mtu(),
            },
            Kind::TIME_EXCEEDED => Repr::TimeExceeded { code: TimeExceeded(code) },
            kind => Repr::Other { kind, code, rest: field::array(packet.octets(), REST) },
        })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header and sets the checksum to 0; [`Packet::fill_checksum`] when the payload
    /// is in place.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        let (kind, code, rest) = match *self {
            Repr::EchoRequest { ident, sequence } => {
                (Kind::ECHO_REQUEST, 0, halves(ident, sequence))
            }
            Repr::EchoReply { ident, sequence } => (Kind::ECHO_REPLY, 0, halves(ident, sequence)),
            Repr::DestinationUnreachable { code, next_hop_mtu } => {
                (Kind::DESTINATION_UNREACHABLE, code.0, halves(0, next_hop_mtu))
            }
            Repr::TimeExceeded { code } => (Kind::TIME_EXCEEDED, code.0, [0; 4]),
            Repr::Other { kind, code, rest } => (kind, code, rest),
        };

        packet.set_kind(kind);
        packet.set_code(code);
        packet.set_checksum(0);
        field::put(packet.bytes.as_mut(), REST, rest);
    }
}

fn halves(high: u16, low: u16) -> [u8; 4] {
    (u32::from(high) << 16 | u32::from(low)).to_be_bytes()
}

#[cfg(test)]
mod tests;
