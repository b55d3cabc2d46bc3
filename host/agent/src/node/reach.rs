//! How others come to know where Services are: who comes in by the uplink, the host's own stack, its
//! neighbours, load balancers that ask, and the processes of the node itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use millrace_control::compile::{Compiler, HealthCheck, Publication};
use millrace_control::{QualifiedName, Tenure};
use millrace_dataplane::control::Dataplane;

use crate::node::announcer::{AnnounceError, Announcer};
use crate::node::health::{HealthChecks, Standing};
use crate::node::liveness::Liveness;
use crate::node::processes::Processes;
use crate::node::refusals::Matter;
use crate::node::virtuals::{Grounds, Virtuals};

/// All of them.
pub(crate) struct Reach {
    virtuals: Virtuals,
    /// Without an uplink there are no neighbours.
    announcer: Option<Announcer>,
    health: HealthChecks,
    liveness: Liveness,
    processes: Processes,
    /// The Services that load balancers ask about.
    checks: BTreeMap<QualifiedName, HealthCheck>,
    /// What filters are not told, and was complained of.
    left_out: BTreeSet<String>,
    /// Whether all of it has to be told again: they know what a predecessor told them, or have not
    /// taken something.
    is_behind: bool,
}

impl Reach {
    /// They know what a predecessor has told them.
    pub(crate) fn new(
        virtuals: Virtuals,
        announcer: Option<Announcer>,
        health: HealthChecks,
        liveness: Liveness,
    ) -> Self {
        let (checks, left_out) = (BTreeMap::new(), BTreeSet::new());
        let processes = Processes::default();
        let is_behind = true;
        Self { virtuals, announcer, health, liveness, processes, checks, left_out, is_behind }
    }

    /// Has neighbours on another uplink be told.
    pub(crate) fn announce_by(&mut self, announcer: Announcer) {
        self.announcer = Some(announcer);
        self.is_behind = true;
    }

    /// Tells them what filters were told before: who comes finds a chain that knows what it looks
    /// for. What has become of it is to be noted.
    pub(crate) fn follow(
        &mut self,
        plane: &Dataplane,
        compiler: &Compiler,
        standing: Standing,
    ) -> Vec<(Matter, Result<(), String>)> {
        let publication = compiler.publication();
        let complaints: BTreeSet<String> = publication.complaints.iter().cloned().collect();
        for complaint in complaints.difference(&self.left_out) {
            tracing::warn!("{complaint}");
        }
        self.left_out = complaints;

        let Publication { gone, places, .. } = publication;
        let was_behind = std::mem::replace(&mut self.is_behind, false);
        let claimed = match was_behind {
            true => plane.claim(compiler.places()),
            false => plane.change_claims(gone.iter().copied(), places.iter().copied()),
        };
        let mut outcomes = vec![(Matter::Claims, in_words(claimed))];
        let grounds = Grounds::of(compiler.world());
        if was_behind || !(gone.is_empty() && places.is_empty()) || !self.virtuals.is_on(&grounds) {
            let addresses = compiler.places().map(|it| it.address);
            outcomes.push((Matter::Routes, in_words(self.virtuals.lead_to(grounds, addresses))));
        }
        self.processes.mean(plane, compiler.stand_ins());
        if let Some(announcer) = &mut self.announcer {
            let answered = announcer.answer_for(&compiler.announced());
            // what neighbours could not be told stays to be noted
            if answered.is_err() || !announcer.is_refused() {
                outcomes.push((Matter::Neighbours, in_words(answered)));
            }
        }
        self.is_behind = outcomes.iter().any(|(_, outcome)| outcome.is_err());
        for (name, summary) in &publication.services {
            match summary.as_ref().and_then(|it| it.health_check) {
                Some(check) => drop(self.checks.insert(name.clone(), check)),
                None => drop(self.checks.remove(name)),
            }
        }
        self.health.serve(self.checks.iter().map(|(name, check)| (name, *check)), standing);
        let this = compiler.world().nodes.get(compiler.node());
        self.liveness.say(standing, this.map_or(Tenure::Leaves, |node| node.tenure));
        outcomes
    }

    /// Has neighbours know what they are to be told by now; how that went, if it is to be noted.
    pub(crate) fn remind(&mut self, now: Instant) -> Option<Result<(), AnnounceError>> {
        self.announcer.as_mut()?.remind(now)
    }

    /// Whether they have not taken something.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }
}

fn in_words(outcome: Result<(), impl ToString>) -> Result<(), String> {
    outcome.map_err(|error| error.to_string())
}
