//! IPv6 (RFC 8200): the fixed header, and the way through extension headers to what is behind.
//!
//! ```text
//!  0     4               12                                      31
//! ├─────┼───────┬───────┼─────────────────────────────────────────┤
//! │ v 6 │ DSCP  │ ECN   │ flow label                              │  0
//! │ payload length                │ next header   │ hop limit     │  4
//! │ source, 16 octets                                             │  8
//! │ destination, 16 octets                                        │ 24
//! ```
//!
//! Jumbograms (RFC 2675) are not understood: their payload length is 0, so their payload is
//! empty here.

use core::net::Ipv6Addr;

use crate::checksum::Pseudo;
use crate::ip::{Ecn, IpProtocol, Upper};
use crate::view::view;
use crate::{Malformed, field};

mod extension;

pub use extension::{ExtensionHeader, ExtensionHeaders, MAX_EXTENSION_HEADERS};

const VERSION_CLASS_LABEL: usize = 0;
const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;

/// The smallest MTU an IPv6 link may have (RFC 8200 §5).
pub const MIN_MTU: usize = 1280;

const LABEL_MASK: u32 = 0x000f_ffff;

/// The solicited-node group of an address, which neighbour solicitations for it are sent to
/// (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

view! {
    /// A view of an IPv6 packet.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check) or
    /// [`new_quoted`](Self::new_quoted); on others they do when the buffer is shorter than
    /// [`HEADER_LEN`].
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// A view of a packet that is quoted in an ICMPv6 error and may end before its payload does,
    /// though not within its fixed header (RFC 4443 §2.4).
    #[inline]
    pub fn new_quoted(bytes: B) -> Result<Self, Malformed> {
        let packet = Self::new_unchecked(bytes);
        packet.check_header()?;
        Ok(packet)
    }

    /// Whether the version is right and the buffer holds the whole packet.
    ///
    /// Octets behind the payload are fine: short Ethernet frames are padded. Extension headers
    /// are left to [`upper`](Self::upper).
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        self.check_header()?;
        if HEADER_LEN + self.payload_len() > self.octets().len() {
            return Err(Malformed::BadIpv6PayloadLength);
        }
        Ok(())
    }

    #[inline]
    fn check_header(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedIpv6);
        }
        if self.version() != 6 {
            return Err(Malformed::BadIpv6Version);
        }
        Ok(())
    }

    /// The version, 6.
    #[inline]
    pub fn version(&self) -> u8 {
        self.octets()[VERSION_CLASS_LABEL] >> 4
    }

    /// Differentiated services code point, 0 to 63: the high bits of the traffic class.
    #[inline]
    pub fn dscp(&self) -> u8 {
        (self.first_word() >> 22) as u8 & 0x3f
    }

    /// Congestion notification: the low bits of the traffic class.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_bits((self.first_word() >> 20) as u8)
    }

    /// The flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.first_word() & LABEL_MASK
    }

    /// Octets behind the fixed header, extension headers included.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(field::u16(self.octets(), PAYLOAD_LEN))
    }

    /// What the payload starts with; an extension header, perhaps.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.octets()[NEXT_HEADER])
    }

    /// Hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.octets()[HOP_LIMIT]
    }

    /// The sender.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        field::array(self.octets(), SOURCE).into()
    }

    /// The receiver, or the next one that a routing header names.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        field::array(self.octets(), DESTINATION).into()
    }

    /// What follows the fixed header, without Ethernet padding: as long as the payload length
    /// states, or to the end of the buffer where a quoted packet is cut short.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..self.end()]
    }

    /// The extension headers, in order.
    #[inline]
    pub fn extension_headers(&self) -> ExtensionHeaders<'_> {
        ExtensionHeaders::new(self.next_header(), &self.octets()[..self.end()])
    }

    /// Where the transport header is, behind all extension headers.
    ///
    /// The way ends at ESP, at "no next header", at protocols unknown here, and at the fragment
    /// header of all fragments but the first (see [`Upper::starts_here`]).
    ///
    /// # Errors
    /// When the chain of extension headers is broken or longer than
    /// [`MAX_EXTENSION_HEADERS`]; see [`ExtensionHeaders`].
    #[inline]
    pub fn upper(&self) -> Result<Upper, Malformed> {
        // most packets have no extension headers
        let protocol = self.next_header();
        if !protocol.is_extension() {
            let len = self.end() - HEADER_LEN;
            return Ok(Upper { protocol, offset: HEADER_LEN, len, fragment: None });
        }
        self.extension_headers().upper()
    }

    /// The addresses, for transport checksums. Behind a routing header with segments left, use
    /// [`Pseudo::v6`] with the last segment instead.
    #[inline]
    pub fn pseudo(&self) -> Pseudo {
        Pseudo::v6(self.source(), self.destination())
    }

    #[inline]
    fn first_word(&self) -> u32 {
        field::u32(self.octets(), VERSION_CLASS_LABEL)
    }

    #[inline]
    fn end(&self) -> usize {
        (HEADER_LEN + self.payload_len()).min(self.octets().len())
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.end()]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets the code point, 0 to 63; higher bits are ignored.
    #[inline]
    pub fn set_dscp(&mut self, dscp: u8) {
        self.set_first_word(0x3f << 22, u32::from(dscp) << 22);
    }

    /// Sets the congestion notification.
    #[inline]
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.set_first_word(0b11 << 20, u32::from(ecn.bits()) << 20);
    }

    /// Sets the flow label, 20 bits; higher bits are ignored.
    #[inline]
    pub fn set_flow_label(&mut self, label: u32) {
        self.set_first_word(LABEL_MASK, label);
    }

    /// Sets the octets behind the fixed header.
    #[inline]
    pub fn set_payload_len(&mut self, octets: u16) {
        field::put_u16(self.bytes.as_mut(), PAYLOAD_LEN, octets);
    }

    /// Sets what the payload starts with.
    #[inline]
    pub fn set_next_header(&mut self, protocol: IpProtocol) {
        self.bytes.as_mut()[NEXT_HEADER] = protocol.0;
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_hop_limit(&mut self, hops: u8) {
        self.bytes.as_mut()[HOP_LIMIT] = hops;
    }

    /// Takes one hop off the hop limit, down to 0, and returns the hops left.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> u8 {
        let left = self.hop_limit().saturating_sub(1);
        self.set_hop_limit(left);
        left
    }

    /// Sets the sender.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) {
        field::put(self.bytes.as_mut(), SOURCE, address.octets());
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        field::put(self.bytes.as_mut(), DESTINATION, address.octets());
    }

    /// [`payload`](Self::payload), to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.end();
        &mut self.bytes.as_mut()[HEADER_LEN..end]
    }

    #[inline]
    fn set_first_word(&mut self, mask: u32, bits: u32) {
        let word = self.first_word() & !mask | bits & mask;
        field::put_u32(self.bytes.as_mut(), VERSION_CLASS_LABEL, word);
    }
}

/// An IPv6 fixed header as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The sender.
    pub source: Ipv6Addr,
    /// The receiver.
    pub destination: Ipv6Addr,
    /// What the payload starts with.
    pub next_header: IpProtocol,
    /// Octets behind the fixed header.
    pub payload_len: u16,
    /// Hops left.
    pub hop_limit: u8,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Congestion notification.
    pub ecn: Ecn,
    /// Flow label, 20 bits.
    pub flow_label: u32,
}

impl Repr {
    /// A packet with hop limit 64, as yet without payload.
    pub const fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Repr {
        Repr {
            source,
            destination,
            next_header: IpProtocol::NO_NEXT_HEADER,
            payload_len: 0,
            hop_limit: 64,
            dscp: 0,
            ecn: Ecn::NotCapable,
            flow_label: 0,
        }
    }

    /// Reads a fixed header.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        Ok(Repr {
            source: packet.source(),
            destination: packet.destination(),
            next_header: packet.next_header(),
            payload_len: packet.payload_len() as u16,
            hop_limit: packet.hop_limit(),
            dscp: packet.dscp(),
            ecn: packet.ecn(),
            flow_label: packet.flow_label(),
        })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the fixed header.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        field::put_u32(packet.bytes.as_mut(), VERSION_CLASS_LABEL, 6 << 28);
        packet.set_dscp(self.dscp);
        packet.set_ecn(self.ecn);
        packet.set_flow_label(self.flow_label);
        packet.set_payload_len(self.payload_len);
        packet.set_next_header(self.next_header);
        packet.set_hop_limit(self.hop_limit);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
    }
}

#[cfg(test)]
mod tests;
