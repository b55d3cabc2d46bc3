//! TCP connections that are to be reset, whether anybody sends or not.
//!
//! An end believes a reset that has exactly the number it expects next (RFC 5961 section 3.2), and
//! that the host does not know: the kernel has carried the rest. So both ends are asked. A segment
//! from nowhere near that number is answered with an acknowledgment of what is expected (RFC 9293
//! section 3.10.7.4), which comes to a worker, as all packets of the connection do by then, and is
//! answered with a reset that follows from it, like anything else that is rejected.

use std::net::IpAddr;

use millrace_wire::builder::{self, Ethernet, Ip};
use millrace_wire::tcp::{self, Flags};
use millrace_wire::{IpProtocol, MacAddr, Ports};

use crate::connections::{Direction, View};

/// Writes into `frame` the question for the end that packets of a direction are for, as if the
/// other end had sent it; the port it leaves by, and its length. Nothing if the connection is not
/// TCP's, or over.
pub(crate) fn question(
    view: &View,
    direction: Direction,
    frame: &mut [u8],
) -> Option<(u16, usize)> {
    let answer = view.keys[direction.other() as usize];
    if answer.protocol != IpProtocol::TCP.0 || view.state.is_over() {
        return None;
    }
    let way = &view.ways[direction as usize];
    let link = way.link?;
    let ethernet = Ethernet::new(MacAddr(link.source), MacAddr(link.destination));
    let (from, to) = (answer.destination, answer.source);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ip::v4(from, to),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ip::v6(from, to),
        _ => return None,
    };
    let ports = Ports { source: from.port, destination: to.port };
    let segment = tcp::Repr { ports, flags: Flags::ACK, ..tcp::Repr::default() };
    let len = builder::tcp(frame, &ethernet, &ip, &segment, b"").ok()?;
    Some((way.verdict.egress, len))
}

/// Bytes of the longest question: Ethernet, IPv6 and TCP without options.
pub(crate) const QUESTION: usize = 14 + 40 + 20;
