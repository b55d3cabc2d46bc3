//! Everything that can be wrong with a header.
//!
//! One table for all protocols: a row is a name and what the field should have been. Rows carry
//! no data, so that a host can map them one to one onto its drop reasons and count them.

use core::error::Error;
use core::fmt;

macro_rules! malformed {
    ($($fault:ident: $text:literal,)+) => {
        /// Why a header was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Malformed {
            $(#[doc = $text] $fault,)+
        }

        impl Malformed {
            /// Every fault once, in declaration order: `ALL[fault as usize] == fault`.
            pub const ALL: &[Malformed] = &[$(Malformed::$fault,)+];

            const fn text(self) -> &'static str {
                match self {
                    $(Malformed::$fault => $text,)+
                }
            }
        }
    };
}

malformed! {
    TruncatedEthernet: "Ethernet header: fewer than 14 octets",
    TruncatedVlan: "VLAN tag: fewer than 4 octets after the tag's EtherType",
    NotVlanTagged: "EtherType: 0x8100 or 0x88a8 expected, the frame carries no VLAN tag",
    TruncatedArp: "ARP packet: fewer than 28 octets",
    BadArpHardware: "ARP hardware type and length: 1 and 6 (Ethernet) expected",
    BadArpProtocol: "ARP protocol type and length: 0x0800 and 4 (IPv4) expected",
    TruncatedIpv4: "IPv4 header: fewer octets than its header length states, or than 20",
    BadIpv4Version: "IPv4 version: 4 expected",
    BadIpv4HeaderLength: "IPv4 header length: at least 5 words expected",
    BadIpv4TotalLength: "IPv4 total length: from the header length to the octets present expected",
    TruncatedIpv6: "IPv6 header: fewer than 40 octets",
    BadIpv6Version: "IPv6 version: 6 expected",
    BadIpv6PayloadLength: "IPv6 payload length: no more than the octets present expected",
    TruncatedExtensionHeader: "IPv6 extension header: runs past the end of the packet",
    BadExtensionHeaderLength: "IPv6 authentication header length: at least 12 octets expected",
    MisplacedHopByHop: "IPv6 hop-by-hop options: allowed directly after the IPv6 header only",
    RepeatedFragmentHeader: "IPv6 fragment header: at most one expected",
    TooManyExtensionHeaders: "IPv6 extension headers: at most 8 expected",
    TruncatedTcp: "TCP header: fewer octets than its data offset states, or than 20",
    BadTcpDataOffset: "TCP data offset: at least 5 words expected",
    BadTcpOption: "TCP option length: at least 2, within the header expected",
    TruncatedUdp: "UDP header: fewer than 8 octets",
    BadUdpLength: "UDP length: from 8 to the octets present expected",
    TruncatedSctp: "SCTP common header: fewer than 12 octets",
    BadSctpChunk: "SCTP chunk length: at least 4, within the packet expected",
    TruncatedIcmpv4: "ICMP message: fewer than 8 octets",
    TruncatedIcmpv6: "ICMPv6 message: fewer octets than its type needs, or than 8",
    TruncatedNdOption: "neighbour discovery option: runs past the end of the message",
    ZeroNdOption: "neighbour discovery option length: at least 1 expected",
    TruncatedVxlan: "VXLAN header: fewer than 8 octets",
    BadVxlanFlags: "VXLAN flags: the I flag (valid VNI) expected",
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for Malformed {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_table_is_indexed_by_fault() {
        assert!(Malformed::ALL.len() > 20);
        for (index, fault) in Malformed::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, index);
        }
    }

    #[test]
    fn every_fault_has_a_text_of_its_own() {
        let texts: HashSet<_> = Malformed::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), Malformed::ALL.len());
    }
}
