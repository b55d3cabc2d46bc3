//! What is said to the servers in pods, each of which echoes who it is, who asks, and what.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use millrace_netns::Namespace;
use socket2::{Domain, Socket, Type};

use crate::bed::PATIENCE;

/// An open connection to a server.
pub(crate) struct Talk {
    pub(crate) stream: TcpStream,
    lines: BufReader<TcpStream>,
}

/// What comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The pod that answers.
    pub(crate) server: String,
    /// Who it takes the client for.
    pub(crate) client: SocketAddr,
    /// What it has heard.
    pub(crate) text: String,
}

impl Talk {
    pub(crate) fn open(from: &Namespace, to: SocketAddr) -> io::Result<Self> {
        let socket = socket(from, to, Type::STREAM)?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, lines })
    }

    /// Says something, and returns what comes back of it.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<Answer> {
        writeln!(self.stream, "{text}")?;
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Answer::parse(&line)
    }

    /// Who it is that asks.
    pub(crate) fn client(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }
}

impl Answer {
    fn parse(line: &str) -> io::Result<Self> {
        let mut words = line.trim_end().splitn(3, ' ');
        let mut word = || words.next().ok_or(ErrorKind::UnexpectedEof);
        let (server, client) = (word()?.to_owned(), word()?);
        let client = client.parse().map_err(|_| ErrorKind::InvalidData)?;
        Ok(Self { server, client, text: word()?.to_owned() })
    }
}

/// Asks with a datagram from a socket of its own; returns who has asked, too.
pub(crate) fn ask(from: &Namespace, to: SocketAddr) -> io::Result<(SocketAddr, Answer)> {
    ask_within(PATIENCE, from, to)
}

/// The same, for who expects no answer.
pub(crate) fn ask_within(
    patience: Duration,
    from: &Namespace,
    to: SocketAddr,
) -> io::Result<(SocketAddr, Answer)> {
    let socket = UdpSocket::from(socket(from, to, Type::DGRAM)?);
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(b"who")?;
    let mut answer = [0; 512];
    let len = socket.recv(&mut answer)?;
    Ok((socket.local_addr()?, Answer::parse(&String::from_utf8_lossy(&answer[..len]))?))
}

/// A socket with a port that none has had. The kernel gives one port for several destinations: where
/// these are one server, millrace must translate the source of all but the first.
fn socket(from: &Namespace, to: SocketAddr, of: Type) -> io::Result<Socket> {
    static PORTS: AtomicU16 = AtomicU16::new(FIRST_PORT);
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = from.run(|| Socket::new(Domain::for_address(to), of, None));
    let socket = socket.expect("a namespace")?;
    socket.bind(&SocketAddr::from((any, PORTS.fetch_add(1, Relaxed))).into())?;
    Ok(socket)
}

/// A connection of a pod to a server of that name, which has answered some lines.
pub(crate) fn exchange(pod: &Namespace, server: SocketAddr, name: &str) -> TcpStream {
    let mut talk = Talk::open(pod, server).expect("the server listens");
    let client = talk.client();
    for number in 0..EXCHANGES {
        let answer = talk.say(&number.to_string()).expect("it is open");
        assert_eq!(answer, Answer { server: name.into(), client, text: number.to_string() });
    }
    talk.stream
}

/// Where servers echo.
pub(crate) const ECHO: u16 = 7;
/// Lines that are said.
pub(crate) const EXCHANGES: u64 = 50;
/// Below are ports of servers; those from 30000 are for nodes to give away, and for the kernel.
const FIRST_PORT: u16 = 10000;
