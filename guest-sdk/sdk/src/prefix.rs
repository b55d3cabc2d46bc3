//! Addresses by longest match, for both IP versions alike.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hashbrown::HashMap;

use crate::abi::Tag;

/// An address prefix, such as `10.0.0.0/8`. Bits behind the prefix are cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
    /// The bits of an address that count.
    mask: Bits,
    /// Their values.
    value: Bits,
}

/// An address's bits, or some of them: its bytes as they lie in memory, in two words. WebAssembly
/// has no instruction that swaps bytes, and none for 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Bits(u64, u64);

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsePrefixError {
    /// The part before the slash is no address.
    Address(AddrParseError),
    /// The part behind it is no length for the address.
    Length,
}

/// Values by prefix; the longest prefix that an address matches wins.
///
/// A lookup tries every length that occurs, longest first: one hash each.
#[derive(Clone, Debug)]
pub struct PrefixMap<T> {
    v4: Family<T>,
    v6: Family<T>,
}

#[derive(Clone, Debug)]
struct Family<T> {
    /// Lengths that occur, longest first, with the bits that count.
    lengths: Vec<(u8, Bits)>,
    values: HashMap<(Bits, u8), T, foldhash::fast::FixedState>,
}

impl Prefix {
    /// The prefix of `len` bits of `address`; `None` if the address has fewer.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        if len > width(address) {
            return None;
        }
        let mask = Bits::leading(address, len);
        let value = Bits::of(address).and(mask);
        Some(Self { address: value.like(address), len, mask, value })
    }

    /// The prefix's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix's length in bits.
    #[allow(clippy::len_without_is_empty, reason = "a prefix is no collection")]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// The tag of decisions that depend on what is known of this very prefix. Whoever changes that
    /// names it alike; that two prefixes have one tag is rare, and does no harm.
    pub fn tag(&self) -> Tag {
        Tag::of_prefix(self.address, self.len)
    }

    /// Whether `address` is of this IP version and begins with the prefix.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        // one branch for all of it
        (address.is_ipv4() == self.address.is_ipv4())
            & Bits::of(address).and(self.mask).equals(self.value)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        let len = width(address);
        Self { address, len, mask: Bits::leading(address, len), value: Bits::of(address) }
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads `10.0.0.0/8`; an address alone is a prefix of all its bits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address = address.parse().map_err(ParsePrefixError::Address)?;
        let Some(len) = len else { return Ok(Self::from(address)) };
        let digits = !len.is_empty() && len.bytes().all(|c| c.is_ascii_digit());
        let len = len.parse().ok().filter(|_| digits).ok_or(ParsePrefixError::Length)?;
        Self::new(address, len).ok_or(ParsePrefixError::Length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ParsePrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Length => f.write_str("the length is not 0 to 32 (IPv4) or 0 to 128 (IPv6)"),
        }
    }
}

impl std::error::Error for ParsePrefixError {}

impl<T> PrefixMap<T> {
    /// No prefixes.
    pub fn new() -> Self {
        Self { v4: Family::new(), v6: Family::new() }
    }

    /// Adds a prefix, or replaces its value, which is returned.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        self.family_mut(prefix.address).insert(prefix, value)
    }

    /// The value of the longest prefix that `address` matches.
    #[inline]
    pub fn longest_match(&self, address: IpAddr) -> Option<&T> {
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = Bits::of(address);
        family.lengths.iter().find_map(|&(len, mask)| family.values.get(&(bits.and(mask), len)))
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.values.len() + self.v6.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn family_mut(&mut self, address: IpAddr) -> &mut Family<T> {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FromIterator<(Prefix, T)> for PrefixMap<T> {
    fn from_iter<I: IntoIterator<Item = (Prefix, T)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (prefix, value) in entries {
            map.insert(prefix, value);
        }
        map
    }
}

impl<T> Family<T> {
    fn new() -> Self {
        // the operator chooses the prefixes: their hash need not resist anybody
        Self { lengths: Vec::new(), values: HashMap::default() }
    }

    fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        if let Err(at) = self.lengths.binary_search_by(|&(other, _)| prefix.len.cmp(&other)) {
            self.lengths.insert(at, (prefix.len, prefix.mask));
        }
        self.values.insert((prefix.value, prefix.len), value)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Bits {
    #[inline]
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(u32::from_ne_bytes(v4.octets()).into(), 0),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v6.octets();
                Self(
                    u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                    u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
                )
            }
        }
    }

    /// The first `len` bits of an address like this one.
    fn leading(address: IpAddr, len: u8) -> Self {
        let free = u32::from(width(address) - len);
        Self::of(match address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::MAX.unbounded_shl(free)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(u128::MAX.unbounded_shl(free)).into(),
        })
    }

    #[inline]
    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0, self.1 & other.1)
    }

    #[inline]
    fn equals(self, other: Self) -> bool {
        (self.0 ^ other.0) | (self.1 ^ other.1) == 0
    }

    /// The address of the same IP version that has these bits.
    fn like(self, address: IpAddr) -> IpAddr {
        let Self(first, second) = self;
        match address {
            IpAddr::V4(_) => Ipv4Addr::from((first as u32).to_ne_bytes()).into(),
            IpAddr::V6(_) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&first.to_ne_bytes());
                octets[8..].copy_from_slice(&second.to_ne_bytes());
                Ipv6Addr::from(octets).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn texts_are_prefixes_or_say_why_not() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("2001:db8::1").to_string(), "2001:db8::1/128");
        assert_eq!(prefix("0.0.0.0/0").to_string(), "0.0.0.0/0");
        for text in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/", "::/129", "x/8"]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_one_tag_and_others_have_others() {
        assert_eq!(prefix("10.0.0.0/8").tag(), prefix("10.1.2.3/8").tag());
        let tags: HashSet<u32> =
            ["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8", "::/0", "0.0.0.0/0", "2001:db8::/32"]
                .map(|text| prefix(text).tag().bits())
                .into();
        assert_eq!(tags.len(), 6);
        assert!(tags.iter().all(|tag| tag >> Tag::ID_BITS == crate::TagKind::Prefix as u32));
        assert_eq!(prefix("10.0.0.0/8").tag().bits(), 0x4c99_9119);
    }

    #[test]
    fn the_longest_prefix_wins_and_versions_do_not_mix() {
        let map: PrefixMap<&str> = [
            (prefix("0.0.0.0/0"), "default"),
            (prefix("10.0.0.0/8"), "ten"),
            (prefix("10.1.0.0/16"), "ten one"),
            (prefix("10.1.2.3"), "host"),
            (prefix("2001:db8::/32"), "six"),
        ]
        .into_iter()
        .collect();
        for (text, expected) in [
            ("10.1.2.3", Some("host")),
            ("10.1.2.4", Some("ten one")),
            ("10.2.0.1", Some("ten")),
            ("192.0.2.1", Some("default")),
            ("2001:db8:ffff::1", Some("six")),
            ("::ffff:10.1.2.3", None),
            ("2001:db9::1", None),
        ] {
            assert_eq!(map.longest_match(address(text)).copied(), expected, "{text}");
        }
    }

    #[test]
    fn matching_agrees_with_trying_every_prefix() {
        // a fixed sequence of pseudo-random numbers (Knuth's MMIX constants)
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        let prefixes: Vec<Prefix> = (0..200)
            .map(|_| {
                let address = Ipv4Addr::from_bits(next() & 0xff00_ffff).into();
                Prefix::new(address, (next() % 33) as u8).expect("at most 32 bits")
            })
            .collect();
        let map: PrefixMap<Prefix> = prefixes.iter().map(|&prefix| (prefix, prefix)).collect();
        for _ in 0..2000 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(next() & 0xff00_ffff));
            let slow = prefixes.iter().filter(|p| p.contains(address)).max_by_key(|p| p.len);
            assert_eq!(map.longest_match(address), slow);
        }
    }
}
