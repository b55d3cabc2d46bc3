//! A filter as a worker calls it: batches in, answers out.
//!
//! Two implementations: an [`Instance`] of a WebAssembly module here, and the same
//! filter compiled natively in the benches, which measure the difference.

use millrace_abi::{Decision, Origin, PacketRecord, Slot};
use millrace_sandbox::{Fault, Instance, Metric};

/// A running copy of a filter.
///
/// After a [`Fault`] it must not be called again.
pub trait Guest: Send {
    /// Room for `n` slots, to be filled before [`Guest::flow`].
    fn slots(&mut self, n: usize) -> &mut [Slot];

    /// The flow hook's decisions about the first `n` slots, all of one origin; as the guest wrote
    /// them.
    ///
    /// # Errors
    /// If the guest fails.
    fn flow(&mut self, n: usize, origin: Origin, now_ns: u64) -> Result<&[Decision], Fault>;

    /// Adds a packet to the next batch of the packet hook; false if the batch is full.
    fn push_packet(&mut self, slot: &Slot, frame: &[u8]) -> bool;

    /// Shows the batch, and hands each answer with the bytes left for it to `take`.
    ///
    /// # Errors
    /// If the guest fails; nothing was handed over then.
    fn show_packets(
        &mut self,
        origin: Origin,
        now_ns: u64,
        take: &mut dyn FnMut(usize, &PacketRecord, &[u8]),
    ) -> Result<(), Fault>;

    /// Hands over the frames that the guest sent, with their ports.
    fn take_emitted(&mut self, take: &mut dyn FnMut(u16, &[u8]));

    /// The tick hook.
    ///
    /// # Errors
    /// If the guest fails.
    fn tick(&mut self, now_ns: u64) -> Result<(), Fault>;

    /// Gives the guest another configuration.
    ///
    /// # Errors
    /// If it does not take it, with the reason; it must not be called again then.
    fn configure(&mut self, config: &str) -> Result<(), String>;

    /// Tells the guest what has changed of the tables it subscribes to.
    ///
    /// # Errors
    /// If it does not take it, with the reason; it must not be called again then.
    fn update(&mut self, changes: &[u8]) -> Result<(), String>;

    /// What the guest counts.
    fn metrics(&self) -> Vec<Metric>;

    /// Has the guest count from zero again, gauges aside.
    fn recount(&mut self);

    /// Bytes of memory it uses.
    fn memory_size(&self) -> usize;
}

impl Guest for Instance {
    #[inline]
    fn slots(&mut self, n: usize) -> &mut [Slot] {
        self.slots_mut(n)
    }

    #[inline]
    fn flow(&mut self, n: usize, origin: Origin, now_ns: u64) -> Result<&[Decision], Fault> {
        Self::flow(self, n, origin, now_ns)
    }

    fn push_packet(&mut self, slot: &Slot, frame: &[u8]) -> bool {
        Self::push_packet(self, slot, frame)
    }

    fn show_packets(
        &mut self,
        origin: Origin,
        now_ns: u64,
        take: &mut dyn FnMut(usize, &PacketRecord, &[u8]),
    ) -> Result<(), Fault> {
        Self::show_packets(self, origin, now_ns, take)
    }

    #[inline]
    fn take_emitted(&mut self, take: &mut dyn FnMut(u16, &[u8])) {
        Self::take_emitted(self, take);
    }

    fn tick(&mut self, now_ns: u64) -> Result<(), Fault> {
        Self::tick(self, now_ns)
    }

    fn configure(&mut self, config: &str) -> Result<(), String> {
        Self::configure(self, config).map_err(|error| error.to_string())
    }

    fn update(&mut self, changes: &[u8]) -> Result<(), String> {
        Self::update(self, changes).map_err(|error| error.to_string())
    }

    fn metrics(&self) -> Vec<Metric> {
        Self::metrics(self)
    }

    fn recount(&mut self) {
        Self::recount(self);
    }

    fn memory_size(&self) -> usize {
        Self::memory_size(self)
    }
}
