//! The server in pods whose containers have no command: it says who it is, and who asks.
//!
//! - `tcp`: echo on a connection, line by line; `http`: the pod's name as a page
//! - `udp`: echo of datagrams, from the very address that was asked
//!
//! An echo is the server pod's name, the client's address and what the client said:
//! `shop/web 10.1.0.5:41724 hello`. So both ends of a connection can be checked at once: that it
//! leads to the right pod, and that nobody has put another source address on it.

mod http;
mod tcp;
mod udp;

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::thread;

use millrace_control::Protocol;

/// Something that is served, and the port it is served on. Written as `echo:7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Lines over TCP.
    TcpEcho(u16),
    /// Datagrams.
    UdpEcho(u16),
    /// The pod's name; the client's address at `/clientip`.
    Http(u16),
}

impl Service {
    /// Where echoes are, as RFC 862 has it.
    pub const ECHO_PORT: u16 = 7;
    /// Where HTTP is.
    pub const HTTP_PORT: u16 = 8080;
    /// What is served in a pod unless its containers do something else there.
    pub const OWN: [Self; 3] = [
        Self::TcpEcho(Self::ECHO_PORT),
        Self::UdpEcho(Self::ECHO_PORT),
        Self::Http(Self::HTTP_PORT),
    ];

    /// What carries it.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::TcpEcho(_) | Self::Http(_) => Protocol::Tcp,
            Self::UdpEcho(_) => Protocol::Udp,
        }
    }

    /// Where it is.
    pub fn port(self) -> u16 {
        let (Self::TcpEcho(port) | Self::UdpEcho(port) | Self::Http(port)) = self;
        port
    }

    /// Serves for ever, on a thread of its own, once it listens.
    fn start(self, pod: &str) -> io::Result<()> {
        let pod = pod.to_owned();
        let serve: Box<dyn FnOnce() + Send> = match self {
            Self::TcpEcho(port) => {
                let listener = tcp::listen(port)?;
                Box::new(move || tcp::serve(&listener, &pod, tcp::echo))
            }
            Self::Http(port) => {
                let listener = tcp::listen(port)?;
                Box::new(move || tcp::serve(&listener, &pod, http::answer))
            }
            Self::UdpEcho(port) => {
                let socket = udp::open(port)?;
                Box::new(move || udp::serve(&socket, &pod))
            }
        };
        thread::Builder::new().name(self.to_string()).spawn(serve).map(drop)
    }
}

/// Serves as a pod: its name, then its services. Says so on standard output, and a last line when
/// it serves all that it can. Does not return then.
///
/// # Errors
/// If the arguments are not understood.
pub fn run(arguments: impl IntoIterator<Item = String>) -> Result<(), String> {
    let mut arguments = arguments.into_iter();
    let pod = arguments.next().ok_or("the name of the pod is missing")?;
    let services = arguments.map(|text| text.parse()).collect::<Result<Vec<Service>, _>>()?;
    let mut said = io::stdout();
    // whoever has started this may not be there to listen
    for service in services {
        let _ = match service.start(&pod) {
            Ok(()) => writeln!(said, "serving {service}"),
            Err(error) => writeln!(said, "not serving {service}: {error}"),
        };
    }
    let _ = writeln!(said, "{READY}").and_then(|()| said.flush());
    loop {
        thread::park();
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TcpEcho(port) => write!(f, "echo:{port}"),
            Self::UdpEcho(port) => write!(f, "udp:{port}"),
            Self::Http(port) => write!(f, "http:{port}"),
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        match (name, port.parse()) {
            ("echo", Ok(port)) => Ok(Self::TcpEcho(port)),
            ("udp", Ok(port)) => Ok(Self::UdpEcho(port)),
            ("http", Ok(port)) => Ok(Self::Http(port)),
            _ => Err(format!("`{text}` is no service: write `echo:7`, `udp:7` or `http:8080`")),
        }
    }
}

/// What is answered to what a client said.
fn echo(pod: &str, client: SocketAddr, said: &[u8]) -> Vec<u8> {
    [format!("{pod} {} ", plain(client)).as_bytes(), said].concat()
}

/// An address as its family writes it: sockets for both families know IPv4 as a part of IPv6.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

/// The last line before serving.
pub(crate) const READY: &str = "ready";

#[cfg(test)]
mod tests;
