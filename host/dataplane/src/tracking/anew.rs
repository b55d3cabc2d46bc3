//! What a new decision about a live connection comes to, next to the one in force.
//!
//! Never changes anything: a worker finds out between two bursts, and has packets to look after.
//! The connection keeps its translation, unless a filter wants to pick again.

use std::time::Duration;

use millrace_abi::{Field, FieldSet, Reason, Slot};

use super::ends::Ends;
use super::kernel::{self, KernelFlow};
use super::{lasts, ways};
use crate::connections::{Anew, Direction, Key, Labels, Translation, View, Way, Zone};
use crate::port::{PortId, PortTable};
use crate::verdict::{Decider, MAX_STAGES, Terms, Verdict};

/// What the chain said about a live connection.
pub(crate) struct Answer<'a> {
    /// What it was told, and told itself from stage to stage.
    pub(crate) slot: &'a Slot,
    pub(crate) verdict: &'a Verdict,
    pub(crate) terms: &'a Terms,
}

/// What is to be done about a connection.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing.
    Same,
    /// Its packets go as before, for other reasons.
    Restated(Anew),
    /// Its packets go another way.
    Changed(Box<Change>),
    /// It would not have been opened; the rest is its stage's to say.
    Refused(Refused),
    /// It cannot go on as the connection that it is: its next packet may open another.
    Over,
    /// A filter has failed.
    Unanswered,
}

/// Why a connection would not have been opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) verdict: Verdict,
    /// How long that is said for; nothing if until what it depends on changes.
    pub(crate) for_a_time: Option<Duration>,
}

/// Another way, and what the kernel has to know of it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) anew: Anew,
    /// By direction; nothing where workers carry it.
    pub(crate) flows: [Option<KernelFlow>; 2],
    /// How many more packets each stage wants to see that looks into it.
    pub(crate) inspect_left: [u16; MAX_STAGES],
}

impl Outcome {
    /// What the answer comes to.
    pub(crate) fn of(view: &View, answer: &Answer<'_>, ports: &PortTable) -> Self {
        let Answer { slot, verdict, terms } = *answer;
        match (verdict.is_open(), verdict.reason) {
            (false, Some(Reason::FilterFault | Reason::BadAnswer)) => return Self::Unanswered,
            (false, _) => return Self::Refused(Refused::by_filter(verdict, terms)),
            (true, _) if !lasts(verdict, terms) => return Self::Over,
            (true, _) => {}
        }
        let Some(held) = PortId::new(verdict.egress).and_then(|id| ports.get(id)) else {
            return Self::Refused(Refused::by_host(verdict, Reason::NoSuchPort));
        };
        let (egress, [key, reply]) = (&held.port, &view.keys);
        if verdict.fields.contains(Field::PickAgain) {
            match Ends::of(slot, key, verdict.fields, egress) {
                Ok(ends) if ends.are_answered_by(reply) => {}
                Ok(_) => return Self::Over,
                Err(reason) => return Self::Refused(Refused::by_host(verdict, reason)),
            }
        }

        let present = &view.ways[Direction::Original as usize].verdict;
        let verdict = Verdict { fields: keeping_translation(verdict, present), ..*verdict };
        let anew = Anew {
            ways: ways(slot, &verdict, egress),
            answers: Zone::of(egress),
            tags: terms.tags,
            idle: verdict
                .fields
                .contains(Field::Idle)
                .then(|| Duration::from_millis(terms.idle_ms.into())),
        };
        let alike = |at: usize| without_speaker(&view.ways[at]) == without_speaker(&anew.ways[at]);
        if reply.zone != anew.answers || !alike(0) || !alike(1) {
            return Self::changed(view, anew, terms, ports);
        }
        let labels = Labels::of(&view.keys, &anew.ways, &anew.tags);
        if view.ways == anew.ways && view.idle == anew.idle && view.labels == labels {
            return Self::Same;
        }
        Self::Restated(anew)
    }

    fn changed(view: &View, anew: Anew, terms: &Terms, ports: &PortTable) -> Self {
        let [key, reply] = view.keys;
        let reply = Key { zone: anew.answers, ..reply };
        let there = Translation::between(&key, &reply);
        let back = Translation::between(&reply, &key);
        let flows = [
            kernel::flow(&key, &anew.ways[0], &there, ports),
            kernel::flow(&reply, &anew.ways[1], &back, ports),
        ];
        Self::Changed(Box::new(Change { anew, flows, inspect_left: terms.inspect_left }))
    }
}

impl Refused {
    fn by_filter(verdict: &Verdict, terms: &Terms) -> Self {
        let milliseconds = Some(terms.revalidate_ms).filter(|it| *it > 0);
        let for_a_time = milliseconds.map(|it| Duration::from_millis(it.into()));
        Self { verdict: *verdict, for_a_time }
    }

    fn by_host(verdict: &Verdict, reason: Reason) -> Self {
        let mut verdict = *verdict;
        verdict.drop_by(Decider::HOST, reason);
        Self { verdict, for_a_time: None }
    }
}

/// What is decided, but for translation: that stays as it is.
fn keeping_translation(verdict: &Verdict, present: &Verdict) -> FieldSet {
    let translation = FieldSet::EMPTY.with(Field::To).with(Field::As).with(Field::Masquerade);
    let kept = present.fields.minus(present.fields.minus(translation));
    let others = verdict.fields.minus(translation).without(Field::PickAgain);
    FieldSet::from_bits(others.bits() | kept.bits())
}

/// A way, whoever it was that said so.
fn without_speaker(way: &Way) -> Way {
    Way { verdict: Verdict { by: Decider::HOST, rule: 0, ..way.verdict }, ..*way }
}

#[cfg(test)]
mod tests;
