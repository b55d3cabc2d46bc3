//! Where frames come from and go to, as a worker sees it.
//!
//! Two implementations: [`XskIo`](crate::xsk_io::XskIo), AF_XDP sockets on real
//! interfaces, and [`MemoryIo`](crate::memory_io::MemoryIo), queues in memory for
//! tests, benches and `filter test`.

use std::time::Duration;

use crate::port::PortId;

/// Ports with queues of frames, and a pool of frames.
///
/// A frame is a token: it is in a queue, in the pool, or in the worker's hands.
pub trait Io {
    /// A frame.
    type Frame;

    /// Takes up to `max` frames that came in by `port`, in order, and adds them to `frames`.
    fn receive(&mut self, port: PortId, frames: &mut Vec<Self::Frame>, max: usize);

    /// Puts a frame into the queue to leave by `port`, with the next commit.
    ///
    /// # Errors
    /// Hands the frame back if the queue is full or there is no such port.
    fn transmit(&mut self, port: PortId, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Lets everything leave that was queued, and gives the pool back what has left.
    fn commit(&mut self);

    /// How many frames were ever put into the queue of `port`.
    fn staged(&self, port: PortId) -> u64;

    /// How many of these the kernel has given back, or dropped: the first ones.
    fn left(&mut self, port: PortId) -> u64;

    /// The packet in a frame.
    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8];

    /// Has the start of a packet brought near that will be looked at soon.
    fn prefetch(&self, frame: &Self::Frame);

    /// The packet and the room behind it.
    fn buffer<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8];

    /// Copies the packet in `from` to the start of `to`'s buffer, and returns its length.
    fn copy(&mut self, from: &Self::Frame, to: &mut Self::Frame) -> usize;

    /// States the length of the packet.
    fn set_len(&mut self, frame: &mut Self::Frame, len: usize);

    /// An empty frame, if the pool has one.
    fn take(&mut self) -> Option<Self::Frame>;

    /// Puts a frame into the pool.
    fn put(&mut self, frame: Self::Frame);

    /// The time, in nanoseconds of a clock that never goes back.
    fn now_ns(&self) -> u64;

    /// Sleeps until a frame may have come in, the worker is woken, or `timeout` is over.
    fn wait(&mut self, timeout: Duration);
}
