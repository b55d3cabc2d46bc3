//! TCP in bulk: how many bytes a second arrive.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::core::{Core, join, spawn};
use crate::end::{End, PATIENCE, Server};
use crate::error::TrafficError;

/// What is streamed.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Streams side by side.
    pub streams: u32,
    /// For how long they are sent.
    pub time: Duration,
    /// The senders' core.
    pub sender: Option<Core>,
    /// The receivers' core.
    pub receiver: Option<Core>,
}

/// What has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Bytes of all streams.
    pub bytes: u64,
    /// Until the last stream had ended.
    pub elapsed: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { streams: 1, time: Duration::from_secs(1), sender: None, receiver: None }
    }
}

impl Streamed {
    /// Bits per second.
    pub fn bits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64()
    }
}

/// Streams from one end to the other.
///
/// # Errors
/// If a connection cannot be had, or breaks.
pub fn stream<'n>(
    from: End<'_>,
    to: impl Into<Server<'n>>,
    settings: StreamSettings,
) -> Result<Streamed, TrafficError> {
    let to = to.into();
    let mut pairs = Vec::new();
    for _ in 0..settings.streams {
        pairs.push(pair(from, to)?);
    }
    let start = Instant::now();
    let mut running = Vec::new();
    for (sending, receiving) in pairs {
        let time = settings.time;
        let receiver = spawn("stream-receiver", settings.receiver, move || receive(receiving));
        let sender = spawn("stream-sender", settings.sender, move || send(sending, time));
        running.push((sender, receiver));
    }
    let mut bytes = 0;
    for (sender, receiver) in running {
        let sent = join(sender);
        bytes += join(receiver).map_err(TrafficError::socket("receiving a stream"))?;
        sent.map_err(TrafficError::socket("sending a stream"))?;
    }
    Ok(Streamed { bytes, elapsed: start.elapsed() })
}

/// Both sides of a new connection.
pub(crate) fn pair(from: End<'_>, to: Server<'_>) -> Result<(TcpStream, TcpStream), TrafficError> {
    let (listener, address) = to.listen()?;
    let near = from.connect(address)?;
    let far = accept(&listener).map_err(TrafficError::socket("accepting a connection"))?;
    far.set_nodelay(true).map_err(TrafficError::socket("sending without delay"))?;
    for side in [&near, &far] {
        // a path that swallows packets for good ends the run, and does not hang it
        side.set_read_timeout(Some(PATIENCE)).map_err(TrafficError::socket("setting a timeout"))?;
        side.set_write_timeout(Some(PATIENCE))
            .map_err(TrafficError::socket("setting a timeout"))?;
    }
    Ok((near, far))
}

/// The connection, which is there already.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.accept().map(|(stream, _)| stream)
}

fn send(mut stream: TcpStream, time: Duration) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    let start = Instant::now();
    while start.elapsed() < time {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)
}

fn receive(mut stream: TcpStream) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that are written and read at a time.
const CHUNK: usize = 128 << 10;
