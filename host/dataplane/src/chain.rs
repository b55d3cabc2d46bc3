//! Walk `packet` 4/7: flows → **chain** → sandbox.
//!
//! The stages of one worker, in order. Each is asked about the packets that are still
//! open; a packet that a stage drops is shown to none behind it, and a packet goes on
//! only after every stage selected for it has been asked.

use millrace_abi::{Field, Reason};

use crate::burst::{Decisions, Emitted};
use crate::port::add;
use crate::stage::{FaultDesk, Mode, Selector, Stage};
use crate::verdict::Decider;

/// A worker's chain.
pub struct Chain {
    /// The stages, in order; at most [`MAX_STAGES`](crate::verdict::MAX_STAGES).
    pub stages: Vec<Stage>,
    pub(crate) desk: FaultDesk,
    /// The packets that one stage is asked about, or shown.
    pub(crate) picked: Vec<u16>,
}

impl Chain {
    /// A chain without stages, which decides nothing: every packet is dropped.
    pub fn empty(desk: FaultDesk) -> Self {
        Self { stages: Vec::new(), desk, picked: Vec::new() }
    }

    /// Decides about the packets at `open`, which is used up.
    pub fn decide(&mut self, open: &mut Vec<u16>, decisions: &mut Decisions<'_>) {
        for position in 0..self.stages.len() {
            if open.is_empty() {
                break;
            }
            let stage = &mut self.stages[position];
            let selector = &stage.spec.selector;
            if *selector == Selector::All {
                stage.decide(position, open, decisions, &self.desk);
            } else {
                self.picked.clear();
                let selected = |&&at: &&u16| selector.matches(&decisions.slots[usize::from(at)]);
                self.picked.extend(open.iter().filter(selected));
                stage.decide(position, &self.picked, decisions, &self.desk);
            }
            if stage.spec.mode == Mode::Enforce {
                open.retain(|&at| decisions.verdicts[usize::from(at)].is_open());
            }
        }

        // to go on is to have been told where to
        for at in open.drain(..) {
            let verdict = &mut decisions.verdicts[usize::from(at)];
            let somewhere =
                verdict.fields.contains(Field::Egress) || verdict.fields.contains(Field::Flood);
            if !somewhere {
                verdict.drop_by(Decider::HOST, Reason::NoDecision);
            }
        }
        self.compare(decisions);
    }

    /// Counts how far shadow stages agree with what was decided.
    fn compare(&self, decisions: &mut Decisions<'_>) {
        for (position, at, goes_on) in decisions.shadow.drain(..) {
            let counters = &self.stages[usize::from(position)].counters;
            let went_on = decisions.verdicts[usize::from(at)].is_open();
            add(
                match (goes_on, went_on) {
                    (false, true) => &counters.shadow_stricter,
                    (true, false) => &counters.shadow_looser,
                    _ => &counters.shadow_same,
                },
                1,
            );
        }
    }

    /// Calls the tick hooks of all stages.
    pub fn tick(&mut self, now_ns: u64, emitted: &mut Emitted) {
        for stage in &mut self.stages {
            let versions = std::iter::once(&mut stage.crew.main)
                .chain(stage.crew.canary.as_mut().map(|canary| &mut canary.version));
            for version in versions {
                let Some(guest) = version.ready() else { continue };
                match guest.tick(now_ns) {
                    Ok(()) if stage.spec.mode == Mode::Enforce => {
                        guest.take_emitted(&mut |port, frame| {
                            add(&stage.counters.emitted, 1);
                            emitted.push(port, frame);
                        });
                    }
                    Ok(()) => guest.take_emitted(&mut |_, _| {}),
                    Err(fault) => version.failed(&stage.spec, &stage.counters, &self.desk, fault),
                }
            }
        }
    }
}
