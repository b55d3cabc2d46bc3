//! How others come to know where Services are: who comes in by the uplink, the host's own stack, its
//! neighbours, and load balancers that ask.

use std::collections::BTreeSet;
use std::net::IpAddr;

use millrace_control::World;
use millrace_control::compile::Publication;
use millrace_dataplane::control::Dataplane;
use millrace_tables::Frontend;

use crate::node::announcer::Announcer;
use crate::node::health::{HealthChecks, Standing};
use crate::node::virtuals::Virtuals;

/// All of them.
pub(crate) struct Reach {
    virtuals: Virtuals,
    /// Without an uplink there are no neighbours.
    announcer: Option<Announcer>,
    health: HealthChecks,
    /// What filters are not told, and was complained of.
    left_out: BTreeSet<String>,
}

impl Reach {
    /// They know what a predecessor has told them.
    pub(crate) fn new(
        virtuals: Virtuals,
        announcer: Option<Announcer>,
        health: HealthChecks,
    ) -> Self {
        Self { virtuals, announcer, health, left_out: BTreeSet::new() }
    }

    /// Tells them what filters were told before: who comes finds a chain that knows what it looks
    /// for. What one of them does not take is logged, and tried again with the next change.
    pub(crate) fn follow(
        &mut self,
        plane: &Dataplane,
        world: &World,
        publication: &Publication,
        announced: &BTreeSet<IpAddr>,
        standing: Standing,
    ) {
        let complaints: BTreeSet<String> = publication.complaints.iter().cloned().collect();
        for complaint in complaints.difference(&self.left_out) {
            tracing::warn!("{complaint}");
        }
        self.left_out = complaints;

        let frontends: Vec<Frontend> = publication.frontends().collect();
        if let Err(error) = plane.claim(frontends.iter().copied()) {
            tracing::error!(%error, "Services are not reached from outside as they should be");
        }
        let addresses = frontends.iter().map(|it| it.address);
        if let Err(error) = self.virtuals.lead_to(world, addresses) {
            tracing::error!(%error, "Services are not reached from the host as they should be");
        }
        if let Some(announcer) = &mut self.announcer
            && let Err(error) = announcer.answer_for(announced)
        {
            tracing::error!(%error, "addresses of load balancers are not announced");
        }
        let checks = publication.services.iter();
        let checks = checks.filter_map(|(name, it)| Some((name, it.health_check?)));
        self.health.serve(checks, standing);
    }
}
