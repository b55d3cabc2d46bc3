//! Connections that go another way from now on: user space first, so that nobody makes the kernel
//! an entry of the old way any more, and then the kernel's entries, where they are, many at once.

use std::time::Duration;

use millrace_abi::Control;
use millrace_fastpath::{self as fastpath, ChangeError, Generation, Verdict as Entry};

use super::anew::{Change, Outcome};
use super::kernel::{self, KernelFlow};
use super::refuser::Refuser;
use super::upkeep::Upkeep;
use crate::connections::{
    Anew, AnewError, Before, ConnectionId, Direction, Key, Labels, Translation, View, Way,
};
use crate::port::PortTable;
use crate::stage::OnRefused;
use crate::verdict::{Tags, Verdict};

/// What became of a connection that was decided anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It goes on as before.
    Same,
    /// It goes another way.
    Changed,
    /// It is refused now, and goes on nevertheless.
    Kept,
    /// It is refused now, and its packets are dropped.
    Dropped,
    /// It is refused now, and who sends is told.
    Reset,
    /// It is none any more.
    Over,
    /// It goes on as before, since a filter failed.
    Unanswered,
}

/// What is done about a connection that is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Treatment<'r> {
    pub(crate) on_refused: OnRefused,
    /// The stage that refuses it, if it is one that is there.
    pub(crate) stage: Option<&'r str>,
}

/// An entry of the kernel that is still as it was, while its connection goes another way, or a port
/// does.
pub(crate) struct Behind {
    change: fastpath::Change,
    /// Whose it is.
    connection: ConnectionId,
    direction: Direction,
    /// How often something else was decided about the connection.
    revision: u32,
}

impl Behind {
    /// The entries of a connection, which goes on as it was decided, by ports as they are now.
    pub(crate) fn of(view: &View, ports: &PortTable) -> impl Iterator<Item = Self> {
        Direction::BOTH.into_iter().filter_map(|direction| {
            let (side, other) = (direction as usize, direction.other() as usize);
            let generation = view.generations[side]?.into();
            let translation = Translation::between(&view.keys[side], &view.keys[other]);
            let flow = kernel::flow(&view.keys[side], &view.ways[side], &translation, ports)?;
            let verdict = Entry::Forward(flow.forward);
            Some(Self {
                change: fastpath::Change { key: flow.key, generation, verdict },
                connection: view.id,
                direction,
                revision: view.revision,
            })
        })
    }
}

impl Upkeep {
    /// Does what there is to be done about a connection; `treatment` says what if it is refused.
    /// Entries that are to [follow](Self::follow) are added to `behind`.
    pub(crate) fn carry_out(
        &self,
        view: &View,
        outcome: &Outcome,
        treatment: Treatment<'_>,
        now_ns: u64,
        behind: &mut Vec<Behind>,
    ) -> Result<Fate, ChangeError> {
        let fate = match outcome {
            Outcome::Same => return Ok(Fate::Same),
            Outcome::Unanswered => return Ok(Fate::Unanswered),
            Outcome::Over => self.end(view, now_ns)?,
            Outcome::Restated(anew) => match self.connections.replace(view.id, anew) {
                Ok(_) => Fate::Same,
                Err(_) => Fate::Over,
            },
            Outcome::Changed(change) => self.change(view, change, now_ns, behind)?,
            Outcome::Refused(refused) => self.refuse(view, &refused.verdict, treatment, behind)?,
        };
        // one that is over is not there to be kept
        if let Some(succession) = &self.succession {
            succession.keep(view.id);
        }
        Ok(fate)
    }

    /// Has the kernel's entries follow their connections.
    pub(crate) fn follow(&self, behind: &[Behind]) -> Result<(), ChangeError> {
        // workers want the cache, too
        for some in behind.chunks(AT_ONCE) {
            let mut cache = self.cache.lock();
            let (mut later, mut changes, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            for entry in some {
                let fastpath::Change { key, generation, verdict } = entry.change;
                let waited = match verdict {
                    Entry::Forward(forward) => {
                        self.hand_over.change_waiting(&mut cache, &key, generation, forward)?
                    }
                    _ => None,
                };
                match waited {
                    Some(true) => {}
                    Some(false) => gone.push(entry),
                    None => {
                        later.push(entry);
                        changes.push(entry.change);
                    }
                }
            }
            let changed = cache.change_all(&changes)?;
            drop(cache);
            let left = later.iter().zip(changed).filter(|(_, was_there)| !was_there);
            for entry in gone.iter().chain(left.map(|(entry, _)| entry)) {
                self.connections.cached(entry.connection, entry.direction, None, entry.revision);
            }
        }
        Ok(())
    }

    fn change(
        &self,
        view: &View,
        change: &Change,
        now_ns: u64,
        behind: &mut Vec<Behind>,
    ) -> Result<Fate, ChangeError> {
        let before = match self.connections.replace(view.id, &change.anew) {
            Ok(before) => before,
            Err(AnewError::Gone) => return Ok(Fate::Over),
            Err(AnewError::AnswersTaken) => return self.end(view, now_ns),
        };
        if change.anew.ways.iter().any(|way| way.verdict.inspect != 0) {
            self.connections.inspect(view.id, &change.inspect_left);
        }
        let [key, reply] = before.keys;
        let now = [key, Key { zone: change.anew.answers, ..reply }];
        for direction in Direction::BOTH {
            let side = direction as usize;
            match &change.flows[side] {
                Some(flow) => {
                    self.redirect(view.id, &before, direction, flow, &now[side], behind)?;
                }
                None => {
                    let is_inspected = change.anew.ways[side].verdict.inspect != 0;
                    self.take_back(view.id, &before, direction, &now[side], is_inspected)?;
                }
            }
        }
        Ok(Fate::Changed)
    }

    fn refuse(
        &self,
        view: &View,
        verdict: &Verdict,
        treatment: Treatment<'_>,
        behind: &mut Vec<Behind>,
    ) -> Result<Fate, ChangeError> {
        let (control, fate) = match treatment.on_refused {
            OnRefused::Keep => return Ok(Fate::Kept),
            OnRefused::Drop => (Control::Drop, Fate::Dropped),
            OnRefused::Reset => (Control::Reject, Fate::Reset),
        };
        let refused = |way: Way| Way {
            verdict: Verdict {
                control,
                by: verdict.by,
                reason: verdict.reason,
                rule: verdict.rule,
                inspect: 0,
                ..way.verdict
            },
            ..way
        };
        let anew = Anew {
            ways: view.ways.map(refused),
            answers: view.keys[Direction::Reply as usize].zone,
            // behind the stage that refuses nobody was asked: what they depended on still counts
            tags: tags(view),
            idle: Some(SILENCE),
        };
        if anew.ways == view.ways {
            return Ok(Fate::Same);
        }
        let Ok(before) = self.connections.replace(view.id, &anew) else { return Ok(Fate::Over) };
        let refuser = match (control, treatment.stage, verdict.reason) {
            (Control::Drop, Some(stage), Some(reason)) => {
                let refuser = Refuser { stage: stage.to_owned(), reason, rule: verdict.rule };
                self.cache.lock().refuser(&refuser.name())?
            }
            _ => fastpath::Refuser::UNNAMED,
        };
        for direction in Direction::BOTH {
            let key = &before.keys[direction as usize];
            match control {
                Control::Drop => self.stop(view.id, &before, direction, refuser, behind),
                // user space has something to say to each that sends
                _ => self.take_back(view.id, &before, direction, key, false)?,
            }
        }
        Ok(fate)
    }

    /// Has the kernel carry a direction another way, if it carries it.
    fn redirect(
        &self,
        id: ConnectionId,
        before: &Before,
        direction: Direction,
        flow: &KernelFlow,
        now: &Key,
        behind: &mut Vec<Behind>,
    ) -> Result<(), ChangeError> {
        let side = direction as usize;
        let Some(generation) = before.generations[side] else { return Ok(()) };
        let Some(key) = kernel::key(&before.keys[side]) else { return Ok(()) };
        if key == flow.key {
            let (generation, verdict) = (generation.into(), Entry::Forward(flow.forward));
            let change = fastpath::Change { key, generation, verdict };
            let revision = before.revision;
            behind.push(Behind { change, connection: id, direction, revision });
            return Ok(());
        }

        // answers come from another port: nothing of these is on its way here
        self.take_back(id, before, direction, now, false)?;
        let mut cache = self.cache.lock();
        let inserted = cache.insert_over(&flow.key, &Entry::Forward(flow.forward));
        drop(cache);
        // without room for it, its next packet asks again
        let generation = inserted.ok().and_then(kernel::generation);
        if !self.connections.cached(id, direction, generation, before.revision)
            && generation.is_some()
        {
            self.cache.lock().remove(&[flow.key])?;
        }
        Ok(())
    }

    /// Has the kernel drop a direction's packets, if it carries them.
    fn stop(
        &self,
        id: ConnectionId,
        before: &Before,
        direction: Direction,
        refuser: fastpath::Refuser,
        behind: &mut Vec<Behind>,
    ) {
        let side = direction as usize;
        let Some(generation) = before.generations[side] else { return };
        let Some(key) = kernel::key(&before.keys[side]) else { return };
        self.hand_over.forget(&key, Some(generation.into()));
        let verdict = Entry::Drop(refuser);
        let change = fastpath::Change { key, generation: generation.into(), verdict };
        behind.push(Behind { change, connection: id, direction, revision: before.revision });
    }

    /// Takes a direction back from the kernel, with what that has counted for the connection, whose
    /// key of this direction is `now` by now; whether its packets are to be kept here.
    fn take_back(
        &self,
        id: ConnectionId,
        before: &Before,
        direction: Direction,
        now: &Key,
        is_kept: bool,
    ) -> Result<(), ChangeError> {
        let side = direction as usize;
        let Some(generation) = before.generations[side] else { return Ok(()) };
        let Some(key) = kernel::key(&before.keys[side]) else { return Ok(()) };
        let mut cache = self.cache.lock();
        let seen = match is_kept {
            true => self.hand_over.take_back(&mut cache, &key, generation.into())?,
            false => {
                self.hand_over.forget(&key, Some(generation.into()));
                cache.retire(&key)?
            }
        };
        drop(cache);
        if let Some(usage) = seen
            && usage.generation == Generation::from(generation)
        {
            self.connections.absorb(now, generation, &kernel::connections_usage(&usage));
        }
        self.connections.cached(id, direction, None, before.revision);
        Ok(())
    }

    /// Lets a connection go, so that its next packet is decided afresh.
    fn end(&self, view: &View, now_ns: u64) -> Result<Fate, ChangeError> {
        if let Some(due) = self.connections.dismiss(view.id, now_ns) {
            self.settle(&due, now_ns)?;
        }
        Ok(Fate::Over)
    }
}

/// What the connection depends on, beside its ports.
fn tags(view: &View) -> Tags {
    let ports = Labels::of(&view.keys, &view.ways, &Tags::default());
    let mut tags = Tags::default();
    for tag in view.labels.iter().filter(|&tag| ports.iter().all(|port| port != tag)) {
        // they were a decision's once, so there is room
        tags.add(tag);
    }
    tags
}

/// Entries that are changed while nobody else has the cache: two runs of the kernel's program.
const AT_ONCE: usize = 32;
/// How long what is refused is remembered without a packet: as long as an end tries again.
const SILENCE: Duration = Duration::from_secs(120);
