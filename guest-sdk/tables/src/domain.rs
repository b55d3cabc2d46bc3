//! Names of domains that policies are about.

/// The number of a pattern of names: the key of [`Table::Domains`](crate::Table::Domains). Which names
/// it has never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(pub u32);

/// One name, such as `www.example.com`, or with `*.` in front all that are below one
/// (network-policy-api, `DomainName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern<'u>(&'u str);

impl<'u> Pattern<'u> {
    /// The pattern that is written so: two labels or more, of small letters, digits, `-` and `_`, of
    /// which the latter two are neither first nor last; without a dot at the end.
    pub fn new(text: &'u str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let is_name = name.len() <= MOST_OF_A_NAME
            && name.split('.').count() > 1
            && name.split('.').all(is_label);
        is_name.then_some(Self(text))
    }

    /// As it is written.
    pub fn text(self) -> &'u str {
        self.0
    }

    /// What names end with that are below one, its dot included; `None` if it is one name.
    pub fn suffix(self) -> Option<&'u str> {
        self.0.strip_prefix('*')
    }

    /// What tells it from others where it is remembered for longer than it has its number.
    pub fn digest(self) -> u64 {
        fnv1a(self.0.bytes())
    }

    /// Whether it has a name, of small letters and without a dot at the end.
    pub fn has(self, name: &str) -> bool {
        match self.suffix() {
            Some(suffix) => name.strip_suffix(suffix).is_some_and(|below| !below.is_empty()),
            None => name == self.0,
        }
    }

    pub(crate) fn decode(octets: &'u [u8]) -> Option<Self> {
        core::str::from_utf8(octets).ok().and_then(Self::new)
    }
}

/// The digest of octets, the same everywhere and for good (FNV-1a, 64 bits).
pub fn fnv1a(octets: impl Iterator<Item = u8>) -> u64 {
    octets.fold(OFFSET, |sum, octet| (sum ^ u64::from(octet)).wrapping_mul(PRIME))
}

fn is_label(label: &str) -> bool {
    let is_inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_".contains(&it);
    let is_outer = |it: Option<&u8>| it.is_some_and(u8::is_ascii_alphanumeric);
    let octets = label.as_bytes();
    label.len() <= MOST_OF_A_LABEL
        && octets.iter().all(|it| is_inner(*it))
        && is_outer(octets.first())
        && is_outer(octets.last())
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;
/// Octets of a label (RFC 1035 section 2.3.4).
const MOST_OF_A_LABEL: usize = 63;
/// Characters of a name: 255 octets, without the first length and the root's (RFC 1035 section 2.3.4).
const MOST_OF_A_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_fnv() {
        assert_eq!(fnv1a([].into_iter()), OFFSET);
        assert_eq!(fnv1a(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
        let [one, below] = ["a.test", "*.a.test"].map(|it| Pattern::new(it).unwrap().digest());
        assert_ne!(one, below);
    }
}
