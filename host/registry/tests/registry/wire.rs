//! Plain HTTP as tests need it: a request that no client of ours makes, and a server beside a registry.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Puts something somewhere, and says with which status that was answered.
pub(crate) fn put(address: SocketAddr, path: &str, kind: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered in text");
    let status = answer.split(' ').nth(1).expect("there is a status");
    status.parse().expect("it is a number")
}

/// What was asked of a server.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The path with its query.
    pub(crate) path: String,
    /// The headers, in lower case but for what they say.
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value)
    }
}

/// A status, more headers, and a body.
pub(crate) type Answer = (u16, String, Vec<u8>);

/// Answers whoever asks at an address of the loopback, for as long as the test runs; and what was asked.
pub(crate) fn serve(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (SocketAddr, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it has one");
    let (sender, asked) = channel();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (sender, answer) = (sender.clone(), Arc::clone(&answer));
            thread::spawn(move || {
                let Some(asked) = read(&stream) else { return };
                let (status, headers, body) = answer(&asked);
                let head = format!(
                    "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n\
                     {headers}\r\n",
                    body.len()
                );
                // a test that is over listens to nothing
                let _ = sender.send(asked);
                let _ =
                    (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
            });
        }
    });
    (address, asked)
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            return Some(Asked { path, headers });
        }
        let (key, value) = line.split_once(':')?;
        headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
