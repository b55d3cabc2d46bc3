//! From a change at the API server to its effect on both nodes: a Service is made, and pods of both
//! nodes ask it until it answers.

use std::collections::VecDeque;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use millrace_traffic::{End, Server};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::agents::Process;
use super::api::Api;
use super::cluster::Cluster;
use super::findings::Kind;
use super::peer::Peer;
use super::{Clusters, Samples, side_by_side};
use crate::nodes::peer::Between;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::statistics::percentile;

/// Measures a pair of clusters.
///
/// # Errors
/// If a cluster does not come up, or a Service does not.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    outcome.notes.push(NOTE.to_owned());
    side_by_side(plan, Between::Vxlan, outcome, |clusters, samples, _| {
        measure(plan, clusters, samples)
    })
}

fn measure(plan: &Plan, clusters: &Clusters, samples: &mut Samples) -> Result<()> {
    let mut changing = Vec::new();
    for (peer, cluster) in clusters {
        changing.push((*peer, Changing::new(cluster)?, Process::of(cluster, *peer)?));
    }
    for _ in 0..plan.runs(10, 6) {
        for (peer, changing, _) in &mut changing {
            // who hears of changes once a second would take long for as many
            let count = match peer {
                Peer::Millrace(_) => plan.much(100, 20),
                Peer::Reference(_) => 3,
            };
            let took = (0..count).map(|_| changing.services(1)).collect::<Result<Vec<_>>>()?;
            for (of, median, tail) in [
                (Took::all as fn(&Took) -> f64, Kind::ChangeMedian, Kind::ChangeTail),
                (Took::since_heard, Kind::EventMedian, Kind::EventTail),
            ] {
                let mut sorted: Vec<_> = took.iter().map(of).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                samples.note((median, *peer), percentile(&sorted, 0.5));
                samples.note((tail, *peer), percentile(&sorted, 0.99));
            }
        }
    }
    for (peer, changing, process) in &mut changing {
        let before = process.worked()?;
        let took = changing.services(MANY)?;
        let worked = process.worked()?.saturating_sub(before);
        samples.note((Kind::Many, *peer), took.all());
        samples.note((Kind::AfterMany, *peer), took.since_made());
        samples.note((Kind::Work, *peer), millis(worked));
    }
    Ok(())
}

/// A cluster whose Services are changed.
pub(super) struct Changing<'c> {
    cluster: &'c Cluster,
    api: Api,
    /// Of which Services a watch has told, and when.
    heard: Receiver<(String, Instant)>,
    /// How many Services there are of this bench.
    made: u32,
}

impl<'c> Changing<'c> {
    /// Begins.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub(super) fn new(cluster: &'c Cluster) -> Result<Self> {
        let api = Api::of(cluster.scripts())?;
        Ok(Self { cluster, heard: api.services(), api, made: 0 })
    }

    /// The API server.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Makes Services, and says when pods of both nodes reach all of them.
    ///
    /// # Errors
    /// If the API server refuses, or one does not come.
    pub(super) fn services(&mut self, count: u32) -> Result<Took> {
        let numbers = self.made..self.made + count;
        self.made = numbers.end;
        let cluster = self.cluster;
        let server = cluster.server_of_both();
        let slices = numbers.clone().map(|number| slice(number, server.at)).collect();
        self.api.create::<EndpointSlice>(kube::Api::default_namespaced, slices)?;
        let services = numbers.clone().map(|number| service(number, server.at.port())).collect();
        let answers = Answers::of(server)?;
        let begun = Instant::now();
        let services = self.api.create::<Service>(kube::Api::default_namespaced, services)?;
        let made = Instant::now();
        let places = services.iter().map(place).collect::<Result<Vec<_>>>()?;
        let reached = thread::scope(|scope| {
            let ask = |client: End<'c>| {
                let places = &places;
                scope.spawn(move || client.namespace.run(|| reach(client.address, places)))
            };
            let asking = cluster.clients_of_both().map(ask);
            asking.map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let mut ended = made;
        for reached in reached {
            ended = ended.max(reached??);
        }
        drop(answers);
        Ok(Took { begun, made, heard: self.heard(numbers)?, ended })
    }

    /// Has so many Services get an endpoint more, or lose it again, one every `pause`.
    ///
    /// # Errors
    /// If the API server refuses, or there are fewer.
    pub(super) fn endpoints(&self, count: u32, more: bool, pause: Duration) -> Result<()> {
        let at = self.cluster.server_of_both().at;
        let patch = json!({ "endpoints": endpoints(at.ip(), more) });
        let patches = (0..count).map(|number| (name(number), patch.clone())).collect();
        let of = kube::Api::<EndpointSlice>::default_namespaced;
        self.api.patch_steadily(of, patches, pause)
    }

    /// When a watch had told of the last one of these.
    fn heard(&self, numbers: Range<u32>) -> Result<Instant> {
        let mut missing: Vec<_> = numbers.map(name).collect();
        loop {
            let (name, when) = self.heard.recv_timeout(PATIENCE).context("a watch is silent")?;
            missing.retain(|other| *other != name);
            if missing.is_empty() {
                return Ok(when);
            }
        }
    }
}

/// What Services took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// When the first one was asked for.
    begun: Instant,
    /// When the API server had answered for all.
    made: Instant,
    /// When a watch had told of the last one.
    heard: Instant,
    /// When all were in effect.
    ended: Instant,
}

impl Took {
    /// Milliseconds from the first request on.
    fn all(&self) -> f64 {
        millis(self.ended - self.begun)
    }

    /// From the last answer of the API server on.
    fn since_made(&self) -> f64 {
        millis(self.ended - self.made)
    }

    /// From the last event on; a node may have heard of it earlier than this bench.
    fn since_heard(&self) -> f64 {
        millis(self.ended.saturating_duration_since(self.heard))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// When all of these have answered, asked one after the other.
fn reach(from: IpAddr, places: &[SocketAddr]) -> Result<Instant> {
    let begun = Instant::now();
    for place in places {
        let mut asked = VecDeque::new();
        loop {
            let next = Instant::now() + PAUSE;
            asked.push_front(ask(from, *place)?);
            asked.truncate(ASKED);
            if is_answered(&asked, next)? {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "{place} is not reached from {from}");
        }
    }
    Ok(Instant::now())
}

/// Sends a datagram, as a flow of its own: nobody has decided about it before.
fn ask(from: IpAddr, place: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0)).context("binding a UDP socket")?;
    socket.set_nonblocking(true)?;
    socket.connect(place)?;
    // nodes that do not know the Service may refuse
    let _ = socket.send(&[1]);
    Ok(socket)
}

/// Whether one of these is answered by then. A timeout of the socket's own would be as long as a tick
/// of the kernel at least, which may have four milliseconds.
fn is_answered(asked: &VecDeque<UdpSocket>, then: Instant) -> Result<bool> {
    loop {
        let rest = then.saturating_duration_since(Instant::now());
        let mut ready: Vec<_> =
            asked.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        poll(&mut ready, Some(&rest.try_into()?))?;
        // what refuses says so once
        if asked.iter().any(|socket| socket.recv(&mut [0]).is_ok()) {
            return Ok(true);
        }
        if rest.is_zero() {
            return Ok(false);
        }
    }
}

/// A server that sends back what comes, until this is dropped.
struct Answers {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answers {
    fn of(server: Server<'_>) -> Result<Self> {
        let socket = server.namespace.run(|| UdpSocket::bind(server.at))?;
        let socket = socket.context("binding a UDP socket")?;
        socket.set_read_timeout(Some(ROUND))?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // nobody asks, or nobody waits any more
                let _ = socket.recv_from(&mut [0]).and_then(|(_, peer)| socket.send_to(&[1], peer));
            }
        });
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn name(number: u32) -> String {
    format!("bench-{number}")
}

/// Where a Service is reached.
fn place(service: &Service) -> Result<SocketAddr> {
    let spec = service.spec.as_ref().context("a Service has a spec")?;
    let address = spec.cluster_ip.as_deref().and_then(|address| address.parse().ok());
    let port = spec.ports.as_deref().and_then(|ports| ports.first()?.port.try_into().ok());
    let place =
        address.zip(port).map(|(address, port): (IpAddr, _)| SocketAddr::new(address, port));
    place.context("a Service of one port has no address")
}

fn service(number: u32, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(number) },
        "spec": {
            "ports": [{ "name": "udp", "port": port, "protocol": "UDP" }],
        },
    })
}

fn slice(number: u32, endpoint: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name(number), "labels": { "kubernetes.io/service-name": name(number) } },
        "addressType": "IPv4",
        "endpoints": endpoints(endpoint.ip(), false),
        "ports": [{ "name": "udp", "port": endpoint.port(), "protocol": "UDP" }],
    })
}

/// One that is there, and perhaps another that nobody asks.
fn endpoints(address: IpAddr, more: bool) -> Value {
    let endpoint = |address| json!({ "addresses": [address], "conditions": { "ready": true } });
    let other = more.then_some(NOBODY).map(endpoint);
    iter::once(endpoint(address)).chain(other).collect()
}

/// An address of documentation (RFC 5737).
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Services that are made at once.
pub(super) const MANY: u32 = 1_000;
/// How often a server looks whether it is over.
const ROUND: Duration = Duration::from_millis(50);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// Questions whose answers may still come.
const ASKED: usize = 8;
/// How long a network may take to know what has changed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a reader of the numbers has to know.
const NOTE: &str = "A Service's clock starts with the request that makes it, and stops when a pod of each node has had \
     an answer through it; each asks once in a millisecond, by another flow each time. Its \
     EndpointSlice was there before. Two clusters are up at a time.";
