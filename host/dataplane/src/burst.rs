//! Walk `packet` 2/7: worker → **burst** → flows.
//!
//! The packets that a worker handles together, column by column: frames, slots, and
//! what becomes of each. The columns are as long as there are frames, in the order in
//! which the frames came.

use millrace_abi::{Origin, Reason, Slot};
use millrace_parse::{Layers, parse};

use crate::checksum;
use crate::flows::FlowIndex;
use crate::io::Io;
use crate::port::{Port, PortCounters, add};
use crate::verdict::{Terms, Verdict};

/// A burst.
pub struct Burst<F> {
    /// The frames.
    pub frames: Vec<F>,
    /// What filters are told about them.
    pub slots: Vec<Slot>,
    /// Where their headers are.
    pub layers: Vec<Layers>,
    /// What becomes of them.
    pub verdicts: Vec<Verdict>,
    /// On which terms that is remembered.
    pub terms: Vec<Terms>,
    /// Where it is remembered.
    pub flows: Vec<Option<FlowIndex>>,
    /// Those that the chain has to be asked about.
    pub open: Vec<u16>,
}

/// What of a burst the chain works on.
pub struct Decisions<'b> {
    /// Why it is asked.
    pub origin: Origin,
    /// When the burst came.
    pub now_ns: u64,
    /// What filters are told.
    pub slots: &'b mut [Slot],
    /// What they decided.
    pub verdicts: &'b mut [Verdict],
    /// On which terms.
    pub terms: &'b mut [Terms],
    /// What shadow stages would have done: position, packet, and whether it would have gone on.
    pub shadow: &'b mut Vec<(u8, u16, bool)>,
    /// Frames that filters send.
    pub emitted: &'b mut Emitted,
}

/// Frames that filters send, until the burst is dispatched.
#[derive(Debug, Default)]
pub struct Emitted {
    bytes: Vec<u8>,
    /// Port, and where the frame ends in `bytes`.
    frames: Vec<(u16, usize)>,
}

impl<F> Burst<F> {
    /// An empty burst, with room for `size` packets.
    pub fn new(size: usize) -> Self {
        Self {
            frames: Vec::with_capacity(size),
            slots: Vec::with_capacity(size),
            layers: Vec::with_capacity(size),
            verdicts: Vec::with_capacity(size),
            terms: Vec::with_capacity(size),
            flows: Vec::with_capacity(size),
            open: Vec::with_capacity(size),
        }
    }

    /// Reads the frames, which came in by `port`: fills the other columns, and drops what is
    /// malformed or in a VLAN that the port does not carry.
    pub fn read<I: Io<Frame = F>>(
        &mut self,
        io: &mut I,
        port: &Port,
        counters: &PortCounters,
        now_ns: u64,
    ) {
        let count = self.frames.len();
        self.layers.clear();
        self.verdicts.clear();
        self.terms.clear();
        self.flows.clear();
        self.slots.clear();
        self.slots.resize(count, Slot::ZERO);
        self.terms.resize(count, Terms::DEFAULT);
        self.flows.resize(count, None);

        let mut bytes = 0;
        for (frame, slot) in self.frames.iter_mut().zip(&mut self.slots) {
            slot.ingress = port.id.number();
            slot.ingress_kind = port.kind as u8;
            slot.now_ns = now_ns;
            bytes += io.bytes(frame).len() as u64;

            let read = parse(io.bytes(frame), slot);
            if let Ok(layers) = read
                && port.completes_checksums
                && layers.transport != 0
            {
                checksum::complete(io.buffer(frame), slot, layers);
            }
            self.layers.push(read.unwrap_or_default());
            self.verdicts.push(match (read, port.vlans.classify(slot.vlan)) {
                (Err(reason), _) => Verdict::dropped(reason),
                (Ok(_), None) => Verdict::dropped(Reason::VlanNotAllowed),
                (Ok(_), Some(vlan)) => {
                    slot.vlan = vlan;
                    Verdict::OPEN
                }
            });
        }
        add(&counters.rx_packets, count as u64);
        add(&counters.rx_bytes, bytes);
    }

    /// Packets in the burst.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Emitted {
    /// Adds a frame.
    pub fn push(&mut self, port: u16, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.frames.push((port, self.bytes.len()));
    }

    /// Hands every frame to `take`, and is empty afterwards.
    pub fn drain(&mut self, mut take: impl FnMut(u16, &[u8])) {
        let mut start = 0;
        for (port, end) in self.frames.drain(..) {
            take(port, &self.bytes[start..end]);
            start = end;
        }
        self.bytes.clear();
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
