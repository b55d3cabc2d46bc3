//! 48-bit MAC addresses (IEEE 802 §8) and the addresses that are derived from them or from
//! multicast groups.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

/// A 48-bit MAC address; reads and prints as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones: every station of the segment.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// All zeros: "unknown", as in the target of an ARP request.
    pub const UNSPECIFIED: MacAddr = MacAddr([0; 6]);

    /// The six octets in transmission order.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether this is `ff:ff:ff:ff:ff:ff`.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether the group bit is set, as it is in the broadcast address too.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0x01 != 0
    }

    /// Whether this may be a station's own address: neither a group nor unspecified.
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::UNSPECIFIED
    }

    /// Whether the address was assigned locally instead of by a vendor (the U/L bit).
    #[inline]
    pub const fn is_local(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// The modified EUI-64 interface identifier (RFC 2464 §4, RFC 4291 appendix A).
    pub const fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The link-local IPv6 address made of `fe80::/64` and [`eui64`](Self::eui64)
    /// (RFC 2464 §5).
    pub const fn link_local(self) -> Ipv6Addr {
        let id = u64::from_be_bytes(self.eui64());
        Ipv6Addr::from_bits((0xfe80 << 112) | id as u128)
    }

    /// The address that frames for an IP multicast group are sent to: `01:00:5e` and the
    /// group's low 23 bits (RFC 1112 §6.4), or `33:33` and its low 32 bits (RFC 2464 §7).
    ///
    /// `None` when `group` is not a multicast address.
    pub fn for_multicast(group: IpAddr) -> Option<MacAddr> {
        if !group.is_multicast() {
            return None;
        }

        Some(match group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                MacAddr([0x33, 0x33, a, b, c, d])
            }
        })
    }
}

impl From<[u8; 6]> for MacAddr {
    #[inline]
    fn from(octets: [u8; 6]) -> Self {
        MacAddr(octets)
    }
}

impl From<MacAddr> for [u8; 6] {
    #[inline]
    fn from(mac: MacAddr) -> Self {
        mac.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six colon-separated pairs of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MAC address: six pairs of hexadecimal digits joined by colons expected")
    }
}

impl core::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut pairs = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            *octet = pairs.next().and_then(hex_pair).ok_or(ParseMacError)?;
        }

        match pairs.next() {
            None => Ok(MacAddr(octets)),
            Some(_) => Err(ParseMacError),
        }
    }
}

fn hex_pair(pair: &str) -> Option<u8> {
    // `from_str_radix` alone would also take "+a" and "a"
    let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn mac(text: &str) -> MacAddr {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn the_printed_form_reads_back(octets: [u8; 6]) {
            prop_assert_eq!(MacAddr(octets).to_string().parse(), Ok(MacAddr(octets)));
        }

        #[test]
        fn any_text_is_refused_or_prints_back(text in "[0-9a-fA-F:+g]{0,20}") {
            if let Ok(parsed) = text.parse::<MacAddr>() {
                prop_assert_eq!(parsed.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn near_misses_are_refused() {
        for text in [
            "",
            "aa:bb:cc:dd:ee",
            "aa:bb:cc:dd:ee:ff:00",
            "aa:bb:cc:dd:ee:f",
            "aa:bb:cc:dd:ee:+f",
            "aa-bb-cc-dd-ee-ff",
            "aabbccddeeff",
            "aa:bb:cc:dd:ee:ff ",
            "aa:bb:cc:dd:ee:é",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError), "{text:?}");
        }
    }

    #[test]
    fn the_two_low_bits_tell_groups_and_local_addresses() {
        assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
        assert!(mac("01:00:5e:00:00:01").is_multicast());
        assert!(!mac("01:00:5e:00:00:01").is_local());
        assert!(mac("02:00:00:00:00:01").is_local());
        assert!(mac("02:00:00:00:00:01").is_unicast());
        assert!(!MacAddr::UNSPECIFIED.is_unicast());
        assert!(!mac("01:00:5e:00:00:01").is_broadcast());
    }

    #[test]
    fn octets_go_in_and_out() {
        let octets = [2, 0, 0, 0, 0, 1];
        assert_eq!(<[u8; 6]>::from(MacAddr::from(octets)), octets);
        assert_eq!(MacAddr::from(octets).octets(), octets);
    }

    #[test]
    fn debug_output_and_errors_are_readable() {
        assert_eq!(format!("{:?}", MacAddr::BROADCAST), "ff:ff:ff:ff:ff:ff");
        assert!(ParseMacError.to_string().starts_with("MAC address:"));
    }

    #[test]
    fn the_interface_identifier_is_that_of_rfc_2464() {
        let example = mac("34:56:78:9a:bc:de");
        assert_eq!(example.eui64(), [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]);
        assert_eq!(example.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
        assert_eq!(mac("02:00:00:00:00:01").eui64(), [0, 0, 0, 0xff, 0xfe, 0, 0, 1]);
    }

    #[test]
    fn groups_map_onto_their_multicast_prefix() {
        let rows = [
            ("224.0.0.251", Some("01:00:5e:00:00:fb")),
            ("239.255.1.2", Some("01:00:5e:7f:01:02")),
            ("ff02::1:ff9a:bcde", Some("33:33:ff:9a:bc:de")),
            ("10.0.0.1", None),
            ("255.255.255.255", None),
            ("2001:db8::1", None),
        ];
        for (group, expected) in rows {
            let group: IpAddr = group.parse().unwrap();
            assert_eq!(MacAddr::for_multicast(group), expected.map(mac), "{group}");
        }
    }
}
