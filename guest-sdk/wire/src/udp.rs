//! UDP datagrams (RFC 768; RFC 8200 §8.1 for IPv6).
//!
//! ```text
//!  0             2                  4        6          8
//! ├─────────────┼──────────────────┼────────┼──────────┼──────────
//! │ source port │ destination port │ length │ checksum │ payload …
//! ```
//!
//! A checksum of 0 says that the sender computed none: allowed over IPv4, over IPv6 only to
//! tunnels that declare it (RFC 6935). A computed 0 is sent as 0xffff.

use crate::checksum::{Pseudo, Sum};
use crate::ip::{IpProtocol, IpVersion, upper_in};
use crate::view::{ported, view};
use crate::{Malformed, Ports, field};

const LEN: usize = 4;
const CHECKSUM: usize = 6;

/// Octets of a UDP header.
pub const HEADER_LEN: usize = 8;

/// What the datagram in a frame carries, of either IP version, tagged or not: as far as that is there,
/// for the octets may be the first ones of a frame. Nothing if it is no datagram's beginning.
pub fn payload_in(frame: &[u8]) -> Option<&[u8]> {
    upper_in(frame, IpProtocol::UDP)?.get(HEADER_LEN..)
}

view! {
    /// A view of a UDP datagram.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check), until a setter changes
    /// the length. On others they do when the buffer is shorter than [`HEADER_LEN`], and
    /// [`payload`](Self::payload) and the checksum when the length is below 8 or past the end.
    pub struct Datagram
}

ported!(Datagram);

impl<B: AsRef<[u8]>> Datagram<B> {
    /// Whether the buffer holds the whole datagram.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        let present = self.octets().len();
        if present < HEADER_LEN {
            return Err(Malformed::TruncatedUdp);
        }
        if !(HEADER_LEN..=present).contains(&self.total_len()) {
            return Err(Malformed::BadUdpLength);
        }
        Ok(())
    }

    /// Octets of header and payload, as the length field states.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(field::u16(self.octets(), LEN))
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        field::u16(self.octets(), CHECKSUM)
    }

    /// What follows the header, as long as the length field states.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..self.total_len()]
    }

    /// Whether the checksum is right between these addresses, or absent over IPv4.
    #[inline]
    pub fn verify_checksum(&self, pseudo: Pseudo) -> bool {
        match self.checksum() {
            0 => pseudo.version() == IpVersion::V4,
            _ => pseudo.cover(IpProtocol::UDP, self.covered()).checksum() == 0,
        }
    }

    #[inline]
    fn covered(&self) -> &[u8] {
        &self.octets()[..self.total_len()]
    }
}

impl<'a> Datagram<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.total_len()]
    }
}

/// Setters leave the checksum alone.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Datagram<B> {
    /// Sets the length field: octets of header and payload.
    #[inline]
    pub fn set_total_len(&mut self, octets: u16) {
        field::put_u16(self.bytes.as_mut(), LEN, octets);
    }

    /// Sets the checksum field; 0 for "none".
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        field::put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }

    /// Computes the checksum between these addresses; never 0.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.set_checksum(0);
        self.set_sum(pseudo.cover(IpProtocol::UDP, self.covered()));
    }

    /// Completes a checksum of which the field has the pseudo-header's share
    /// ([`Sum::partial`]); never 0.
    #[inline]
    pub fn complete_checksum(&mut self) {
        self.set_sum(Sum::of(self.covered()));
    }

    /// [`payload`](Self::payload), to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.total_len();
        &mut self.bytes.as_mut()[HEADER_LEN..end]
    }

    #[inline]
    fn set_sum(&mut self, sum: Sum) {
        let checksum = match sum.checksum() {
            0 => 0xffff,
            checksum => checksum,
        };
        self.set_checksum(checksum);
    }
}

/// A UDP header as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Both ports.
    pub ports: Ports,
    /// Octets behind the header; no more than 65,527 fit.
    pub payload_len: u16,
}

impl Repr {
    /// Reads a header. The checksum is not verified.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(datagram: &Datagram<B>) -> Result<Repr, Malformed> {
        datagram.check()?;
        let payload_len = (datagram.total_len() - HEADER_LEN) as u16;
        Ok(Repr { ports: datagram.ports(), payload_len })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header and sets the checksum to 0, "none"; [`Datagram::fill_checksum`] when
    /// the payload is in place.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len) or the payload too long
    /// for a datagram.
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, datagram: &mut Datagram<B>) {
        let len = self
            .payload_len
            .checked_add(HEADER_LEN as u16)
            .expect("no more than 65,527 octets are asked of a UDP payload");

        datagram.set_source_port(self.ports.source);
        datagram.set_destination_port(self.ports.destination);
        datagram.set_total_len(len);
        datagram.set_checksum(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    const QUERY: [u8; 12] = [0xc0, 0x00, 0x00, 0x35, 0, 11, 0, 0, b'a', b'b', b'c', 0xee];

    fn v4() -> Pseudo {
        Pseudo::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    }

    fn v6() -> Pseudo {
        Pseudo::v6([1; 16].into(), [2; 16].into())
    }

    #[test]
    fn the_payload_ends_where_the_length_field_says() {
        let datagram = Datagram::new_checked(&QUERY[..]).unwrap();
        assert_eq!(datagram.ports(), Ports { source: 49152, destination: 53 });
        assert_eq!(datagram.payload(), b"abc");
        assert_eq!(datagram.into_payload(), b"abc");
    }

    #[test]
    fn a_truncated_datagram_is_refused() {
        for len in 0..QUERY.len() - 1 {
            let refused = Datagram::new_checked(&QUERY[..len]).unwrap_err();
            let expected = if len < 8 { Malformed::TruncatedUdp } else { Malformed::BadUdpLength };
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_length_below_the_header_is_refused() {
        for len in 0..8 {
            let mut datagram = QUERY;
            datagram[5] = len;
            assert_eq!(Datagram::new_checked(datagram).unwrap_err(), Malformed::BadUdpLength);
        }
    }

    #[test]
    fn only_ipv4_may_go_without_a_checksum() {
        let datagram = Datagram::new_checked(&QUERY[..]).unwrap();
        assert!(datagram.verify_checksum(v4()));
        assert!(!datagram.verify_checksum(v6()));
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        let mut datagram = Datagram::new_unchecked([0; 10]);
        Repr { ports: Ports::default(), payload_len: 2 }.emit(&mut datagram);
        datagram.fill_checksum(v4());
        let filler = datagram.checksum();
        datagram.payload_mut().copy_from_slice(&filler.to_be_bytes());

        datagram.fill_checksum(v4());
        assert_eq!(datagram.checksum(), 0xffff);
        assert!(datagram.verify_checksum(v4()));
    }

    proptest! {
        #[test]
        fn a_filled_checksum_verifies_until_an_octet_changes(
            payload in vec(any::<u8>(), 0..50), source: u16, destination: u16,
            at in any::<usize>(), flip in 1u8..,
        ) {
            let ports = Ports { source, destination };
            let repr = Repr { ports, payload_len: payload.len() as u16 };
            let mut bytes: Vec<u8> = [&[0; HEADER_LEN][..], &payload, &[0xee; 3]].concat();
            let mut datagram = Datagram::new_unchecked(&mut bytes[..]);
            repr.emit(&mut datagram);
            prop_assert_eq!(Repr::parse(&datagram), Ok(repr));

            for pseudo in [v4(), v6()] {
                datagram.fill_checksum(pseudo);
                prop_assert!(datagram.verify_checksum(pseudo));
            }

            // a change of the length field would move the end of what is covered
            let at = [0, 1, 2, 3].into_iter().chain(8..8 + payload.len()).cycle()
                .nth(at % (4 + payload.len())).unwrap();
            bytes[at] ^= flip;
            prop_assert!(!Datagram::new_unchecked(&bytes[..]).verify_checksum(v6()));
        }
    }
}
