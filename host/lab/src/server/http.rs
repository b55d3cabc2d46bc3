//! As much of HTTP/1.1 as browsers, `curl` and kubelets' probes need of a page of one line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Answers one request, and closes.
pub(super) fn answer(mut stream: TcpStream, client: SocketAddr, pod: &str) -> io::Result<()> {
    let mut head = BufReader::new(stream.try_clone()?).take(LONGEST_HEAD);
    let mut request = String::new();
    head.read_line(&mut request)?;
    let mut line = String::new();
    while head.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }

    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let page = match path {
        "/clientip" => super::plain(client).to_string(),
        _ => pod.to_owned(),
    };
    let (status, page) = match method {
        "GET" => ("200 OK", page + "\n"),
        "HEAD" => ("200 OK", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    )
}

const LONGEST_HEAD: u64 = 16 << 10;
