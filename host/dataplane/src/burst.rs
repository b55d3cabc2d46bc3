//! Walk `packet` 2/7: worker → **burst** → flows.
//!
//! The packets that a worker handles together, column by column: frames, slots, and
//! what becomes of each. The columns are as long as there are frames, in the order in
//! which the frames came.

use millrace_abi::{Origin, Reason, Slot};
use millrace_parse::{Layers, mark, parse_headers, repeats};

use crate::flows::FlowIndex;
use crate::io::Io;
use crate::port::{HeldPort, Port, PortId, PortTable, add};
use crate::tracking::Rewrite;
use crate::verdict::{Terms, Verdict};
use crate::{checksum, punt};

/// A burst.
pub struct Burst<F> {
    /// The frames.
    pub frames: Vec<F>,
    /// The ports they came in by, if they came through the punt; else empty.
    punted: Vec<PortId>,
    /// What filters are told about them; the flow's hash is there once a filter may ask for it.
    pub slots: Vec<Slot>,
    /// Where their headers are.
    pub layers: Vec<Layers>,
    /// Which were found to say the same as the one before, and have been told the same by all
    /// stages so far; nobody asks once the chain was asked.
    pub(crate) repeats: Vec<bool>,
    /// What becomes of them.
    pub verdicts: Vec<Verdict>,
    /// On which terms that is remembered, of those that the chain was asked about.
    pub terms: Vec<Terms>,
    /// Where it is remembered.
    pub flows: Vec<Option<FlowIndex>>,
    /// What their connections have for them, if they came in through the punt; else empty.
    pub rewrites: Vec<Rewrite>,
    /// Those that the chain has to be asked about.
    pub open: Vec<u16>,
    /// Fragments that came in by cached ports.
    pub(crate) fragments: Vec<u16>,
}

/// A packet that is not in a burst for a while.
pub(crate) struct Loose<F> {
    /// Its frame.
    pub(crate) frame: F,
    /// What filters are told about it.
    pub(crate) slot: Slot,
    /// Where its headers are.
    pub(crate) layers: Layers,
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
    /// Of which everything so far is as it is of the one before.
    pub repeats: &'b mut [bool],
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

impl Decisions<'_> {
    /// Has a packet be told what the one before it was told.
    #[inline]
    pub(crate) fn repeat(&mut self, at: usize) {
        self.slots[at] = self.slots[at - 1];
        self.verdicts[at] = self.verdicts[at - 1];
        self.terms[at] = self.terms[at - 1];
    }
}

impl<F> Burst<F> {
    /// An empty burst, with room for `size` packets.
    pub fn new(size: usize) -> Self {
        Self {
            frames: Vec::with_capacity(size),
            punted: Vec::with_capacity(size),
            slots: Vec::with_capacity(size),
            layers: Vec::with_capacity(size),
            repeats: Vec::with_capacity(size),
            verdicts: Vec::with_capacity(size),
            terms: Vec::with_capacity(size),
            flows: Vec::with_capacity(size),
            rewrites: Vec::with_capacity(size),
            open: Vec::with_capacity(size),
            fragments: Vec::new(),
        }
    }

    /// Takes up to `max` frames that came in at `source`: a port, or the punt. Returns how many came.
    pub fn receive<I: Io<Frame = F>>(&mut self, io: &mut I, source: PortId, max: usize) -> usize {
        let Self { frames, punted, .. } = self;
        punted.clear();
        io.receive(source, frames, max);
        let came = frames.len();
        if source == PortId::PUNT {
            while let Some(frame) = frames.get_mut(punted.len()) {
                match punt::pop(io, frame) {
                    Some(port) => punted.push(port),
                    None => io.put(frames.remove(punted.len())),
                }
            }
        }
        came
    }

    /// Reads the frames, which came in at `source`: fills the other columns, and drops what is
    /// malformed or in a VLAN that its port does not carry.
    pub fn read<I: Io<Frame = F>>(
        &mut self,
        io: &mut I,
        ports: &PortTable,
        source: PortId,
        now_ns: u64,
    ) {
        bring_near(io, &self.frames, 0);
        let count = self.frames.len();
        self.layers.clear();
        self.layers.resize(count, Layers::default());
        self.repeats.clear();
        self.repeats.resize(count, false);
        self.verdicts.clear();
        self.verdicts.resize(count, Verdict::OPEN);
        self.flows.clear();
        self.flows.resize(count, None);
        self.rewrites.clear();
        self.rewrites.resize(self.punted.len(), Rewrite::default());
        // slots are written anew below, terms where the chain is asked
        self.slots.resize(count, Slot::ZERO);
        self.terms.resize(count, Terms::DEFAULT);

        let mut run = Run::of(ports, source);
        // what comes through the punt opens flows; trains are in the kernel
        let has_trains = self.punted.is_empty();
        let mut last_mark = None;
        for at in 0..count {
            if at % TOGETHER == 0 {
                bring_near(io, &self.frames, at + TOGETHER);
            }
            if let Some(&port) = self.punted.get(at)
                && port != run.port
            {
                run.end();
                run = Run::of(ports, port);
            }
            let mark = mark(io.bytes(&self.frames[at]));
            if last_mark.replace(mark) == Some(mark)
                && has_trains
                && let Some(before) = at.checked_sub(1)
                && self.verdicts[before].is_open()
                && repeats(io.bytes(&self.frames[at]), io.bytes(&self.frames[before]))
                && let Some([last, slot]) = self.slots[before..].first_chunk_mut()
            {
                *slot = *last;
                let layers = self.layers[before];
                self.layers[at] = layers;
                self.repeats[at] = true;
                run.read_again(io, &mut self.frames[at], slot, layers);
                continue;
            }
            let slot = &mut self.slots[at];
            slot.origin = Origin::New as u8;
            slot.now_ns = now_ns;
            match run.read(io, &mut self.frames[at], slot) {
                Ok(layers) => self.layers[at] = layers,
                Err(reason) => self.verdicts[at] = Verdict::dropped(reason),
            }
        }
        run.end();
    }

    /// Takes a packet out; those behind it move up.
    pub(crate) fn take(&mut self, at: usize) -> Loose<F> {
        self.verdicts.remove(at);
        self.repeats.remove(at);
        self.terms.remove(at);
        self.flows.remove(at);
        self.rewrites.remove(at);
        Loose {
            frame: self.frames.remove(at),
            slot: self.slots.remove(at),
            layers: self.layers.remove(at),
        }
    }

    /// Puts a packet behind the others, about which this is decided.
    pub(crate) fn put(&mut self, packet: Loose<F>, verdict: Verdict, rewrite: Rewrite) {
        self.frames.push(packet.frame);
        self.slots.push(packet.slot);
        self.layers.push(packet.layers);
        self.verdicts.push(verdict);
        self.repeats.push(false);
        self.rewrites.push(rewrite);
        self.terms.push(Terms::DEFAULT);
        self.flows.push(None);
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

/// Frames of one port, one behind the other.
struct Run<'p> {
    port: PortId,
    /// Nothing for a port that was taken away while its frames were on their way.
    held: Option<&'p HeldPort>,
    packets: u64,
    bytes: u64,
}

impl<'p> Run<'p> {
    fn of(ports: &'p PortTable, port: PortId) -> Self {
        Self { port, held: ports.get(port), packets: 0, bytes: 0 }
    }

    #[inline]
    fn read<I: Io>(
        &mut self,
        io: &mut I,
        frame: &mut I::Frame,
        slot: &mut Slot,
    ) -> Result<Layers, Reason> {
        let bytes = io.bytes(frame);
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        slot.ingress = self.port.number();
        let port = &self.held.ok_or(Reason::NoSuchPort)?.port;
        slot.ingress_kind = port.kind as u8;
        let layers = parse_headers(bytes, slot)?;
        complete_checksum(io, frame, port, slot, layers);
        slot.vlan = port.vlans.classify(slot.vlan).ok_or(Reason::VlanNotAllowed)?;
        Ok(layers)
    }

    /// Reads a frame that says the same as the one before.
    #[inline]
    fn read_again<I: Io>(&mut self, io: &mut I, frame: &mut I::Frame, slot: &Slot, layers: Layers) {
        self.packets += 1;
        self.bytes += u64::from(slot.len);
        if let Some(held) = self.held {
            complete_checksum(io, frame, &held.port, slot, layers);
        }
    }

    fn end(&self) {
        if let Some(held) = self.held {
            add(&held.counters.rx_packets, self.packets);
            add(&held.counters.rx_bytes, self.bytes);
        }
    }
}

/// Completes the checksum of a frame that came in by the port, if its sender may have left it.
#[inline]
fn complete_checksum<I: Io>(
    io: &mut I,
    frame: &mut I::Frame,
    port: &Port,
    slot: &Slot,
    layers: Layers,
) {
    if port.completes_checksums && layers.transport != 0 {
        checksum::complete(io.buffer(frame), slot, layers);
    }
}

/// Has the packets from `first` on brought near, which the kernel wrote on another core: several
/// at a time, because each waits for its address to be translated, and they wait together.
#[inline]
fn bring_near<I: Io>(io: &I, frames: &[I::Frame], first: usize) {
    for frame in frames.iter().skip(first).take(TOGETHER) {
        io.prefetch(frame);
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

/// How many packets are brought near together, while as many others are read: no more than find
/// room where all frames begin in the cache.
const TOGETHER: usize = 4;
