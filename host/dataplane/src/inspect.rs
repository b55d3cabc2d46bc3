//! The packet hook: packets that a stage asked to see, by flow or by class, are shown to
//! it after the chain has let them go on.
//!
//! A stage may let a packet pass, drop it, answer it, or change its bytes; where it goes
//! has been decided before. As with decisions, an answer is checked first and applied
//! whole or not at all.

use millrace_abi::{
    Capability, ClassSet, Field, FieldSet, Origin, PacketRecord, PacketVerdict, Reason, Slot,
    packet_flag,
};
use millrace_parse::{flow_hash, parse_headers};
use millrace_sandbox::now_ns;

use crate::answer::{BadAnswer, Rights};
use crate::burst::{Burst, Emitted};
use crate::chain::Chain;
use crate::connections::ConnectionId;
use crate::flows::FlowMap;
use crate::io::Io;
use crate::port::{PortTable, add};
use crate::stage::{
    Canary, Crew, FaultDesk, Mode, OnFault, Stage, StageCounters, StageSpec, Version, is_tried,
};
use crate::tracking::Tracking;
use crate::verdict::Decider;

/// What inspection works on.
pub struct Inspection<'i, I: Io> {
    /// The packets.
    pub burst: &'i mut Burst<I::Frame>,
    /// Their frames' bytes.
    pub io: &'i mut I,
    /// Where flows are remembered, and how many packets of each are still wanted.
    pub flows: &'i mut FlowMap,
    /// The same for connections of cached ports, if there are any.
    pub tracking: Option<&'i Tracking>,
    /// The ports.
    pub ports: &'i PortTable,
    /// Frames that filters send.
    pub emitted: &'i mut Emitted,
    /// When the burst came.
    pub now_ns: u64,
}

impl Chain {
    /// Shows the packets to the stages that want to see them.
    pub fn inspect<I: Io>(&mut self, inspection: &mut Inspection<'_, I>) {
        let Self { stages, desk, picked } = self;
        let mut sight = None;
        for (position, stage) in stages.iter_mut().enumerate() {
            let Stage { spec, crew: Crew { main, canary }, counters } = stage;
            let show = Show { spec, counters, position, desk };
            // each version sees the flows that it was asked about
            let percent = canary.as_ref().map_or(0, |canary| canary.percent);
            inspection.show(show, main, &mut sight, picked, |slot| !is_tried(percent, slot));
            if let Some(Canary { version, .. }) = canary {
                inspection.show(show, version, &mut sight, picked, |slot| is_tried(percent, slot));
            }
        }
    }
}

/// What a burst has for packet hooks to see: one that has nothing is not gone through for each of
/// them. Nothing until the first of them asks, and again when one may have changed packets.
#[derive(Clone, Copy, Default)]
struct Sight {
    /// The stages that asked for packets of a flow, by position.
    asked: u16,
    classes: ClassSet,
}

impl Sight {
    fn of<F>(burst: &Burst<F>) -> Self {
        let packets = burst.verdicts.iter().zip(&burst.slots);
        packets.fold(Self::default(), |Self { asked, classes }, (verdict, slot)| Self {
            asked: asked | verdict.inspect,
            classes: classes.with(slot.class()),
        })
    }
}

/// For which stage packets are shown to one of its versions.
#[derive(Clone, Copy)]
struct Show<'s> {
    spec: &'s StageSpec,
    counters: &'s StageCounters,
    position: usize,
    desk: &'s FaultDesk,
}

impl Show<'_> {
    fn is_enforced(self) -> bool {
        self.spec.mode == Mode::Enforce
    }

    fn is_closed(self) -> bool {
        self.is_enforced() && self.spec.on_fault == OnFault::Closed
    }
}

impl<I: Io> Inspection<'_, I> {
    /// Shows to the version what it wants to see of the packets that are `its`.
    fn show(
        &mut self,
        show: Show<'_>,
        version: &mut Version,
        sight: &mut Option<Sight>,
        picked: &mut Vec<u16>,
        its: impl Fn(&Slot) -> bool,
    ) {
        if !version.abilities.rights.sees_packets {
            return;
        }
        let Sight { asked, classes } = *sight.get_or_insert_with(|| Sight::of(self.burst));
        let declared = version.abilities.classes;
        if asked & (1 << show.position) == 0 && !classes.intersects(declared) {
            return;
        }
        *sight = None;
        // packets that the chain was not asked about have none yet
        for slot in self.burst.slots.iter_mut().filter(|slot| slot.hash == 0) {
            slot.hash = flow_hash(slot);
        }
        picked.clear();
        for at in 0..self.burst.len() {
            if its(&self.burst.slots[at]) && self.wants(show, version, at) {
                picked.push(at as u16);
            }
        }
        let mut rest = picked.as_slice();
        while !rest.is_empty() {
            let shown = self.show_batch(show, version, rest);
            rest = &rest[shown..];
        }
    }

    /// Whether the version wants to see a packet: it asked for those of the flow, or declared their
    /// class.
    fn wants(&mut self, show: Show<'_>, version: &Version, at: usize) -> bool {
        let verdict = &self.burst.verdicts[at];
        if !verdict.is_open() || verdict.answered {
            return false;
        }
        let asked =
            verdict.inspect & (1 << show.position) != 0 && self.is_wanted(at, show.position);
        let slot = &self.burst.slots[at];
        let declared = version.abilities.classes.contains(slot.class());
        asked || (declared && show.spec.selector.matches(slot))
    }

    /// Whether the stage at `position` wants one more packet of this one's flow. Where that is not
    /// remembered it wants each.
    fn is_wanted(&mut self, at: usize, position: usize) -> bool {
        if let Some(flow) = self.burst.flows[at] {
            return self.flows.inspect(flow, position);
        }
        match (self.connection(at), self.tracking) {
            (Some(connection), Some(tracking)) => tracking.shows(connection, position, self.ports),
            _ => true,
        }
    }

    /// Notes that the stage at `position` wants no more packets of this one's flow.
    fn released(&mut self, at: usize, position: usize) {
        if let Some(flow) = self.burst.flows[at] {
            self.flows.released(flow, position);
        }
        if let (Some(connection), Some(tracking)) = (self.connection(at), self.tracking) {
            tracking.released(connection, position, self.ports);
        }
    }

    /// The packet's connection, if some stage looks into that.
    fn connection(&self, at: usize) -> Option<ConnectionId> {
        self.burst.rewrites.get(at)?.inspected
    }

    /// Shows as many packets as go into one batch; returns how many that were.
    fn show_batch(&mut self, show: Show<'_>, version: &mut Version, picked: &[u16]) -> usize {
        let Show { spec, counters, position, desk } = show;
        let (rights, closed, by) = (version.abilities.rights, show.is_closed(), spec.number);
        let Some(guest) = version.ready() else {
            add(&counters.absent, picked.len() as u64);
            if closed {
                self.drop_all(picked, by, Reason::FilterAbsent);
            }
            return picked.len();
        };

        let origin = if show.is_enforced() { Origin::New } else { Origin::Shadow };
        let pushed = |&&at: &&u16| {
            let at = usize::from(at);
            let verdict = &self.burst.verdicts[at];
            // the same whether the verdict is remembered or was reached just now
            let slot = Slot {
                origin: origin as u8,
                decided: verdict.fields.bits(),
                egress: verdict.egress,
                ..self.burst.slots[at]
            };
            guest.push_packet(&slot, self.io.bytes(&self.burst.frames[at]))
        };
        let count = picked.iter().take_while(pushed).count().max(1);
        let batch = &picked[..count];
        add(&counters.shown, count as u64);

        let mut wrong = None;
        let start = now_ns();
        let outcome = guest.show_packets(origin, self.now_ns, &mut |index, record, bytes| {
            let at = usize::from(batch[index]);
            let frame_len = self.io.bytes(&self.burst.frames[at]).len();
            let act = check(record, rights, frame_len, bytes);
            match act.and_then(|act| self.act(at, act, show)) {
                Ok(Wish::More) => {}
                Ok(Wish::NoMore) => self.released(at, position),
                Err(error) => {
                    wrong = Some(error);
                    if closed {
                        self.burst.verdicts[at].drop_by(by, Reason::BadAnswer);
                    }
                }
            }
        });
        add(&counters.busy_ns, now_ns() - start);

        if let Err(fault) = outcome {
            if closed {
                self.drop_all(batch, by, Reason::FilterFault);
            }
            version.failed(spec, counters, desk, fault);
            return count;
        }
        let emitted = &mut *self.emitted;
        guest.take_emitted(&mut |port, frame| {
            if show.is_enforced() {
                add(&counters.emitted, 1);
                emitted.push(port, frame);
            }
        });
        if let Some(wrong) = wrong {
            version.answered_wrongly(spec, counters, desk, wrong);
        }
        count
    }

    /// Does and counts what the stage wants done with a packet; what a shadow wants is counted
    /// alone.
    fn act(&mut self, at: usize, act: Act<'_>, show: Show<'_>) -> Result<Wish, BadAnswer> {
        let (wish, counters) = (act.wish, show.counters);
        let counter = match act.deed {
            Deed::Pass => return Ok(wish),
            Deed::Drop(_) => &counters.shown_dropped,
            Deed::Answer(_) => &counters.shown_answered,
            Deed::Rewrite { .. } => &counters.shown_rewritten,
        };
        if show.is_enforced() {
            self.perform(at, act, show.spec.number)?;
        }
        add(counter, 1);
        Ok(wish)
    }

    fn perform(&mut self, at: usize, act: Act<'_>, by: Decider) -> Result<(), BadAnswer> {
        match act.deed {
            Deed::Pass => return Ok(()),
            Deed::Rewrite { bytes, len } => return self.replace(at, bytes, len),
            Deed::Drop(reason) => self.burst.verdicts[at].drop_by(by, reason),
            Deed::Answer(bytes) => {
                self.replace(at, bytes, bytes.len())?;
                let verdict = &mut self.burst.verdicts[at];
                verdict.by = by;
                verdict.fields = FieldSet::EMPTY.with(Field::Egress);
                verdict.egress = self.burst.slots[at].ingress;
                verdict.inspect = 0;
                verdict.answered = true;
            }
        }
        self.burst.verdicts[at].rule = act.rule;
        Ok(())
    }

    /// Puts `bytes` in place of the packet or, if only its first bytes were shown, of those; `len`
    /// is the packet's length then.
    ///
    /// # Errors
    /// If the packet would be malformed, or in another VLAN; it stays as it was.
    fn replace(&mut self, at: usize, bytes: &[u8], len: usize) -> Result<(), BadAnswer> {
        let Burst { frames, slots, layers, verdicts, .. } = &mut *self.burst;
        let Some(mut fresh) = self.io.take() else {
            verdicts[at].drop_by(Decider::HOST, Reason::NoFrame);
            return Ok(());
        };
        if len > bytes.len() {
            self.io.copy(&frames[at], &mut fresh);
        }
        let buffer = self.io.buffer(&mut fresh);
        if len > buffer.len() {
            self.io.put(fresh);
            return Err(BadAnswer::Length(len as u32));
        }
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.io.set_len(&mut fresh, len);

        let Slot { vlan, hash, .. } = slots[at];
        let mut read = slots[at];
        let outcome = match parse_headers(self.io.bytes(&fresh), &mut read) {
            Err(reason) => Err(BadAnswer::Malformed(reason)),
            // a tag may be taken away, or say the same
            Ok(_) if read.vlan != 0 && read.vlan != vlan => Err(BadAnswer::Vlan(read.vlan)),
            Ok(found) => {
                layers[at] = found;
                slots[at] = Slot { vlan, hash, ..read };
                std::mem::swap(&mut frames[at], &mut fresh);
                Ok(())
            }
        };
        self.io.put(fresh);
        outcome
    }

    fn drop_all(&mut self, batch: &[u16], by: Decider, reason: Reason) {
        for &at in batch {
            self.burst.verdicts[usize::from(at)].drop_by(by, reason);
        }
    }
}

/// A packet answer that has been checked.
pub(crate) struct Act<'a> {
    deed: Deed<'a>,
    rule: u32,
    wish: Wish,
}

/// Whether a stage wants to see more packets of a flow.
#[derive(Clone, Copy)]
enum Wish {
    More,
    NoMore,
}

enum Deed<'a> {
    Pass,
    Drop(Reason),
    /// Goes back with these bytes.
    Answer(&'a [u8]),
    /// Goes on with these bytes at its start, and this length.
    Rewrite {
        bytes: &'a [u8],
        len: usize,
    },
}

/// Checks what a guest left in `record` for a packet of `frame_len` bytes. `room` is what the
/// guest had for it; nothing else of the record says where bytes are.
pub(crate) fn check<'a>(
    record: &PacketRecord,
    rights: Rights,
    frame_len: usize,
    room: &'a [u8],
) -> Result<Act<'a>, BadAnswer> {
    let verdict =
        PacketVerdict::from_u8(record.verdict).ok_or(BadAnswer::PacketVerdict(record.verdict))?;
    if record.flags & !packet_flag::KNOWN != 0 {
        return Err(BadAnswer::PacketFlags(record.flags));
    }
    let needs = |stated, capability: Capability| match rights.capabilities.contains(capability) {
        true => Ok(()),
        false => Err(BadAnswer::Capability(stated, capability.label())),
    };
    let bytes = |len: usize| match len {
        14.. => room.get(..len).ok_or(BadAnswer::Length(record.new_len)),
        _ => Err(BadAnswer::Length(record.new_len)),
    };

    let seen = frame_len.min(room.len());
    let new_len = if record.new_len == 0 { seen } else { record.new_len as usize };
    let deed = match verdict {
        PacketVerdict::Drop => {
            needs(verdict.label(), Capability::Drop)?;
            let reason = Reason::stated_by_filter(record.reason);
            Deed::Drop(reason.ok_or(BadAnswer::Reason(record.reason))?)
        }
        PacketVerdict::Answer => {
            needs(verdict.label(), Capability::Emit)?;
            Deed::Answer(bytes(new_len)?)
        }
        PacketVerdict::Pass if record.flags & packet_flag::REWRITTEN != 0 => {
            needs("rewritten", Capability::Rewrite)?;
            let whole = seen == frame_len;
            if !whole && new_len != seen {
                return Err(BadAnswer::Length(record.new_len));
            }
            Deed::Rewrite { bytes: bytes(new_len)?, len: if whole { new_len } else { frame_len } }
        }
        PacketVerdict::Pass => Deed::Pass,
    };
    let wish = match record.flags & packet_flag::RELEASE {
        0 => Wish::More,
        _ => Wish::NoMore,
    };
    Ok(Act { deed, rule: record.rule, wish })
}
