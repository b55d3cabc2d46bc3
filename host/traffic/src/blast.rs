//! As many datagrams as a pod can send: socket buffers made by the kernel's UDP, handed over in
//! batches, each datagram for itself or together ([`Handing`]).
//!
//! A socket is the honest sender: what pods send has been through the stack, in memory that the
//! stack has allocated, and is not the cheap frame of a packet generator. Nobody waits for an
//! answer, so what the path does not carry is lost there: [`Sink`](crate::sink::Sink) counts what
//! arrives.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, send as send_one, sendmmsg};

use crate::core::{Core, join, spawn};
use crate::end::End;
use crate::error::TrafficError;

/// What a [`Blast`] is like.
#[derive(Clone, Copy, Debug)]
pub struct BlastSettings {
    /// Bytes of each datagram.
    pub payload: usize,
    /// How they are handed to the kernel.
    pub handing: Handing,
    /// Flows, which take turns batch by batch: each has a source port of its own.
    pub flows: u32,
    /// Datagrams per second; `None` for as many as can be.
    pub pace: Option<u64>,
    /// When it ends by itself.
    pub limit: Duration,
    /// The sender's core.
    pub core: Option<Core>,
}

/// How datagrams are handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handing {
    /// Each makes a way through the stack of its own (`sendmmsg(2)`).
    Singly,
    /// Those of a batch go through the stack as one, and are split where the interface has to
    /// (`UDP_SEGMENT` of udp(7)). Whoever speaks QUIC sends so, and sends several times as many.
    Segmented,
}

/// Datagrams being sent, until they are stopped.
pub struct Blast {
    shared: Arc<Shared>,
    sender: JoinHandle<io::Result<Duration>>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blasted {
    /// Datagrams that the sender's kernel took.
    pub sent: u64,
    /// Batches of which it took none: it had no room.
    pub refused: u64,
    /// For how long.
    pub elapsed: Duration,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    sent: AtomicU64,
    refused: AtomicU64,
}

impl BlastSettings {
    /// Datagrams that make Ethernet frames of this many bytes, the check sequence not counted.
    ///
    /// # Panics
    /// If no datagram is so short.
    pub fn frames_of(bytes: usize) -> Self {
        let payload = bytes.checked_sub(HEADERS).expect("a frame has room for its headers");
        let limit = Duration::from_secs(60);
        let handing = Handing::Singly;
        Self { payload, handing, flows: 16, pace: None, limit, core: None }
    }
}

impl Blast {
    /// Begins to send to `to`.
    ///
    /// # Errors
    /// If a socket cannot be had.
    ///
    /// # Panics
    /// If there is no flow, or datagrams that are handed over together have no size.
    pub fn start(
        from: End<'_>,
        to: SocketAddr,
        settings: BlastSettings,
    ) -> Result<Self, TrafficError> {
        assert!(settings.flows > 0, "a blast has flows");
        let flows: Result<Vec<_>, _> = (0..settings.flows).map(|_| from.udp_to(to)).collect();
        let flows = flows?;
        if settings.handing == Handing::Segmented {
            assert!((1..=LONGEST).contains(&settings.payload), "a segment has a size");
            let segment = settings.payload as i32;
            flows
                .iter()
                .try_for_each(|flow| setsockopt(flow, sockopt::UdpGsoSegment, &segment))
                .map_err(TrafficError::socket("leaving segmentation to the kernel"))?;
        }
        let shared = Arc::new(Shared::default());
        let sending = Arc::clone(&shared);
        let sender = spawn("blast-sender", settings.core, move || send(&flows, settings, &sending));
        Ok(Self { shared, sender })
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.sender.is_finished()
    }

    /// Stops, and says what was sent.
    ///
    /// # Errors
    /// If a socket has failed.
    pub fn stop(self) -> Result<Blasted, TrafficError> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let elapsed = join(self.sender).map_err(TrafficError::socket("sending datagrams"))?;
        let (sent, refused) = (&self.shared.sent, &self.shared.refused);
        Ok(Blasted {
            sent: sent.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            elapsed,
        })
    }
}

fn send(flows: &[UdpSocket], settings: BlastSettings, shared: &Shared) -> io::Result<Duration> {
    // datagrams in a batch: at most, and at least, as one alone is not split
    let (size, least) = match settings.handing {
        Handing::Singly => (BATCH, 1),
        Handing::Segmented => {
            let whole = BATCH.min(LONGEST / settings.payload);
            (whole, whole)
        }
    };
    let payload = vec![0; settings.payload * size];
    // one datagram of it, over and over
    let slices = [IoSlice::new(&payload[..settings.payload])];
    let mut controls: Vec<_> = (0..BATCH).map(|_| SendAncillaryBuffer::default()).collect();
    let mut batch: Vec<_> =
        controls.iter_mut().map(|control| MMsgHdr::new(&slices, control)).collect();

    let start = Instant::now();
    let mut sent = 0;
    for flow in flows.iter().cycle() {
        let elapsed = start.elapsed();
        if shared.stopped.load(Ordering::Relaxed) || elapsed >= settings.limit {
            return Ok(elapsed);
        }
        // whoever keeps a pace sends what is due, and looks at the clock until something is
        let room = match settings.pace {
            None => size,
            Some(pace) => {
                let due = (elapsed.as_secs_f64() * pace as f64) as u64;
                (due.saturating_sub(sent) as usize).min(size)
            }
        };
        if room < least {
            std::hint::spin_loop();
            continue;
        }
        let taken = match settings.handing {
            Handing::Singly => sendmmsg(flow, &mut batch[..room], SendFlags::empty()),
            // taken as a whole or not at all
            Handing::Segmented => {
                let together = &payload[..room * settings.payload];
                send_one(flow, together, SendFlags::empty()).map(|_| room)
            }
        };
        match taken {
            Ok(taken) => {
                sent += taken as u64;
                shared.sent.store(sent, Ordering::Relaxed);
            }
            // nobody listens there, or there is no room: both pass
            Err(Errno::CONNREFUSED | Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("flows come around for ever")
}

/// Datagrams handed over at a time.
const BATCH: usize = 64;

/// Bytes that UDP over IPv4 takes at a time.
const LONGEST: usize = 65_535 - 20 - 8;

/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;
