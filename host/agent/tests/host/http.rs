//! Requests by hand: what any program in any language would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use millrace_netns::Namespace;

/// A status code and a body.
pub(crate) type Answer = (u16, String);

/// Asks the admin socket.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    exchange(UnixStream::connect(socket).expect("a host listens"), method, path, body)
}

/// Asks what listens at an address of a namespace.
pub(crate) fn read(namespace: &Namespace, at: SocketAddr, path: &str) -> Answer {
    let stream = namespace.run(|| TcpStream::connect(at)).expect("it can be entered");
    exchange(stream.expect("a host listens"), "GET", path, "")
}

fn exchange<S: Read + Write>(mut stream: S, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("host: localhost\r\nconnection: close\r\ncontent-length: {length}");
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n\r\n{body}").expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it ends the answer");
    // captures are no text
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends with an empty line");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("the first line has a status"), body.to_owned())
}
