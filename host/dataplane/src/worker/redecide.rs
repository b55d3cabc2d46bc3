//! Live connections that the chain is asked about anew, between two bursts.
//!
//! No packet is at hand: filters see what opened the connection, and the translation in force.
//! Whatever the answers come to is for somebody else to do.

use millrace_abi::{Origin, Slot};

use super::Worker;
use crate::burst::Decisions;
use crate::connections::{Direction, View};
use crate::io::Io;
use crate::tracking::anew::{Answer, Outcome};
use crate::tracking::reset::{self, QUESTION};
use crate::verdict::{Terms, Verdict};

impl<I: Io> Worker<I> {
    /// What the chain says about these connections now, next to what it said before.
    pub(crate) fn redecide(&mut self, views: &[View]) -> Vec<Outcome> {
        let now_ns = self.io.now_ns();
        let mut slots: Vec<_> = views.iter().map(|view| Slot { now_ns, ..view.opening }).collect();
        let mut verdicts = vec![Verdict::OPEN; views.len()];
        let mut terms = vec![Terms::DEFAULT; views.len()];
        let mut repeats = vec![false; views.len()];
        let mut open = (0..).take(views.len()).collect();
        let mut decisions = Decisions {
            origin: Origin::Redecide,
            now_ns,
            slots: &mut slots,
            verdicts: &mut verdicts,
            terms: &mut terms,
            repeats: &mut repeats,
            shadow: &mut self.shadow,
            emitted: &mut self.emitted,
        };
        self.chain.decide(&mut open, &mut decisions);
        let outcome = |(at, view)| {
            let answer = Answer { slot: &slots[at], verdict: &verdicts[at], terms: &terms[at] };
            Outcome::of(view, &answer, &self.ports)
        };
        views.iter().enumerate().map(outcome).collect()
    }

    /// Asks the ends of TCP connections what they expect, so that they can be reset.
    pub(crate) fn ask_ends(&mut self, views: &[View]) {
        let mut frame = [0; QUESTION];
        for view in views {
            for direction in Direction::BOTH {
                if let Some((port, len)) = reset::question(view, direction, &mut frame) {
                    self.emitted.push(port, &frame[..len]);
                }
            }
        }
        self.dispatch();
        self.io.commit();
    }
}
