//! One end of traffic: a namespace, and the address there; and who listens at one.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use millrace_netns::Namespace;
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};

use crate::error::TrafficError;

/// One end of traffic.
#[derive(Clone, Copy, Debug)]
pub struct End<'n> {
    /// Where it is.
    pub namespace: &'n Namespace,
    /// Its address there.
    pub address: IpAddr,
}

/// Who is connected to, or asked.
#[derive(Clone, Copy, Debug)]
pub struct Server<'n> {
    /// Where it is.
    pub namespace: &'n Namespace,
    /// What it listens at there; with port 0, at any.
    pub at: SocketAddr,
    /// Where others reach it, if that is somewhere else: at a Service's address.
    pub through: Option<SocketAddr>,
}

impl End<'_> {
    /// A UDP socket at this end, at `port` or, with 0, at any.
    pub(crate) fn udp(&self, port: u16) -> Result<UdpSocket, TrafficError> {
        let at = SocketAddr::new(self.address, port);
        let bound = self.namespace.run(|| UdpSocket::bind(at))?;
        bound.map_err(TrafficError::socket("binding a UDP socket"))
    }

    /// A UDP socket at this end that sends to `to`.
    pub(crate) fn udp_to(&self, to: SocketAddr) -> Result<UdpSocket, TrafficError> {
        let socket = self.udp(0)?;
        socket.connect(to).map_err(TrafficError::socket("connecting a UDP socket"))?;
        Ok(socket)
    }

    /// A TCP connection from this end.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<TcpStream, TrafficError> {
        let socket =
            self.namespace.run(|| Socket::new(Domain::for_address(to), Type::STREAM, None))?;
        let socket = socket.map_err(TrafficError::socket("making a TCP socket"))?;
        // before there is a connection: one that has begun with BBR is sent at a pace for good, whatever
        // comes after it (`sk_pacing_status`)
        sockopt::set_tcp_congestion(&socket, CONGESTION_CONTROL)
            .map_err(TrafficError::socket("choosing the congestion control"))?;
        socket.connect_timeout(&to.into(), PATIENCE).map_err(TrafficError::socket("connecting"))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).map_err(TrafficError::socket("sending without delay"))?;
        Ok(stream)
    }
}

impl Server<'_> {
    /// A listening TCP socket, and where others reach it.
    pub(crate) fn listen(&self) -> Result<(TcpListener, SocketAddr), TrafficError> {
        let listener = self.namespace.run(|| TcpListener::bind(self.at))?;
        let listener = listener.map_err(TrafficError::socket("listening"))?;
        // accepted connections take after it
        sockopt::set_tcp_congestion(&listener, CONGESTION_CONTROL)
            .map_err(TrafficError::socket("choosing the congestion control"))?;
        let own = listener.local_addr().map_err(TrafficError::socket("naming a socket"))?;
        Ok((listener, self.through.unwrap_or(own)))
    }

    /// A UDP socket, and where others reach it.
    pub(crate) fn udp(&self) -> Result<(UdpSocket, SocketAddr), TrafficError> {
        let socket = self.namespace.run(|| UdpSocket::bind(self.at))?;
        let socket = socket.map_err(TrafficError::socket("binding a UDP socket"))?;
        let own = socket.local_addr().map_err(TrafficError::socket("naming a socket"))?;
        Ok((socket, self.through.unwrap_or(own)))
    }
}

impl<'n> From<End<'n>> for Server<'n> {
    /// At any port, and reached there.
    fn from(end: End<'n>) -> Self {
        let at = SocketAddr::new(end.address, 0);
        Self { namespace: end.namespace, at, through: None }
    }
}

/// What nearly every host uses, whatever this one's default is.
const CONGESTION_CONTROL: &str = "cubic";

/// How long anything may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
