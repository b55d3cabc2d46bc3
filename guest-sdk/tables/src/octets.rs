//! Numbers and addresses among octets: little endian, and addresses in their 16-octet form.

use core::net::{IpAddr, Ipv6Addr};

/// Takes fields off the front of octets; `None` where there are too few.
pub(crate) struct Reader<'o>(pub(crate) &'o [u8]);

impl Reader<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// One of these, by its number.
    pub(crate) fn one_of<T: Copy, const N: usize>(
        &mut self,
        all: [T; N],
        number: impl Fn(T) -> u8,
    ) -> Option<T> {
        let is = self.u8()?;
        all.into_iter().find(|it| number(*it) == is)
    }

    /// IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
    pub(crate) fn address(&mut self) -> Option<IpAddr> {
        Some(Ipv6Addr::from(self.array::<16>()?).to_canonical())
    }

    /// Octets that mean nothing yet, and are zero.
    pub(crate) fn zeros<const N: usize>(&mut self) -> Option<()> {
        (self.array()? == [0; N]).then_some(())
    }

    /// `value` if nothing is left.
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// The number that these octets are.
pub(crate) fn number(octets: &[u8]) -> Option<u32> {
    let mut from = Reader(octets);
    let number = from.u32()?;
    from.end(number)
}

/// The 16 octets of an address.
pub(crate) fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
