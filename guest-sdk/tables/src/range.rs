//! Prefixes of addresses: those that are reserved for Services, and others.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::octets::{self, Reader};

/// A prefix of addresses. One for Services, as a ServiceCIDR has it, is the key of
/// [`Table::Ranges`](crate::Table::Ranges). The bits behind it are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Its first address.
    pub address: IpAddr,
    /// Its length in bits: 32 at most for IPv4, 128 for IPv6.
    pub len: u8,
}

impl Range {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(octets::address(self.address));
        out.extend([self.len, 0, 0, 0]);
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let range = Self { address: from.address()?, len: from.u8()? };
        from.zeros::<3>()?;
        from.end(range).filter(Self::is_prefix)
    }

    fn is_prefix(&self) -> bool {
        let (bits, width) = match self.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        self.len <= width && bits.trailing_zeros().min(width.into()) >= u32::from(width - self.len)
    }
}
