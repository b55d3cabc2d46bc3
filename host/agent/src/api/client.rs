//! Asks a host: plain calls that block, over the admin socket.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
pub(crate) use millrace_cni::segment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::api::types::Refusal;

/// Who asks the host behind a socket.
pub(crate) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

/// A response that comes line by line.
pub(crate) struct LineStream<'c> {
    client: &'c Client,
    body: Incoming,
    /// What has come and was not taken.
    buffer: Vec<u8>,
}

/// A response that comes piece by piece.
pub(crate) struct Stream {
    client: Client,
    body: Incoming,
    /// What has come and was not read.
    rest: Bytes,
}

impl Client {
    /// A client of the host behind `socket`. Nothing is connected yet.
    pub(crate) fn new(socket: &Path) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self { socket: socket.to_owned(), runtime: runtime.context("an I/O runtime")? })
    }

    /// Reads something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Sends something.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(method, path, serde_json::to_vec(body)?.into())
    }

    /// Asks without a body.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<T> {
        self.ask(method, path, Bytes::new())
    }

    /// Asks without a body, and waits no longer than this: nothing if there is no answer by then.
    pub(crate) fn call_within<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<Option<T>> {
        self.runtime.block_on(async {
            let answer = self.answer(method, path, Bytes::new());
            tokio::time::timeout(patience, answer).await.ok().transpose()
        })
    }

    /// Takes something away.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.runtime.block_on(self.exchange(Method::DELETE, path, Bytes::new())).map(drop)
    }

    /// Reads something that comes line by line.
    pub(crate) fn lines(&self, path: &str) -> anyhow::Result<LineStream<'_>> {
        let response = self.runtime.block_on(self.exchange(Method::GET, path, Bytes::new()))?;
        Ok(LineStream { client: self, body: response.into_body(), buffer: Vec::new() })
    }

    /// Reads something that comes piece by piece.
    pub(crate) fn stream(self, path: &str) -> anyhow::Result<Stream> {
        let response = self.runtime.block_on(self.exchange(Method::GET, path, Bytes::new()))?;
        Ok(Stream { client: self, body: response.into_body(), rest: Bytes::new() })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        self.runtime.block_on(self.answer(method, path, body))
    }

    /// One request, and what is answered.
    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let response = self.exchange(method, path, body).await?;
        let answer = response.into_body().collect().await.context(BROKEN_OFF)?.to_bytes();
        serde_json::from_slice(&answer).context("the host speaks another version of its language")
    }

    /// One request, on a connection of its own; refused ones are errors.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "millrace");
        let request = request.body(Full::new(body)).context("a request")?;
        let response = sender.send_request(request).await.context(BROKEN_OFF)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = response.into_body().collect().await.context(BROKEN_OFF)?.to_bytes();
        match serde_json::from_slice::<Refusal>(&answer) {
            Ok(refusal) => bail!(refusal.error),
            Err(_) => bail!("the host answers {status}"),
        }
    }

    fn unreachable(&self, error: &io::Error) -> anyhow::Error {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
                "no host answers at {socket}: name its socket with `--socket`, or start one with `millrace \
                 run --port A --port B --filter bridge`; of a node's agent the log of its pod says more"
            ),
            io::ErrorKind::PermissionDenied => {
                anyhow!("the host at {socket} may be asked by its owner alone: run this as root")
            }
            _ => anyhow!("the host at {socket} cannot be asked: {error}"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(frame) = self.client.runtime.block_on(self.body.frame()) else {
                return Ok(0);
            };
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                self.rest = data;
            }
        }
        let piece = self.rest.split_to(place.len().min(self.rest.len()));
        place[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl LineStream<'_> {
    /// The next line; `None` at the end.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            let Some(frame) = self.client.runtime.block_on(self.body.frame()) else {
                return Ok(None);
            };
            if let Ok(data) = frame.context(BROKEN_OFF)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

const BROKEN_OFF: &str = "the host has broken off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_host_is_the_socket_and_the_remedy_are_named() {
        let client = Client::new(Path::new("/nowhere/m.sock")).unwrap();
        let error = client.get::<()>("/v1/status").unwrap_err().to_string();
        assert!(
            error.starts_with("no host answers at /nowhere/m.sock: name its socket"),
            "{error}"
        );
    }
}
