//! Options of neighbour discovery (RFC 4861 §4.6) on Ethernet links.
//!
//! Lengths are in units of eight octets. A length of 0 would hold a walk in place for ever and
//! has to be refused (§4.6).

use core::net::Ipv6Addr;

use crate::{MacAddr, Malformed, field};

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

const UNIT: usize = 8;

const KIND: usize = 0;
const UNITS: usize = 1;
const LINK_LAYER_ADDRESS: usize = 2;
const MTU_VALUE: usize = 4;
const PREFIX_LEN: usize = 2;
const PREFIX_FLAGS: usize = 3;
const PREFIX_VALID: usize = 4;
const PREFIX_PREFERRED: usize = 8;
const PREFIX: usize = 16;

const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// One option. A known kind with a length it must not have on Ethernet counts as `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdOption<'a> {
    /// The sender's MAC address.
    SourceLinkLayer(MacAddr),
    /// The target's MAC address.
    TargetLinkLayer(MacAddr),
    /// A prefix of the link.
    Prefix(PrefixInformation),
    /// The MTU of the link, in octets.
    Mtu(u32),
    /// Any other option.
    Other {
        /// The option's number.
        kind: u8,
        /// What follows number and length: 6 octets, or 8 times so many more.
        data: &'a [u8],
    },
}

/// A prefix that a router advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits behind its length have no meaning.
    pub prefix: Ipv6Addr,
    /// Leading bits that count, 0 to 128.
    pub prefix_len: u8,
    /// Whether addresses with the prefix are on the link.
    pub on_link: bool,
    /// Whether hosts may make themselves addresses with the prefix.
    pub autonomous: bool,
    /// Seconds the prefix is on the link; all ones for ever.
    pub valid_lifetime: u32,
    /// Seconds such addresses are preferred; all ones for ever.
    pub preferred_lifetime: u32,
}

impl<'a> NdOption<'a> {
    /// Octets that [`emit`](Self::emit) writes.
    pub const fn buffer_len(&self) -> usize {
        match self {
            NdOption::SourceLinkLayer(_) | NdOption::TargetLinkLayer(_) | NdOption::Mtu(_) => UNIT,
            NdOption::Prefix(_) => 4 * UNIT,
            NdOption::Other { data, .. } => (2 + data.len()).next_multiple_of(UNIT),
        }
    }

    /// Writes the option to the start of `octets`.
    ///
    /// # Panics
    /// When `octets` is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit(&self, octets: &mut [u8]) {
        let octets = &mut octets[..self.buffer_len()];
        octets.fill(0);
        octets[UNITS] = (octets.len() / UNIT) as u8;
        octets[KIND] = match *self {
            NdOption::SourceLinkLayer(mac) => {
                field::put(octets, LINK_LAYER_ADDRESS, mac.octets());
                SOURCE_LINK_LAYER
            }
            NdOption::TargetLinkLayer(mac) => {
                field::put(octets, LINK_LAYER_ADDRESS, mac.octets());
                TARGET_LINK_LAYER
            }
            NdOption::Prefix(information) => {
                information.emit(octets);
                PREFIX_INFORMATION
            }
            NdOption::Mtu(mtu) => {
                field::put_u32(octets, MTU_VALUE, mtu);
                MTU
            }
            NdOption::Other { kind, data } => {
                octets[2..2 + data.len()].copy_from_slice(data);
                kind
            }
        };
    }

    /// Reads a whole option, whose length is known to be that of `octets`.
    fn parse(octets: &'a [u8]) -> NdOption<'a> {
        let mac = || MacAddr(field::array(octets, LINK_LAYER_ADDRESS));
        match (octets[KIND], octets.len() / UNIT) {
            (SOURCE_LINK_LAYER, 1) => NdOption::SourceLinkLayer(mac()),
            (TARGET_LINK_LAYER, 1) => NdOption::TargetLinkLayer(mac()),
            (PREFIX_INFORMATION, 4) => NdOption::Prefix(PrefixInformation::parse(octets)),
            (MTU, 1) => NdOption::Mtu(field::u32(octets, MTU_VALUE)),
            (kind, _) => NdOption::Other { kind, data: &octets[2..] },
        }
    }
}

impl PrefixInformation {
    fn parse(octets: &[u8]) -> PrefixInformation {
        PrefixInformation {
            prefix: field::array::<16>(octets, PREFIX).into(),
            prefix_len: octets[PREFIX_LEN],
            on_link: octets[PREFIX_FLAGS] & ON_LINK != 0,
            autonomous: octets[PREFIX_FLAGS] & AUTONOMOUS != 0,
            valid_lifetime: field::u32(octets, PREFIX_VALID),
            preferred_lifetime: field::u32(octets, PREFIX_PREFERRED),
        }
    }

    fn emit(&self, octets: &mut [u8]) {
        octets[PREFIX_LEN] = self.prefix_len;
        octets[PREFIX_FLAGS] =
            super::bit(self.on_link, ON_LINK) | super::bit(self.autonomous, AUTONOMOUS);
        field::put_u32(octets, PREFIX_VALID, self.valid_lifetime);
        field::put_u32(octets, PREFIX_PREFERRED, self.preferred_lifetime);
        field::put(octets, PREFIX, self.prefix.octets());
    }
}

/// An iterator over options; it ends after [`Malformed::ZeroNdOption`] or
/// [`Malformed::TruncatedNdOption`].
#[derive(Debug, Clone)]
pub struct NdOptions<'a> {
    rest: &'a [u8],
}

impl<'a> NdOptions<'a> {
    /// Over octets that start at the first option and end with the message.
    #[inline]
    pub const fn new(octets: &'a [u8]) -> Self {
        NdOptions { rest: octets }
    }
}

impl<'a> Iterator for NdOptions<'a> {
    type Item = Result<NdOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = core::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }

        let len = match rest.get(UNITS) {
            None => return Some(Err(Malformed::TruncatedNdOption)),
            Some(0) => return Some(Err(Malformed::ZeroNdOption)),
            Some(units) => usize::from(*units) * UNIT,
        };
        let Some((option, rest)) = rest.split_at_checked(len) else {
            return Some(Err(Malformed::TruncatedNdOption));
        };
        self.rest = rest;
        Some(Ok(NdOption::parse(option)))
    }
}

impl core::iter::FusedIterator for NdOptions<'_> {}
