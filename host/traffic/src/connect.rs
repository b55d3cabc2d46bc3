//! Connections, one after the other: connect, a byte there, a byte back, close; in one lane, or in
//! several side by side.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::core::{Core, join, spawn};
use crate::end::{End, PATIENCE, Server};
use crate::error::TrafficError;
use crate::latencies::Latencies;

/// How connections are made.
#[derive(Clone, Copy, Debug)]
pub struct ConnectSettings {
    /// Lanes, each with a client and a server of its own; a lane has one connection at a time.
    pub lanes: u32,
    /// For how long.
    pub time: Duration,
    /// Who connects, on which core.
    pub client: Option<Core>,
    /// Who accepts, on which core.
    pub server: Option<Core>,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self { lanes: 1, time: Duration::from_secs(1), client: None, server: None }
    }
}

/// What became of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// How long each of them took, from connecting to having read the byte.
    pub latencies: Latencies,
    /// How long the first packet of each was not answered.
    pub openings: Latencies,
    /// How many were reset by the other end. Kernels look for sockets without a lock: if a handshake's
    /// last segment and the first byte come on two cores at once, the byte may find neither the
    /// request nor the socket that takes its place (`inet_ehash_insert`).
    pub resets: u64,
    /// For how long connections were made.
    pub elapsed: Duration,
}

impl Connected {
    /// Connections per second.
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connects from one end to the other, again and again.
///
/// The server closes first, so that ports of the client are free at once.
///
/// # Errors
/// If a connection cannot be had, or breaks.
pub fn connect<'n>(
    from: End<'_>,
    to: impl Into<Server<'n>>,
    settings: ConnectSettings,
) -> Result<Connected, TrafficError> {
    let to = to.into();
    let (listener, address) = to.listen()?;
    let own = listener.local_addr().map_err(TrafficError::socket("naming a socket"))?;
    let mut servers = Vec::new();
    for _ in 0..settings.lanes {
        let listener = listener.try_clone().map_err(TrafficError::socket("sharing a socket"))?;
        servers.push(spawn("connect-server", settings.server, move || serve(&listener)));
    }
    // threads stay in the namespace of those that start them
    let connected = from.namespace.run(|| clients(address, settings));
    // from the servers' own side, which works whatever became of the path
    let farewell = to.namespace.run(|| {
        (0..settings.lanes).try_for_each(|_| {
            TcpStream::connect_timeout(&own, PATIENCE)
                .and_then(|mut stream| stream.write_all(&[FAREWELL]))
        })
    })?;
    farewell.map_err(TrafficError::socket("ending the servers"))?;
    servers.into_iter().for_each(join);
    connected?.map_err(TrafficError::socket("connecting again and again"))
}

/// All lanes, until their time is over.
fn clients(to: SocketAddr, settings: ConnectSettings) -> io::Result<Connected> {
    let start = Instant::now();
    let lane = |_| spawn("connect-client", settings.client, move || client(to, settings.time));
    let lanes: Vec<_> = (0..settings.lanes).map(lane).collect();
    // each of them ends, whatever became of the others
    let lanes: Vec<_> = lanes.into_iter().map(join).collect();
    let elapsed = start.elapsed();
    let lanes = lanes.into_iter().collect::<io::Result<Vec<_>>>()?;
    let all = || lanes.iter().flat_map(|lane| &lane.took);
    Ok(Connected {
        latencies: all().map(|(whole, _)| *whole).collect(),
        openings: all().map(|(_, opening)| *opening).collect(),
        resets: lanes.iter().map(|lane| lane.resets).sum(),
        elapsed,
    })
}

/// What one lane has done.
#[derive(Default)]
struct Lane {
    /// How long each connection took, and its opening.
    took: Vec<(Duration, Duration)>,
    resets: u64,
}

/// Connects until the time is over.
fn client(to: SocketAddr, time: Duration) -> io::Result<Lane> {
    let (mut lane, start) = (Lane::default(), Instant::now());
    while start.elapsed() < time {
        match converse(to) {
            Ok(took) => lane.took.push(took),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => lane.resets += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(lane)
}

/// One connection: how long it took, and its opening.
fn converse(to: SocketAddr) -> io::Result<(Duration, Duration)> {
    let before = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    let open = Instant::now();
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [ASK];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    let now = Instant::now();
    // the server has closed: to read its end makes this a close like any other
    let _ = stream.read(&mut byte)?;
    Ok((now - before, open - before))
}

/// Answers until somebody says farewell.
fn serve(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut byte = [0];
        let asked =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_exact(&mut byte));
        match asked {
            Ok(()) if byte == [FAREWELL] => return,
            Ok(()) => drop(stream.write_all(&byte)),
            // one that broke is the client's to report
            Err(_) => {}
        }
    }
}

const ASK: u8 = 1;
const FAREWELL: u8 = 2;
