//! The one table of drop reasons: the source of metric labels, of what the CLI
//! prints, and of the documents. A packet that goes no further is counted under
//! exactly one of them.

/// Who finds a reason to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReasonGroup {
    /// The host's parser: the packet is malformed.
    Malformed,
    /// A filter decided so. Filters may state only these.
    Filter,
    /// The host could not, or must not, carry the packet.
    Host,
}

macro_rules! reasons {
    ($( $group:ident { $( $number:literal $name:ident $label:literal $help:literal )* } )*) => {
        /// Why a packet went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $($( #[doc = $help] $name = $number, )*)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[ $($( Self::$name, )*)* ];

            /// The reason with this number.
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $($( $number => Some(Self::$name), )*)*
                    _ => None,
                }
            }

            /// The word used in metrics, tables and the C header.
            pub const fn label(self) -> &'static str {
                match self { $($( Self::$name => $label, )*)* }
            }

            /// One sentence for people.
            pub const fn help(self) -> &'static str {
                match self { $($( Self::$name => $help, )*)* }
            }

            /// Who finds it.
            pub const fn group(self) -> ReasonGroup {
                match self { $($( Self::$name => ReasonGroup::$group, )*)* }
            }
        }
    };
}

reasons! {
    Malformed {
        1 TruncatedEthernet "truncated-ethernet" "The frame is shorter than an Ethernet header."
        2 BadVlan "bad-vlan" "A VLAN tag is cut off, or there are more than two of them."
        3 BadArp "bad-arp" "The ARP packet is cut off or not for IPv4 over Ethernet."
        4 TruncatedIpv4 "truncated-ipv4" "The IPv4 header is cut off."
        5 BadIpv4Header "bad-ipv4-header" "The IPv4 version or header length is wrong."
        6 BadIpv4Length "bad-ipv4-length" "The IPv4 total length does not fit the header or the frame."
        7 BadIpv4Checksum "bad-ipv4-checksum" "The IPv4 header checksum is wrong."
        8 TruncatedIpv6 "truncated-ipv6" "The IPv6 header is cut off."
        9 BadIpv6Header "bad-ipv6-header" "The IPv6 version is wrong."
        10 BadIpv6Length "bad-ipv6-length" "The IPv6 payload length does not fit the frame."
        11 BadExtensionHeaders "bad-extension-headers" "The chain of IPv6 extension headers is cut off or too long."
        12 TruncatedTransport "truncated-transport" "The TCP, UDP, SCTP or ICMP header is cut off."
        13 BadTransport "bad-transport" "A length or offset in the transport header is wrong."
        14 BadNd "bad-nd" "The neighbour discovery message is cut off or breaks RFC 4861."
        15 Martian "martian" "A source or destination address must not appear on a link."
        16 MulticastSource "multicast-source" "The Ethernet source address is a group address."
        17 TruncatedFrame "truncated-frame" "The frame is longer than a buffer and arrived cut off."
        18 BadFragment "bad-fragment" "A fragment that others follow is no multiple of 8 bytes long, or one ends behind the longest datagram."
    }
    Filter {
        32 Denied "denied" "A rule says so."
        33 RateLimited "rate-limited" "The sender exceeds its rate."
        34 SpoofedMac "spoofed-mac" "The Ethernet source address does not belong to the port."
        35 SpoofedAddress "spoofed-address" "The IP source address does not belong to the port."
        36 NoRoute "no-route" "No route leads to the destination."
        37 Blackhole "blackhole" "A route discards the destination."
        38 Prohibited "prohibited" "A route forbids the destination."
        39 NoBackend "no-backend" "The Service has no endpoint to send to."
        40 NoLocalBackend "no-local-backend" "The Service's traffic policy allows only local endpoints, and there are none."
        41 NoService "no-service" "The address belongs to Services, but none has this port."
        42 SourceRange "source-range" "The source is outside the Service's allowed ranges."
        43 StationLimit "station-limit" "The port has as many stations as it may have."
        44 SamePort "same-port" "The destination is behind the port the packet came from."
        45 LinkLocal "link-local" "The destination is reserved for the link (IEEE 802.1Q table 8-1)."
        46 Isolated "isolated" "A policy isolates the pod, and no rule allows the flow."
        47 InvalidState "invalid-state" "The packet belongs to no connection and cannot open one."
    }
    Host {
        64 NoDecision "no-decision" "The chain ended without saying where the packet goes."
        65 FilterFault "filter-fault" "A filter failed, and its stage fails closed."
        66 FilterAbsent "filter-absent" "A stage has no working filter, and fails closed."
        67 BadAnswer "bad-answer" "A filter's answer is out of range or beyond its capabilities, and its stage fails closed."
        68 NoSuchPort "no-such-port" "The egress port does not exist (any more)."
        69 PortDown "port-down" "The egress port's interface is down or gone."
        70 RingFull "ring-full" "The egress port's transmit ring is full."
        71 NoFrame "no-frame" "All packet buffers are in use."
        72 TooBig "too-big" "The packet is larger than the egress port carries."
        73 TtlExceeded "ttl-exceeded" "The time to live ran out."
        74 NothingToFlood "nothing-to-flood" "No other port is there to flood to."
        75 Unsupported "unsupported" "The decision asks for something this port cannot carry out."
        76 KernelRefused "kernel-refused" "The kernel did not accept the frame for transmission."
        77 VlanNotAllowed "vlan-not-allowed" "The port is not a member of the frame's VLAN."
        96 AgentDown "agent-down" "The packet opens a flow, and no agent lives to decide about it."
        97 NewFlowLimit "new-flow-limit" "The port sends packets of unknown flows faster than it may."
        98 RefusedFlow "refused-flow" "The kernel's flow cache remembers that the flow is refused."
        99 PuntFull "punt-full" "Workers are behind, and no more packets of unknown flows find room in front of them."
        78 ConnectionLimit "connection-limit" "The sender's port has its share of connections, and all of them are in use."
        79 ConnectionTableFull "connection-table-full" "The connection table is full, and all of its connections are in use."
        80 NoNatPort "no-nat-port" "No port is left to translate the source to for this destination."
        81 FragmentAlone "fragment-alone" "The first fragment, which says where the others go, did not come in time, or too many waited for theirs."
        82 FragmentOverlap "fragment-overlap" "Fragments of the datagram overlap, contradict each other about its end, or leave too many gaps."
    }
}

impl Reason {
    /// One more than the highest number: the length of an array indexed by reason.
    pub const COUNT: usize = {
        let mut highest = 0;
        let mut index = 0;
        while index < Self::ALL.len() {
            if Self::ALL[index] as usize > highest {
                highest = Self::ALL[index] as usize;
            }
            index += 1;
        }
        highest + 1
    };

    /// The reason with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.label() == label)
    }

    /// What a filter's number means: 0 is [`Reason::Denied`], and only reasons of
    /// [`ReasonGroup::Filter`] may be stated.
    pub fn stated_by_filter(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Denied),
            _ => Self::from_u16(number).filter(|reason| reason.group() == ReasonGroup::Filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_numbers_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            for other in &Reason::ALL[index + 1..] {
                assert_ne!(reason.label(), other.label());
                assert_ne!(*reason as u16, *other as u16);
            }
            assert_eq!(Reason::from_u16(*reason as u16), Some(*reason));
            assert_eq!(Reason::from_label(reason.label()), Some(*reason));
        }
    }

    #[test]
    fn a_filter_can_state_only_its_own_group() {
        assert_eq!(Reason::stated_by_filter(0), Some(Reason::Denied));
        assert_eq!(Reason::stated_by_filter(Reason::NoRoute as u16), Some(Reason::NoRoute));
        assert_eq!(Reason::stated_by_filter(Reason::FilterFault as u16), None);
        assert_eq!(Reason::stated_by_filter(9999), None);
    }
}
