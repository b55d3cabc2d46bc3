//! Asks the node's agent: one request on a connection of its own, over its admin socket.
//!
//! HTTP/1.0 (RFC 1945): the answer ends when its connection does, and needs no framing.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The agent behind a socket.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// To be told something.
    Get,
    /// To have something be there.
    Put,
    /// To have something be there that is not there yet (RFC 9110 section 13.1.2).
    PutNew,
    /// To have something done.
    Post,
    /// To have something be gone.
    Delete,
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody answers.
    #[error("no agent answers at {}: {source}; see that `millrace node` runs", .socket.display())]
    Absent {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There was no whole answer.
    #[error("the agent at {} has broken off: {source}", .socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says no.
    #[error("{reason}")]
    Refused {
        /// The status code of the answer.
        status: u16,
        /// What it says.
        reason: String,
    },
}

/// Why an agent refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Agent {
    /// The agent behind `socket`. Nothing is connected yet.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Whether somebody is there.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, AgentError> {
        self.exchange(method, path, &[])
    }

    /// Asks with a body.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AgentError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error.into()))?;
        self.exchange(method, path, &body)
    }

    fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<T, AgentError> {
        let stream = UnixStream::connect(&self.socket)
            .map_err(|source| AgentError::Absent { socket: self.socket.clone(), source })?;
        let answer = converse(stream, method, path, body).map_err(|source| self.broken(source))?;
        let (status, body) = answer;
        if !(200..300).contains(&status) {
            let refusal = serde_json::from_slice(&body);
            let reason =
                refusal.map_or_else(|_| format!("it answers {status}"), |Refusal { error }| error);
            return Err(AgentError::Refused { status, reason });
        }
        let body = if body.is_empty() { NOTHING } else { &body };
        serde_json::from_slice(body).map_err(|error| self.broken(error.into()))
    }

    fn broken(&self, source: io::Error) -> AgentError {
        AgentError::Broken { socket: self.socket.clone(), source }
    }
}

/// The status code of the answer, and its body.
fn converse(
    mut stream: UnixStream,
    method: Method,
    path: &str,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (verb, condition) = match method {
        Method::Get => ("GET", ""),
        Method::Put => ("PUT", ""),
        Method::PutNew => ("PUT", "If-None-Match: *\r\n"),
        Method::Post => ("POST", ""),
        Method::Delete => ("DELETE", ""),
    };
    let head = format!(
        "{verb} {path} HTTP/1.0\r\nHost: millrace\r\n{condition}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it speaks no HTTP"))
}

/// `HTTP/1.0 200 OK`, headers, an empty line, the body.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status.parse().ok()?, body.to_vec()))
}

/// What an answer without a body says.
const NOTHING: &[u8] = b"null";
/// How long an answer may take: an agent that starts may have to compile its filters first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the longest answer, a list of all attachments.
const MOST_ANSWER: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.0 204 No Content\r\ndate: now\r\n\r\n";
        assert_eq!(parse(answer), Some((204, Vec::new())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}"), Some((200, b"{}".to_vec())));
        for broken in ["", "HTTP/1.0 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.0 OK\r\n\r\n"] {
            assert_eq!(parse(broken.as_bytes()), None, "{broken}");
        }
    }
}
