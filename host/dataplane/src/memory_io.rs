//! Ports in memory: what is fed in comes out where the worker sends it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::io::Io;
use crate::port::PortId;

/// Queues in memory.
#[derive(Debug, Default)]
pub struct MemoryIo {
    ports: BTreeMap<PortId, Queues>,
    pool: Vec<MemoryFrame>,
    now_ns: u64,
}

/// A frame in memory.
#[derive(Debug)]
pub struct MemoryFrame {
    buffer: Box<[u8]>,
    len: usize,
}

#[derive(Debug, Default)]
struct Queues {
    incoming: VecDeque<MemoryFrame>,
    outgoing: Vec<MemoryFrame>,
    /// Frames ever sent.
    staged: u64,
    limit: usize,
}

impl MemoryIo {
    /// Ports that send at most `limit` frames each before somebody collects them, and a pool of
    /// `frames` frames. The clock stands at the real time.
    pub fn new(ports: impl IntoIterator<Item = PortId>, frames: usize, limit: usize) -> Self {
        let queues = |id| (id, Queues { limit, ..Queues::default() });
        let frame = || MemoryFrame { buffer: vec![0; FRAME].into(), len: 0 };
        Self {
            ports: ports.into_iter().map(queues).collect(),
            pool: std::iter::repeat_with(frame).take(frames).collect(),
            now_ns: millrace_sandbox::now_ns(),
        }
    }

    /// Moves the clock.
    pub fn advance(&mut self, time: Duration) {
        self.now_ns += time.as_nanos() as u64;
    }

    /// Lets a packet come in by `port`; false if the pool is empty or it does not fit a frame.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn feed(&mut self, port: PortId, packet: &[u8]) -> bool {
        let Some(mut frame) = self.pool.pop() else { return false };
        if packet.len() > frame.buffer.len() {
            self.pool.push(frame);
            return false;
        }
        frame.buffer[..packet.len()].copy_from_slice(packet);
        frame.len = packet.len();
        self.port(port).incoming.push_back(frame);
        true
    }

    /// The packets that left by `port` since the last time, in order.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn collect(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.port(port).outgoing);
        let packets = frames.iter().map(|frame| frame.buffer[..frame.len].to_vec()).collect();
        self.pool.extend(frames);
        packets
    }

    /// Frames in the pool.
    pub fn free(&self) -> usize {
        self.pool.len()
    }

    fn port(&mut self, port: PortId) -> &mut Queues {
        self.ports.get_mut(&port).expect("the caller names ports it made")
    }
}

impl Io for MemoryIo {
    type Frame = MemoryFrame;

    fn receive(&mut self, port: PortId, frames: &mut Vec<MemoryFrame>, max: usize) {
        if let Some(queues) = self.ports.get_mut(&port) {
            let count = queues.incoming.len().min(max);
            frames.extend(queues.incoming.drain(..count));
        }
    }

    fn transmit(&mut self, port: PortId, frame: MemoryFrame) -> Result<(), MemoryFrame> {
        match self.ports.get_mut(&port) {
            Some(queues) if queues.outgoing.len() < queues.limit => {
                queues.outgoing.push(frame);
                queues.staged += 1;
                Ok(())
            }
            _ => Err(frame),
        }
    }

    fn commit(&mut self) {}

    fn staged(&self, port: PortId) -> u64 {
        self.ports.get(&port).map_or(0, |queues| queues.staged)
    }

    fn left(&mut self, port: PortId) -> u64 {
        self.staged(port)
    }

    fn bytes<'a>(&'a self, frame: &'a MemoryFrame) -> &'a [u8] {
        &frame.buffer[..frame.len]
    }

    /// It is the bench's or the test's own, and near.
    fn prefetch(&self, _frame: &MemoryFrame) {}

    fn buffer<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        &mut frame.buffer
    }

    fn copy(&mut self, from: &MemoryFrame, to: &mut MemoryFrame) -> usize {
        to.buffer[..from.len].copy_from_slice(&from.buffer[..from.len]);
        from.len
    }

    fn set_len(&mut self, frame: &mut MemoryFrame, len: usize) {
        assert!(len <= frame.buffer.len(), "a packet fits its frame");
        frame.len = len;
    }

    fn take(&mut self) -> Option<MemoryFrame> {
        self.pool.pop()
    }

    fn put(&mut self, frame: MemoryFrame) {
        self.pool.push(frame);
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn wait(&mut self, _timeout: Duration) {}
}

/// Bytes of a frame, as many as AF_XDP's have for a packet.
const FRAME: usize = 3840;
