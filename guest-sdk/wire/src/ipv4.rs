//! IPv4 (RFC 791), with the DS field of RFC 2474 and RFC 3168.
//!
//! ```text
//!  0                               16                            31
//! ├───────┬───────┬───────────┬─────┼─────────────────────────────┤
//! │ ver 4 │ words │ DSCP      │ ECN │ total length                │  0
//! │ identification                  │ ─ DF MF │ offset / 8        │  4
//! │ TTL           │ protocol        │ header checksum             │  8
//! │ source                                                        │ 12
//! │ destination                                                   │ 16
//! │ options, 0 to 40 octets                                       │ 20
//! ```

use core::net::Ipv4Addr;

use crate::checksum::{Delta, Pseudo, Sum};
use crate::ip::{Ecn, Fragment, IpProtocol, Upper};
use crate::view::view;
use crate::{Malformed, field};

const VERSION_WORDS: usize = 0;
const DS_FIELD: usize = 1;
const TOTAL_LEN: usize = 2;
const IDENT: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

view! {
    /// A view of an IPv4 packet.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check) or
    /// [`new_quoted`](Self::new_quoted), until a setter changes one of the two lengths. On others
    /// they do when the buffer is shorter than the fields of the header, and
    /// [`options`](Self::options), [`payload`](Self::payload) and the header checksum when the
    /// lengths contradict each other or the buffer.
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// A view of a packet that is quoted in an ICMP error and may end before its
    /// [`total_len`](Self::total_len), though not within its header (RFC 792).
    #[inline]
    pub fn new_quoted(bytes: B) -> Result<Self, Malformed> {
        let packet = Self::new_unchecked(bytes);
        packet.check_header()?;
        Ok(packet)
    }

    /// Whether version and lengths make sense and the buffer holds the whole packet.
    ///
    /// Octets behind the total length are fine: short Ethernet frames are padded. The header
    /// checksum is left to [`verify_checksum`](Self::verify_checksum).
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        self.check_header()?;
        if self.total_len() > self.octets().len() {
            return Err(Malformed::BadIpv4TotalLength);
        }
        Ok(())
    }

    #[inline]
    fn check_header(&self) -> Result<(), Malformed> {
        let present = self.octets().len();
        if present < HEADER_LEN {
            return Err(Malformed::TruncatedIpv4);
        }
        if self.version() != 4 {
            return Err(Malformed::BadIpv4Version);
        }

        let header_len = self.header_len();
        if header_len < HEADER_LEN {
            return Err(Malformed::BadIpv4HeaderLength);
        }
        if header_len > present {
            return Err(Malformed::TruncatedIpv4);
        }
        if self.total_len() < header_len {
            return Err(Malformed::BadIpv4TotalLength);
        }
        Ok(())
    }

    /// The version, 4.
    #[inline]
    pub fn version(&self) -> u8 {
        self.octets()[VERSION_WORDS] >> 4
    }

    /// Octets of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.octets()[VERSION_WORDS] & 0x0f) * 4
    }

    /// Differentiated services code point, 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.octets()[DS_FIELD] >> 2
    }

    /// Congestion notification.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_bits(self.octets()[DS_FIELD])
    }

    /// Octets of header and payload.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(field::u16(self.octets(), TOTAL_LEN))
    }

    /// Identification, shared by the fragments of a datagram.
    #[inline]
    pub fn ident(&self) -> u16 {
        field::u16(self.octets(), IDENT)
    }

    /// Whether routers must not fragment the packet.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment_field() & DONT_FRAGMENT != 0
    }

    /// Whether fragments follow this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment_field() & MORE_FRAGMENTS != 0
    }

    /// Octets of the datagram's payload that precede this fragment's; a multiple of 8.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.fragment_field() & OFFSET_MASK) * 8
    }

    /// Whether this is a part of a datagram, first or later.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_field() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Place in the datagram, for fragments.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        self.is_fragment().then(|| Fragment {
            offset: self.fragment_offset(),
            more: self.more_fragments(),
            id: self.ident().into(),
        })
    }

    /// Hops left.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.octets()[TTL]
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.octets()[PROTOCOL])
    }

    /// The header checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        field::u16(self.octets(), CHECKSUM)
    }

    /// The sender.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        field::array(self.octets(), SOURCE).into()
    }

    /// The receiver.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        field::array(self.octets(), DESTINATION).into()
    }

    /// The options, as they are; empty in most packets.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..self.header_len()]
    }

    /// What follows the header, without Ethernet padding: to the total length, or to the end of
    /// the buffer where a quoted packet is cut short.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[self.header_len()..self.end()]
    }

    /// Where the transport header is.
    #[inline]
    pub fn upper(&self) -> Upper {
        let offset = self.header_len();
        Upper {
            protocol: self.protocol(),
            offset,
            len: self.end() - offset,
            fragment: self.fragment(),
        }
    }

    /// The addresses, for transport checksums.
    #[inline]
    pub fn pseudo(&self) -> Pseudo {
        Pseudo::v4(self.source(), self.destination())
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        // nearly all headers have no options: a length that is known is summed up without a loop
        let sum = match self.octets().first_chunk::<HEADER_LEN>() {
            Some(plain) if self.header_len() == HEADER_LEN => Sum::of(plain),
            _ => Sum::of(&self.octets()[..self.header_len()]),
        };
        sum.checksum() == 0
    }

    #[inline]
    fn fragment_field(&self) -> u16 {
        field::u16(self.octets(), FRAGMENT)
    }

    #[inline]
    fn end(&self) -> usize {
        self.total_len().min(self.octets().len())
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[self.header_len()..self.end()]
    }
}

/// Setters leave the header checksum alone, so that several changes can be followed by one
/// [`fill_checksum`](Self::fill_checksum), or be carried over by a [`Delta`] and
/// [`set_checksum`](Self::set_checksum).
impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets the version, to 4, and the header length: a multiple of 4 from 20 to 60.
    #[inline]
    pub fn set_header_len(&mut self, octets: usize) {
        self.bytes.as_mut()[VERSION_WORDS] = 0x40 | (octets / 4) as u8 & 0x0f;
    }

    /// Sets the code point, 0 to 63; higher bits are ignored.
    #[inline]
    pub fn set_dscp(&mut self, dscp: u8) {
        let ds_field = &mut self.bytes.as_mut()[DS_FIELD];
        *ds_field = dscp << 2 | *ds_field & 0b11;
    }

    /// Sets the congestion notification.
    #[inline]
    pub fn set_ecn(&mut self, ecn: Ecn) {
        let ds_field = &mut self.bytes.as_mut()[DS_FIELD];
        *ds_field = *ds_field & !0b11 | ecn.bits();
    }

    /// Sets the octets of header and payload.
    #[inline]
    pub fn set_total_len(&mut self, octets: u16) {
        field::put_u16(self.bytes.as_mut(), TOTAL_LEN, octets);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_ident(&mut self, ident: u16) {
        field::put_u16(self.bytes.as_mut(), IDENT, ident);
    }

    /// Sets whether routers must not fragment the packet.
    #[inline]
    pub fn set_dont_fragment(&mut self, dont_fragment: bool) {
        self.set_fragment_bits(DONT_FRAGMENT, if dont_fragment { DONT_FRAGMENT } else { 0 });
    }

    /// Sets whether fragments follow this one.
    #[inline]
    pub fn set_more_fragments(&mut self, more_fragments: bool) {
        self.set_fragment_bits(MORE_FRAGMENTS, if more_fragments { MORE_FRAGMENTS } else { 0 });
    }

    /// Sets the octets that precede this fragment's payload: a multiple of 8, or it is rounded
    /// down to one.
    #[inline]
    pub fn set_fragment_offset(&mut self, octets: u16) {
        self.set_fragment_bits(OFFSET_MASK, octets / 8);
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.bytes.as_mut()[TTL] = ttl;
    }

    /// Takes one hop off the TTL, down to 0, carries that over to the header checksum, and
    /// returns the hops left.
    #[inline]
    pub fn decrement_ttl(&mut self) -> u8 {
        // the TTL shares its checksummed word with the protocol
        let old = field::u16(self.octets(), TTL);
        let left = self.ttl().saturating_sub(1);
        self.set_ttl(left);

        let delta = Delta::NONE.u16(old, field::u16(self.octets(), TTL));
        self.set_checksum(delta.apply(self.checksum()));
        left
    }

    /// Sets what the payload is.
    #[inline]
    pub fn set_protocol(&mut self, protocol: IpProtocol) {
        self.bytes.as_mut()[PROTOCOL] = protocol.0;
    }

    /// Sets the header checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        field::put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }

    /// Sets the sender.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        field::put(self.bytes.as_mut(), SOURCE, address.octets());
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        field::put(self.bytes.as_mut(), DESTINATION, address.octets());
    }

    /// Computes the header checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = Sum::of(&self.octets()[..self.header_len()]).checksum();
        self.set_checksum(checksum);
    }

    /// [`payload`](Self::payload), to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), self.end());
        &mut self.bytes.as_mut()[start..end]
    }

    #[inline]
    fn set_fragment_bits(&mut self, mask: u16, bits: u16) {
        let value = self.fragment_field() & !mask | bits;
        field::put_u16(self.bytes.as_mut(), FRAGMENT, value);
    }
}

/// An IPv4 header without options as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The sender.
    pub source: Ipv4Addr,
    /// The receiver.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// Octets behind the header; no more than 65,515 fit.
    pub payload_len: u16,
    /// Hops left.
    pub ttl: u8,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Congestion notification.
    pub ecn: Ecn,
    /// Identification.
    pub ident: u16,
    /// Whether routers must not fragment the packet.
    pub dont_fragment: bool,
    /// Whether fragments follow this one.
    pub more_fragments: bool,
    /// Octets of the datagram that precede this fragment; a multiple of 8.
    pub fragment_offset: u16,
}

impl Repr {
    /// A packet with TTL 64 that must not be fragmented, and as yet without protocol and
    /// payload.
    pub const fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Repr {
        Repr {
            source,
            destination,
            protocol: IpProtocol::RESERVED,
            payload_len: 0,
            ttl: 64,
            dscp: 0,
            ecn: Ecn::NotCapable,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        }
    }

    /// Reads a header; options are passed over, the header checksum is not verified.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        Ok(Repr {
            source: packet.source(),
            destination: packet.destination(),
            protocol: packet.protocol(),
            payload_len: (packet.total_len() - packet.header_len()) as u16,
            ttl: packet.ttl(),
            dscp: packet.dscp(),
            ecn: packet.ecn(),
            ident: packet.ident(),
            dont_fragment: packet.dont_fragment(),
            more_fragments: packet.more_fragments(),
            fragment_offset: packet.fragment_offset(),
        })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header, checksum included.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len) or the payload too long
    /// for an IPv4 packet.
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        let total_len = self
            .payload_len
            .checked_add(HEADER_LEN as u16)
            .expect("no more than 65,515 octets are asked of an IPv4 payload");

        packet.set_header_len(HEADER_LEN);
        packet.set_dscp(self.dscp);
        packet.set_ecn(self.ecn);
        packet.set_total_len(total_len);
        packet.set_ident(self.ident);
        field::put_u16(packet.bytes.as_mut(), FRAGMENT, 0);
        packet.set_dont_fragment(self.dont_fragment);
        packet.set_more_fragments(self.more_fragments);
        packet.set_fragment_offset(self.fragment_offset);
        packet.set_ttl(self.ttl);
        packet.set_protocol(self.protocol);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
        packet.fill_checksum();
    }
}

#[cfg(test)]
mod tests;
