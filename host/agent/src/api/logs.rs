//! Requests about what filters say: the lines that are kept, or a stream of those to come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::error::ApiError;
use crate::api::server::{Host, Shared};
use crate::api::types::LogLine;

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those behind this number.
    #[serde(default)]
    after: u64,
    /// Those to come, too.
    #[serde(default)]
    follow: bool,
}

/// A stage's log: a JSON array or, if it is followed, one object per line until the stage, the
/// host or the request ends.
pub(super) async fn logs(
    State(host): Shared,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let lines = read(&host, &name, wanted.after).await?;
    if !wanted.follow {
        return Ok(Json(lines).into_response());
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(follow(host, name, wanted.after, lines, sender));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(receiver))).into_response())
}

async fn read(host: &Arc<Host>, name: &str, after: u64) -> Result<Vec<LogLine>, ApiError> {
    let name = name.to_owned();
    host.ask(move |host| host.plane.log(&name, after)).await
}

/// Hands lines on as they come. A log has nobody to wake, so it is looked at now and then.
async fn follow(
    host: Arc<Host>,
    name: String,
    mut after: u64,
    mut lines: Vec<LogLine>,
    to: mpsc::Sender<Bytes>,
) {
    let mut ended = host.ended.clone();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for line in lines.drain(..) {
            after = line.sequence;
            let mut text = serde_json::to_vec(&line).expect("a line is numbers and texts");
            text.push(b'\n');
            if to.send(text.into()).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = look.tick() => {}
            () = to.closed() => return,
            _ = ended.wait_for(|ended| *ended) => return,
        }
        match read(&host, &name, after).await {
            Ok(more) => lines = more,
            // the stage is gone
            Err(_) => return,
        }
    }
}

/// Lines, or other pieces, as the body of a response.
pub(super) struct Lines(pub(super) mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);
