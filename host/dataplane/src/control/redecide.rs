//! Live connections are decided anew when what they were decided by changes: without packets, in
//! batches that workers take between two bursts, so that packets go on flowing.
//!
//! Whoever changes something [asks](Desk::post) and need not wait. Requests that come while others
//! are worked on are worked on together afterwards: a connection that was decided before a change
//! was made is decided again behind it. One that is dropped for a time is asked about when that is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_abi::{Reason, Tag, TagKind};
use millrace_fastpath::ChangeError;
use millrace_sandbox::now_ns;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::connections::{ConnectionId, Connections, Cursor, View};
use crate::control::later::Later;
use crate::io::Io;
use crate::mailbox::{NoAnswer, Postman};
use crate::port::PortId;
use crate::stage::OnRefused;
use crate::tracking::Upkeep;
use crate::tracking::anew::{Outcome, Refused};
use crate::tracking::change::{Behind, Fate, Treatment};
use crate::verdict::Decider;
use crate::worker::Worker;

/// Which connections are to be decided anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that depend on any of these.
    Tags(Vec<Tag>),
}

/// What became of connections that were decided anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redecided {
    /// Those that go on as before.
    pub same: u64,
    /// Those that go another way.
    pub changed: u64,
    /// Those that are refused now, and go on nevertheless, as their stage has it.
    pub kept: u64,
    /// Those that are refused now, and dropped.
    pub dropped: u64,
    /// Those that are refused now, and whose ends are told.
    pub reset: u64,
    /// Those that ended, since they would be other connections: their next packets are decided
    /// afresh.
    pub over: u64,
    /// Those that go on as before, since a filter failed.
    pub unanswered: u64,
}

/// Where requests wait.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// How many requests there were, and up to which they are done.
    posted: u64,
    done: u64,
    /// What the last round came to, and all of them.
    last: Redecided,
    total: Redecided,
    closed: bool,
}

/// Requests, put together.
#[derive(Default)]
struct Waiting {
    all: bool,
    tags: BTreeSet<u32>,
    /// Ports that are not as the kernel's entries have them.
    ports: BTreeSet<u16>,
}

/// What a stage does about connections that it refuses.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) stage: Arc<str>,
    pub(super) on_refused: OnRefused,
    /// What it does where one of these rules refuses, if tables tell it of rules.
    pub(super) by_rule: Option<Arc<BTreeMap<u32, OnRefused>>>,
    /// It has no filter, and nobody mends that.
    pub(super) is_ejected: bool,
}

/// Who decides anew.
pub(super) struct Redecider<I: Io> {
    desk: Arc<Desk>,
    connections: Arc<Connections>,
    upkeep: Arc<Upkeep>,
    workers: Vec<Arc<Postman<Worker<I>>>>,
}

/// Why some connections were not decided anew.
#[derive(Debug, thiserror::Error)]
enum RedecideError {
    /// A worker is gone.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// The kernel does not follow.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Desk {
    /// Asks for connections to be decided anew, and does not wait for it.
    pub(super) fn post(&self, which: &Which) {
        self.put(which);
    }

    /// Asks, and waits for it; says what became of them, and of those that others asked for.
    pub(super) fn ask(&self, which: &Which) -> Redecided {
        let number = self.put(which);
        let mut state = self.state.lock();
        while state.done < number && !state.closed {
            self.moved.wait(&mut state);
        }
        state.last
    }

    /// Asks for the kernel to carry connections as this port is now, and does not wait for it.
    pub(super) fn post_port(&self, port: PortId) {
        let mut state = self.state.lock();
        state.waiting.ports.insert(port.number());
        state.posted += 1;
        self.moved.notify_all();
    }

    /// What became of all that were decided anew so far.
    pub(super) fn total(&self) -> Redecided {
        self.state.lock().total
    }

    /// Lets nobody wait any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.moved.notify_all();
    }

    fn put(&self, which: &Which) -> u64 {
        let mut state = self.state.lock();
        match which {
            Which::All => state.waiting.all = true,
            Which::Tags(tags) => state.waiting.tags.extend(tags.iter().map(|tag| tag.bits())),
        }
        state.posted += 1;
        self.moved.notify_all();
        state.posted
    }

    /// What was asked for, and up to which request; nothing once the desk is closed. If there is
    /// something else to be done it waits for so long and no longer, and then for nothing.
    fn take(&self, patience: Option<Duration>) -> Option<(Waiting, u64)> {
        let deadline = patience.map(|it| Instant::now() + it);
        let mut state = self.state.lock();
        let mut is_late = false;
        while state.done == state.posted && !state.closed && !is_late {
            match deadline {
                Some(deadline) => {
                    is_late = self.moved.wait_until(&mut state, deadline).timed_out();
                }
                None => self.moved.wait(&mut state),
            }
        }
        let posted = state.posted;
        (!state.closed).then(|| (std::mem::take(&mut state.waiting), posted))
    }

    fn finish(&self, number: u64, came_to: Redecided) {
        let mut state = self.state.lock();
        // who has asked hears of that, and not of what was due behind it
        if state.done < number {
            state.done = number;
            state.last = came_to;
        }
        state.total.add(&came_to);
        self.moved.notify_all();
    }
}

impl<I: Io + 'static> Redecider<I> {
    pub(super) fn new(
        desk: Arc<Desk>,
        connections: Arc<Connections>,
        upkeep: Arc<Upkeep>,
        workers: Vec<Arc<Postman<Worker<I>>>>,
    ) -> Self {
        Self { desk, connections, upkeep, workers }
    }

    /// Decides anew what is asked for until the desk is closed. `refusals` says what stages do
    /// about what they refuse, when a round begins.
    pub(super) fn run(&self, refusals: impl Fn() -> BTreeMap<Decider, Refusal>) {
        // whoever waits hears that nobody does it any more
        let _closed = Closing(&self.desk);
        let mut later = Later::new();
        while let Some((waiting, number)) = self.desk.take(later.wait(now_ns())) {
            let mut round = Round {
                who: self,
                refusals: refusals(),
                later: &mut later,
                turn: 0,
                came_to: Redecided::default(),
            };
            let outcome = match waiting.all {
                true => round.all(),
                false => round.tagged(&waiting.tags),
            };
            let outcome = outcome.and_then(|()| round.by(&waiting.ports));
            let outcome = outcome.and_then(|()| round.due());
            let came_to = round.came_to;
            if let Err(error) = outcome {
                tracing::error!(%error, "connections stay as they were decided before a change");
            }
            self.desk.finish(number, came_to);
        }
    }
}

/// Closes the desk when nobody works at it any more.
struct Closing<'d>(&'d Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What is done at once.
struct Round<'r, I: Io> {
    who: &'r Redecider<I>,
    refusals: BTreeMap<Decider, Refusal>,
    /// Those that are dropped for a time.
    later: &'r mut Later<ConnectionId>,
    /// The worker that is asked next.
    turn: usize,
    came_to: Redecided,
}

impl<I: Io + 'static> Round<'_, I> {
    fn all(&mut self) -> Result<(), RedecideError> {
        let mut next = Some(Cursor::default());
        while let Some(from) = next {
            let (views, rest) = self.who.connections.all(from, AT_ONCE);
            self.batch(views)?;
            next = rest;
        }
        Ok(())
    }

    fn tagged(&mut self, tags: &BTreeSet<u32>) -> Result<(), RedecideError> {
        let tagged = |&bits: &u32| self.who.connections.by_tag(Tag::from_bits(bits));
        let ids: BTreeSet<_> = tags.iter().flat_map(tagged).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        self.these(&ids)
    }

    /// Those that come or go by these ports, as they were decided.
    fn by(&mut self, ports: &BTreeSet<u16>) -> Result<(), RedecideError> {
        let Some(worker) = self.who.workers.first() else { return Ok(()) };
        let tagged =
            |port: &u16| self.who.connections.by_tag(Tag::new(TagKind::Port, u32::from(*port)));
        let ids: BTreeSet<_> = ports.iter().flat_map(tagged).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        for some in ids.chunks(AT_ONCE) {
            let views = some.iter().filter_map(|&id| self.who.connections.view(id));
            let views: Vec<_> = views.collect();
            let behind = worker.ask(move |worker| {
                let behind = |view| Behind::of(view, &worker.ports);
                views.iter().flat_map(behind).collect::<Vec<_>>()
            })?;
            self.who.upkeep.follow(&behind)?;
        }
        Ok(())
    }

    /// Those whose time is over. What stays as it is was counted when it was dropped.
    fn due(&mut self) -> Result<(), RedecideError> {
        let same = self.came_to.same;
        let ids = self.later.take(now_ns(), MOST_DUE);
        let outcome = self.these(&ids);
        self.came_to.same = same;
        outcome
    }

    fn these(&mut self, ids: &[ConnectionId]) -> Result<(), RedecideError> {
        for some in ids.chunks(AT_ONCE) {
            let views = some.iter().filter_map(|&id| self.who.connections.view(id));
            self.batch(views.collect())?;
        }
        Ok(())
    }

    fn batch(&mut self, views: Vec<View>) -> Result<(), RedecideError> {
        if views.is_empty() {
            return Ok(());
        }
        self.turn = (self.turn + 1) % self.who.workers.len();
        let worker = &self.who.workers[self.turn];
        let (views, outcomes) = worker.ask(move |worker| {
            let outcomes = worker.redecide(&views);
            (views, outcomes)
        })?;
        let (mut reset, mut behind) = (Vec::new(), Vec::new());
        let carried_out = self.carry_out(views, &outcomes, &mut reset, &mut behind);
        // of those, too, behind which it came to an end
        self.who.upkeep.follow(&behind)?;
        carried_out?;
        if !reset.is_empty() {
            // what they answer comes to a worker: the kernel has no entries of them any more
            worker.ask(move |worker| worker.ask_ends(&reset))?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        views: Vec<View>,
        outcomes: &[Outcome],
        reset: &mut Vec<View>,
        behind: &mut Vec<Behind>,
    ) -> Result<(), ChangeError> {
        let now_ns = now_ns();
        for (view, outcome) in views.into_iter().zip(outcomes) {
            let fate = match self.treatment(outcome) {
                Some(treatment) => {
                    self.who.upkeep.carry_out(&view, outcome, treatment, now_ns, behind)?
                }
                None => Fate::Unanswered,
            };
            self.came_to.count(fate);
            match (outcome, fate) {
                (
                    Outcome::Refused(Refused { for_a_time: Some(time), .. }),
                    Fate::Dropped | Fate::Same,
                ) => self.later.put(view.id, now_ns, *time),
                _ => self.later.forget(view.id),
            }
            if fate == Fate::Reset {
                reset.push(view);
            }
        }
        Ok(())
    }

    /// What the stage that refused has for it; nothing if it had no filter to answer, which may be
    /// there in a moment.
    fn treatment(&self, outcome: &Outcome) -> Option<Treatment<'_>> {
        let nobodys = Treatment { on_refused: OnRefused::default(), stage: None };
        let Outcome::Refused(Refused { verdict, .. }) = outcome else { return Some(nobodys) };
        let Some(refusal) = self.refusals.get(&verdict.by) else { return Some(nobodys) };
        let is_absent = verdict.reason == Some(Reason::FilterAbsent) && !refusal.is_ejected;
        let on_refused = refusal.of(verdict.rule);
        let treatment = Treatment { on_refused, stage: Some(&refusal.stage) };
        (!is_absent).then_some(treatment)
    }
}

impl Refusal {
    /// What is done where this rule refuses.
    fn of(&self, rule: u32) -> OnRefused {
        let of_rule = self.by_rule.as_ref().and_then(|rules| rules.get(&rule));
        of_rule.copied().unwrap_or(self.on_refused)
    }
}

impl Redecided {
    /// How many there were.
    pub fn connections(&self) -> u64 {
        let Self { same, changed, kept, dropped, reset, over, unanswered } = self;
        same + changed + kept + dropped + reset + over + unanswered
    }

    fn count(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::Same => &mut self.same,
            Fate::Changed => &mut self.changed,
            Fate::Kept => &mut self.kept,
            Fate::Dropped => &mut self.dropped,
            Fate::Reset => &mut self.reset,
            Fate::Over => &mut self.over,
            Fate::Unanswered => &mut self.unanswered,
        };
        *counter += 1;
    }

    fn add(&mut self, other: &Self) {
        self.same += other.same;
        self.changed += other.changed;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.reset += other.reset;
        self.over += other.over;
        self.unanswered += other.unanswered;
    }
}

/// Connections that a worker is asked about between two bursts: as long as a burst takes.
const AT_ONCE: usize = 64;
/// Connections that were dropped for a time and are asked about in one round, lest others wait long.
const MOST_DUE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn tag(number: u32) -> Tag {
        Tag::new(TagKind::Service, number)
    }

    #[test]
    fn what_is_asked_for_meanwhile_is_done_together() {
        let desk = Desk::default();
        for which in [Which::Tags(vec![tag(1), tag(2)]), Which::Tags(vec![tag(2), tag(3)])] {
            desk.post(&which);
        }
        let (waiting, number) = desk.take(None).expect("the desk is open");
        assert_eq!((waiting.all, number), (false, 2));
        assert_eq!(waiting.tags, [1, 2, 3].map(|n| tag(n).bits()).into());
        desk.post(&Which::All);
        desk.finish(number, Redecided { same: 3, ..Redecided::default() });
        let (waiting, number) = desk.take(None).expect("the desk is open");
        assert_eq!((waiting.all, waiting.tags.len(), number), (true, 0, 3));
        desk.finish(number, Redecided { same: 4, dropped: 1, ..Redecided::default() });
        let total = Redecided { same: 7, dropped: 1, ..Redecided::default() };
        assert_eq!((desk.total(), desk.total().connections()), (total, 8));
    }

    #[test]
    fn who_asks_hears_what_its_own_round_came_to() {
        let desk = Desk::default();
        desk.post(&Which::All);
        let (_, first) = desk.take(None).expect("the desk is open");
        thread::scope(|scope| {
            let asks = scope.spawn(|| desk.ask(&Which::Tags(vec![tag(1)])));
            while desk.state.lock().posted < 2 {
                thread::yield_now();
            }
            desk.finish(first, Redecided { same: 9, ..Redecided::default() });
            let (waiting, second) = desk.take(None).expect("the desk is open");
            assert!(!waiting.all);
            desk.finish(second, Redecided { changed: 1, ..Redecided::default() });
            let heard = asks.join().expect("it does not panic");
            assert_eq!(heard, Redecided { changed: 1, ..Redecided::default() });
        });
    }

    #[test]
    fn what_is_due_waits_for_nobody_and_is_no_answer_to_who_asks() {
        let desk = Desk::default();
        let (waiting, number) = desk.take(Some(Duration::ZERO)).expect("the desk is open");
        assert_eq!((waiting.all, waiting.tags.len(), number), (false, 0, 0));
        desk.finish(number, Redecided { changed: 1, ..Redecided::default() });
        assert_eq!(desk.state.lock().last, Redecided::default());
        assert_eq!(desk.total().changed, 1);
    }

    #[test]
    fn a_rule_that_says_what_is_done_counts_before_its_stage() {
        let rules = Arc::new(BTreeMap::from([(300, OnRefused::Keep)]));
        let told = Refusal {
            stage: "policy".into(),
            on_refused: OnRefused::Reset,
            by_rule: Some(rules),
            is_ejected: false,
        };
        assert_eq!([300, 301].map(|rule| told.of(rule)), [OnRefused::Keep, OnRefused::Reset]);
        assert_eq!(Refusal { by_rule: None, ..told }.of(300), OnRefused::Reset);
    }

    #[test]
    fn nobody_waits_at_a_closed_desk() {
        let desk = Desk::default();
        thread::scope(|scope| {
            let asks = scope.spawn(|| desk.ask(&Which::All));
            desk.close();
            assert_eq!(asks.join().expect("it does not panic"), Redecided::default());
        });
        assert!(desk.take(None).is_none());
    }
}
