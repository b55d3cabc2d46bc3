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
        match UnixStream::connect(socket) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let client = Client::new(socket)?;
        client.call::<Value>(Method::POST, "/v1/succession/leave")?;
        Ok(Some(Self { client, stage: Stage::Leaving }))
    }

    /// Returns when it has nothing to do any more, misses coming here; it ends then.
    pub(crate) fn drain(&mut self) {
        if let Err(error) = self.client.call::<Value>(Method::POST, "/v1/succession/drain") {
            tracing::warn!("the host before does not say that it has finished: {error:#}");
        }
        self.stage = Stage::Drained;
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        if self.stage == Stage::Leaving {
            // one that hears nothing stays by itself
            let _ = self.client.call::<Value>(Method::POST, "/v1/succession/stay");
        }
    }
}
