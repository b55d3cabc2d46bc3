//! One question, and what came of it: to the [server](crate::server) of a pod, from the network that
//! the calling thread is in.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use millrace_control::PodName;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use serde::{Deserialize, Serialize};

/// How somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Means {
    /// A connection, and a line.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo request (RFC 792, RFC 4443).
    Ping,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The pod has answered.
    Reached {
        /// What it knows the asker's address as; a ping does not tell.
        seen_as: Option<IpAddr>,
    },
    /// Somebody else has answered.
    Stranger {
        /// What they said.
        said: String,
    },
    /// Somebody on the way, or the pod itself, has refused.
    Refused,
    /// There is no way there: the network says so.
    Unreachable,
    /// Nothing came back.
    Silence,
    /// Something else went wrong, at the asker's.
    Failed {
        /// The operating system's reason.
        reason: String,
    },
}

impl Outcome {
    /// Whether the pod that was asked has answered.
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Reached { .. })
    }
}

/// Asks the server at an address, which one of `wanted` is to have. A ping knows no port.
pub(crate) fn ask(
    server: SocketAddr,
    by: Means,
    wanted: &[PodName],
    patience: Duration,
) -> Outcome {
    let answer = match by {
        Means::Tcp => over_tcp(server, patience).map(Some),
        Means::Udp => over_udp(server, patience).map(Some),
        Means::Ping => ping(server.ip(), patience).map(|()| None),
    };
    match answer {
        Ok(None) => Outcome::Reached { seen_as: None },
        Ok(Some(said)) => understand(&said, wanted),
        Err(error) => failure(&error),
    }
}

/// What the server says: its name, who asked, and what.
fn understand(said: &str, wanted: &[PodName]) -> Outcome {
    let mut words = said.split(' ');
    let name = words.next().and_then(|name| name.parse::<PodName>().ok());
    let client = words.next().and_then(|client| client.parse::<SocketAddr>().ok());
    match (name, client) {
        (Some(name), Some(client)) if wanted.contains(&name) => {
            Outcome::Reached { seen_as: Some(client.ip()) }
        }
        _ => Outcome::Stranger { said: said.to_owned() },
    }
}

/// What an error of the operating system means.
pub(crate) fn failure(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Outcome::Silence,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Outcome::Unreachable,
        // what a refusing router's "administratively prohibited" becomes for IPv6
        io::ErrorKind::PermissionDenied => Outcome::Refused,
        _ => Outcome::Failed { reason: error.to_string() },
    }
}

fn over_tcp(server: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("{QUESTION}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn over_udp(server: SocketAddr, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind(unspecified(server.ip()))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(QUESTION.as_bytes())?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// By a ping socket, which the kernel fills in identifier and checksum for.
fn ping(address: IpAddr, patience: Duration) -> io::Result<()> {
    let (family, protocol, request) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, ECHO_REQUEST_V4),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, ECHO_REQUEST_V6),
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol))?;
    let socket = UdpSocket::from(socket);
    socket.connect((address, 0))?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
    // only replies to this very socket come in
    socket.recv(&mut [0; 64]).map(drop)
}

fn unspecified(family: IpAddr) -> SocketAddr {
    match family {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

const QUESTION: &str = "who is there?";
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
