//! Datagrams, answered from the address that they were sent to.
//!
//! A node has several addresses, and so has a pod that uses its network: left to itself, the
//! kernel answers from the one that is nearest to the client, whom that answer means nothing to.
//! So the socket asks for the address with each datagram (RFC 3542 §6), and hands it back.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use libc::in6_pktinfo;
use nix::cmsg_space;
use nix::sys::socket::sockopt::Ipv6RecvPacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
};

/// A socket for both families.
pub(super) fn open(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    Ok(socket)
}

/// Echoes for ever; an answer that cannot be sent is one that got lost.
pub(super) fn serve(socket: &UdpSocket, pod: &str) {
    let mut buffer = vec![0; LARGEST];
    loop {
        // an error is the echo of an earlier answer that nobody wanted
        let _ = answer(socket, pod, &mut buffer);
    }
}

fn answer(socket: &UdpSocket, pod: &str, buffer: &mut [u8]) -> io::Result<()> {
    let mut space = cmsg_space!(in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let descriptor = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrIn6>(descriptor, &mut parts, Some(&mut space), MsgFlags::empty())?;
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let (Some(client), Some(mut asked)) = (message.address, asked) else { return Ok(()) };
    let length = message.bytes;

    // only a link-local address needs its link; others may be answered by another way
    if !Ipv6Addr::from(asked.ipi6_addr.s6_addr).is_unicast_link_local() {
        asked.ipi6_ifindex = 0;
    }
    let echo = super::echo(pod, SocketAddr::V6(client.into()), &buffer[..length]);
    let source = [ControlMessage::Ipv6PacketInfo(&asked)];
    sendmsg(descriptor, &[IoSlice::new(&echo)], &source, MsgFlags::empty(), Some(&client))?;
    Ok(())
}

/// The largest datagram there is.
const LARGEST: usize = 64 << 10;
