//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0          2          4      5      6          8         14        18        24        28
//! ├──────────┼──────────┼──────┼──────┼──────────┼─────────┼─────────┼─────────┼─────────┤
//! │ hardware │ protocol │ hlen │ plen │ operation│ sender  │ sender  │ target  │ target  │
//! │ 1        │ 0x0800   │ 6    │ 4    │          │ MAC     │ IPv4    │ MAC     │ IPv4    │
//! ```

use core::net::Ipv4Addr;

use crate::ethernet::EtherType;
use crate::view::view;
use crate::{MacAddr, Malformed, field};

const HARDWARE: usize = 0;
const PROTOCOL: usize = 2;
const HARDWARE_LEN: usize = 4;
const PROTOCOL_LEN: usize = 5;
const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

/// Octets of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

const ETHERNET: u16 = 1;

/// What an ARP packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Operation(pub u16);

impl Operation {
    /// Who has the target address?
    pub const REQUEST: Operation = Operation(1);
    /// The sender has the sender address.
    pub const REPLY: Operation = Operation(2);
}

view! {
    /// A view of an ARP packet.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`PACKET_LEN`].
    pub struct Packet
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// Whether the packet is complete and for IPv4 over Ethernet. Octets behind it are padding.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        let octets = self.octets();
        if octets.len() < PACKET_LEN {
            return Err(Malformed::TruncatedArp);
        }
        if field::u16(octets, HARDWARE) != ETHERNET || octets[HARDWARE_LEN] != 6 {
            return Err(Malformed::BadArpHardware);
        }
        if field::u16(octets, PROTOCOL) != EtherType::IPV4.0 || octets[PROTOCOL_LEN] != 4 {
            return Err(Malformed::BadArpProtocol);
        }
        Ok(())
    }

    /// Request, reply, or something else.
    #[inline]
    pub fn operation(&self) -> Operation {
        Operation(field::u16(self.octets(), OPERATION))
    }

    /// The sender's MAC address.
    #[inline]
    pub fn sender_mac(&self) -> MacAddr {
        MacAddr(field::array(self.octets(), SENDER_MAC))
    }

    /// The sender's IPv4 address; unspecified in a probe (RFC 5227 §2.1).
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        field::array(self.octets(), SENDER_IP).into()
    }

    /// The MAC address of the station asked or told; of no meaning in a request.
    #[inline]
    pub fn target_mac(&self) -> MacAddr {
        MacAddr(field::array(self.octets(), TARGET_MAC))
    }

    /// The IPv4 address asked for, or of the station told.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        field::array(self.octets(), TARGET_IP).into()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets the operation.
    #[inline]
    pub fn set_operation(&mut self, operation: Operation) {
        field::put_u16(self.bytes.as_mut(), OPERATION, operation.0);
    }

    /// Sets the sender's MAC address.
    #[inline]
    pub fn set_sender_mac(&mut self, mac: MacAddr) {
        field::put(self.bytes.as_mut(), SENDER_MAC, mac.octets());
    }

    /// Sets the sender's IPv4 address.
    #[inline]
    pub fn set_sender_ip(&mut self, ip: Ipv4Addr) {
        field::put(self.bytes.as_mut(), SENDER_IP, ip.octets());
    }

    /// Sets the target's MAC address.
    #[inline]
    pub fn set_target_mac(&mut self, mac: MacAddr) {
        field::put(self.bytes.as_mut(), TARGET_MAC, mac.octets());
    }

    /// Sets the target's IPv4 address.
    #[inline]
    pub fn set_target_ip(&mut self, ip: Ipv4Addr) {
        field::put(self.bytes.as_mut(), TARGET_IP, ip.octets());
    }
}

/// An ARP packet as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address.
    pub sender_ip: Ipv4Addr,
    /// The target's MAC address; [`MacAddr::UNSPECIFIED`] in a request.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// Asks for the MAC address of `target`.
    pub const fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target: Ipv4Addr) -> Repr {
        Repr {
            operation: Operation::REQUEST,
            sender_mac,
            sender_ip,
            target_mac: MacAddr::UNSPECIFIED,
            target_ip: target,
        }
    }

    /// The reply to this request: the address asked for is at `mac`.
    #[must_use]
    pub const fn answer(&self, mac: MacAddr) -> Repr {
        Repr {
            operation: Operation::REPLY,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Reads a packet.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        Ok(Repr {
            operation: packet.operation(),
            sender_mac: packet.sender_mac(),
            sender_ip: packet.sender_ip(),
            target_mac: packet.target_mac(),
            target_ip: packet.target_ip(),
        })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        PACKET_LEN
    }

    /// Writes the packet.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        let octets = packet.bytes.as_mut();
        field::put_u16(octets, HARDWARE, ETHERNET);
        field::put_u16(octets, PROTOCOL, EtherType::IPV4.0);
        octets[HARDWARE_LEN] = 6;
        octets[PROTOCOL_LEN] = 4;

        packet.set_operation(self.operation);
        packet.set_sender_mac(self.sender_mac);
        packet.set_sender_ip(self.sender_ip);
        packet.set_target_mac(self.target_mac);
        packet.set_target_ip(self.target_ip);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: [u8; 28] = [
        0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01, // Ethernet, IPv4, request
        0x02, 0, 0, 0, 0, 0x01, 10, 0, 0, 1, // sender
        0, 0, 0, 0, 0, 0, 10, 0, 0, 2, // target
    ];

    #[test]
    fn a_request_and_its_answer_mirror_each_other() {
        let (asker, owner) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let request = Repr::parse(&Packet::new_unchecked(&REQUEST[..])).unwrap();
        let (us, them) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert_eq!(request, Repr::request(asker, us, them));

        let answer = request.answer(owner);
        assert_eq!(answer.operation, Operation::REPLY);
        assert_eq!((answer.sender_mac, answer.sender_ip), (owner, them));
        assert_eq!((answer.target_mac, answer.target_ip), (asker, us));
    }

    #[test]
    fn a_truncated_packet_is_refused() {
        for len in 0..PACKET_LEN {
            let refused = Packet::new_checked(&REQUEST[..len]).unwrap_err();
            assert_eq!(refused, Malformed::TruncatedArp);
        }
    }

    #[test]
    fn other_hardware_and_protocols_are_refused() {
        let rows = [
            (HARDWARE + 1, 6, Malformed::BadArpHardware),
            (HARDWARE_LEN, 8, Malformed::BadArpHardware),
            (PROTOCOL, 0x86, Malformed::BadArpProtocol),
            (PROTOCOL_LEN, 16, Malformed::BadArpProtocol),
        ];
        for (at, value, expected) in rows {
            let mut packet = REQUEST;
            packet[at] = value;
            assert_eq!(Packet::new_checked(packet).unwrap_err(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_was_emitted_parses_back(
            operation: u16, macs: [[u8; 6]; 2], ips: [[u8; 4]; 2],
        ) {
            let repr = Repr {
                operation: Operation(operation),
                sender_mac: MacAddr(macs[0]),
                sender_ip: ips[0].into(),
                target_mac: MacAddr(macs[1]),
                target_ip: ips[1].into(),
            };
            let mut packet = Packet::new_unchecked([0xaa; 30]);
            repr.emit(&mut packet);
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert_eq!(&packet.into_inner()[28..], &[0xaa; 2]);
        }
    }
}
