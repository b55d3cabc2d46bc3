//! The barest loop that forwards frames between two interfaces over AF_XDP: what comes in here
//! goes out there, unread but for what makes it somebody's: both MAC addresses are written, as the
//! `l2fwd` of DPDK and that of the kernel's `xdpsock` do. It is the ceiling that the dataplane is
//! measured against.
//!
//! It sleeps when there is nothing to do, after as long a look as the dataplane's workers take: a
//! loop that never sleeps would take the core from the traffic's own ends.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use millrace_traffic::Core;
use millrace_xsk::{Frame, Umem, UmemSettings, Xsk};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::queues::{Door, Queues};

/// A running loop; it ends when this is dropped.
pub struct L2fwd {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _doors: [Door; 2],
}

impl L2fwd {
    /// Starts between two interfaces of the calling thread's namespace, on a core. Behind each of
    /// them is a station with the MAC address of the same place in `stations`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(ports: [&str; 2], stations: [[u8; 6]; 2], core: Core) -> Result<Self> {
        let (umem, pool) = Umem::new(UmemSettings::default())?;
        let [a, b] = ports.map(|port| Queues::open(&umem, port));
        let (a, b) = (a?, b?);
        let mut doors = [a.door, b.door];
        let mut forwarder = Forwarder {
            ports: [a.sockets, b.sockets].map(|sockets| {
                sockets.into_iter().map(|xsk| Queue { xsk, ready: 0 }).collect::<Vec<_>>()
            }),
            stations,
            umem,
            pool,
            burst: Vec::with_capacity(BURST),
        };
        forwarder.commit();
        doors.iter_mut().try_for_each(Door::open)?;

        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = thread::Builder::new().name("l2fwd".to_owned()).spawn(move || {
            let _stay = core.keep();
            forwarder.run(&stop);
        })?;
        Ok(Self { stopped, thread: Some(thread), _doors: doors })
    }
}

impl Drop for L2fwd {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // its panic has been printed
            let _ = thread.join();
        }
    }
}

struct Forwarder {
    ports: [Vec<Queue>; 2],
    stations: [[u8; 6]; 2],
    umem: Umem,
    pool: Vec<Frame>,
    burst: Vec<Frame>,
}

struct Queue {
    xsk: Xsk,
    /// Frames that the kernel has to receive into, or has received into.
    ready: usize,
}

impl Forwarder {
    fn run(&mut self, stopped: &AtomicBool) {
        let mut idle_since = None;
        while !stopped.load(Ordering::Relaxed) {
            let frames = self.forward(0, 1) + self.forward(1, 0);
            self.commit();
            if frames > 0 {
                idle_since = None;
            } else if idle_since.get_or_insert_with(Instant::now).elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                self.sleep();
                idle_since = None;
            }
        }
    }

    fn forward(&mut self, from: usize, to: usize) -> usize {
        let Self { ports, stations, umem, pool, burst } = self;
        let mut frames = 0;
        for queue in 0..ports[from].len() {
            let came = ports[from][queue].xsk.receive(burst, BURST);
            ports[from][queue].ready -= came;
            frames += came;
            for mut frame in burst.drain(..) {
                if let Some([destination, source]) =
                    umem.bytes_mut(&mut frame).as_chunks_mut().0.first_chunk_mut()
                {
                    (*destination, *source) = (stations[to], stations[from]);
                }
                if let Err(frame) = ports[to][0].xsk.transmit(frame) {
                    pool.push(frame);
                }
            }
        }
        frames
    }

    fn commit(&mut self) {
        let Self { ports, pool, .. } = self;
        for queue in ports.iter_mut().flatten() {
            queue.xsk.reclaim(pool);
            queue.refill(pool);
            queue.xsk.commit();
        }
    }

    fn sleep(&self) {
        let queues = self.ports.iter().flatten();
        let mut fds: Vec<_> = queues
            .map(|Queue { xsk, .. }| {
                let left = if xsk.has_left() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::from_borrowed_fd(xsk.as_fd(), PollFlags::IN | left)
            })
            .collect();
        // an interrupted sleep is a short one
        let _ = poll(&mut fds, Timespec::try_from(HEARTBEAT).ok().as_ref());
    }
}

impl Queue {
    fn refill(&mut self, pool: &mut Vec<Frame>) {
        if self.ready + BURST > READY {
            return;
        }
        while self.ready < READY
            && let Some(frame) = pool.pop()
        {
            if let Err(frame) = self.xsk.refill(frame) {
                pool.push(frame);
                return;
            }
            self.ready += 1;
        }
    }
}

/// Frames handled together, as many as the dataplane's workers do.
const BURST: usize = 64;
/// Frames that each queue has to receive into: its fill ring.
const READY: usize = 2048;
/// As the dataplane's workers.
const SPIN: Duration = Duration::from_micros(50);
/// How soon an idle loop notices that it is to end.
const HEARTBEAT: Duration = Duration::from_millis(50);
