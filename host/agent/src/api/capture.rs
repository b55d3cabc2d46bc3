//! Requests to look on: captures, and what happens to packets as they pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use millrace_dataplane::capture::Expression;
use millrace_dataplane::control::capture::{Capture, CaptureRequest, CapturedPacket};
use millrace_dataplane::control::trace::TraceRequest;
use millrace_sandbox::now_ns;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::api::error::ApiError;
use crate::api::logs::Lines;
use crate::api::server::{Host, Shared};
use crate::api::trace::named;
use crate::api::types::{Happened, LiveTrace};
use crate::capture::comment;
use crate::capture::pcapng::{Packet, Pcapng};

/// Which packets, and how many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those that are meant by this expression.
    #[serde(default)]
    filter: String,
    /// Those that come in by this port.
    port: Option<String>,
    /// Those that come from this pod.
    pod: Option<String>,
    /// So many bytes of each.
    #[serde(default = "whole")]
    snap: u32,
    /// So many packets.
    count: Option<u64>,
    /// For so long.
    seconds: Option<u64>,
    /// What it is ended by.
    #[serde(default)]
    name: String,
}

/// Which ones are to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    /// Those that were begun under this name; all, if there is none.
    name: Option<String>,
}

/// Packets as they pass: pcapng, until there are as many as were wanted, the time is over, the
/// request is broken off, or somebody ends it.
pub(super) async fn capture(
    State(host): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let (watch, body) = watch(host, wanted).await?;
    tokio::task::spawn_blocking(move || watch.write());
    Ok(([(CONTENT_TYPE, "application/x-pcapng")], body).into_response())
}

/// Packets as they pass, traced: an object per line.
pub(super) async fn live(
    State(host): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let (watch, body) = watch(host, wanted).await?;
    tokio::task::spawn_blocking(move || watch.trace());
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Ends the captures and live traces of a name, or all: they come to their statistics.
pub(super) async fn end(
    State(host): Shared,
    ended: Result<Query<Ended>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(ended) = ended.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    for end in host.looking_on.lock().iter().filter_map(Weak::upgrade) {
        if ended.name.as_ref().is_none_or(|name| *name == end.name) {
            end.is_near.store(true, Ordering::Release);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The end of a capture or live trace.
#[derive(Debug)]
pub(crate) struct End {
    name: String,
    is_near: AtomicBool,
}

/// Somebody who looks on.
struct Watch {
    host: Arc<Host>,
    capture: Capture,
    to: mpsc::Sender<Bytes>,
    end: Arc<End>,
    left: u64,
    until: Option<Instant>,
    snap: u32,
    /// The Unix epoch on the clock of workers.
    epoch_ns: u64,
}

async fn watch(host: Arc<Host>, wanted: Wanted) -> Result<(Watch, Body), ApiError> {
    let (to, from) = mpsc::channel(AHEAD);
    let asked = Arc::clone(&host);
    let watch = asked.ask(move |asked| {
        let expression: Expression = wanted
            .filter
            .parse()
            .map_err(|error| ApiError::bad_request(format!("`filter`: {error}")))?;
        let port = match (&wanted.port, &wanted.pod) {
            (Some(port), _) => Some(port.clone()),
            (None, Some(pod)) => Some(asked.port_of_pod(pod)?),
            (None, None) => None,
        };
        let snap = wanted.snap as usize;
        let capture = asked.plane.capture(CaptureRequest { expression, port, snap })?;
        let end = Arc::new(End { name: wanted.name, is_near: AtomicBool::new(false) });
        let mut looking_on = asked.looking_on.lock();
        looking_on.retain(|end| end.strong_count() > 0);
        looking_on.push(Arc::downgrade(&end));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok::<_, ApiError>(Watch {
            host,
            capture,
            to,
            end,
            left: wanted.count.unwrap_or(u64::MAX),
            until: wanted.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            snap: wanted.snap,
            epoch_ns: (unix.as_nanos() as u64).wrapping_sub(now_ns()),
        })
    });
    Ok((watch.await?, Body::new(Lines(from))))
}

impl Watch {
    /// Whether somebody still wants to see something.
    fn goes_on(&self) -> bool {
        self.left > 0
            && !self.end.is_near.load(Ordering::Acquire)
            && !self.to.is_closed()
            && !*self.host.ended.borrow()
            && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// The next packets, as many as are still wanted.
    fn packets(&mut self) -> Vec<CapturedPacket> {
        let mut packets = self.capture.take().unwrap_or_else(|error| {
            tracing::warn!(%error, "a capture ends");
            self.left = 0;
            Vec::new()
        });
        packets.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        for packet in &mut packets {
            if let Some(rule) = &mut packet.rule {
                let known = self.host.policy_rule(packet.by.as_deref(), rule.id);
                rule.name = known.or(rule.name.take());
            }
        }
        self.left -= packets.len() as u64;
        packets
    }

    fn write(mut self) {
        let mut pcapng = Pcapng::new(self.snap);
        while self.goes_on() {
            for packet in self.packets() {
                pcapng.packet(Packet {
                    port: &packet.port,
                    time_ns: self.epoch_ns.wrapping_add(packet.time_ns),
                    len: packet.len,
                    frame: &packet.frame,
                    comment: &comment(&packet),
                });
            }
            let written = pcapng.take();
            if !written.is_empty() && self.to.blocking_send(written.into()).is_err() {
                return;
            }
        }
        let lost = self.capture.lost().unwrap_or_default();
        pcapng.end(self.epoch_ns.wrapping_add(now_ns()), lost);
        // who has broken off does not want to know
        let _ = self.to.blocking_send(pcapng.take().into());
    }

    fn trace(mut self) {
        while self.goes_on() {
            for packet in self.packets() {
                let request = TraceRequest { port: packet.number, frame: packet.frame };
                let report = match self.host.plane.trace(&request) {
                    Ok(report) => report,
                    Err(error) => return tracing::warn!(%error, "a live trace ends"),
                };
                let line = LiveTrace {
                    happened: Happened {
                        time_ms: self.epoch_ns.wrapping_add(packet.time_ns) / 1_000_000,
                        fate: packet.fate,
                        by: packet.by,
                        rule: packet.rule,
                        reason: packet.reason,
                        egress: packet.egress,
                        carrier: packet.carrier,
                    },
                    trace: named(&self.host, report),
                };
                let mut text = serde_json::to_vec(&line).expect("a report is numbers and texts");
                text.push(b'\n');
                if self.to.blocking_send(text.into()).is_err() {
                    return;
                }
            }
        }
    }
}

/// Frames that wait for who reads them.
const AHEAD: usize = 64;

fn whole() -> u32 {
    262_144
}
