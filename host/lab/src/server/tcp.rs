//! Connections, each with a thread.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Listens for both families.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
}

/// Has every connection talked to; one that fails is over, and no other.
pub(super) fn serve(
    listener: &TcpListener,
    pod: &str,
    talk: fn(TcpStream, SocketAddr, &str) -> io::Result<()>,
) {
    loop {
        let Ok((stream, client)) = listener.accept() else {
            // out of descriptors, most likely: others have to close first
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let pod = pod.to_owned();
        // without a thread the connection is closed, which says enough
        let _ = thread::Builder::new().spawn(move || talk(stream, client, &pod));
    }
}

/// Echoes line by line.
pub(super) fn echo(mut stream: TcpStream, client: SocketAddr, pod: &str) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = Vec::new();
        lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        stream.write_all(&super::echo(pod, client, &line))?;
    }
}

/// A longer one is echoed in pieces.
const LONGEST_LINE: u64 = 64 << 10;
