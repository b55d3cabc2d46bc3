//! The chain, asked about a packet that nobody sent: as [`Chain`](crate::chain::Chain) asks it,
//! but of twins, and with every answer noted.

use std::net::SocketAddr;

use millrace_abi::{
    Control, Decision, Field, FieldSet, NO_PORT, Origin, PacketRecord, PacketVerdict, Reason, Slot,
    Tag, TagKind, limits, packet_flag,
};
use millrace_sandbox::Manifest;
use parking_lot::MutexGuard;

use super::{StageRecord, Stages, VersionRecord};
use crate::answer::{Asked, apply};
use crate::connections::Endpoint;
use crate::control::flows::Names;
use crate::control::trace::{HookStatus, Probe, RuleStatus, StageTrace};
use crate::guest::Guest;
use crate::inspect;
use crate::io::Io;
use crate::stage::{Abilities, Mode, OnFault, is_tried};
use crate::verdict::{Decider, Verdict};

impl<I: Io + 'static> Stages<I> {
    /// Asks the stages about a packet, as far as it goes, and shows it to their packet hooks.
    pub(in crate::control) fn trace(
        &mut self,
        probe: &mut Probe<'_>,
        names: &Names<'_>,
    ) -> Vec<StageTrace> {
        // what an earlier trace broke
        self.tend();
        let mut steps = Vec::new();
        for (position, record) in self.records.iter().enumerate() {
            if !probe.verdict.is_open() {
                break;
            }
            steps.push(record.ask(position, probe, names));
        }
        // to be shown is to have been let go on by all
        for (position, record) in self.records.iter().enumerate() {
            if probe.verdict.is_open() && !probe.verdict.answered {
                steps[position].hook = record.show(position, probe);
            }
        }
        self.tend();
        steps
    }
}

impl<I: Io + 'static> Stages<I> {
    /// By which of its rules a stage in force would decide about packets like these; 0 where it
    /// names none, or does not answer.
    pub(in crate::control) fn rules_for(
        &mut self,
        stage: &str,
        slots: &[Slot],
        now_ns: u64,
    ) -> Vec<u32> {
        // what an earlier question broke
        self.tend();
        let asked = self.records.iter().find(|record| *record.name == *stage);
        let asked = asked.filter(|record| record.abilities(&record.current.module).decides);
        let mut rules = Vec::with_capacity(slots.len());
        for slots in slots.chunks(limits::MAX_BATCH) {
            let said = asked.and_then(|record| record.rules_for(slots, now_ns));
            rules.extend(said.unwrap_or_else(|| vec![0; slots.len()]));
        }
        self.tend();
        rules
    }

    /// A rule that a stage in force may have named.
    pub(in crate::control) fn rule(&self, by: Decider, id: u32) -> Option<RuleStatus> {
        let record = self.records.iter().find(|record| record.number == by)?;
        rule(id, record.current.module.manifest())
    }
}

impl StageRecord {
    /// The version that a packet's flow belongs to.
    fn version_for(&self, probe: &Probe<'_>) -> &VersionRecord {
        match &self.canary {
            Some((percent, canary)) if is_tried(*percent, &probe.slot) => canary,
            _ => &self.current,
        }
    }

    fn rules_for(&self, slots: &[Slot], now_ns: u64) -> Option<Vec<u32>> {
        let mut twin = self.current.twin()?;
        let guest = twin.as_mut()?;
        for (asked, slot) in guest.slots(slots.len()).iter_mut().zip(slots) {
            *asked = Slot { origin: Origin::Shadow as u8, now_ns, ..*slot };
        }
        let answers = guest.flow(slots.len(), Origin::Shadow, now_ns);
        let rules = answers.map(|answers| answers.iter().map(|answer| answer.rule).collect());
        guest.take_emitted(&mut |_, _| {});
        if rules.is_err() {
            // it is not called again; another one is built when all are asked
            *twin = None;
        }
        rules.ok()
    }

    fn ask(&self, position: usize, probe: &mut Probe<'_>, names: &Names<'_>) -> StageTrace {
        let version = self.version_for(probe);
        let manifest = version.module.manifest();
        let mut step = StageTrace {
            stage: self.name.to_string(),
            filter: manifest.name.clone(),
            version: version.number,
            mode: self.terms.mode.to_string(),
            outcome: "not-asked".into(),
            control: None,
            reason: None,
            rule: None,
            decided: Vec::new(),
            tags: Vec::new(),
            fault: None,
            hook: None,
        };
        let abilities = self.abilities(&version.module);
        if !abilities.decides || !self.spec().selector.matches(&probe.slot) {
            return step;
        }
        let Some(mut twin) = version.twin() else {
            step.outcome = "absent".into();
            self.without_answer(probe, Reason::FilterAbsent);
            return step;
        };
        let Some(guest) = twin.as_mut() else { unreachable!("it was there under this lock") };
        guest.slots(1)[0] = probe.slot;
        let answer = guest.flow(1, Origin::Shadow, probe.slot.now_ns).map(|answers| answers[0]);
        guest.take_emitted(&mut |_, _| {});
        match answer {
            Ok(answer) => {
                self.take(&answer, position, abilities, probe, &mut step);
                note(&answer, manifest, names, &mut step);
            }
            Err(fault) => {
                // it is not called again; another one is built when all are asked
                *twin = None;
                step.outcome = "failed".into();
                step.fault = Some(fault.to_string());
                self.without_answer(probe, Reason::FilterFault);
            }
        }
        step
    }

    /// Applies an answer, unless the stage is a shadow.
    fn take(
        &self,
        answer: &Decision,
        position: usize,
        Abilities { rights, .. }: Abilities,
        probe: &mut Probe<'_>,
        step: &mut StageTrace,
    ) {
        let asked = Asked { by: self.number, position, rights };
        let (mut slot, mut verdict, mut terms) = (probe.slot, probe.verdict, probe.terms);
        match apply(answer, asked, &mut slot, &mut verdict, &mut terms) {
            Ok(()) => {
                step.outcome = "answered".into();
                if self.terms.mode == Mode::Enforce {
                    (probe.slot, probe.verdict, probe.terms) = (slot, verdict, terms);
                }
            }
            Err(wrong) => {
                step.outcome = "failed".into();
                step.fault = Some(format!("answer: {wrong}"));
                self.without_answer(probe, Reason::BadAnswer);
            }
        }
    }

    fn without_answer(&self, probe: &mut Probe<'_>, reason: Reason) {
        let verdict = &mut probe.verdict;
        match (self.terms.mode, self.terms.on_fault) {
            (Mode::Shadow, _) => {}
            (Mode::Enforce, OnFault::Closed) => verdict.drop_by(self.number, reason),
            (Mode::Enforce, OnFault::Open) => verdict.fields = verdict.fields.with(Field::Once),
        }
    }

    /// Shows the packet to the stage's packet hook, if it wants to see it.
    fn show(&self, position: usize, probe: &mut Probe<'_>) -> Option<HookStatus> {
        let version = self.version_for(probe);
        let Abilities { rights, classes, .. } = self.abilities(&version.module);
        let asked = probe.verdict.inspect & (1 << position) != 0;
        let declared =
            classes.contains(probe.slot.class()) && self.spec().selector.matches(&probe.slot);
        if !rights.sees_packets || !(asked || declared) {
            return None;
        }
        let mut twin = version.twin()?;
        let guest = twin.as_mut()?;
        let slot = millrace_abi::Slot {
            decided: probe.verdict.fields.bits(),
            egress: probe.verdict.egress,
            ..probe.slot
        };
        if !guest.push_packet(&slot, probe.frame) {
            return None;
        }
        let mut seen = None;
        let shown = guest.show_packets(Origin::Shadow, slot.now_ns, &mut |_, record, bytes| {
            let wrong = inspect::check(record, rights, probe.frame.len(), bytes).err();
            seen = Some((*record, wrong));
        });
        guest.take_emitted(&mut |_, _| {});
        let fault = match (shown, seen) {
            (Ok(()), Some((record, None))) => {
                let status = hook(&record, version.module.manifest());
                if self.terms.mode == Mode::Enforce {
                    self.act(&record, probe);
                }
                return Some(status);
            }
            (Ok(()), Some((_, Some(wrong)))) => (format!("answer: {wrong}"), Reason::BadAnswer),
            (Ok(()), None) => return None,
            (Err(fault), _) => {
                *twin = None;
                (fault.to_string(), Reason::FilterFault)
            }
        };
        if self.terms.on_fault == OnFault::Closed {
            self.without_answer(probe, fault.1);
        }
        Some(HookStatus {
            verdict: "failed".into(),
            reason: None,
            rule: None,
            fault: Some(fault.0),
        })
    }

    /// What a packet hook's answer makes of the packet.
    fn act(&self, record: &PacketRecord, probe: &mut Probe<'_>) {
        let verdict = &mut probe.verdict;
        match PacketVerdict::from_u8(record.verdict) {
            Some(PacketVerdict::Drop) => {
                let reason = Reason::stated_by_filter(record.reason).unwrap_or(Reason::Denied);
                verdict.drop_by(self.number, reason);
            }
            Some(PacketVerdict::Answer) => {
                *verdict = Verdict {
                    by: self.number,
                    fields: FieldSet::EMPTY.with(Field::Egress),
                    egress: probe.slot.ingress,
                    inspect: 0,
                    answered: true,
                    ..*verdict
                };
            }
            Some(PacketVerdict::Pass) | None => {}
        }
    }
}

impl VersionRecord {
    /// A twin that is there.
    fn twin(&self) -> Option<MutexGuard<'_, Option<Box<dyn Guest>>>> {
        self.twins.iter().find_map(|twin| twin.try_lock().filter(|twin| twin.is_some()))
    }
}

/// Puts an answer into words.
fn note(answer: &Decision, manifest: &Manifest, names: &Names<'_>, step: &mut StageTrace) {
    let control = Control::from_u8(answer.control);
    step.control = control.map(|control| control.label().into());
    if control.is_some_and(|control| control != Control::Continue) {
        let reason = Reason::stated_by_filter(answer.reason);
        step.reason = reason.map(|reason| reason.label().into());
    }
    step.rule = rule(answer.rule, manifest);
    let end = |address, port| SocketAddr::new(Endpoint { address, port }.ip(), port);
    step.decided = answer
        .stated()
        .iter()
        .map(|field| {
            let name = field.label();
            match field {
                Field::Egress if answer.egress == NO_PORT => name.to_owned(),
                Field::Egress => {
                    let port = (names.port)(answer.egress);
                    format!("{name} {}", port.unwrap_or_else(|| answer.egress.to_string()))
                }
                // port 0 keeps the packet's
                Field::To => format!("{name} {}", end(answer.to_addr, answer.to_port)),
                Field::As => format!("{name} {}", end(answer.as_addr, answer.as_port)),
                Field::NextHop => {
                    format!("{name} {}", Endpoint { address: answer.next_hop, port: 0 }.ip())
                }
                Field::Inspect if answer.inspect == millrace_abi::INSPECT_ALL => {
                    format!("{name} all packets")
                }
                Field::Inspect => format!("{name} {} packets", answer.inspect),
                Field::Idle => format!("{name} {} ms", answer.idle_ms),
                Field::Revalidate => format!("{name} {} ms", answer.revalidate_ms),
                _ => name.to_owned(),
            }
        })
        .collect();
    let tags = answer.tags.iter().take(answer.tag_count.into());
    step.tags = tags.map(|&bits| tag(Tag::from_bits(bits))).collect();
}

fn tag(tag: Tag) -> String {
    let (kind, id) = (tag.bits() >> Tag::ID_BITS, tag.bits() & ((1 << Tag::ID_BITS) - 1));
    let kind = TagKind::ALL.into_iter().find(|known| *known as u32 == kind);
    format!("{} {id}", kind.map_or("unknown", TagKind::label))
}

fn rule(id: u32, manifest: &Manifest) -> Option<RuleStatus> {
    let known = manifest.rules.iter().find(|rule| rule.id == id);
    (id != 0).then(|| RuleStatus {
        id,
        name: known.map(|rule| rule.name.clone()),
        help: known.map(|rule| rule.help.clone()),
    })
}

fn hook(record: &PacketRecord, manifest: &Manifest) -> HookStatus {
    let verdict = PacketVerdict::from_u8(record.verdict).unwrap_or(PacketVerdict::Pass);
    let rewritten = verdict == PacketVerdict::Pass && record.flags & packet_flag::REWRITTEN != 0;
    let reason = Reason::stated_by_filter(record.reason).filter(|_| verdict == PacketVerdict::Drop);
    HookStatus {
        verdict: if rewritten { "rewritten".into() } else { verdict.label().into() },
        reason: reason.map(|reason| reason.label().into()),
        rule: rule(record.rule, manifest),
        fault: None,
    }
}
