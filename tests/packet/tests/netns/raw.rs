//! Frames that a pod's own network stack would never send.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use millrace_filter::testing::frames;
use millrace_filter::wire::builder::{self, Ethernet};
use millrace_filter::wire::{MacAddr, icmpv4, icmpv6, ipv4, ipv6};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::bed::{GATEWAY, Pod};

/// A pod's interface, for frames as they are.
pub(crate) struct Raw {
    socket: OwnedFd,
    mac: MacAddr,
}

impl Raw {
    pub(crate) fn of(pod: &Pod) -> Self {
        let socket = pod.namespace.run(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None);
            let socket = socket.expect("needs root");
            let mut links = getifaddrs().expect("the kernel lists them");
            let link = links.find_map(|entry| {
                let is_its = entry.interface_name == "eth0";
                entry.address.filter(|_| is_its)?.as_link_addr().copied()
            });
            bind(socket.as_raw_fd(), &link.expect("a pod has one")).expect("it is up");
            socket
        });
        Self { socket: socket.expect("it can be entered"), mac: MacAddr(pod.mac()) }
    }

    /// Sends a packet to the gateway; returns when it has left the pod.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.send_as_it_is(&frames::between(frame.to_vec(), self.mac, MacAddr(GATEWAY)));
    }

    /// Sends a frame; returns when it has left the pod.
    pub(crate) fn send_as_it_is(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).expect("it is sent");
        assert_eq!(sent, frame.len());
    }
}

/// The part of an IP packet's payload from `start` to `end`, as a fragment of the datagram `id`.
/// The last one if it ends where the payload does.
pub(crate) fn fragment(frame: &[u8], id: u16, start: usize, end: usize) -> Vec<u8> {
    let is_v4 = frame[12] == 0x08;
    let header = if is_v4 { 34 } else { 54 };
    let (head, payload) = frame.split_at(header);
    let more = end < payload.len();
    let mut part = head.to_vec();
    if is_v4 {
        part.extend_from_slice(&payload[start..end]);
        let mut packet = ipv4::Packet::new_unchecked(&mut part[14..]);
        packet.set_total_len((20 + end - start) as u16);
        packet.set_ident(id);
        packet.set_dont_fragment(false);
        packet.set_more_fragments(more);
        packet.set_fragment_offset(start as u16);
        packet.fill_checksum();
    } else {
        let next_header = std::mem::replace(&mut part[20], 44);
        part[18..20].copy_from_slice(&((8 + end - start) as u16).to_be_bytes());
        let place = start as u16 | u16::from(more);
        part.extend([next_header, 0]);
        part.extend(place.to_be_bytes());
        part.extend(u32::from(id).to_be_bytes());
        part.extend_from_slice(&payload[start..end]);
    }
    part
}

/// An ICMP error that says that nobody is at the port that a frame was for, and quotes all of it.
pub(crate) fn port_unreachable(from: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    let ethernet = Ethernet::new(MacAddr([2; 6]), MacAddr(GATEWAY));
    let mut frame = vec![0; about.len() + 100];
    let len = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let code = icmpv4::Unreachable::PORT;
            let error = icmpv4::Repr::DestinationUnreachable { code, next_hop_mtu: 0 };
            let ip = ipv4::Repr::new(from, to);
            builder::icmpv4(&mut frame, &ethernet, &ip, &error, &about[14..])
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let error = icmpv6::Repr::DestinationUnreachable { code: icmpv6::Unreachable::PORT };
            let ip = ipv6::Repr::new(from, to);
            builder::icmpv6(&mut frame, &ethernet, &ip, &error, &about[14..])
        }
        _ => unreachable!("both are of one family"),
    };
    frame.truncate(len.expect("it fits"));
    frame
}
