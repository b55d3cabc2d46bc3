//! Ports on interfaces: AF_XDP sockets that share one packet memory per worker.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use millrace_xsk::{Frame, Sent, Umem, UmemError, UmemSettings, Xsk};

use crate::io::Io;
use crate::port::{PortCounters, PortId, add};
use crate::sleep::Sleep;

/// A worker's sockets, and its packet memory.
pub struct XskIo {
    umem: Umem,
    pool: Vec<Frame>,
    /// By the port's number.
    ports: Vec<Option<XskPort>>,
    /// What the ports together may keep to receive into.
    frames: usize,
    ring: usize,
    sleep: Sleep,
}

/// A port's queues that one worker has.
pub struct XskPort {
    queues: Vec<Queue>,
    counters: Arc<PortCounters>,
    /// The queue to look into first, in turn.
    next: usize,
}

struct Queue {
    xsk: Xsk,
    /// Frames ever staged, and frames ever taken back.
    staged: u64,
    left: u64,
    /// Frames that the kernel has to receive into, or has received into.
    ready: usize,
}

impl XskIo {
    /// Packet memory for sockets that copy, or, for drivers that have it, that do not.
    ///
    /// # Errors
    /// If the kernel gives none.
    pub fn new(settings: UmemSettings, zero_copy: bool) -> Result<Self, UmemError> {
        let (umem, pool) =
            if zero_copy { Umem::for_zero_copy(settings)? } else { Umem::new(settings)? };
        let sleep = Sleep::new().map_err(|error| UmemError::Namespace(error.into()))?;
        Ok(Self {
            umem,
            pool,
            ports: Vec::new(),
            frames: settings.frames as usize,
            ring: settings.fill_ring as usize,
            sleep,
        })
    }

    /// The packet memory, to open sockets with.
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Wakes the worker that has this, from anywhere.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        self.sleep.waker()
    }

    /// Puts sockets in place for a port, and gives the kernel frames to receive into.
    pub fn add_port(&mut self, id: PortId, sockets: Vec<Xsk>, counters: Arc<PortCounters>) {
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        sockets.iter().for_each(|socket| self.sleep.watch(socket));
        let queues =
            sockets.into_iter().map(|xsk| Queue { xsk, staged: 0, left: 0, ready: 0 }).collect();
        if let Some(old) = self.ports[id.index()].replace(XskPort { queues, counters, next: 0 }) {
            self.pool.extend(old.close());
        }
        self.refill();
        self.commit();
    }

    /// Closes a port's sockets. What was on its way through them is lost; no frame is.
    pub fn remove_port(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(id.index()).and_then(Option::take) {
            self.pool.extend(port.close());
        }
    }

    /// A port's sockets.
    pub fn sockets(&self, id: PortId) -> impl Iterator<Item = &Xsk> {
        let port = self.ports.get(id.index()).and_then(Option::as_ref);
        port.into_iter().flat_map(|port| port.queues.iter().map(|queue| &queue.xsk))
    }

    /// Frames in the pool.
    pub fn free(&self) -> usize {
        self.pool.len()
    }

    /// Tops up what the kernel may receive into: half of all frames, shared by the queues.
    fn refill(&mut self) {
        let queues: usize = self.ports.iter().flatten().map(|port| port.queues.len()).sum();
        let share = (self.frames / 2 / queues.max(1)).min(self.ring);
        for port in self.ports.iter_mut().flatten() {
            for queue in &mut port.queues {
                queue.refill(&mut self.pool, share);
            }
        }
    }
}

impl XskPort {
    fn close(self) -> impl Iterator<Item = Frame> {
        self.queues.into_iter().flat_map(|queue| queue.xsk.close())
    }
}

impl Queue {
    #[inline]
    fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        self.xsk.transmit(frame)?;
        self.staged += 1;
        Ok(())
    }

    #[inline]
    fn reclaim(&mut self, pool: &mut Vec<Frame>) {
        self.left += self.xsk.reclaim(pool) as u64;
    }

    fn refill(&mut self, pool: &mut Vec<Frame>, share: usize) {
        // in strides: a ring that is nearly full need not be touched for every packet
        if self.ready + REFILL_STRIDE > share {
            return;
        }
        while self.ready < share
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

impl Io for XskIo {
    type Frame = Frame;

    #[inline]
    fn receive(&mut self, port: PortId, frames: &mut Vec<Frame>, max: usize) {
        let Some(Some(port)) = self.ports.get_mut(port.index()) else { return };
        for _ in 0..port.queues.len() {
            let room = max - frames.len();
            if room == 0 {
                break;
            }
            let queue = &mut port.queues[port.next];
            let taken = queue.xsk.receive(frames, room);
            queue.ready -= taken.min(queue.ready);
            port.next = (port.next + 1) % port.queues.len();
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        match self.ports.get_mut(port.index()) {
            Some(Some(port)) => match port.queues.first_mut() {
                Some(queue) => queue.transmit(frame),
                None => Err(frame),
            },
            _ => Err(frame),
        }
    }

    fn commit(&mut self) {
        let Self { ports, pool, .. } = self;
        for port in ports.iter_mut().flatten() {
            for queue in &mut port.queues {
                queue.reclaim(pool);
            }
        }
        self.refill();
        for port in self.ports.iter_mut().flatten() {
            for queue in &mut port.queues {
                match queue.xsk.commit() {
                    Sent::All | Sent::Pending => {}
                    Sent::Dropped | Sent::Down => add(&port.counters.tx_refused, 1),
                }
                queue.xsk.wake_receiver();
            }
        }
    }

    fn staged(&self, port: PortId) -> u64 {
        let port = self.ports.get(port.index()).and_then(Option::as_ref);
        port.and_then(|port| port.queues.first()).map_or(0, |queue| queue.staged)
    }

    fn left(&mut self, port: PortId) -> u64 {
        let Self { ports, pool, .. } = self;
        let port = ports.get_mut(port.index()).and_then(Option::as_mut);
        let Some(queue) = port.and_then(|port| port.queues.first_mut()) else { return 0 };
        queue.reclaim(pool);
        queue.left
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.umem.bytes(frame)
    }

    #[inline]
    fn prefetch(&self, frame: &Frame) {
        self.umem.prefetch(frame);
    }

    #[inline]
    fn buffer<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.umem.buffer_mut(frame)
    }

    fn copy(&mut self, from: &Frame, to: &mut Frame) -> usize {
        let bytes = self.umem.bytes(from);
        self.umem.buffer_mut(to)[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }

    #[inline]
    fn set_len(&mut self, frame: &mut Frame, len: usize) {
        self.umem.set_len(frame, len);
    }

    #[inline]
    fn take(&mut self) -> Option<Frame> {
        self.pool.pop()
    }

    #[inline]
    fn put(&mut self, frame: Frame) {
        self.pool.push(frame);
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        millrace_sandbox::now_ns()
    }

    fn wait(&mut self, timeout: Duration) {
        // a queue that is short of frames would not wake anybody: its packets are dropped
        let queues = || self.ports.iter().flatten().flat_map(|port| &port.queues);
        let short = queues().any(|queue| queue.ready < REFILL_STRIDE);
        let timeout = if short { timeout.min(SHORTAGE) } else { timeout };
        let full = queues().filter(|queue| queue.xsk.has_left());
        self.sleep.sleep(timeout, full.map(|queue| queue.xsk.as_fd()));
    }
}

/// How many frames a queue may lack before it gets more.
const REFILL_STRIDE: usize = 32;

/// How long a worker sleeps while a queue is short of frames.
const SHORTAGE: Duration = Duration::from_millis(1);
