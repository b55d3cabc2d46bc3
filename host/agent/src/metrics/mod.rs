//! What is counted, for Prometheus: `/metrics`, `/healthz` and `/readyz` over TCP.
//!
//! - [`families`]: every metric, declared
//! - [`page`]: samples as text
//!
//! Nothing is counted here: each page is made anew from what the dataplane counts, so a scrape
//! costs what `millrace stats` costs, and nothing is kept between two.

mod families;
mod page;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millrace_abi::ABI_VERSION;
use prometheus::TEXT_FORMAT;
use rustix::time::{ClockId, clock_gettime};

use crate::api::server::Host;
use crate::api::types::{
    CacheStatus, FateStatus, PortState, PortStatus, StageState, StageStatus, Stats, WorkerStatus,
};
use crate::metrics::families as f;
use crate::metrics::page::Page;

/// What a scraper can ask for.
pub(crate) fn routes(host: Arc<Host>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(host)
}

async fn metrics(State(host): State<Arc<Host>>) -> Response {
    let page =
        tokio::task::spawn_blocking(move || Some(render(&host.stats().ok()?, &Process::now())));
    match page.await {
        Ok(Some(page)) => ([(CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        _ => NO_ANSWER.into_response(),
    }
}

/// Whether every worker answers.
async fn health(State(host): State<Arc<Host>>) -> Response {
    match tokio::task::spawn_blocking(move || host.plane.workers().is_ok()).await {
        Ok(true) => "ok\n".into_response(),
        _ => NO_ANSWER.into_response(),
    }
}

/// Whether pods and connections to come are this host's, and whose answer that is: one host after
/// another answers at the same address.
async fn readiness(State(host): State<Arc<Host>>) -> Response {
    let (pid, age) = (std::process::id(), host.started.elapsed().as_secs());
    let is_leaving = host.leaving.load(Ordering::Acquire);
    let works = tokio::task::spawn_blocking(move || host.plane.workers().is_ok()).await;
    let (status, word) = match works {
        Ok(true) if is_leaving => (StatusCode::SERVICE_UNAVAILABLE, "another host takes over"),
        Ok(true) => (StatusCode::OK, "ready"),
        _ => NO_ANSWER,
    };
    (status, format!("{}; process {pid}, for {age} s\n", word.trim_end())).into_response()
}

/// What the process uses.
#[derive(Clone, Debug, Default)]
struct Process {
    /// Resident memory by kind, in bytes.
    memory: Vec<(&'static str, u64)>,
    /// Seconds.
    cpu: f64,
}

impl Process {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let read = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        let kinds = [("anonymous", "RssAnon:"), ("file", "RssFile:"), ("shared", "RssShmem:")];
        let memory = kinds.into_iter().filter_map(|(kind, key)| Some((kind, read(key)? << 10)));
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self { memory: memory.collect(), cpu: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9 }
    }
}

fn render(stats: &Stats, process: &Process) -> String {
    let mut page = Page::default();
    let abi = ABI_VERSION.to_string();
    page.add(f::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION")), ("abi", &abi)], 1.0);
    page.add(f::UPTIME, &[], stats.uptime_ms as f64 / 1000.0);
    for (kind, bytes) in &process.memory {
        page.add(f::PROCESS_MEMORY, &[("kind", kind)], *bytes as f64);
    }
    page.add(f::PROCESS_CPU, &[], process.cpu);
    stats.cache.iter().for_each(|cache| add_cache(&mut page, cache));
    stats.ports.iter().for_each(|port| add_port(&mut page, port));
    let is_cached = |port: &&PortStatus| port.attached == "cache";
    stats.ports.iter().filter(is_cached).for_each(|port| add_cached_port(&mut page, port));
    for port in &stats.ports {
        if let Some(pod) = stats.pods.get(&port.name) {
            add_pod(&mut page, pod, port);
        }
    }
    stats.workers.iter().for_each(|worker| add_worker(&mut page, worker));
    stats.fates.iter().for_each(|fate| add_fate(&mut page, fate));
    for matter in &stats.refused {
        let labels = [("matter", &*matter.matter)];
        page.add(f::NODE_REFUSED, &labels, u8::from(matter.is_refused).into());
        page.add(f::NODE_REFUSALS, &labels, matter.times as f64);
    }
    for of in &stats.addresses {
        let prefix = of.prefix.to_string();
        for (state, number) in [("taken", of.taken), ("free", of.free)] {
            page.add(f::ADDRESSES, &[("prefix", &prefix), ("state", state)], number as f64);
        }
        page.add(f::ADDRESSES_EXHAUSTED, &[("prefix", &prefix)], of.exhausted as f64);
    }
    stats.filters.iter().for_each(|stage| add_stage(&mut page, stage));
    for stage in &stats.filters {
        for (name, value) in &stage.counters.metrics {
            page.add_counted(&stage.name, name, value);
        }
    }
    page.text()
}

fn add_cache(page: &mut Page, cache: &CacheStatus) {
    for (family, count) in [
        (f::CONNECTIONS, cache.connections),
        (f::CONNECTIONS_OPENED, cache.opened),
        (f::WITHOUT_PORT, cache.without_port.refused()),
        (f::CACHE_INSTALLED, cache.installed),
        (f::CACHE_FULL, cache.full),
        (f::CACHE_REFUSED, cache.refused),
        (f::CACHE_SEND_REFUSED, cache.send_refused),
    ] {
        page.add(family, &[], count as f64);
    }
    let anew = &cache.redecided;
    for (outcome, count) in [
        ("same", anew.same),
        ("changed", anew.changed),
        ("kept", anew.kept),
        ("dropped", anew.dropped),
        ("reset", anew.reset),
        ("over", anew.over),
        ("unanswered", anew.unanswered),
    ] {
        page.add(f::REDECIDED, &[("outcome", outcome)], count as f64);
    }
    for (fate, packets) in &cache.packets {
        page.add(f::CACHE_PACKETS, &[("fate", fate)], *packets as f64);
    }
}

fn add_port(page: &mut Page, port: &PortStatus) {
    let labels = &[("port", &*port.name)][..];
    let up = u8::from(port.state == PortState::Up);
    page.add(f::PORT_UP, &[labels[0], ("kind", &port.kind)], up.into());
    page.add(f::PORT_MTU, labels, port.mtu.into());
    let counted = &port.counters;
    for (family, count) in [
        (f::PORT_RECEIVED_PACKETS, counted.rx_packets),
        (f::PORT_RECEIVED_BYTES, counted.rx_bytes),
        (f::PORT_SENT_PACKETS, counted.tx_packets),
        (f::PORT_SENT_BYTES, counted.tx_bytes),
        (f::PORT_SEND_REFUSED, counted.tx_refused),
        (f::XDP_DROPPED, counted.rx_dropped),
        (f::XDP_RING_FULL, counted.rx_ring_full),
        (f::XDP_NO_FRAME, counted.rx_no_frame),
        (f::XDP_INVALID, counted.invalid),
    ] {
        page.add(family, labels, count as f64);
    }
}

/// What the flow cache has carried by way of a port that it is in front of.
fn add_cached_port(page: &mut Page, port: &PortStatus) {
    let counted = &port.counters;
    for (family, count) in [
        (f::PORT_KERNEL_RECEIVED_PACKETS, counted.rx_kernel_packets),
        (f::PORT_KERNEL_RECEIVED_BYTES, counted.rx_kernel_bytes),
        (f::PORT_KERNEL_SENT_PACKETS, counted.tx_kernel_packets),
        (f::PORT_KERNEL_SENT_BYTES, counted.tx_kernel_bytes),
        (f::PORT_EVICTED, counted.evicted),
        (f::PORT_CROWDED_OUT, counted.crowded_out),
    ] {
        page.add(family, &[("port", &port.name)], count as f64);
    }
}

/// What comes in by a pod's port was sent by the pod.
fn add_pod(page: &mut Page, pod: &str, port: &PortStatus) {
    let n = &port.counters;
    for (family, direction, all, kernel) in [
        (f::POD_PACKETS, "sent", n.rx_packets, n.rx_kernel_packets),
        (f::POD_PACKETS, "received", n.tx_packets, n.tx_kernel_packets),
        (f::POD_BYTES, "sent", n.rx_bytes, n.rx_kernel_bytes),
        (f::POD_BYTES, "received", n.tx_bytes, n.tx_kernel_bytes),
    ] {
        for (carrier, value) in [("kernel", kernel), ("worker", all - kernel)] {
            let labels = [("pod", pod), ("direction", direction), ("carrier", carrier)];
            page.add(family, &labels, value as f64);
        }
    }
}

fn add_worker(page: &mut Page, worker: &WorkerStatus) {
    let number = worker.worker.to_string();
    for (family, count) in [
        (f::WORKER_BURSTS, worker.bursts),
        (f::WORKER_HITS, worker.hits),
        (f::WORKER_MISSES, worker.misses),
        (f::WORKER_FLOWS, worker.flows),
        (f::WORKER_SLEEPS, worker.sleeps),
        (f::WORKER_FREE_FRAMES, worker.free_frames),
        (f::WORKER_UNCOUNTED, worker.uncounted),
    ] {
        page.add(family, &[("worker", &number)], count as f64);
    }
}

fn add_fate(page: &mut Page, fate: &FateStatus) {
    let labels = [
        ("port", &*fate.port),
        ("stage", fate.stage.as_deref().unwrap_or_default()),
        ("fate", &*fate.fate),
        ("reason", fate.reason.as_deref().unwrap_or_default()),
    ];
    page.add(f::PACKETS, &labels, fate.packets as f64);
}

fn add_stage(page: &mut Page, stage: &StageStatus) {
    let (name, counted) = (("stage", &*stage.name), &stage.counters);
    let filter = &stage.filter;
    let info = [
        name,
        ("filter", &*filter.filter),
        ("version", &*filter.version),
        ("digest", &*filter.digest),
        ("mode", &*stage.mode),
    ];
    page.add(f::STAGE_INFO, &info, 1.0);
    page.add(f::STAGE_STATE, &[name, ("state", state(stage))], 1.0);
    for (family, count) in [
        (f::STAGE_CALLS, counted.calls),
        (f::STAGE_ASKED, counted.asked),
        (f::STAGE_ASKED_CANARY, counted.asked_canary),
        (f::STAGE_DROPPED, counted.dropped),
        (f::STAGE_DROPPED_CANARY, counted.dropped_canary),
        (f::STAGE_SHOWN, counted.shown),
        (f::STAGE_EMITTED, counted.emitted),
        (f::STAGE_ABSENT, counted.absent),
        (f::STAGE_MEMORY, counted.memory),
    ] {
        page.add(family, &[name], count as f64);
    }
    page.add(f::STAGE_BUSY, &[name], counted.busy_ns as f64 / 1e9);
    for (outcome, count) in [
        ("dropped", counted.shown_dropped),
        ("answered", counted.shown_answered),
        ("rewritten", counted.shown_rewritten),
    ] {
        page.add(f::STAGE_HOOK, &[name, ("outcome", outcome)], count as f64);
    }
    for (outcome, count) in [
        ("same", counted.shadow_same),
        ("stricter", counted.shadow_stricter),
        ("looser", counted.shadow_looser),
    ] {
        page.add(f::STAGE_SHADOW, &[name, ("outcome", outcome)], count as f64);
    }
    for (class, count) in &counted.faults {
        page.add(f::STAGE_FAULTS, &[name, ("class", class)], *count as f64);
    }
}

fn state(stage: &StageStatus) -> &'static str {
    match stage.state {
        StageState::Running => "running",
        StageState::RolledBack => "rolled-back",
        StageState::Ejected => "ejected",
    }
}

const NO_ANSWER: (StatusCode, &str) =
    (StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n");

#[cfg(test)]
mod tests;
