//! One blocking rtnetlink socket: a request goes out, its whole answer comes back.
//!
//! Owns the protocol of `linux/netlink.h` below the messages: sequence numbers, acknowledgements,
//! dumps that were interrupted or for which there was no room (`ENOBUFS`), and the kernel's own words
//! on why it refused. Never knows what a message means.
//!
//! A reader must not break this: the kernel is the only peer, and an answer belongs to the
//! request with its sequence number; anything else in the queue is skipped.

use std::{fmt, io, iter};

use rtnetlink::packet_core::{
    DecodeError, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// A socket that stays in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct RouteSocket {
    socket: Socket,
    /// Of the last request.
    sequence: u32,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // an error shall say why, and need not repeat the whole request
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request that is acknowledged and returns what came before the acknowledgement.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        Ok(self.exchange(message, NLM_F_ACK | flags)?.messages)
    }

    /// Reads a whole table.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.exchange(message.clone(), NLM_F_DUMP) {
                Ok(answer) if !answer.interrupted => return Ok(answer.messages),
                Ok(_) => {}
                // a part is lost, and what is left of this dump would be in the way of the next
                Err(refusal) if is_overrun(&refusal.source) => {
                    self.socket.set_non_blocking(true)?;
                    let drained = drain(&self.socket);
                    self.socket.set_non_blocking(false)?;
                    drained?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal {
            source: io::ErrorKind::ResourceBusy.into(),
            explanation: Some("the table kept changing while it was read".to_owned()),
        })
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Answer, Refusal> {
        self.send(message, flags)?;
        let mut answer = Answer::default();
        loop {
            for part in messages(&receive(&self.socket)?) {
                let NetlinkMessage { header, payload, .. } = part?;
                if header.sequence_number != self.sequence {
                    continue;
                }
                answer.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => answer.messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(Refusal::from_error(&error, header.flags));
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code).into());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answer),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        uninterrupted(|| self.socket.send_to(&bytes, &SocketAddr::new(KERNEL, 0), 0)).map(drop)
    }
}

/// The kernel's no: an errno and, where the kernel gave one, its explanation.
#[derive(Debug, thiserror::Error)]
pub struct Refusal {
    source: io::Error,
    explanation: Option<String>,
}

impl Refusal {
    /// The errno, unless the answer could not be understood.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Reads an `NLMSG_ERROR`, whose attributes follow the capped copy of the request
    /// (`netlink_ack` in net/netlink/af_netlink.c).
    fn from_error(error: &ErrorMessage, flags: u16) -> Self {
        let attributes = match error.header.get(NETLINK_HEADER_LEN..) {
            Some(attributes) if flags & NLM_F_ACK_TLVS != 0 => attributes,
            _ => &[],
        };
        let explanation = NlasIterator::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
            .map(|attribute| {
                let text = String::from_utf8_lossy(attribute.value());
                text.trim_end_matches('\0').to_owned()
            });
        Self { source: error.to_io(), explanation }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self.errno()? {
            libc::ENETUNREACH => {
                Some("add an address of the gateway's network first, or set `onlink`")
            }
            libc::ENETDOWN => Some("set the link up first"),
            libc::EOPNOTSUPP => Some("this kernel or driver lacks it"),
            libc::EBUSY => Some("set it down or release it first"),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.explanation {
            Some(explanation) => f.write_str(explanation)?,
            None => write!(f, "{}", self.source)?,
        }
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, explanation: None }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string()).into()
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    /// The table changed during a dump, which may have missed or doubled entries.
    interrupted: bool,
}

/// The next datagram from the kernel.
pub(crate) fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    loop {
        let (datagram, sender) = uninterrupted(|| socket.recv_from_full())?;
        if sender.port_number() == KERNEL {
            return Ok(datagram);
        }
    }
}

/// Throws away what is left of something that a part may be lost of, on a socket that does not block.
pub(crate) fn drain(socket: &Socket) -> io::Result<()> {
    loop {
        // nothing is peeked at: behind that the kernel may go on with a dump, and find no room
        match socket.recv_from(&mut Vec::new(), 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if !is_overrun(&error) && error.kind() != io::ErrorKind::Interrupted => {
                return Err(error);
            }
            _ => {}
        }
    }
}

/// Whether the kernel dropped messages for want of room.
pub(crate) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// The messages of a datagram, up to the first that cannot be read.
pub(crate) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, DecodeError>> {
    iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(datagram);
        let length = NetlinkBuffer::new_checked(datagram)
            .map_or(datagram.len(), |buffer| buffer.length() as usize);
        datagram = datagram.get(length.next_multiple_of(NLMSG_ALIGNTO.into())..).unwrap_or(&[]);
        Some(message)
    })
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The port of the other end of every rtnetlink socket.
const KERNEL: u32 = 0;
/// `sizeof(struct nlmsghdr)`
const NETLINK_HEADER_LEN: usize = 16;
/// Not yet named by the packet crates; `linux/netlink.h`.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A table that changes under this many reads in a row is changing all the time.
const DUMP_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    use rtnetlink::MulticastGroup;
    use rtnetlink::packet_route::neighbour::NeighbourMessage;

    use super::*;
    use crate::neighbour::destination;
    use crate::{Namespace, NamespaceError, Neighbour, VethSpec};

    #[test]
    fn a_dump_that_has_no_room_begins_anew_and_loses_nothing() {
        let namespace = match Namespace::create_unique("full") {
            Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
                eprintln!("not run: {error}");
                return;
            }
            outcome => outcome.unwrap(),
        };
        let netlink = namespace.netlink().unwrap();
        netlink.add_veth(&VethSpec::new("eth0", "peer0")).unwrap();
        let open = || {
            let socket = namespace.run(RouteSocket::open).unwrap().unwrap();
            socket.socket.set_rx_buf_sz(SMALL).unwrap();
            socket
        };
        // two that hear of neighbours, so that they have no room, as one of them tells
        let [mut plain, mut full, mut witness] = [(); 3].map(|()| open());
        for member in [&mut full, &mut witness] {
            member.socket.add_membership(MulticastGroup::Neigh as u32).unwrap();
        }
        let addresses: Vec<_> = (1..=1000).map(|n| Ipv4Addr::from(0x0a01_0000 + n)).collect();
        for address in &addresses {
            let neighbour = Neighbour::permanent("eth0", (*address).into(), [2; 6]);
            netlink.add_neighbour(&neighbour).unwrap();
        }
        let lost = receive(&witness.socket).map(drop);
        assert!(lost.is_err_and(|error| is_overrun(&error)), "this shows nothing");

        for socket in [&mut plain, &mut full] {
            let every = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
            let messages = socket.dump(every).unwrap();
            let listed = messages.iter().filter_map(|it| match it {
                RouteNetlinkMessage::NewNeighbour(it) => destination(it),
                _ => None,
            });
            let listed: BTreeSet<IpAddr> = listed.collect();
            assert!(addresses.iter().all(|it| listed.contains(&IpAddr::V4(*it))), "{listed:?}");
        }
    }

    /// Octets, of which the kernel makes its least.
    const SMALL: libc::c_int = 1;
}
