//! The host that this one takes over from, while it lives.
//!
//! It is asked to leave before anything is read that it could change, goes on forwarding until
//! misses come here, and ends when it has none any more. If this host does not get that far, it is
//! told to stay; should it hear nothing, it stays by itself after a while.
//!
//! One that lives and does not answer is killed, since it could write what this host relies on as
//! soon as it goes on: what follows is as after any kill. Where that cannot be, this host does not
//! start.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hyper::Method;
use serde_json::Value;

use crate::api::client::Client;
use crate::run::process::Process;

/// Who is to be taken over from.
pub(crate) struct Predecessor {
    client: Client,
    process: Process,
    stage: Stage,
}

/// How far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Leaving,
    Drained,
}

/// How long it may take to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Whether it leaves: it may be about to start.
    pub(crate) leave: Duration,
    /// That it has finished: packets wait for that.
    pub(crate) drain: Duration,
}

/// What it says.
enum Answer {
    Yes,
    No(anyhow::Error),
    Silence,
}

impl Default for Patience {
    fn default() -> Self {
        Self { leave: Duration::from_secs(20), drain: Duration::from_secs(10) }
    }
}

impl Predecessor {
    /// Asks the host that answers at a socket to leave, if one does. One that says nothing is
    /// killed.
    ///
    /// # Errors
    /// If it does not want to, or says nothing and cannot be killed.
    pub(crate) fn ask(socket: &Path, patience: Duration) -> anyhow::Result<Option<Self>> {
        let Some(process) = Process::listening_at(socket)? else { return Ok(None) };
        let client = Client::new(socket)?;
        match say(&client, "leave", patience) {
            Answer::Yes => Ok(Some(Self { client, process, stage: Stage::Leaving })),
            // it has ended meanwhile: there is nobody to take over from
            Answer::No(error) if is_deserted(socket) => {
                tracing::warn!("the host before has ended by itself: {error:#}");
                Ok(None)
            }
            Answer::No(error) => Err(error),
            Answer::Silence => end(&process).map(|()| None),
        }
    }

    /// Returns when it has nothing to do any more, misses coming here; it ends then. One that has
    /// ended by itself has nothing to do either, and one that says nothing is killed.
    ///
    /// # Errors
    /// If it says nothing, and cannot be killed.
    pub(crate) fn drain(&mut self, patience: Duration) -> anyhow::Result<()> {
        let say = |what| say(&self.client, what, patience);
        let drained = match say("drain") {
            // one that has waited for too long stays, and has to be asked again
            Answer::No(_) => match say("leave") {
                Answer::Yes => say("drain"),
                other => other,
            },
            other => other,
        };
        self.stage = Stage::Drained;
        match drained {
            Answer::Yes => {}
            Answer::No(error) => {
                tracing::warn!("the host before does not say that it has finished: {error:#}");
            }
            Answer::Silence => end(&self.process)?,
        }
        Ok(())
    }
}

fn say(client: &Client, what: &str, patience: Duration) -> Answer {
    let path = format!("/v1/succession/{what}");
    match client.call_within::<Value>(Method::POST, &path, patience) {
        Ok(Some(_)) => Answer::Yes,
        Ok(None) => Answer::Silence,
        Err(error) => Answer::No(error),
    }
}

/// Whether nobody listens at a socket.
fn is_deserted(socket: &Path) -> bool {
    matches!(Process::listening_at(socket), io::Result::Ok(None))
}

fn end(process: &Process) -> anyhow::Result<()> {
    process.kill().context("the host before lives and does not answer")?;
    tracing::warn!("the host before did not answer, and is killed: {process}");
    Ok(())
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        if self.stage == Stage::Leaving {
            // one that hears nothing stays by itself
            let _ = say(&self.client, "stay", Patience::default().drain);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    /// Somebody at a socket who gives these answers to as many requests. Whoever asks next is let in,
    /// and hears nothing for as long as what the thread returns lives, beside what it was asked.
    fn host(
        socket: &Path,
        answers: impl IntoIterator<Item = (u16, &'static str)> + Send + 'static,
    ) -> thread::JoinHandle<(Vec<String>, impl Send)> {
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
            let next = listener.accept();
            (asked, (listener, next))
        })
    }

    #[test]
    fn a_host_that_ends_while_it_is_asked_is_nobody_to_take_over_from() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        assert!(Predecessor::ask(&socket, LONG).unwrap().is_none());
        let listener = UnixListener::bind(&socket).unwrap();
        let ending = thread::spawn(move || {
            let probed = listener.accept().unwrap();
            let asked = listener.accept().unwrap();
            drop(listener);
            drop((probed, asked));
        });
        assert!(Predecessor::ask(&socket, LONG).unwrap().is_none());
        ending.join().unwrap();
    }

    #[test]
    fn a_host_that_does_not_want_to_leave_is_not_taken_over_from() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let host = host(&socket, [(409, r#"{"error": "another one does"}"#)]);
        let error = Predecessor::ask(&socket, LONG).err().unwrap().to_string();
        assert_eq!(error, "another one does");
        assert_eq!(host.join().unwrap().0.len(), 1);
    }

    #[test]
    fn a_host_that_has_waited_for_too_long_is_asked_again_before_it_drains() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let refusal = (409, r#"{"error": "it was not asked to leave"}"#);
        let host = host(&socket, [(200, "{}"), refusal, (200, "{}"), (200, "{}")]);
        Predecessor::ask(&socket, LONG).unwrap().unwrap().drain(LONG).unwrap();
        // it waits for another one
        UnixStream::connect(&socket).unwrap();
        let (asked, _) = host.join().unwrap();
        let paths: Vec<_> = asked.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        let (leave, drain) = ("/v1/succession/leave", "/v1/succession/drain");
        assert_eq!(paths, [leave, drain, leave, drain]);
    }

    #[test]
    fn a_host_that_says_nothing_and_cannot_be_killed_is_not_taken_over_from() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        // it is this process, and takes nobody in
        let silent = UnixListener::bind(&socket).unwrap();
        let error = format!("{:#}", Predecessor::ask(&socket, SHORT).err().unwrap());
        let why = "the host before lives and does not answer: it is this very process";
        assert_eq!(error, why);

        std::fs::remove_file(&socket).unwrap();
        drop(silent);
        let host = host(&socket, [(200, "{}")]);
        let mut predecessor = Predecessor::ask(&socket, LONG).unwrap().unwrap();
        assert_eq!(format!("{:#}", predecessor.drain(SHORT).err().unwrap()), why);
        // it is asked nothing any more
        drop(predecessor);
        assert_eq!(host.join().unwrap().0.len(), 1);
    }
}
