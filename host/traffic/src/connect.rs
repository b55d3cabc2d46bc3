//! Connections, one after the other: connect, a byte there, a byte back, close.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::core::{Core, join, spawn};
use crate::end::{End, PATIENCE};
use crate::error::TrafficError;
use crate::latencies::Latencies;

/// How connections are made.
#[derive(Clone, Copy, Debug)]
pub struct ConnectSettings {
    /// For how long.
    pub time: Duration,
    /// Who connects, on which core.
    pub client: Option<Core>,
    /// Who accepts, on which core.
    pub server: Option<Core>,
}

/// What became of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// How long each of them took, from connecting to having read the byte.
    pub latencies: Latencies,
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
pub fn connect(
    from: End<'_>,
    to: End<'_>,
    settings: ConnectSettings,
) -> Result<Connected, TrafficError> {
    let listener = to.listen()?;
    let address = listener.local_addr().map_err(TrafficError::socket("naming a socket"))?;
    let server = spawn("connect-server", settings.server, move || serve(&listener));
    let connected = from.namespace.run(|| client(address, settings));
    // from the server's own side, which works whatever became of the path
    let farewell = to.namespace.run(|| {
        TcpStream::connect_timeout(&address, PATIENCE)
            .and_then(|mut stream| stream.write_all(&[FAREWELL]))
    })?;
    farewell.map_err(TrafficError::socket("ending the server"))?;
    join(server);
    connected?.map_err(TrafficError::socket("connecting again and again"))
}

fn client(to: SocketAddr, settings: ConnectSettings) -> io::Result<Connected> {
    let _stay = settings.client.map(Core::keep);
    let (mut latencies, start) = (Vec::new(), Instant::now());
    let mut before = start;
    while before - start < settings.time {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut byte = [ASK];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        let now = Instant::now();
        latencies.push(now - before);
        // the server has closed: to read its end makes this a close like any other
        let _ = stream.read(&mut byte)?;
        before = Instant::now();
    }
    Ok(Connected { latencies: latencies.into_iter().collect(), elapsed: start.elapsed() })
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
