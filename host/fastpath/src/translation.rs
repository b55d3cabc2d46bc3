//! New addresses and ports for a direction, and what they change in checksums.

use std::net::{IpAddr, SocketAddr};

use crate::layout::{RawEntry, RawHead, RawKey};

/// The addresses and ports that packets leave with; those that stay are given too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Whom the packets are then from.
    pub source: SocketAddr,
    /// Whom they are then for.
    pub destination: SocketAddr,
}

/// The addresses of a family, as bytes of the network.
pub(crate) trait Octets: Sized {
    fn of(ip: IpAddr) -> Option<Self>;
}

impl Octets for [u8; 4] {
    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.octets()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Octets for [u8; 16] {
    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.octets()),
        }
    }
}

/// A whole entry, unless the translation is of another family than the key.
pub(crate) fn entry<const N: usize>(
    key: RawKey<N>,
    head: RawHead,
    translation: Option<Translation>,
) -> Option<RawEntry<N>>
where
    [u8; N]: Octets,
{
    let blank = RawEntry { head, own: key, sealed: head.version, ..RawEntry::blank() };
    let Some(translation) = translation else { return Some(blank) };
    let source = <[u8; N]>::of(translation.source.ip())?;
    let destination = <[u8; N]>::of(translation.destination.ip())?;
    let head = RawHead {
        source_port: translation.source.port().to_be_bytes(),
        destination_port: translation.destination.port().to_be_bytes(),
        difference: difference(
            [&key.source, &key.destination].map(<[u8; N]>::as_slice),
            [&source, &destination].map(<[u8; N]>::as_slice),
        ),
        ..head
    };
    Some(RawEntry { head, source, destination, ..blank })
}

/// What to add to a sum of 16-bit words when one part of them becomes another (RFC 1624).
fn difference(old: [&[u8]; 2], new: [&[u8]; 2]) -> u32 {
    let words = |parts: [&'_ [u8]; 2], of: fn(u16) -> u16| -> u32 {
        let words = parts.into_iter().flat_map(|part| part.as_chunks().0);
        words.map(|word| u32::from(of(u16::from_ne_bytes(*word)))).sum()
    };
    let mut sum = words(old, |word| !word) + words(new, |word| word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of RFC 1071.
    fn checksum(bytes: &[u8]) -> u16 {
        let (words, _) = bytes.as_chunks();
        let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    fn halves(whole: &[u8]) -> [&[u8]; 2] {
        whole.split_at(whole.len() / 2).into()
    }

    #[test]
    fn a_difference_makes_a_checksum_that_of_the_new_addresses() {
        let numbers: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(151) ^ (at >> 2)).collect();
        for length in [8, 32] {
            for (old, new) in
                [(&numbers[..length], &numbers[length..2 * length]), (&[0; 8], &[9; 8])]
            {
                let rest = [0x45, 0, 1, 2];
                let before = checksum(&[old, &rest].concat());
                let mut sum = u32::from(!before) + difference(halves(old), halves(new));
                sum = (sum & 0xffff) + (sum >> 16);
                let after = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
                assert_eq!(after, checksum(&[new, &rest].concat()));
            }
        }
    }
}
