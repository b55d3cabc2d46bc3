//! The Internet checksum: sums (RFC 1071), pseudo-headers, and edits in place (RFC 1624).
//!
//! [`Sum`] adds up octets, [`Pseudo`] stands for the addresses that TCP, UDP and ICMPv6 cover
//! besides their own octets, and [`Delta`] carries a change of covered fields over to a checksum
//! that was right before, without reading the rest of the packet.
//!
//! All arithmetic is one's complement, which has two zeros. A sum of anything but zeros folds to
//! 0xffff and never to 0, so a checksum is never 0xffff unless everything it covers is zero;
//! only UDP sends that value, in place of 0.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::ip::{IpProtocol, IpVersion};

/// A running one's complement sum of 16-bit words.
///
/// Words are added as they lie in memory, in wider lanes, and put in order once, at the end
/// (RFC 1071 §2). Lanes cannot overflow below 16 GiB of input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing added yet.
    pub const ZERO: Sum = Sum(0);

    /// The sum of `bytes` alone.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        Sum::ZERO.bytes(bytes)
    }

    /// Adds octets that start at an even offset of what the checksum covers. An odd last octet
    /// counts as if a zero followed it, so only the last run may have an odd length.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let mut sum = self.0;

        // both halves of eight octets into eight: no carries to look after, so this vectorises
        let (lanes, rest) = bytes.as_chunks::<8>();
        for lane in lanes {
            let lane = u64::from_ne_bytes(*lane);
            sum += (lane & 0xffff_ffff) + (lane >> 32);
        }

        let (half, rest) = rest.as_chunks::<4>();
        if let [half] = half {
            sum += u64::from(u32::from_ne_bytes(*half));
        }
        let last = match *rest {
            [a, b, c] => [a, b, c, 0],
            [a, b] => [a, b, 0, 0],
            [a] => [a, 0, 0, 0],
            _ => [0; 4],
        };
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one 16-bit word, given in host order.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Sum {
        Sum(self.0 + word.to_be() as u64)
    }

    /// The sum folded to 16 bits, in host order and not complemented.
    ///
    /// For a pseudo-header alone this is what a Linux sender leaves in the checksum field when
    /// it hands the rest to the device (`CHECKSUM_PARTIAL`).
    #[inline]
    pub const fn partial(self) -> u16 {
        u16::from_be(fold(self.0))
    }

    /// The checksum: the complement of the folded sum, in host order.
    ///
    /// Over octets that include their own correct checksum this is 0.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.partial()
    }
}

/// The part of a pseudo-header that comes from the IP header: both addresses (RFC 9293 §3.1,
/// RFC 8200 §8.1).
///
/// [`ipv4::Packet::pseudo`](crate::ipv4::Packet::pseudo) and
/// [`ipv6::Packet::pseudo`](crate::ipv6::Packet::pseudo) make one of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Pseudo {
    version: IpVersion,
    addresses: Sum,
}

impl Pseudo {
    /// Of two IPv4 addresses.
    #[inline]
    pub fn v4(source: Ipv4Addr, destination: Ipv4Addr) -> Pseudo {
        let addresses = Sum::of(&source.octets()).bytes(&destination.octets());
        Pseudo { version: IpVersion::V4, addresses }
    }

    /// Of two IPv6 addresses. Behind a routing header with segments left, `destination` is the
    /// last segment, not the header's destination (RFC 8200 §8.1).
    #[inline]
    pub fn v6(source: Ipv6Addr, destination: Ipv6Addr) -> Pseudo {
        let addresses = Sum::of(&source.octets()).bytes(&destination.octets());
        Pseudo { version: IpVersion::V6, addresses }
    }

    /// The IP version of the addresses, which decides whether UDP may go without a checksum.
    #[inline]
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// The sum of the whole pseudo-header for `len` octets of `protocol`, header included.
    #[inline]
    pub const fn sum(&self, protocol: IpProtocol, len: usize) -> Sum {
        self.addresses.word(protocol.0 as u16).word(len as u16).word((len >> 16) as u16)
    }

    /// The sum of the pseudo-header and of the `transport` octets.
    #[inline]
    pub(crate) fn cover(&self, protocol: IpProtocol, transport: &[u8]) -> Sum {
        self.sum(protocol, transport.len()).bytes(transport)
    }
}

/// A change of covered fields, to be carried over to checksums (RFC 1624, equation 3).
///
/// ```
/// use millrace_wire::checksum::Delta;
/// use core::net::Ipv4Addr;
///
/// let (pod, node) = (Ipv4Addr::new(10, 1, 0, 7), Ipv4Addr::new(192, 0, 2, 1));
/// let address = Delta::NONE.ipv4(pod, node);
/// let flow = address.u16(40_000, 61_234);
///
/// let (ip, tcp) = (0x1c46, 0xb1e6);
/// let ip = address.apply(ip); // the IP header covers the address only,
/// let tcp = flow.apply(tcp); // TCP covers the address and the port
/// # assert_ne!((ip, tcp), (0x1c46, 0xb1e6));
/// ```
///
/// Fields are expected at even offsets of what the checksum covers, as all address and port
/// fields are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta(u64);

impl Delta {
    /// Nothing changed: applying this changes no checksum.
    pub const NONE: Delta = Delta(0);

    /// A 16-bit field changed.
    #[inline]
    #[must_use]
    pub const fn u16(self, old: u16, new: u16) -> Delta {
        Delta(self.0 + !old as u64 + new as u64)
    }

    /// A 32-bit field changed.
    #[inline]
    #[must_use]
    pub const fn u32(self, old: u32, new: u32) -> Delta {
        Delta(self.0 + !old as u64 + new as u64)
    }

    /// An IPv4 address changed.
    #[inline]
    #[must_use]
    pub const fn ipv4(self, old: Ipv4Addr, new: Ipv4Addr) -> Delta {
        self.u32(old.to_bits(), new.to_bits())
    }

    /// An IPv6 address changed.
    #[inline]
    #[must_use]
    pub const fn ipv6(self, old: Ipv6Addr, new: Ipv6Addr) -> Delta {
        let (old, new) = (old.to_bits(), new.to_bits());
        self.u32((old >> 96) as u32, (new >> 96) as u32)
            .u32((old >> 64) as u32, (new >> 64) as u32)
            .u32((old >> 32) as u32, (new >> 32) as u32)
            .u32(old as u32, new as u32)
    }

    /// This change and `other` together.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Delta) -> Delta {
        Delta(self.0 + other.0)
    }

    /// The checksum after the change: IPv4 header, TCP, ICMP and ICMPv6.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !self.apply_partial(!checksum)
    }

    /// The UDP checksum after the change: 0 means "none" and stays, a result of 0 becomes 0xffff
    /// (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// The partial sum after the change (see [`Sum::partial`]), for UDP and TCP alike.
    ///
    /// A partial sum covers the pseudo-header only: collect addresses (and length or protocol)
    /// in the delta, but no ports, which whoever completes the checksum will read from the
    /// packet.
    #[inline]
    pub const fn apply_partial(self, sum: u16) -> u16 {
        fold(self.0 + sum as u64)
    }
}

/// Adds the four 16-bit words of a sum with end-around carries; 0 only for 0.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests;
