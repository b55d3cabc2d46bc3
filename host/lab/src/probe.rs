//! Who reaches whom: every pod asks every pod, with both families, by TCP, UDP and ping.
//!
//! Owns the asking, from within the pods' networks. What an answer means for a policy or a
//! promise is for whoever reads it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use millrace_control::PodName;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::server::Service;
use crate::state::PodState;
use crate::{Lab, LabError};

/// One question, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who asked.
    pub from: PodName,
    /// Who was asked.
    pub to: PodName,
    /// Which address of theirs.
    pub address: IpAddr,
    /// How.
    pub by: Means,
    /// What came of it.
    pub outcome: Outcome,
}

/// How somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// A connection, and a line.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo request (RFC 792, RFC 4443).
    Ping,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Has every pod of a lab ask every pod at each of its addresses; by the names of the pods, and
/// in the order of addresses and [`Means`]. `patience` is for one answer.
///
/// # Errors
/// If a pod's network is gone.
pub fn probe(lab: &Lab, patience: Duration) -> Result<Vec<Probe>, LabError> {
    let pods = &lab.state().pods;
    let pairs = pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to)));
    let questions = pairs.flat_map(|(from, to)| {
        to.addresses.iter().flat_map(move |address| {
            // who has no address of a family cannot ask with it
            let able = from.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
            let means: &[Means] = if able { &MEANS } else { &[] };
            means.iter().map(move |by| (from, to, *address, *by))
        })
    });
    let waiting: VecDeque<_> = questions.enumerate().collect();
    let waiting = Mutex::new(waiting);

    // most of the time is spent waiting for answers that do not come
    let ask_some = || {
        let mut answered = Vec::new();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, (from, to, address, by))) = next else { return Ok(answered) };
            let outcome = ask(lab, from, to, address, by, patience)?;
            let (from, to) = (from.name.clone(), to.name.clone());
            answered.push((number, Probe { from, to, address, by, outcome }));
        }
    };
    let mut probes = Vec::new();
    thread::scope(|scope| {
        let askers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask_some)).collect();
        for asker in askers {
            let answered: Result<Vec<_>, LabError> = asker.join().expect("an asker never panics");
            probes.extend(answered?);
        }
        Ok::<(), LabError>(())
    })?;
    probes.sort_by_key(|(number, _)| *number);
    Ok(probes.into_iter().map(|(_, probe)| probe).collect())
}

fn ask(
    lab: &Lab,
    from: &PodState,
    to: &PodState,
    address: IpAddr,
    by: Means,
    patience: Duration,
) -> Result<Outcome, LabError> {
    let answer = lab.pod_namespace(&from.name)?.run(|| match by {
        Means::Tcp => over_tcp(address, patience).map(Some),
        Means::Udp => over_udp(address, patience).map(Some),
        Means::Ping => ping(address, patience).map(|()| None),
    })?;
    Ok(match answer {
        Ok(None) => Outcome::Reached { seen_as: None },
        Ok(Some(said)) => understand(&said, &to.name),
        Err(error) => failure(&error),
    })
}

/// What the server says: its name, who asked, and what.
fn understand(said: &str, wanted: &PodName) -> Outcome {
    let mut words = said.split(' ');
    let name = words.next().and_then(|name| name.parse::<PodName>().ok());
    let client = words.next().and_then(|client| client.parse::<SocketAddr>().ok());
    match (name, client) {
        (Some(name), Some(client)) if name == *wanted => {
            Outcome::Reached { seen_as: Some(client.ip()) }
        }
        _ => Outcome::Stranger { said: said.to_owned() },
    }
}

fn failure(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Outcome::Silence,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Outcome::Unreachable,
        // what a refusing router's "administratively prohibited" becomes for IPv6
        io::ErrorKind::PermissionDenied => Outcome::Refused,
        _ => Outcome::Failed { reason: error.to_string() },
    }
}

fn over_tcp(address: IpAddr, patience: Duration) -> io::Result<String> {
    let server = SocketAddr::new(address, Service::ECHO_PORT);
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("{QUESTION}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn over_udp(address: IpAddr, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind(unspecified(address))?;
    socket.connect((address, Service::ECHO_PORT))?;
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

const MEANS: [Means; 3] = [Means::Tcp, Means::Udp, Means::Ping];
const QUESTION: &str = "who is there?";
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
/// Questions under way together.
const AT_ONCE: usize = 16;
