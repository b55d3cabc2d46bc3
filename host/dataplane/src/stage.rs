//! One stage of a chain, on one worker: a guest, its twin, and what to do when it fails.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::SyncSender;

use millrace_abi::{ClassSet, Field, Origin, PortKind, Reason, Slot, limits};
use millrace_sandbox::{Fault, FaultClass, now_ns};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::answer::{Asked, BadAnswer, Rights, apply};
use crate::burst::Decisions;
use crate::guest::Guest;
use crate::port::add;
use crate::verdict::{Decider, Verdict};

/// A stage of a worker's chain.
pub struct Stage {
    /// What is the same on every worker.
    pub spec: Arc<StageSpec>,
    /// What it does, and to how much of the traffic.
    pub crew: Crew,
    /// What it counts.
    pub counters: Arc<StageCounters>,
}

/// What is the same for a stage on every worker.
#[derive(Clone, Debug)]
pub struct StageSpec {
    /// The stage's number, which stays with it.
    pub number: Decider,
    /// The stage's name.
    pub name: Arc<str>,
    /// Which packets it is asked about.
    pub selector: Selector,
    /// What happens to packets when it fails.
    pub on_fault: OnFault,
    /// Whether its answers count.
    pub mode: Mode,
}

/// The guests of a stage on one worker.
pub struct Crew {
    /// The version in force.
    pub main: Version,
    /// Another version, tried on some flows.
    pub canary: Option<Canary>,
}

/// One version of a filter on one worker.
pub struct Version {
    /// Tells faults of this version from those of others.
    pub number: u64,
    /// Which hooks it has, and what it may do.
    pub abilities: Abilities,
    /// The guest; absent after a fault until its twin is there.
    pub guest: Option<Box<dyn Guest>>,
    /// The twin, unless it is away for a new configuration.
    pub twin: Twin,
}

/// The place of a guest's twin: the worker takes it when a guest fails, the control thread to
/// configure it. Neither waits for the other.
pub type Twin = Arc<Mutex<Option<Box<dyn Guest>>>>;

/// What a version can and may do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// Whether it has a flow hook.
    pub decides: bool,
    /// The classes of packets that its packet hook sees without asking.
    pub classes: ClassSet,
    /// What its answers may say.
    pub rights: Rights,
}

/// A version that is tried on some flows.
pub struct Canary {
    /// How many of a hundred flows it is asked about.
    pub percent: u8,
    /// The version.
    pub version: Version,
}

/// Which packets a stage is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All.
    All,
    /// Those that came in by one of these ports, or by a port of one of these kinds.
    Ports {
        /// Ports by number.
        ports: Vec<u16>,
        /// Kinds of ports.
        kinds: Vec<PortKind>,
    },
}

/// What happens to packets when a stage fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// They go on as if the stage were not there.
    Open,
    /// They are dropped.
    #[default]
    Closed,
}

/// What happens to a live connection that a stage would not let go on any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRefused {
    /// It goes on as it is.
    Keep,
    /// Its packets are dropped.
    #[default]
    Drop,
    /// Both ends are told: by TCP resets, or by ICMP errors when they send.
    Reset,
}

/// Whether a stage's answers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// They are compared with what the others decide, and counted.
    Shadow,
}

/// What a worker counts of a stage. Written by that worker alone, read by anybody.
#[derive(Debug, Default)]
pub struct StageCounters {
    /// Calls of the flow hook.
    pub calls: AtomicU64,
    /// Slots it was asked about.
    pub asked: AtomicU64,
    /// Of these, asked of the canary.
    pub asked_canary: AtomicU64,
    /// Decisions that ended a packet's way.
    pub dropped: AtomicU64,
    /// Of these, decisions of the canary.
    pub dropped_canary: AtomicU64,
    /// Nanoseconds spent in its hooks.
    pub busy_ns: AtomicU64,
    /// Packets shown to the packet hook.
    pub shown: AtomicU64,
    /// Packets that the packet hook dropped.
    pub shown_dropped: AtomicU64,
    /// Packets that it answered.
    pub shown_answered: AtomicU64,
    /// Packets that it changed.
    pub shown_rewritten: AtomicU64,
    /// Frames that it sent.
    pub emitted: AtomicU64,
    /// Faults by class, in the order of [`FaultClass::ALL`].
    pub faults: [AtomicU64; FaultClass::ALL.len()],
    /// Packets that went by because there was no working guest, or dropped for it.
    pub absent: AtomicU64,
    /// Shadow: the same outcome as the chain's.
    pub shadow_same: AtomicU64,
    /// Shadow: it would have dropped what went on.
    pub shadow_stricter: AtomicU64,
    /// Shadow: it would have let go on what was dropped behind it.
    pub shadow_looser: AtomicU64,
}

/// A fault, on its way to who mends it.
pub struct FaultReport {
    /// The worker it happened on.
    pub worker: usize,
    /// The stage.
    pub stage: Decider,
    /// The version.
    pub version: u64,
    /// What happened.
    pub fault: Fault,
    /// The dead guest: to take it down costs more time than a worker has.
    pub remains: Option<Box<dyn Guest>>,
}

/// Where a worker reports faults to.
#[derive(Clone)]
pub struct FaultDesk {
    /// Which worker this is.
    pub worker: usize,
    /// Never waited for: if it is full the fault is counted and not reported.
    pub reports: SyncSender<FaultReport>,
}

impl Stage {
    /// Asks the stage about the slots at `picked`, and applies its answers. With
    /// [`Origin::Shadow`] the answers go to `shadow` instead.
    pub fn decide(
        &mut self,
        position: usize,
        picked: &[u16],
        decisions: &mut Decisions<'_>,
        desk: &FaultDesk,
    ) {
        let Self { spec, crew, counters } = self;
        match &mut crew.canary {
            None => {
                let ask = Ask { spec, counters, position, desk, canary: false };
                ask.all(&mut crew.main, picked, decisions);
            }
            Some(canary) => {
                let (tried, rest): (Vec<u16>, Vec<u16>) = picked
                    .iter()
                    .partition(|&&at| is_tried(canary.percent, &decisions.slots[usize::from(at)]));
                let ask = Ask { spec, counters, position, desk, canary: false };
                ask.all(&mut crew.main, &rest, decisions);
                let ask = Ask { canary: true, ..ask };
                ask.all(&mut canary.version, &tried, decisions);
            }
        }
    }
}

/// Whether the slot's flow is among the `percent` of a hundred that a canary is tried on: always
/// the same ones.
pub(crate) fn is_tried(percent: u8, slot: &Slot) -> bool {
    // the hash spreads flows over workers too: other bits of it are used here
    let share = (u64::from(slot.hash.wrapping_mul(0x9e37_79b1)) * 100) >> 32;
    share < u64::from(percent)
}

/// One round of questions to one version.
#[derive(Clone, Copy)]
struct Ask<'a> {
    spec: &'a StageSpec,
    counters: &'a StageCounters,
    position: usize,
    desk: &'a FaultDesk,
    canary: bool,
}

impl Ask<'_> {
    fn all(self, version: &mut Version, picked: &[u16], decisions: &mut Decisions<'_>) {
        // a shadow is compared by packets: of live flows it need not be asked
        let live = decisions.origin == Origin::Redecide;
        if version.abilities.decides && !(live && self.spec.mode == Mode::Shadow) {
            for batch in picked.chunks(limits::MAX_BATCH) {
                self.batch(version, batch, decisions);
            }
        }
    }

    fn batch(self, version: &mut Version, picked: &[u16], decisions: &mut Decisions<'_>) {
        let rights = version.abilities.rights;
        let Some(guest) = version.ready() else {
            if decisions.origin == Origin::New {
                add(&self.counters.absent, picked.len() as u64);
            }
            return self.fail(picked, decisions, Reason::FilterAbsent);
        };
        let (origin, now) = (self.origin(decisions.origin), decisions.now_ns);
        for (place, &at) in guest.slots(picked.len()).iter_mut().zip(picked) {
            *place = decisions.slots[usize::from(at)];
            place.origin = origin as u8;
        }

        let start = now_ns();
        let outcome = guest.flow(picked.len(), origin, now);
        add(&self.counters.busy_ns, now_ns() - start);
        add(&self.counters.calls, 1);
        if decisions.origin == Origin::New {
            add(&self.counters.asked, picked.len() as u64);
            if self.canary {
                add(&self.counters.asked_canary, picked.len() as u64);
            }
        }

        let (mut bad, mut last) = (None, None);
        match outcome {
            Ok(answers) => {
                for (&at, answer) in picked.iter().zip(answers) {
                    let before = last.replace((at.wrapping_add(1), answer));
                    if self.is_answered_as(before, at, answer, decisions) {
                        continue;
                    }
                    if let Err(wrong) = self.take(at, answer, rights, decisions) {
                        bad = Some(wrong);
                    }
                }
            }
            Err(fault) => {
                self.fail(picked, decisions, Reason::FilterFault);
                return self.report(version, fault);
            }
        }
        if let Some(wrong) = bad {
            self.report_answer(version, wrong);
        }
        let emitted = &mut decisions.emitted;
        if let Some(guest) = &mut version.guest {
            guest.take_emitted(&mut |port, frame| {
                add(&self.counters.emitted, 1);
                emitted.push(port, frame);
            });
        }
    }

    /// Whether a packet that is as the one before it is told the same, and so is done with. If not,
    /// they go different ways from here on.
    #[inline]
    fn is_answered_as(
        self,
        before: Option<(u16, &millrace_abi::Decision)>,
        at: u16,
        answer: &millrace_abi::Decision,
        decisions: &mut Decisions<'_>,
    ) -> bool {
        let index = usize::from(at);
        if !decisions.repeats[index] || self.spec.mode == Mode::Shadow {
            return false;
        }
        let is_same = before == Some((at, answer));
        decisions.repeats[index] = is_same;
        if is_same {
            decisions.repeat(index);
            self.note_end(&decisions.verdicts[index], decisions.origin);
        }
        is_same
    }

    /// Applies one answer, or keeps it for comparison.
    fn take(
        self,
        at: u16,
        answer: &millrace_abi::Decision,
        rights: Rights,
        decisions: &mut Decisions<'_>,
    ) -> Result<(), BadAnswer> {
        let (index, position) = (usize::from(at), self.position);
        let asked = Asked { by: self.spec.number, position, rights };
        if self.spec.mode == Mode::Shadow {
            let (mut slot, mut verdict) = (decisions.slots[index], Verdict::OPEN);
            let mut terms = decisions.terms[index];
            apply(answer, asked, &mut slot, &mut verdict, &mut terms)?;
            decisions.shadow.push((position as u8, at, verdict.is_open()));
            return Ok(());
        }

        let (slot, verdict) = (&mut decisions.slots[index], &mut decisions.verdicts[index]);
        let applied = apply(answer, asked, slot, verdict, &mut decisions.terms[index]);
        if applied.is_err() {
            self.without_answer(verdict, Reason::BadAnswer, decisions.origin);
        }
        self.note_end(verdict, decisions.origin);
        applied
    }

    /// Counts a packet whose way ends here.
    fn note_end(self, verdict: &Verdict, origin: Origin) {
        if !verdict.is_open() && origin == Origin::New {
            add(&self.counters.dropped, 1);
            if self.canary {
                add(&self.counters.dropped_canary, 1);
            }
        }
    }

    /// What happens to packets that the stage could not answer for.
    fn fail(self, picked: &[u16], decisions: &mut Decisions<'_>, reason: Reason) {
        if self.spec.mode == Mode::Enforce {
            // the one before the first may have been answered
            if let Some(&first) = picked.first() {
                decisions.repeats[usize::from(first)] = false;
            }
            for &at in picked {
                let verdict = &mut decisions.verdicts[usize::from(at)];
                self.without_answer(verdict, reason, decisions.origin);
            }
        }
    }

    fn without_answer(self, verdict: &mut Verdict, reason: Reason, origin: Origin) {
        match self.spec.on_fault {
            OnFault::Closed => verdict.drop_by(self.spec.number, reason),
            // nothing is known about a live flow then: it stays as it is
            OnFault::Open if origin == Origin::Redecide => match reason {
                Reason::FilterAbsent => {}
                _ => verdict.drop_by(self.spec.number, reason),
            },
            // a flow that went by is asked about again as soon as there is somebody to ask
            OnFault::Open => verdict.fields = verdict.fields.with(Field::Once),
        }
    }

    fn origin(self, origin: Origin) -> Origin {
        if self.spec.mode == Mode::Shadow { Origin::Shadow } else { origin }
    }

    fn report(self, version: &mut Version, fault: Fault) {
        version.failed(self.spec, self.counters, self.desk, fault);
    }

    fn report_answer(self, version: &Version, wrong: BadAnswer) {
        version.answered_wrongly(self.spec, self.counters, self.desk, wrong);
    }
}

impl Version {
    /// The guest, or its twin if the guest has failed.
    pub fn ready(&mut self) -> Option<&mut Box<dyn Guest>> {
        if self.guest.is_none() {
            self.guest = self.twin.try_lock().and_then(|mut twin| twin.take());
        }
        self.guest.as_mut()
    }

    /// Takes a failed guest out of service, and reports it.
    pub fn failed(
        &mut self,
        spec: &StageSpec,
        counters: &StageCounters,
        desk: &FaultDesk,
        fault: Fault,
    ) {
        counters.fault(fault.class);
        let remains = self.guest.take();
        // the twin at once: who mends must find its place empty
        self.ready();
        desk.report(spec, self.number, fault, remains);
    }

    /// Reports an answer that was wrong. The guest stays: it has done what it was called for.
    pub fn answered_wrongly(
        &self,
        spec: &StageSpec,
        counters: &StageCounters,
        desk: &FaultDesk,
        wrong: BadAnswer,
    ) {
        let fault = Fault { class: FaultClass::Answer, detail: wrong.to_string() };
        counters.fault(fault.class);
        desk.report(spec, self.number, fault, None);
    }
}

impl StageCounters {
    fn fault(&self, class: FaultClass) {
        let index = FaultClass::ALL.iter().position(|&other| other == class);
        add(&self.faults[index.expect("every class is among all")], 1);
    }
}

impl FaultDesk {
    fn report(
        &self,
        spec: &StageSpec,
        version: u64,
        fault: Fault,
        remains: Option<Box<dyn Guest>>,
    ) {
        let (worker, stage) = (self.worker, spec.number);
        let report = FaultReport { worker, stage, version, fault, remains };
        // a full desk has enough to do; the fault is counted
        let _ = self.reports.try_send(report);
    }
}

impl Selector {
    /// Whether the stage is asked about the slot.
    #[inline]
    pub fn matches(&self, slot: &Slot) -> bool {
        match self {
            Self::All => true,
            Self::Ports { ports, kinds } => {
                ports.contains(&slot.ingress) || kinds.contains(&slot.ingress_kind())
            }
        }
    }
}

macro_rules! words {
    ($ty:ident: $($word:literal => $value:ident),*) => {
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$value => $word),* })
            }
        }

        impl FromStr for $ty {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$value),)*
                    _ => Err(format!("`{text}` is not one of {}", [$(concat!("`", $word, "`")),*].join(", "))),
                }
            }
        }
    };
}
words!(OnFault: "open" => Open, "closed" => Closed);
words!(OnRefused: "keep" => Keep, "drop" => Drop, "reset" => Reset);
words!(Mode: "enforce" => Enforce, "shadow" => Shadow);
