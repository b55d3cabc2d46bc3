//! Numbered datagrams, never more than a window of them on their way: what is lost, overtaken or
//! doubled on a path that is asked no more than it can carry, and for how long it stood still.
//!
//! ```text
//!  sender ──[flow 1: 7]──[flow 2: 7]──[flow 1: 8]──► path ──► receiver
//!    ▲                                                           │
//!    └────────────── how many have arrived (in memory) ──────────┘
//! ```
//! The receiver tells the sender in memory, so that nothing goes the other way. What has not
//! arrived for [`SequenceSettings::patience`] no longer counts as on its way, and the sender goes
//! on; it is lost unless it arrives in the end.

use std::collections::BTreeSet;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::core::{Core, join, spawn};
use crate::end::{End, PATIENCE};
use crate::error::TrafficError;

/// What a [`Sequence`] is like.
#[derive(Clone, Copy, Debug)]
pub struct SequenceSettings {
    /// Flows, which take turns: each has a source port of its own.
    pub flows: u32,
    /// Datagrams on their way at most, of all flows together.
    pub window: u64,
    /// Bytes of each datagram, at least [`SequenceSettings::SMALLEST`].
    pub payload: usize,
    /// After what time without an arrival the sender goes on.
    pub patience: Duration,
    /// The sender's core; by default that of who makes the settings. The kernel has a backlog for
    /// each core, and so does not keep the order of what one thread sends from several.
    pub core: Option<Core>,
}

/// Datagrams on their way from one end to the other, until they are stopped.
pub struct Sequence {
    shared: Arc<Shared>,
    sender: JoinHandle<Result<u64, io::Error>>,
    receiver: JoinHandle<Result<Arrivals, io::Error>>,
    start: Instant,
}

/// What became of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that arrived, each counted once.
    pub received: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Datagrams that arrived behind a later one of their flow.
    pub reordered: u64,
    /// Datagrams that arrived once more.
    pub duplicated: u64,
    /// The longest time without an arrival, from the first one to the last.
    pub longest_gap: Duration,
    /// From the start to the end.
    pub elapsed: Duration,
}

struct Shared {
    stopped: AtomicBool,
    /// Whether there is nothing more to come.
    drained: AtomicBool,
    arrived: AtomicU64,
    news: (Mutex<()>, Condvar),
}

impl SequenceSettings {
    /// The shortest datagram: a flow, and a number in it.
    pub const SMALLEST: usize = 12;
}

impl Default for SequenceSettings {
    fn default() -> Self {
        let patience = Duration::from_secs(1);
        Self { flows: 8, window: 64, payload: 22, patience, core: Some(Core::current()) }
    }
}

impl Sequence {
    /// Begins to send, once a first datagram, which does not count, has found its way: those that
    /// the sender's stack keeps while it looks for the neighbour may overtake each other there.
    ///
    /// # Errors
    /// If a socket cannot be had, or nothing arrives.
    ///
    /// # Panics
    /// If there is no flow, no window, or the payload is too short.
    pub fn start(
        from: End<'_>,
        to: End<'_>,
        settings: SequenceSettings,
    ) -> Result<Self, TrafficError> {
        assert!(settings.flows > 0 && settings.window > 0, "a sequence has flows and a window");
        assert!(
            settings.payload >= SequenceSettings::SMALLEST,
            "a datagram has room for its number"
        );
        let receiver = to.udp(0)?;
        let target = receiver.local_addr().map_err(TrafficError::socket("naming a socket"))?;
        let flows: Result<Vec<_>, _> = (0..settings.flows).map(|_| from.udp_to(target)).collect();
        let flows = flows?;
        greet(&flows[0], &receiver).map_err(TrafficError::socket("greeting the other end"))?;
        receiver
            .set_read_timeout(Some(HEARTBEAT))
            .map_err(TrafficError::socket("setting a timeout"))?;

        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            news: (Mutex::new(()), Condvar::new()),
        });
        let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
        Ok(Self {
            shared,
            sender: spawn("sequence-sender", settings.core, move || {
                send(&flows, settings, &sending)
            }),
            receiver: spawn("sequence-receiver", None, move || {
                receive(&receiver, settings, &receiving)
            }),
            start: Instant::now(),
        })
    }

    /// Datagrams that have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Relaxed)
    }

    /// Waits until this many have arrived; false if nothing arrives for some seconds.
    pub fn await_arrivals(&self, count: u64) -> bool {
        while self.arrived() < count {
            let before = self.arrived();
            self.shared.wait(PATIENCE, || self.arrived() > before);
            if self.arrived() == before {
                return false;
            }
        }
        true
    }

    /// Stops sending, waits for what is on its way, and says what became of all.
    ///
    /// # Errors
    /// If a socket has failed.
    pub fn stop(self) -> Result<SequenceReport, TrafficError> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let sent = join(self.sender).map_err(TrafficError::socket("sending a datagram"));
        self.shared.drained.store(true, Ordering::Release);
        let arrivals = join(self.receiver).map_err(TrafficError::socket("receiving a datagram"))?;
        let sent = sent?;
        Ok(SequenceReport {
            sent,
            received: arrivals.received,
            lost: sent - arrivals.received,
            reordered: arrivals.reordered,
            duplicated: arrivals.duplicated,
            longest_gap: arrivals.longest_gap,
            elapsed: self.start.elapsed(),
        })
    }
}

impl Shared {
    /// Waits for an arrival until `done`, but not for longer than `time`.
    fn wait(&self, time: Duration, mut done: impl FnMut() -> bool) {
        let (lock, news) = &self.news;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = news.wait_timeout_while(guard, time, |()| !done());
    }

    fn tell(&self) {
        // whoever has looked before and is about to wait holds the lock
        drop(self.news.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.1.notify_all();
    }
}

/// Sends an empty datagram until one arrives.
pub(crate) fn greet(flow: &UdpSocket, receiver: &UdpSocket) -> io::Result<()> {
    receiver.set_read_timeout(Some(GREETING))?;
    let start = Instant::now();
    loop {
        flow.send(&[])?;
        match receiver.recv(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
    }
}

/// Sends until stopped, and then waits until all has arrived or is given up. Returns how many.
fn send(flows: &[UdpSocket], settings: SequenceSettings, shared: &Shared) -> io::Result<u64> {
    let mut datagram = vec![0; settings.payload];
    let (mut sent, mut given_up) = (0, 0);
    // what was sent of each flow is what was sent of all, divided by their number
    while !shared.stopped.load(Ordering::Relaxed) {
        let arrived = || shared.arrived.load(Ordering::Relaxed) + given_up;
        if sent >= arrived() + settings.window {
            shared.wait(settings.patience, || sent < arrived() + settings.window);
            if sent >= arrived() + settings.window {
                given_up += sent - arrived();
            }
            continue;
        }
        let flow = sent % flows.len() as u64;
        number(&mut datagram, flow as u32, sent / flows.len() as u64);
        flows[flow as usize].send(&datagram)?;
        sent += 1;
    }
    loop {
        let arrived = || shared.arrived.load(Ordering::Relaxed);
        let before = arrived();
        shared.wait(settings.patience, || arrived() >= sent || arrived() > before);
        if arrived() >= sent || arrived() == before {
            return Ok(sent);
        }
    }
}

/// Receives until everything has arrived that will.
fn receive(
    socket: &UdpSocket,
    settings: SequenceSettings,
    shared: &Shared,
) -> io::Result<Arrivals> {
    let mut arrivals = Arrivals::new(settings.flows);
    let mut datagram = vec![0; settings.payload + 1];
    loop {
        match socket.recv(&mut datagram) {
            Ok(len) if len == settings.payload => {
                if let Some((flow, number)) = numbered(&datagram) {
                    arrivals.note(flow, number, Instant::now());
                }
                shared.arrived.store(arrivals.received, Ordering::Relaxed);
                shared.tell();
            }
            // a greeting that is late; and the port may have belonged to somebody before
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
                if shared.drained.load(Ordering::Acquire) {
                    return Ok(arrivals);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What has arrived.
#[derive(Debug)]
struct Arrivals {
    flows: Vec<Flow>,
    received: u64,
    reordered: u64,
    duplicated: u64,
    last: Option<Instant>,
    longest_gap: Duration,
}

/// What has arrived of one flow.
#[derive(Clone, Debug, Default)]
struct Flow {
    /// One more than the highest number.
    next: u64,
    /// Lower ones that have not arrived.
    missing: BTreeSet<u64>,
}

impl Arrivals {
    fn new(flows: u32) -> Self {
        Self {
            flows: vec![Flow::default(); flows as usize],
            received: 0,
            reordered: 0,
            duplicated: 0,
            last: None,
            longest_gap: Duration::ZERO,
        }
    }

    fn note(&mut self, flow: u32, number: u64, now: Instant) {
        let Some(flow) = self.flows.get_mut(flow as usize) else { return };
        if number >= flow.next {
            flow.missing.extend(flow.next..number);
            flow.next = number + 1;
        } else if flow.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
            return;
        }
        self.received += 1;
        if let Some(last) = self.last.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
    }
}

fn number(datagram: &mut [u8], flow: u32, number: u64) {
    datagram[..4].copy_from_slice(&flow.to_be_bytes());
    datagram[4..12].copy_from_slice(&number.to_be_bytes());
}

fn numbered(datagram: &[u8]) -> Option<(u32, u64)> {
    let (flow, rest) = datagram.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<8>()?;
    Some((u32::from_be_bytes(*flow), u64::from_be_bytes(*number)))
}

/// How long a greeting may take before another one is sent.
const GREETING: Duration = Duration::from_millis(500);
/// How soon the receiver notices that there is nothing more to come.
const HEARTBEAT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[(u32, u64)]) -> Arrivals {
        let mut arrivals = Arrivals::new(2);
        let now = Instant::now();
        numbers.iter().for_each(|&(flow, number)| arrivals.note(flow, number, now));
        arrivals
    }

    #[test]
    fn flows_may_overtake_each_other_but_not_themselves() {
        let seen = arrivals(&[(0, 0), (1, 0), (1, 1), (0, 1), (0, 2)]);
        assert_eq!((seen.received, seen.reordered, seen.duplicated), (5, 0, 0));
        let seen = arrivals(&[(0, 1), (0, 0), (0, 2)]);
        assert_eq!((seen.received, seen.reordered, seen.duplicated), (3, 1, 0));
    }

    #[test]
    fn a_datagram_counts_once_and_then_as_a_double() {
        let seen = arrivals(&[(0, 0), (0, 0), (0, 3), (0, 1), (0, 1), (0, 3)]);
        assert_eq!((seen.received, seen.reordered, seen.duplicated), (3, 1, 3));
        assert_eq!(seen.flows[0].missing.iter().collect::<Vec<_>>(), [&2]);
    }

    #[test]
    fn the_longest_gap_is_between_arrivals() {
        let (mut seen, start) = (Arrivals::new(1), Instant::now());
        for (number, at) in [(0, 50), (1, 51), (2, 58), (3, 60)] {
            seen.note(0, number, start + Duration::from_millis(at));
        }
        assert_eq!(seen.longest_gap, Duration::from_millis(7));
    }

    #[test]
    fn a_number_comes_out_as_it_went_in() {
        let mut datagram = [0; 22];
        number(&mut datagram, 7, 1 << 40);
        assert_eq!(numbered(&datagram), Some((7, 1 << 40)));
        assert_eq!(numbered(&datagram[..11]), None);
    }
}
