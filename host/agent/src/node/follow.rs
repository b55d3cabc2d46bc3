//! Walk `control` 3/4: compile → **follow** → tables.
//!
//! Follows the manifests: what they say of Services becomes what filters are told, for as long as
//! the node runs.
//!
//! What a filter refuses is in force for none, and is tried again with the next change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_control::World;
use millrace_control::compile::{Compiler, Publication};
use millrace_control::source::{Manifests, Waited, Watch};
use millrace_dataplane::control::{Dataplane, StageError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Who follows them.
pub(crate) struct Follower {
    manifests: Manifests,
    watch: Watch,
    compiler: Compiler,
    statuses: Statuses,
    /// What was complained of before.
    known: BTreeSet<String>,
    /// What was read, and nobody was told yet.
    next: Option<World>,
}

/// What has become of each Service, by `namespace/name`.
pub(crate) type Statuses = Arc<Mutex<BTreeMap<String, ServiceStatus>>>;

/// What has become of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    /// The generation of tables that it is in force with as it is now; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// Where it is reached: `10.96.0.1:80/TCP`.
    pub(crate) frontends: Vec<String>,
    /// Where its connections go from this node.
    pub(crate) endpoints: Vec<String>,
    /// What of it does not count, and why; or why it is not in force.
    pub(crate) problems: Vec<String>,
}

impl Follower {
    /// Follows the manifests in a directory, for a node. What changes from here on is noticed.
    pub(crate) fn new(node: &str, directory: &Path) -> anyhow::Result<Self> {
        let manifests = Manifests::open(directory)?;
        let watch = manifests.watch().context("watching the manifests")?;
        Ok(Self {
            manifests,
            watch,
            compiler: Compiler::new(node),
            statuses: Statuses::default(),
            known: BTreeSet::new(),
            next: None,
        })
    }

    /// What has become of Services.
    pub(crate) fn statuses(&self) -> Statuses {
        Arc::clone(&self.statuses)
    }

    /// What the manifests say now, which is what filters are told first; what of them does not
    /// count is logged, once.
    pub(crate) fn read(&mut self) -> anyhow::Result<World> {
        let (world, complaints) = self.manifests.read()?;
        let complaints: BTreeSet<String> = complaints.iter().map(ToString::to_string).collect();
        for complaint in complaints.difference(&self.known) {
            tracing::warn!("{complaint}");
        }
        self.known = complaints;
        self.next = Some(world.clone());
        Ok(world)
    }

    /// Tells filters what was read last.
    pub(crate) fn tell(&mut self, plane: &Dataplane) {
        if let Some(world) = self.next.take() {
            let publication = self.compiler.compile(&world);
            self.publish(plane, publication);
        }
    }

    /// Tells filters whatever changes, until it is over.
    pub(crate) fn follow(mut self, plane: &Dataplane, ended: &dyn Fn() -> bool) {
        while !ended() {
            match self.watch.wait(Some(HEARTBEAT)) {
                Ok(Waited::Unchanged) => {}
                Ok(Waited::Changed) => match self.read() {
                    Ok(_) => self.tell(plane),
                    Err(error) => tracing::error!(%error, "the manifests cannot be read"),
                },
                Err(error) => {
                    tracing::error!(%error, "manifests are not followed any more");
                    return;
                }
            }
        }
    }

    fn publish(&mut self, plane: &Dataplane, publication: Publication) {
        let outcome = match publication.delta.is_empty() {
            true => Ok(()),
            false => plane.publish(&publication.delta, publication.generation, &publication.tags),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "Services stay as they were");
        }
        self.note(&publication, outcome.as_ref().err());
        if outcome.is_ok() && !publication.delta.is_empty() {
            tracing::info!(generation = publication.generation, "filters know the Services");
            self.compiler.adopt(publication);
        }
    }

    /// Notes what has become of each Service.
    fn note(&self, publication: &Publication, error: Option<&StageError>) {
        let mut statuses = self.statuses.lock();
        let before = std::mem::take(&mut *statuses);
        for (name, summary) in &publication.services {
            let name = name.to_string();
            let mut status = ServiceStatus {
                generation: None,
                frontends: summary.frontends.iter().map(ToString::to_string).collect(),
                endpoints: summary.endpoints.iter().map(ToString::to_string).collect(),
                problems: summary.problems.clone(),
            };
            let known = before.get(&name);
            match error {
                Some(error) => status.problems.push(error.to_string()),
                // who is as before is in force since then
                None if known.is_some_and(|it| it.is_like(&status)) => {
                    status.generation = known.and_then(|it| it.generation);
                }
                None => status.generation = Some(publication.generation),
            }
            statuses.insert(name, status);
        }
    }
}

impl ServiceStatus {
    fn is_like(&self, other: &Self) -> bool {
        let same = (&self.frontends, &self.endpoints, &self.problems)
            == (&other.frontends, &other.endpoints, &other.problems);
        same && self.generation.is_some()
    }
}

/// How soon it is noticed that it is over.
const HEARTBEAT: Duration = Duration::from_millis(200);
