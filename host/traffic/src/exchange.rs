//! There and back: a byte to the other end, a byte from there, and the time between, again and
//! again.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::core::{Core, join, spawn};
use crate::end::{End, PATIENCE, Server};
use crate::error::TrafficError;
use crate::latencies::Latencies;
use crate::stream::pair;

/// What is exchanged.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeSettings {
    /// Over what.
    pub over: Over,
    /// For how long.
    pub time: Duration,
    /// Who asks, on which core.
    pub client: Option<Core>,
    /// Who answers, on which core.
    pub server: Option<Core>,
}

/// What carries an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Over {
    /// One TCP connection.
    Tcp,
    /// Datagrams; one that is lost is sent again after [`RESEND`], and counts with that time.
    Udp,
}

/// Exchanges between two ends, one after the other.
///
/// # Errors
/// If a socket cannot be had, or nothing comes back.
pub fn exchange<'n>(
    from: End<'_>,
    to: impl Into<Server<'n>>,
    settings: ExchangeSettings,
) -> Result<Latencies, TrafficError> {
    let to = to.into();
    match settings.over {
        Over::Tcp => over_tcp(from, to, settings),
        Over::Udp => over_udp(from, to, settings),
    }
}

fn over_tcp(
    from: End<'_>,
    to: Server<'_>,
    settings: ExchangeSettings,
) -> Result<Latencies, TrafficError> {
    let (mut near, mut far) = pair(from, to)?;
    let server = spawn("exchange-server", settings.server, move || {
        let mut byte = [0];
        // ends with the connection
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let client = spawn("exchange-client", settings.client, move || {
        repeat(settings.time, || once_over_tcp(&mut near))
    });
    let latencies = join(client).map_err(TrafficError::socket("exchanging over TCP"));
    join(server);
    latencies
}

fn once_over_tcp(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [1];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

fn over_udp(
    from: End<'_>,
    to: Server<'_>,
    settings: ExchangeSettings,
) -> Result<Latencies, TrafficError> {
    let (far, address) = to.udp()?;
    let near = from.udp_to(address)?;
    near.set_read_timeout(Some(RESEND)).map_err(TrafficError::socket("setting a timeout"))?;
    let own = near.local_addr().map_err(TrafficError::socket("naming a socket"))?;

    let home = far.local_addr().map_err(TrafficError::socket("naming a socket"))?;
    let farewell = far.try_clone().map_err(TrafficError::socket("sharing a socket"))?;
    let server = spawn("exchange-server", settings.server, move || {
        let mut datagram = [0; DATAGRAM];
        while let Ok((len, peer)) = far.recv_from(&mut datagram) {
            if peer != own || far.send_to(&datagram[..len], peer).is_err() {
                return;
            }
        }
    });
    let client = spawn("exchange-client", settings.client, move || {
        let mut number = 0u64;
        repeat(settings.time, || {
            number += 1;
            once_over_udp(&near, number)
        })
    });
    let latencies = join(client).map_err(TrafficError::socket("exchanging over UDP"));
    // a datagram of its own ends the server's wait
    let _ = farewell.send_to(&[], home);
    join(server);
    latencies
}

fn once_over_udp(socket: &UdpSocket, number: u64) -> io::Result<()> {
    let mut datagram = [0; DATAGRAM];
    let start = Instant::now();
    loop {
        socket.send(&number.to_be_bytes())?;
        loop {
            match socket.recv(&mut datagram) {
                Ok(_) if datagram == number.to_be_bytes() => return Ok(()),
                // the answer to one that was sent again
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing comes back"));
        }
    }
}

/// Times `once` until the time is over.
fn repeat(time: Duration, mut once: impl FnMut() -> io::Result<()>) -> io::Result<Latencies> {
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut before = start;
    while before - start < time {
        once()?;
        let now = Instant::now();
        latencies.push(now - before);
        before = now;
    }
    Ok(latencies.into_iter().collect())
}

/// Bytes of a datagram: its number.
const DATAGRAM: usize = 8;

/// How long a datagram may take.
pub const RESEND: Duration = Duration::from_millis(100);
