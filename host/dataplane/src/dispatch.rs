//! Walk `packet` 7/7: rewrite → **dispatch**.
//!
//! Sends packets where their verdicts say. Every frame of a burst leaves here: into a
//! port's queue or back to the pool, and is counted under exactly one fate. The one
//! commit is the worker's, behind this.

mod lane;

use millrace_abi::{Control, Field, Reason, Slot};
use millrace_parse::Layers;
use millrace_wire::{EtherType, vlan};

use crate::burst::{Burst, Emitted};
use crate::capture::Tap;
use crate::counters::{Counters, Fate, Key, RuleKey};
use crate::fragmentation::Cut;
use crate::io::Io;
use crate::port::{Gateway, HeldPort, Hold, Port, PortId, PortTable, add};
use crate::reply::{self, Notice, ReplyLimit};
use crate::tracking::Rewrite;
use crate::verdict::{Decider, Verdict};
use crate::{punt, rewrite};

use self::lane::Lane;

/// What dispatch works with.
pub struct Dispatch<'d, I: Io> {
    /// The frames' bytes, the pool and the queues.
    pub io: &'d mut I,
    /// The ports.
    pub ports: &'d PortTable,
    /// What became of packets.
    pub counters: &'d Counters,
    /// By which rules packets went no further.
    pub rules: &'d Counters<RuleKey>,
    /// How many replies may be sent.
    pub replies: &'d mut ReplyLimit,
    /// What copies packets, for each who looks on.
    pub(crate) taps: &'d mut [Tap],
    /// The packets of the burst that the chain was asked about, in order.
    pub(crate) asked: &'d [u16],
}

impl<I: Io> Dispatch<'_, I> {
    /// Sends the packets of a burst, in order. The burst is empty afterwards.
    pub fn burst(&mut self, burst: &mut Burst<I::Frame>) {
        // packets of a burst mostly share their way, or at least their fate: they are counted together
        let mut lane: Option<Lane<'_>> = None;
        let mut alike: Option<(Key, u64)> = None;
        let has_lanes = self.taps.is_empty() && burst.rewrites.is_empty();
        let columns = burst.slots.iter().zip(&burst.verdicts).zip(&burst.layers);
        for (at, (frame, ((slot, verdict), &layers))) in
            burst.frames.drain(..).zip(columns).enumerate()
        {
            if has_lanes && !lane.as_ref().is_some_and(|lane| lane.is_of(slot, verdict)) {
                let next = Lane::of(slot, verdict, self.ports);
                if let Some(done) = std::mem::replace(&mut lane, next) {
                    done.settle(self.counters);
                }
            }
            let bytes = self.io.bytes(&frame);
            if let Some(lane) = &mut lane
                && lane.fits(bytes, layers)
            {
                let len = bytes.len();
                if let Err(frame) = lane.send(self.io, frame, len) {
                    self.io.put(frame);
                    self.count_dropped(slot.ingress, Reason::RingFull);
                }
                continue;
            }

            let key = self.one(at, frame, slot, layers, verdict, burst.rewrites.get(at));
            match &mut alike {
                Some((present, packets)) if *present == key => *packets += 1,
                _ => {
                    if let Some((earlier, packets)) = alike.replace((key, 1)) {
                        self.counters.count(earlier, packets);
                    }
                }
            }
        }
        if let Some(lane) = lane {
            lane.settle(self.counters);
        }
        if let Some((key, packets)) = alike {
            self.counters.count(key, packets);
        }
        self.taps.iter_mut().for_each(Tap::flush);
    }

    /// Does with a packet what its verdict says, and says under what it is counted.
    fn one(
        &mut self,
        at: usize,
        frame: I::Frame,
        slot: &Slot,
        layers: Layers,
        verdict: &Verdict,
        rewrite: Option<&Rewrite>,
    ) -> Key {
        if !self.taps.is_empty() {
            let asked = self.asked.binary_search(&(at as u16)).is_ok();
            let bytes = self.io.bytes(&frame);
            self.taps.iter_mut().for_each(|tap| tap.offer(slot, bytes, verdict, asked));
        }
        let fate = self.packet(frame, slot, layers, verdict, rewrite);
        let port = PortId::new(slot.ingress).expect("slots are filled with real ports");
        // what the host found wrong on the way out is the host's decision
        let by = if fate.reason() == verdict.reason { verdict.by } else { Decider::HOST };
        self.taps.iter_mut().for_each(|tap| tap.settle(fate, by));
        if let Some(reason) = fate.reason()
            && by != Decider::HOST
            && verdict.rule != 0
        {
            self.rules.count(RuleKey { port, by, reason, rule: verdict.rule }, 1);
        }
        Key { port, by, fate }
    }

    /// Sends the frames that filters emit. One that cannot be sent is counted as dropped at the
    /// port it was for.
    pub fn emitted(&mut self, emitted: &mut Emitted) {
        emitted.drain(|port, bytes| {
            if let Err(reason) = self.emit(port, bytes) {
                self.count_dropped(port, reason);
            }
        });
    }

    fn emit(&mut self, port: u16, bytes: &[u8]) -> Result<(), Reason> {
        let held = PortId::new(port).and_then(|id| self.ports.get(id)).ok_or(Reason::NoSuchPort)?;
        if !held.port.up {
            return Err(Reason::PortDown);
        }
        if bytes.len() - link_header(bytes) > held.port.mtu as usize {
            return Err(Reason::TooBig);
        }
        let mut frame = self.io.take().ok_or(Reason::NoFrame)?;
        let room = self.io.buffer(&mut frame);
        let sent = match room.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.io.set_len(&mut frame, bytes.len());
                self.send(frame, held)
            }
            None => Err((frame, Reason::TooBig)),
        };
        sent.map_err(|(frame, reason)| {
            self.io.put(frame);
            reason
        })
    }

    fn count_dropped(&self, port: u16, reason: Reason) {
        if let Some(port) = PortId::new(port) {
            self.counters.count(Key { port, by: Decider::HOST, fate: Fate::Dropped(reason) }, 1);
        }
    }

    fn packet(
        &mut self,
        mut frame: I::Frame,
        slot: &Slot,
        layers: Layers,
        verdict: &Verdict,
        rewrite: Option<&Rewrite>,
    ) -> Fate {
        let reason = verdict.reason.unwrap_or(Reason::NoDecision);
        match verdict.control {
            Control::Continue => {}
            Control::Drop => {
                self.io.put(frame);
                return Fate::Dropped(reason);
            }
            Control::Reject => {
                self.tell(Notice::Rejected, &frame, slot, layers);
                self.io.put(frame);
                return Fate::Rejected(reason);
            }
        }
        // who is told of a packet is told of it as it was sent: before anything is rewritten
        let egress = PortId::new(verdict.egress).and_then(|id| self.ports.get(id));
        let mut cut = None;
        if let Some(egress) = egress.map(|held| &held.port)
            && egress.up
            && !fits(self.io.bytes(&frame), layers, egress)
        {
            // a segment is one link: nobody between its stations may cut what they send
            let is_routed = verdict.fields.contains(Field::DecrementTtl);
            let bytes = self.io.bytes(&frame);
            cut = is_routed.then(|| Cut::of(bytes, slot, layers, egress.mtu as usize)).flatten();
            if cut.is_none() {
                if is_routed && let Some(gateway) = self.gateway(slot) {
                    self.tell(Notice::TooBig(gateway, egress.mtu), &frame, slot, layers);
                }
                self.io.put(frame);
                return Fate::Dropped(Reason::TooBig);
            }
        }
        // an answer goes back as a filter made it
        let rewrite = rewrite.filter(|_| !verdict.answered);
        let link = rewrite.and_then(|rewrite| rewrite.link);
        let translation = rewrite.and_then(|rewrite| rewrite.translation.as_ref());
        if let Err(reason) =
            rewrite::fields(self.io, &mut frame, slot, layers, verdict, translation)
        {
            if reason == Reason::TtlExceeded
                && let Some(gateway) = self.gateway(slot)
            {
                self.tell(Notice::NoHopLeft(gateway), &frame, slot, layers);
            }
            self.io.put(frame);
            return Fate::Dropped(reason);
        }
        if translation.is_some()
            && let Some(mtu) = egress.and_then(|egress| self.path_mtu(slot, &egress.port))
        {
            rewrite::segment_size(self.io, &mut frame, slot, layers, mtu);
        }
        if verdict.fields.contains(Field::Flood) {
            return self.flood(frame, slot, layers);
        }
        let sent = match egress {
            Some(egress) => {
                let next_hop = verdict.fields.contains(Field::NextHop);
                match rewrite::neighbour(self.io, &mut frame, &egress.port, link, next_hop) {
                    Ok(()) => match cut {
                        None => self.leave(frame, slot.vlan, egress),
                        Some(cut) => return self.in_pieces(frame, slot.vlan, egress, &cut),
                    },
                    Err(reason) => Err((frame, reason)),
                }
            }
            None => Err((frame, Reason::NoSuchPort)),
        };
        match sent {
            Ok(()) if verdict.answered => Fate::Answered,
            Ok(()) => Fate::Forwarded,
            Err((frame, reason)) => {
                self.io.put(frame);
                Fate::Dropped(reason)
            }
        }
    }

    /// What the sender of a packet knows the dataplane by.
    fn gateway(&self, slot: &Slot) -> Option<Gateway> {
        self.ports.get(PortId::new(slot.ingress)?)?.port.gateway()
    }

    /// The largest packet that gets from where a packet came to `egress` and back.
    fn path_mtu(&self, slot: &Slot, egress: &Port) -> Option<u32> {
        let ingress = self.ports.get(PortId::new(slot.ingress)?)?;
        Some(ingress.port.mtu.min(egress.mtu))
    }

    /// Sends a packet in the pieces that it is cut into.
    fn in_pieces(&mut self, frame: I::Frame, vlan: u16, held: &HeldPort, cut: &Cut) -> Fate {
        let (mut fate, mut start) = (Fate::Fragmented, 0);
        while let Some(piece) = cut.piece(start) {
            let sent = match self.copy(&frame) {
                Some(mut copy) => {
                    let len = cut.make(piece, self.io.buffer(&mut copy));
                    self.io.set_len(&mut copy, len);
                    self.leave(copy, vlan, held).map_err(|(copy, reason)| {
                        self.io.put(copy);
                        reason
                    })
                }
                None => Err(Reason::NoFrame),
            };
            // the rest is of no use to whoever misses one
            if let Err(reason) = sent {
                fate = Fate::Dropped(reason);
                break;
            }
            start = piece.end();
        }
        self.io.put(frame);
        fate
    }

    /// Sends a copy to every other port of the packet's VLAN; the last one gets the frame itself.
    /// A copy that cannot be sent is counted as a packet of its own.
    fn flood(&mut self, frame: I::Frame, slot: &Slot, layers: Layers) -> Fate {
        let members = |held: &&HeldPort| {
            let port = &held.port;
            port.id.number() != slot.ingress
                && port.up
                && port.is_of_segment()
                && port.vlans.tagging(slot.vlan).is_some()
        };
        let ports = self.ports;
        let mut targets = ports.iter().filter(members).peekable();
        let (mut original, mut sent, mut failed) = (Some(frame), false, None);
        while let Some(target) = targets.next() {
            let next = match targets.peek() {
                Some(_) => original.as_ref().and_then(|frame| self.copy(frame)),
                None => original.take(),
            };
            let outcome = match next {
                Some(frame) => {
                    let left = match fits(self.io.bytes(&frame), layers, &target.port) {
                        true => self.leave(frame, slot.vlan, target),
                        false => Err((frame, Reason::TooBig)),
                    };
                    left.map_err(|(frame, why)| {
                        self.io.put(frame);
                        why
                    })
                }
                None => Err(Reason::NoFrame),
            };
            match outcome {
                Ok(()) => sent = true,
                Err(reason) => {
                    if let Some(earlier) = failed.replace(reason) {
                        self.count_dropped(slot.ingress, earlier);
                    }
                }
            }
        }
        if let Some(frame) = original {
            self.io.put(frame);
        }
        match (sent, failed) {
            (true, None) => Fate::Flooded,
            (true, Some(reason)) => {
                self.count_dropped(slot.ingress, reason);
                Fate::Flooded
            }
            (false, reason) => Fate::Dropped(reason.unwrap_or(Reason::NothingToFlood)),
        }
    }

    /// Queues a packet that belongs to `vlan`, and fits, at the port, tagged as the port wants it.
    #[inline(always)]
    fn leave(
        &mut self,
        mut frame: I::Frame,
        vlan: u16,
        held: &HeldPort,
    ) -> Result<(), (I::Frame, Reason)> {
        let port = &held.port;
        if !port.up {
            return Err((frame, Reason::PortDown));
        }
        if let Err(reason) = rewrite::tag(self.io, &mut frame, vlan, &port.vlans) {
            return Err((frame, reason));
        }
        self.send(frame, held)
    }

    #[inline(always)]
    fn send(&mut self, mut frame: I::Frame, held: &HeldPort) -> Result<(), (I::Frame, Reason)> {
        let HeldPort { port, counters } = held;
        let bytes = self.io.bytes(&frame).len() as u64;
        let queue = match port.hold {
            Hold::Direct => port.id,
            Hold::Cached(_) if punt::push(self.io, &mut frame, port.id) => PortId::PUNT,
            Hold::Cached(_) => return Err((frame, Reason::TooBig)),
        };
        match self.io.transmit(queue, frame) {
            Ok(()) => {
                add(&counters.tx_packets, 1);
                add(&counters.tx_bytes, bytes);
                Ok(())
            }
            Err(frame) => Err((frame, Reason::RingFull)),
        }
    }

    fn copy(&mut self, frame: &I::Frame) -> Option<I::Frame> {
        let mut copy = self.io.take()?;
        let len = self.io.copy(frame, &mut copy);
        self.io.set_len(&mut copy, len);
        Some(copy)
    }

    /// Tells the sender of a packet that goes no further, if anything may be said.
    fn tell(&mut self, notice: Notice, frame: &I::Frame, slot: &Slot, layers: Layers) {
        let ports = self.ports;
        let Some(ingress) = PortId::new(slot.ingress).and_then(|id| ports.get(id)) else { return };
        if !self.replies.admit(slot.now_ns) {
            return;
        }
        let Some(mut place) = self.io.take() else { return };
        let mut bytes = [0; REPLY];
        match reply::compose(notice, self.io.bytes(frame), slot, layers, &mut bytes) {
            Some(len) => {
                self.io.buffer(&mut place)[..len].copy_from_slice(&bytes[..len]);
                self.io.set_len(&mut place, len);
                if let Err((place, _)) = self.send(place, ingress) {
                    self.io.put(place);
                }
            }
            None => self.io.put(place),
        }
    }
}

/// Whether the port carries a packet of this length.
pub(crate) fn fits(frame: &[u8], layers: Layers, port: &Port) -> bool {
    let header = match layers.network {
        0 => link_header(frame),
        network => usize::from(network),
    };
    frame.len() - header <= port.mtu as usize
}

/// Bytes in front of what an MTU speaks of: the Ethernet header and tags.
fn link_header(frame: &[u8]) -> usize {
    let ether_type = |end: usize| frame.get(..end)?.last_chunk().map(|t| u16::from_be_bytes(*t));
    let mut len = ETHERNET_HEADER;
    while ether_type(len).is_some_and(|number| EtherType(number).is_vlan()) {
        len += vlan::TAG_LEN;
    }
    len.min(frame.len())
}

const ETHERNET_HEADER: usize = 14;

/// The longest reply: an ICMPv6 error (RFC 4443 section 2.4) in a tagged frame.
const REPLY: usize = 1280 + 18;
