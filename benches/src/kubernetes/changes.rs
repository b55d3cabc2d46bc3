//! From a change at the API server to its effect on both nodes: a Service is made, and pods of both
//! nodes ask it until it answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_traffic::{End, Server};
use serde_json::{Value, json};

use super::api::Api;
use super::cluster::Cluster;

/// A cluster whose Services are changed.
pub(super) struct Changing<'c> {
    cluster: &'c Cluster,
    api: Api,
    /// How many Services there are of this bench.
    made: u32,
}

impl<'c> Changing<'c> {
    /// Begins.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub(super) fn new(cluster: &'c Cluster) -> Result<Self> {
        Ok(Self { cluster, api: Api::of(cluster.scripts())?, made: 0 })
    }

    /// The API server.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Makes Services, and says how many milliseconds it takes until pods of both nodes reach all of
    /// them: from before the first one is made, and from when the last one has been.
    ///
    /// # Errors
    /// If the API server refuses, or one does not come.
    pub(super) fn services(&mut self, count: u32) -> Result<Took> {
        let numbers = self.made..self.made + count;
        self.made = numbers.end;
        let cluster = self.cluster;
        let server = cluster.server_of_both();
        for number in numbers.clone() {
            self.api.create(SLICES, &slice(number, server.at))?;
        }
        let services: Vec<_> =
            numbers.clone().map(|number| service(number, server.at.port())).collect();
        let places: Vec<_> = numbers
            .map(|number| SocketAddr::new(address(number).into(), server.at.port()))
            .collect();

        let answers = Answers::of(server)?;
        let start = Instant::now();
        for service in &services {
            self.api.create(SERVICES, service)?;
        }
        let made = Instant::now();
        let reached = thread::scope(|scope| {
            let ask = |client: End<'c>| {
                let places = &places;
                scope.spawn(move || client.namespace.run(|| reach(client.address, places)))
            };
            let asking = cluster.clients_of_both().map(ask);
            asking.map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let mut end = made;
        for reached in reached {
            end = end.max(reached??);
        }
        drop(answers);
        let millis = |since: Instant| (end - since).as_secs_f64() * 1e3;
        Ok(Took { all: millis(start), after_the_last: millis(made) })
    }
}

/// How many milliseconds it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// From the first request on.
    pub(super) all: f64,
    /// From the last answer of the API server on.
    pub(super) after_the_last: f64,
}

/// When all of these have answered, asked one after the other.
fn reach(from: IpAddr, places: &[SocketAddr]) -> Result<Instant> {
    let begun = Instant::now();
    for place in places {
        while !answers(from, *place)? {
            ensure!(begun.elapsed() < PATIENCE, "{place} is not reached from {from}");
            // nobody is kept from hearing of it by who asks
            thread::sleep(PAUSE);
        }
    }
    Ok(Instant::now())
}

/// Whether a datagram comes back, by a flow of its own: nobody has decided about it before.
fn answers(from: IpAddr, place: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind((from, 0)).context("binding a UDP socket")?;
    socket.set_read_timeout(Some(SOON))?;
    socket.connect(place)?;
    // nodes that do not know the Service may refuse
    Ok(socket.send(&[1]).and_then(|_| socket.recv(&mut [0])).is_ok())
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

fn address(number: u32) -> Ipv4Addr {
    let [.., high, low] = (number + FIRST).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

fn service(number: u32, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(number) },
        "spec": {
            "clusterIP": address(number),
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
        "endpoints": [{ "addresses": [endpoint.ip()], "conditions": { "ready": true } }],
        "ports": [{ "name": "udp", "port": endpoint.port(), "protocol": "UDP" }],
    })
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Of 10.96.0.0/16, from which the API server has given out a few at random.
const FIRST: u32 = 512;
/// How often a server looks whether it is over.
const ROUND: Duration = Duration::from_millis(50);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// How long an answer may take from who is there.
const SOON: Duration = Duration::from_millis(5);
/// How long a network may take to know what has changed.
const PATIENCE: Duration = Duration::from_secs(60);
