//! ICMP for IPv6 (RFC 4443): echo, errors, and neighbour discovery (RFC 4861).
//!
//! ```text
//!  0      1      2          4
//! ├──────┼──────┼──────────┼───────────────────────────────────────────────────
//! │ type │ code │ checksum │ fixed body │ echo data, a quote, or ND options …
//! ```
//!
//! The fixed body has 4 octets, or up to 36 in neighbour discovery. The checksum covers a
//! pseudo-header. Neighbour discovery is only to be believed with a hop limit of
//! [`ND_HOP_LIMIT`], which the IPv6 header knows and this module does not.

use core::net::Ipv6Addr;

use crate::checksum::Pseudo;
use crate::ip::IpProtocol;
use crate::view::view;
use crate::{Malformed, field};

mod option;

pub use option::{NdOption, NdOptions, PrefixInformation};

const KIND: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const BODY: usize = 4;
const QUOTE_UNITS: usize = 4;
const IDENT: usize = 4;
const SEQUENCE: usize = 6;
const MTU: usize = 4;
const POINTER: usize = 4;
const ND_FLAGS: usize = 4;
const TARGET: usize = 8;
const REDIRECTED: usize = 24;
const RA_HOP_LIMIT: usize = 4;
const RA_FLAGS: usize = 5;
const RA_ROUTER_LIFETIME: usize = 6;
const RA_REACHABLE_TIME: usize = 8;
const RA_RETRANS_TIMER: usize = 12;

/// Octets before echo data, quote, or the options of a router solicitation; other messages of
/// neighbour discovery have longer headers.
pub const HEADER_LEN: usize = 8;

/// Octets an IPv6 packet with an ICMPv6 error may not exceed (RFC 4443 §2.4 (c)).
pub const MAX_ERROR_LEN: usize = crate::ipv6::MIN_MTU;

/// The hop limit of genuine neighbour discovery: proof that no router forwarded it (RFC 4861).
pub const ND_HOP_LIMIT: u8 = 255;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const MANAGED: u8 = 0x80;
const OTHER_CONFIG: u8 = 0x40;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Kind(pub u8);

impl Kind {
    /// A packet could not be delivered.
    pub const DESTINATION_UNREACHABLE: Kind = Kind(1);
    /// A packet does not fit the next hop.
    pub const PACKET_TOO_BIG: Kind = Kind(2);
    /// A packet ran out of hops, or was not reassembled in time.
    pub const TIME_EXCEEDED: Kind = Kind(3);
    /// A packet's header makes no sense.
    pub const PARAMETER_PROBLEM: Kind = Kind(4);
    /// Asks for an echo reply.
    pub const ECHO_REQUEST: Kind = Kind(128);
    /// Answers an echo request.
    pub const ECHO_REPLY: Kind = Kind(129);
    /// Asks routers to advertise themselves.
    pub const ROUTER_SOLICITATION: Kind = Kind(133);
    /// A router presents itself and the link.
    pub const ROUTER_ADVERTISEMENT: Kind = Kind(134);
    /// Asks for a neighbour's link-layer address.
    pub const NEIGHBOR_SOLICITATION: Kind = Kind(135);
    /// Tells a neighbour's link-layer address.
    pub const NEIGHBOR_ADVERTISEMENT: Kind = Kind(136);
    /// There is a better first hop.
    pub const REDIRECT: Kind = Kind(137);

    /// Whether the message is about a packet, which it quotes: kinds below 128 (§2.1).
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 < 128
    }

    /// Whether the message is one of neighbour discovery's five.
    #[inline]
    pub const fn is_neighbor_discovery(self) -> bool {
        self.0 >= Self::ROUTER_SOLICITATION.0 && self.0 <= Self::REDIRECT.0
    }

    /// Whether the header may state how long the quote is, because more follows it (RFC 4884).
    #[inline]
    const fn is_extensible(self) -> bool {
        matches!(self, Self::DESTINATION_UNREACHABLE | Self::TIME_EXCEEDED)
    }

    /// Octets of the header, fixed body included.
    #[inline]
    const fn header_len(self) -> usize {
        match self {
            Self::ROUTER_ADVERTISEMENT => 16,
            Self::NEIGHBOR_SOLICITATION | Self::NEIGHBOR_ADVERTISEMENT => 24,
            Self::REDIRECT => 40,
            _ => HEADER_LEN,
        }
    }
}

/// Why a destination is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route to the destination.
    pub const NO_ROUTE: Unreachable = Unreachable(0);
    /// Forbidden by a filter.
    pub const PROHIBITED: Unreachable = Unreachable(1);
    /// The destination is beyond the scope of the source address.
    pub const BEYOND_SCOPE: Unreachable = Unreachable(2);
    /// The address does not answer.
    pub const ADDRESS: Unreachable = Unreachable(3);
    /// Nobody listens at the port.
    pub const PORT: Unreachable = Unreachable(4);
}

/// Whose time was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TimeExceeded(pub u8);

impl TimeExceeded {
    /// The hop limit came to 0 on the way.
    pub const TRANSIT: TimeExceeded = TimeExceeded(0);
    /// Fragments were missing for too long.
    pub const REASSEMBLY: TimeExceeded = TimeExceeded(1);
}

/// What about a header makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ParameterProblem(pub u8);

impl ParameterProblem {
    /// A field has a value it must not have.
    pub const HEADER_FIELD: ParameterProblem = ParameterProblem(0);
    /// A next header is unknown.
    pub const NEXT_HEADER: ParameterProblem = ParameterProblem(1);
    /// An option is unknown.
    pub const OPTION: ParameterProblem = ParameterProblem(2);
}

/// As much of the offending IPv6 `packet` as an error may quote: the packet with the error stays
/// within [`MAX_ERROR_LEN`].
#[inline]
pub fn quote(packet: &[u8]) -> &[u8] {
    const ROOM: usize = MAX_ERROR_LEN - crate::ipv6::HEADER_LEN - HEADER_LEN;
    &packet[..packet.len().min(ROOM)]
}

view! {
    /// A view of an ICMPv6 message. ICMPv6 states no length: the message is the whole buffer, so
    /// give it the IP payload, not the rest of the frame.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check), until a setter changes
    /// the kind; on others they do when the buffer is shorter than [`header_len`](Self::header_len).
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// Whether the header is complete for its kind. The checksum is not looked at.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        let present = self.octets().len();
        if present < HEADER_LEN || present < self.header_len() {
            return Err(Malformed::TruncatedIcmpv6);
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

    /// Octets of the header, 8 to 40 depending on the kind.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.kind().header_len()
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

    /// The MTU that "packet too big" reports; of no meaning in other kinds.
    #[inline]
    pub fn mtu(&self) -> u32 {
        field::u32(self.octets(), MTU)
    }

    /// Everything behind the header: echo data, quote or options.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[self.header_len()..]
    }

    /// The head of the packet that an error is about, for
    /// [`ipv6::Packet::new_quoted`](crate::ipv6::Packet::new_quoted); `None` if this is no error.
    #[inline]
    pub fn quoted(&self) -> Option<&[u8]> {
        self.kind().is_error().then(|| &self.octets()[HEADER_LEN..self.quote_end()])
    }

    /// The options of neighbour discovery, one after the other; none in other messages.
    #[inline]
    pub fn options(&self) -> NdOptions<'_> {
        NdOptions::new(match self.kind().is_neighbor_discovery() {
            true => self.payload(),
            false => &[],
        })
    }

    /// Whether the checksum is right between these addresses.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Pseudo) -> bool {
        pseudo.cover(IpProtocol::ICMPV6, self.octets()).checksum() == 0
    }

    #[inline]
    fn quote_end(&self) -> usize {
        let end = self.octets().len();
        match self.octets()[QUOTE_UNITS] {
            units if units > 0 && self.kind().is_extensible() => {
                end.min(HEADER_LEN + usize::from(units) * 8)
            }
            _ => end,
        }
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
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

    /// Computes the checksum between these addresses.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.set_checksum(0);
        let checksum = pseudo.cover(IpProtocol::ICMPV6, self.octets()).checksum();
        self.set_checksum(checksum);
    }

    /// [`payload`](Self::payload), to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        &mut self.bytes.as_mut()[start..]
    }

    /// [`quoted`](Self::quoted), to be changed.
    #[inline]
    pub fn quoted_mut(&mut self) -> Option<&mut [u8]> {
        let end = self.quote_end();
        self.kind().is_error().then(|| &mut self.bytes.as_mut()[HEADER_LEN..end])
    }
}

/// An ICMPv6 header as plain data; echo data, quote or options are the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repr {
    /// A packet could not be delivered.
    DestinationUnreachable {
        /// Why.
        code: Unreachable,
    },
    /// A packet does not fit the next hop.
    PacketTooBig {
        /// What fits.
        mtu: u32,
    },
    /// A packet ran out of hops, or was not reassembled in time.
    TimeExceeded {
        /// Which of the two.
        code: TimeExceeded,
    },
    /// A packet's header makes no sense.
    ParameterProblem {
        /// What about it.
        code: ParameterProblem,
        /// At which octet of the packet.
        pointer: u32,
    },
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
    /// Asks routers to advertise themselves.
    RouterSolicitation,
    /// A router presents itself and the link.
    RouterAdvertisement {
        /// The hop limit hosts should use; 0 if unspecified.
        hop_limit: u8,
        /// Whether addresses are available by DHCPv6.
        managed: bool,
        /// Whether other configuration is available by DHCPv6.
        other_config: bool,
        /// Seconds this is a default router; 0 if it is none.
        router_lifetime: u16,
        /// Milliseconds a neighbour counts as reachable; 0 if unspecified.
        reachable_time: u32,
        /// Milliseconds between solicitations; 0 if unspecified.
        retrans_timer: u32,
    },
    /// Asks for a neighbour's link-layer address.
    NeighborSolicitation {
        /// The neighbour.
        target: Ipv6Addr,
    },
    /// Tells a neighbour's link-layer address.
    NeighborAdvertisement {
        /// The neighbour.
        target: Ipv6Addr,
        /// Whether it is a router.
        router: bool,
        /// Whether this answers a solicitation.
        solicited: bool,
        /// Whether this replaces what was known before.
        overrides: bool,
    },
    /// There is a better first hop.
    Redirect {
        /// The better hop; the destination itself if that is on the link.
        target: Ipv6Addr,
        /// For packets to whom.
        destination: Ipv6Addr,
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
    /// Reads a header. The checksum is not verified, reserved bits are passed over.
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        let octets = packet.octets();
        let code = packet.code();
        let (ident, sequence) = (packet.ident(), packet.sequence());
        let address = |at| Ipv6Addr::from(field::array::<16>(octets, at));

        Ok(match packet.kind() {
            Kind::DESTINATION_UNREACHABLE => {
                Repr::DestinationUnreachable { code: Unreachable(code) }
            }
            Kind::PACKET_TOO_BIG => Repr::PacketTooBig { mtu: packet.mtu() },
            Kind::TIME_EXCEEDED => Repr::TimeExceeded { code: TimeExceeded(code) },
            Kind::PARAMETER_PROBLEM => Repr::ParameterProblem {
                code: ParameterProblem(code),
                pointer: field::u32(octets, POINTER),
            },
            Kind::ECHO_REQUEST => Repr::EchoRequest { ident, sequence },
            Kind::ECHO_REPLY => Repr::EchoReply { ident, sequence },
            Kind::ROUTER_SOLICITATION => Repr::RouterSolicitation,
            Kind::ROUTER_ADVERTISEMENT => Repr::RouterAdvertisement {
                hop_limit: octets[RA_HOP_LIMIT],
                managed: octets[RA_FLAGS] & MANAGED != 0,
                other_config: octets[RA_FLAGS] & OTHER_CONFIG != 0,
                router_lifetime: field::u16(octets, RA_ROUTER_LIFETIME),
                reachable_time: field::u32(octets, RA_REACHABLE_TIME),
                retrans_timer: field::u32(octets, RA_RETRANS_TIMER),
            },
            Kind::NEIGHBOR_SOLICITATION => Repr::NeighborSolicitation { target: address(TARGET) },
            Kind::NEIGHBOR_ADVERTISEMENT => Repr::NeighborAdvertisement {
                target: address(TARGET),
                router: octets[ND_FLAGS] & ROUTER != 0,
                solicited: octets[ND_FLAGS] & SOLICITED != 0,
                overrides: octets[ND_FLAGS] & OVERRIDE != 0,
            },
            Kind::REDIRECT => {
                Repr::Redirect { target: address(TARGET), destination: address(REDIRECTED) }
            }
            kind => Repr::Other { kind, code, rest: field::array(octets, BODY) },
        })
    }

    /// What the message is.
    pub const fn kind(&self) -> Kind {
        match self {
            Repr::DestinationUnreachable { .. } => Kind::DESTINATION_UNREACHABLE,
            Repr::PacketTooBig { .. } => Kind::PACKET_TOO_BIG,
            Repr::TimeExceeded { .. } => Kind::TIME_EXCEEDED,
            Repr::ParameterProblem { .. } => Kind::PARAMETER_PROBLEM,
            Repr::EchoRequest { .. } => Kind::ECHO_REQUEST,
            Repr::EchoReply { .. } => Kind::ECHO_REPLY,
            Repr::RouterSolicitation => Kind::ROUTER_SOLICITATION,
            Repr::RouterAdvertisement { .. } => Kind::ROUTER_ADVERTISEMENT,
            Repr::NeighborSolicitation { .. } => Kind::NEIGHBOR_SOLICITATION,
            Repr::NeighborAdvertisement { .. } => Kind::NEIGHBOR_ADVERTISEMENT,
            Repr::Redirect { .. } => Kind::REDIRECT,
            Repr::Other { kind, .. } => *kind,
        }
    }

    /// Octets that [`emit`](Self::emit) writes, 8 to 40.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        self.kind().header_len()
    }

    /// Writes the header and sets the checksum to 0; [`Packet::fill_checksum`] when the payload
    /// is in place.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        let octets = &mut packet.bytes.as_mut()[..self.buffer_len()];
        octets.fill(0);
        octets[KIND] = self.kind().0;

        match *self {
            Repr::DestinationUnreachable { code } => octets[CODE] = code.0,
            Repr::PacketTooBig { mtu } => field::put_u32(octets, MTU, mtu),
            Repr::TimeExceeded { code } => octets[CODE] = code.0,
            Repr::ParameterProblem { code, pointer } => {
                octets[CODE] = code.0;
                field::put_u32(octets, POINTER, pointer);
            }
            Repr::EchoRequest { ident, sequence } | Repr::EchoReply { ident, sequence } => {
                field::put_u16(octets, IDENT, ident);
                field::put_u16(octets, SEQUENCE, sequence);
            }
            Repr::RouterSolicitation => {}
            Repr::RouterAdvertisement {
                hop_limit,
                managed,
                other_config,
                router_lifetime,
                reachable_time,
                retrans_timer,
            } => {
                octets[RA_HOP_LIMIT] = hop_limit;
                octets[RA_FLAGS] = bit(managed, MANAGED) | bit(other_config, OTHER_CONFIG);
                field::put_u16(octets, RA_ROUTER_LIFETIME, router_lifetime);
                field::put_u32(octets, RA_REACHABLE_TIME, reachable_time);
                field::put_u32(octets, RA_RETRANS_TIMER, retrans_timer);
            }
            Repr::NeighborSolicitation { target } => field::put(octets, TARGET, target.octets()),
            Repr::NeighborAdvertisement { target, router, solicited, overrides } => {
                octets[ND_FLAGS] =
                    bit(router, ROUTER) | bit(solicited, SOLICITED) | bit(overrides, OVERRIDE);
                field::put(octets, TARGET, target.octets());
            }
            Repr::Redirect { target, destination } => {
                field::put(octets, TARGET, target.octets());
                field::put(octets, REDIRECTED, destination.octets());
            }
            Repr::Other { code, rest, .. } => {
                octets[CODE] = code;
                field::put(octets, BODY, rest);
            }
        }
    }
}

fn bit(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

#[cfg(test)]
mod tests;
