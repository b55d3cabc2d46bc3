//! Walk `control` 3/4: compile → **follow** → tables.
//!
//! Follows the manifests: what they say becomes what filters are told, for as long as the node runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_control::World;
use millrace_control::source::{Manifests, Waited, Watch};
use millrace_dataplane::control::Dataplane;
use parking_lot::Mutex;

use crate::node::publisher::Publisher;

/// Who follows them.
pub(crate) struct Follower {
    manifests: Manifests,
    watch: Watch,
    publisher: Arc<Mutex<Publisher>>,
    /// What was complained of before.
    known: BTreeSet<String>,
}

impl Follower {
    /// Follows the manifests in a directory, for a node. What changes from here on is noticed.
    pub(crate) fn new(node: &str, directory: &Path) -> anyhow::Result<Self> {
        let manifests = Manifests::open(directory)?;
        let watch = manifests.watch().context("watching the manifests")?;
        let publisher = Arc::new(Mutex::new(Publisher::new(node)));
        Ok(Self { manifests, watch, publisher, known: BTreeSet::new() })
    }

    /// Who tells filters what was read.
    pub(crate) fn publisher(&self) -> Arc<Mutex<Publisher>> {
        Arc::clone(&self.publisher)
    }

    /// What the manifests say now, which is what filters are told next; what of them does not count
    /// is logged, once.
    pub(crate) fn read(&mut self) -> anyhow::Result<World> {
        let (world, complaints) = self.manifests.read()?;
        let complaints: BTreeSet<String> = complaints.iter().map(ToString::to_string).collect();
        for complaint in complaints.difference(&self.known) {
            tracing::warn!("{complaint}");
        }
        self.known = complaints;
        self.publisher.lock().learn(world.clone());
        Ok(world)
    }

    /// Tells filters whatever changes, until it is over.
    pub(crate) fn follow(mut self, plane: &Dataplane, ended: &dyn Fn() -> bool) {
        while !ended() {
            match self.watch.wait(Some(HEARTBEAT)) {
                Ok(Waited::Unchanged) => {}
                Ok(Waited::Changed) => match self.read() {
                    Ok(_) => {
                        if let Err(error) = self.publisher.lock().tell(plane) {
                            tracing::error!(%error, "Services and policies stay as they were");
                        }
                    }
                    Err(error) => tracing::error!(%error, "the manifests cannot be read"),
                },
                Err(error) => {
                    tracing::error!(%error, "manifests are not followed any more");
                    return;
                }
            }
        }
    }
}

/// How soon it is noticed that it is over.
const HEARTBEAT: Duration = Duration::from_millis(200);
