//! The port pair that opens the headers of TCP, UDP and SCTP alike.
//!
//! Enough to key a flow, and all that is certain of a packet quoted in an ICMP error, which
//! may end after eight octets of transport header (RFC 792).

use crate::field;

const SOURCE: usize = 0;
const DESTINATION: usize = 2;

/// A transport header's source and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ports {
    /// The sender's port.
    pub source: u16,
    /// The receiver's port.
    pub destination: u16,
}

impl Ports {
    /// Octets the pair takes on the wire.
    pub const LEN: usize = 4;

    /// Reads the ports at the start of a TCP, UDP or SCTP header.
    ///
    /// `None` when `transport` has fewer than four octets.
    #[inline]
    pub fn parse(transport: &[u8]) -> Option<Ports> {
        transport.get(..Self::LEN).map(Self::read)
    }

    /// Reads the ports where a header is.
    ///
    /// # Panics
    /// When `transport` has fewer than four octets.
    #[inline]
    pub(crate) fn read(transport: &[u8]) -> Ports {
        Ports {
            source: field::u16(transport, SOURCE),
            destination: field::u16(transport, DESTINATION),
        }
    }

    /// Writes the ports at the start of a transport header; checksums are the caller's.
    ///
    /// # Panics
    /// When `transport` has fewer than four octets.
    #[inline]
    pub fn emit(self, transport: &mut [u8]) {
        field::put_u16(transport, SOURCE, self.source);
        field::put_u16(transport, DESTINATION, self.destination);
    }

    /// The pair as a reply carries it.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Ports {
        Ports { source: self.destination, destination: self.source }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn emitted_ports_parse_back(source: u16, destination: u16) {
            let ports = Ports { source, destination };
            let mut header = [0xaa; 8];
            ports.emit(&mut header);

            prop_assert_eq!(Ports::parse(&header), Some(ports));
            prop_assert_eq!(&header[4..], &[0xaa; 4], "nothing else is touched");
            prop_assert_eq!(ports.reversed().reversed(), ports);
        }
    }

    #[test]
    fn fewer_than_four_octets_hold_no_ports() {
        for len in 0..Ports::LEN {
            assert_eq!(Ports::parse(&[0; 8][..len]), None);
        }
    }
}
