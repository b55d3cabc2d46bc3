//! The host that this one takes over from, while it lives.
//!
//! It is asked to leave before anything is read that it could change, goes on forwarding until
//! misses come here, and ends when it has none any more. If this host does not get that far, it is
//! told to stay; should it hear nothing, it stays by itself after a while.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use hyper::Method;
use serde_json::Value;

use crate::api::client::Client;

/// Who is to be taken over from.
pub(crate) struct Predecessor {
    client: Client,
    stage: Stage,
}

/// How far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Leaving,
    Drained,
}

impl Predecessor {
    /// Asks the host that answers at a socket to leave, if one does.
    ///
    /// # Errors
    /// If it does not want to.
    pub(crate) fn ask(socket: &Path) -> anyhow::Result<Option<Self>> {
        if !answers(socket)? {
            return Ok(None);
        }
        let client = Client::new(socket)?;
        match leave(&client) {
            Ok(()) => Ok(Some(Self { client, stage: Stage::Leaving })),
            // it has ended meanwhile: there is nobody to take over from
            Err(error) if matches!(answers(socket), Ok(false)) => {
                tracing::warn!("the host before has ended by itself: {error:#}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns when it has nothing to do any more, misses coming here; it ends then. One that has
    /// ended by itself has nothing to do either.
    pub(crate) fn drain(&mut self) {
        let drain = || self.client.call::<Value>(Method::POST, "/v1/succession/drain");
        // one that has waited for too long stays, and has to be asked again
        let drained = drain().or_else(|_| leave(&self.client).and_then(|()| drain()));
        if let Err(error) = drained {
            tracing::warn!("the host before does not say that it has finished: {error:#}");
        }
        self.stage = Stage::Drained;
    }
}

/// Whether a host answers at a socket.
fn answers(socket: &Path) -> io::Result<bool> {
    match UnixStream::connect(socket) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn leave(client: &Client) -> anyhow::Result<()> {
    client.call::<Value>(Method::POST, "/v1/succession/leave").map(drop)
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        if self.stage == Stage::Leaving {
            // one that hears nothing stays by itself
            let _ = self.client.call::<Value>(Method::POST, "/v1/succession/stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Somebody at a socket who gives these answers to as many requests, and is gone then.
    fn host(
        socket: &Path,
        answers: impl IntoIterator<Item = (u16, &'static str)> + Send + 'static,
    ) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let mut stream = loop {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut request = [0; 1024];
                    // who only wants to know whether somebody is there says nothing
                    let length = stream.read(&mut request).unwrap();
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    if let Some(line) = request.lines().next() {
                        asked.push(line.to_owned());
                        break stream;
                    }
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
                write!(stream, "{head}connection: close\r\n\r\n{body}").unwrap();
            }
            // whoever asks next is let in, and hears nothing
            let next = listener.accept();
            drop(listener);
            drop(next);
            asked
        })
    }

    #[test]
    fn a_host_that_ends_while_it_is_asked_is_nobody_to_take_over_from() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        assert!(Predecessor::ask(&socket).unwrap().is_none());
        let listener = UnixListener::bind(&socket).unwrap();
        let ending = thread::spawn(move || {
            let probed = listener.accept().unwrap();
            let asked = listener.accept().unwrap();
            drop(listener);
            drop((probed, asked));
        });
        assert!(Predecessor::ask(&socket).unwrap().is_none());
        ending.join().unwrap();
    }

    #[test]
    fn a_host_that_does_not_want_to_leave_is_not_taken_over_from() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let host = host(&socket, [(409, r#"{"error": "another one does"}"#)]);
        let error = Predecessor::ask(&socket).err().unwrap().to_string();
        assert_eq!(error, "another one does");
        assert_eq!(host.join().unwrap().len(), 1);
    }

    #[test]
    fn a_host_that_has_waited_for_too_long_is_asked_again_before_it_drains() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let refusal = (409, r#"{"error": "it was not asked to leave"}"#);
        let host = host(&socket, [(200, "{}"), refusal, (200, "{}"), (200, "{}")]);
        Predecessor::ask(&socket).unwrap().unwrap().drain();
        // it is gone by now
        UnixStream::connect(&socket).unwrap();
        let asked = host.join().unwrap();
        let paths: Vec<_> = asked.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        let (leave, drain) = ("/v1/succession/leave", "/v1/succession/drain");
        assert_eq!(paths, [leave, drain, leave, drain]);
    }
}
