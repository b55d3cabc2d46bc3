//! Ethernet II frames (IEEE 802.3 §3.2, RFC 894).
//!
//! ```text
//!  0             6             12       14
//! ├─────────────┼─────────────┼────────┼──────────
//! │ destination │ source      │ type   │ payload …
//! ```
//!
//! The frame check sequence is not part of a frame here, padding to 60 octets is payload.

use core::fmt;

use crate::view::view;
use crate::{MacAddr, Malformed, field};

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const ETHER_TYPE: usize = 12;

/// Octets of an Ethernet header.
pub const HEADER_LEN: usize = 14;

/// What an Ethernet frame or a VLAN tag says it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP.
    pub const ARP: EtherType = EtherType(0x0806);
    /// A customer VLAN tag, IEEE 802.1Q.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// A service VLAN tag, IEEE 802.1ad.
    pub const SERVICE_VLAN: EtherType = EtherType(0x88a8);
    /// Link layer discovery, IEEE 802.1AB.
    pub const LLDP: EtherType = EtherType(0x88cc);

    /// Whether a VLAN tag follows, customer or service.
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN)
    }

    /// Whether the field is the length of an IEEE 802.3 frame rather than a type.
    #[inline]
    pub const fn is_length(self) -> bool {
        self.0 < 0x0600
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::IPV4 => "IPv4",
            Self::ARP => "ARP",
            Self::VLAN => "VLAN",
            Self::IPV6 => "IPv6",
            Self::SERVICE_VLAN => "service VLAN",
            Self::LLDP => "LLDP",
            EtherType(number) => return write!(f, "type {number:#06x}"),
        };
        f.write_str(name)
    }
}

view! {
    /// A view of an Ethernet frame.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`HEADER_LEN`].
    pub struct Frame
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// Whether the header is complete.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedEthernet);
        }
        Ok(())
    }

    /// The station or group the frame is for.
    #[inline]
    pub fn destination(&self) -> MacAddr {
        MacAddr(field::array(self.octets(), DESTINATION))
    }

    /// The station that sent it.
    #[inline]
    pub fn source(&self) -> MacAddr {
        MacAddr(field::array(self.octets(), SOURCE))
    }

    /// What the payload is.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        EtherType(field::u16(self.octets(), ETHER_TYPE))
    }

    /// Everything behind the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..]
    }
}

impl<'a> Frame<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Frame<B> {
    /// Sets the destination.
    #[inline]
    pub fn set_destination(&mut self, mac: MacAddr) {
        field::put(self.bytes.as_mut(), DESTINATION, mac.octets());
    }

    /// Sets the source.
    #[inline]
    pub fn set_source(&mut self, mac: MacAddr) {
        field::put(self.bytes.as_mut(), SOURCE, mac.octets());
    }

    /// Sets the type.
    #[inline]
    pub fn set_ether_type(&mut self, ether_type: EtherType) {
        field::put_u16(self.bytes.as_mut(), ETHER_TYPE, ether_type.0);
    }

    /// Everything behind the header, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// An Ethernet header as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The station or group the frame is for.
    pub destination: MacAddr,
    /// The station that sends it.
    pub source: MacAddr,
    /// What the payload is.
    pub ether_type: EtherType,
}

impl Repr {
    /// Reads a header.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(frame: &Frame<B>) -> Result<Repr, Malformed> {
        frame.check()?;
        Ok(Repr {
            destination: frame.destination(),
            source: frame.source(),
            ether_type: frame.ether_type(),
        })
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
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, frame: &mut Frame<B>) {
        frame.set_destination(self.destination);
        frame.set_source(self.source);
        frame.set_ether_type(self.ether_type);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;

    const BROADCAST_ARP: [u8; 16] =
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x06, 0xca, 0xfe];

    #[test]
    fn fields_are_read_where_they_lie() {
        let frame = Frame::new_checked(&BROADCAST_ARP[..]).unwrap();
        assert_eq!(frame.destination(), MacAddr::BROADCAST);
        assert_eq!(frame.source(), MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(frame.ether_type(), EtherType::ARP);
        assert_eq!(frame.payload(), [0xca, 0xfe]);
        assert_eq!(frame.into_payload(), [0xca, 0xfe]);
    }

    #[test]
    fn a_truncated_header_is_refused() {
        for len in 0..HEADER_LEN {
            let refused = Frame::new_checked(&BROADCAST_ARP[..len]).unwrap_err();
            assert_eq!(refused, Malformed::TruncatedEthernet);
        }
        assert!(Frame::new_checked(&BROADCAST_ARP[..HEADER_LEN]).unwrap().payload().is_empty());
    }

    #[test]
    fn types_below_0x600_are_lengths() {
        assert!(EtherType(0x05ff).is_length() && !EtherType(0x0600).is_length());
        assert!(EtherType::VLAN.is_vlan() && EtherType::SERVICE_VLAN.is_vlan());
        assert!(!EtherType::IPV4.is_vlan());
    }

    #[test]
    fn types_name_themselves() {
        let named = [EtherType::IPV4, EtherType::ARP, EtherType(0x88b5)].map(|it| it.to_string());
        assert_eq!(named, ["IPv4", "ARP", "type 0x88b5"]);
    }

    proptest! {
        #[test]
        fn what_was_emitted_parses_back(destination: [u8; 6], source: [u8; 6], ether_type: u16) {
            let repr = Repr {
                destination: MacAddr(destination),
                source: MacAddr(source),
                ether_type: EtherType(ether_type),
            };
            let mut frame = Frame::new_unchecked([0xaa; 16]);
            repr.emit(&mut frame);

            prop_assert_eq!(Repr::parse(&frame), Ok(repr));
            prop_assert_eq!(repr.buffer_len(), HEADER_LEN);
            prop_assert_eq!(frame.payload(), [0xaa; 2], "the payload is not touched");
        }
    }
}
