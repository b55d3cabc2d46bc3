//! VXLAN (RFC 7348): Ethernet frames in UDP.
//!
//! ```text
//!  0       1             4                       7           8
//! ├───────┼─────────────┼───────────────────────┼───────────┼───────────────
//! │ flags │ reserved    │ network id, 24 bits   │ reserved  │ inner frame …
//! ```

use crate::view::view;
use crate::{Malformed, field};

const FLAGS: usize = 0;
const VNI: usize = 4;

/// Octets of a VXLAN header.
pub const HEADER_LEN: usize = 8;

/// The UDP port assigned to VXLAN.
pub const PORT: u16 = 4789;

/// The I flag: the network id is valid. It has to be set, the others are ignored (§5).
const VALID_VNI: u8 = 0x08;

/// A VXLAN network id: 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Vni(u32);

impl Vni {
    /// A network id, unless `id` needs more than 24 bits.
    #[inline]
    pub const fn new(id: u32) -> Option<Vni> {
        if id < 1 << 24 { Some(Vni(id)) } else { None }
    }

    /// The number, below 2²⁴.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }
}

view! {
    /// A view of a VXLAN packet.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`HEADER_LEN`].
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// Whether the header is complete and has a valid network id.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedVxlan);
        }
        if self.octets()[FLAGS] & VALID_VNI == 0 {
            return Err(Malformed::BadVxlanFlags);
        }
        Ok(())
    }

    /// The network the inner frame belongs to.
    #[inline]
    pub fn vni(&self) -> Vni {
        Vni(field::u32(self.octets(), VNI) >> 8)
    }

    /// The inner Ethernet frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..]
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets the network and clears the reserved octet behind it.
    #[inline]
    pub fn set_vni(&mut self, vni: Vni) {
        field::put_u32(self.bytes.as_mut(), VNI, vni.0 << 8);
    }

    /// The inner Ethernet frame, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// A VXLAN header as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The network the inner frame belongs to.
    pub vni: Vni,
}

impl Repr {
    /// Reads a header.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        Ok(Repr { vni: packet.vni() })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        field::put(packet.bytes.as_mut(), FLAGS, [VALID_VNI, 0, 0, 0]);
        packet.set_vni(self.vni);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NETWORK_4096: [u8; 9] = [0x08, 0, 0, 0, 0x00, 0x10, 0x00, 0, 0xee];

    #[test]
    fn fields_are_read_where_they_lie() {
        let packet = Packet::new_checked(&NETWORK_4096[..]).unwrap();
        assert_eq!(packet.vni().number(), 4096);
        assert_eq!(packet.payload(), [0xee]);
        assert_eq!(packet.into_payload(), [0xee]);
    }

    #[test]
    fn a_truncated_header_is_refused() {
        for len in 0..HEADER_LEN {
            let refused = Packet::new_checked(&NETWORK_4096[..len]).unwrap_err();
            assert_eq!(refused, Malformed::TruncatedVxlan);
        }
        let header = Packet::new_checked(&NETWORK_4096[..HEADER_LEN]).unwrap();
        assert!(header.payload().is_empty());
    }

    #[test]
    fn the_valid_flag_decides_and_reserved_bits_do_not() {
        let mut packet = NETWORK_4096;
        packet[0] = 0xf7;
        assert_eq!(Packet::new_checked(packet).unwrap_err(), Malformed::BadVxlanFlags);
        packet = [0xff; 9];
        assert_eq!(Packet::new_checked(packet).unwrap().vni().number(), 0xff_ffff);
    }

    #[test]
    fn a_network_id_has_24_bits() {
        assert_eq!(Vni::new(0xff_ffff).map(Vni::number), Some(0xff_ffff));
        assert_eq!(Vni::new(0x100_0000), None);
    }

    proptest! {
        #[test]
        fn what_was_emitted_parses_back(vni in 0u32..1 << 24) {
            let repr = Repr { vni: Vni::new(vni).unwrap() };
            let mut packet = Packet::new_unchecked([0xff; 9]);
            repr.emit(&mut packet);
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert_eq!(repr.buffer_len(), HEADER_LEN);
            let octets = packet.into_inner();
            prop_assert_eq!(&octets[..4], [8, 0, 0, 0], "reserved bits are cleared");
            prop_assert_eq!(&octets[7..], [0, 0xff]);
        }
    }
}
