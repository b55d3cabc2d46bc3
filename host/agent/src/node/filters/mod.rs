//! Keeps a node's chain as Filters and FilterChains say.
//!
//! - `module`: where a filter's module is found, `images`: in registries; `kept`: where it is found once
//!   more; `wanted`: what a stage is to be then
//! - `rollout`: when a node takes the next version; `standing`: what is said of each Filter and FilterChain
//!
//! A reader must not break this: what cannot be done changes nothing. A stage whose next module is
//! not to be had, or is refused, goes on with the last one that was not. The built-in filters are
//! never touched; nor is a stage that somebody has put into the chain by hand.

mod images;
mod kept;
mod module;
mod rollout;
mod standing;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_control::compile::{ChainPlan, PlannedFilter, PlannedModule, PlannedStage, chain};
use millrace_control::filter::{BuiltIn, Filter, Filters, ModuleBytes, OnMissing};
use millrace_control::{Readiness, World};
use millrace_dataplane::control::request::{Load, Position};
use millrace_dataplane::control::status::StageState;
use millrace_dataplane::control::{Dataplane, StageError};
use millrace_kube::Rollout;
use millrace_registry::Registries;
use parking_lot::Mutex;

use images::Images;
pub(crate) use kept::Kept;
use module::Modules;
use standing::Phase;
pub(crate) use standing::{ChainStanding, ChainState, FilterStanding, FilterState};
use wanted::Wanted;

use crate::node::publisher::Known;

/// Who keeps it.
pub(crate) struct ChainKeeper {
    node: String,
    known: Arc<Mutex<Known>>,
    modules: Modules,
    kept: Kept,
    /// As the cluster was last.
    filters: Filters,
    plan: ChainPlan,
    /// The stages that are in the chain because of the plan.
    placed: BTreeMap<String, Placed>,
    /// What was refused last, by stage, and why: it is the same the next time.
    refused: BTreeMap<String, (Wanted, String)>,
    /// What is wrong, by filter.
    problems: BTreeMap<String, String>,
    /// The stages that failed too often.
    given_up: BTreeMap<String, GivenUp>,
    /// What nodes say of filters that are rolled out, and whether that was looked at.
    rollouts: BTreeMap<String, Rollout>,
    has_heard: bool,
    /// The nodes that are ready.
    ready: BTreeSet<String>,
    /// Those filters whose next version other nodes take first.
    waiting: BTreeSet<String>,
    /// Since when those are in force whose last version has yet to prove itself.
    trying: BTreeMap<String, Instant>,
}

/// A stage as it is.
struct Placed {
    /// What was put into it last.
    content: Wanted,
    /// What was in it before, and is again where that has failed too often.
    before: Option<Wanted>,
}

/// What has become of a stage that failed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GivenUp {
    state: StageState,
    /// That, and the fault.
    why: String,
}

impl Placed {
    /// The version that is in it.
    fn version(&self, given_up: Option<&GivenUp>) -> Wanted {
        let is_back = given_up.is_some_and(|it| it.state == StageState::RolledBack);
        match self.before.as_ref().filter(|_| is_back) {
            // terms are the stage's, and not the version's
            Some(before) => Wanted { terms: self.content.terms.clone(), ..before.clone() },
            None => self.content.clone(),
        }
    }
}

impl ChainKeeper {
    /// For a node whose chain has the built-in filters alone, and whose agent keeps versions there and asks
    /// these registries; what becomes of others is noted there.
    pub(crate) fn new(
        node: &str,
        kept: Kept,
        registries: Registries,
        known: Arc<Mutex<Known>>,
    ) -> Self {
        Self {
            node: node.to_owned(),
            known,
            modules: Modules::new(Images::new(registries, kept.images())),
            kept,
            filters: Filters::default(),
            plan: ChainPlan::default(),
            placed: BTreeMap::new(),
            refused: BTreeMap::new(),
            problems: BTreeMap::new(),
            given_up: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            has_heard: false,
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            trying: BTreeMap::new(),
        }
    }

    /// Takes note of what nodes say of filters.
    pub(crate) fn hear(&mut self, rollouts: BTreeMap<String, Rollout>) {
        self.has_heard |= rollouts != self.rollouts && !self.waiting.is_empty();
        self.rollouts = rollouts;
    }

    /// Has the chain be as the cluster is.
    pub(crate) fn follow(&mut self, plane: &Dataplane, world: &World) {
        let plan = chain(world, &self.node, &self.plan);
        let ready = world.nodes.values().filter(|node| node.readiness == Readiness::Ready);
        self.ready = ready.map(|node| node.name.clone()).collect();
        if plan == self.plan && world.filters == self.filters {
            self.look(plane);
            return;
        }
        if plan.chain != self.plan.chain {
            tracing::info!(
                before = self.plan.chain,
                now = plan.chain,
                "another FilterChain counts"
            );
        }
        self.filters.clone_from(&world.filters);
        self.plan = plan;
        self.keep(plane);
    }

    /// Has the chain be as the files and images are that modules are in, and notes which stages work no more; whether
    /// there is something else to say of them now.
    pub(crate) fn look(&mut self, plane: &Dataplane) -> bool {
        let lasting = self.trying.len();
        self.trying.retain(|_, since| since.elapsed() < PROBATION);
        if self.modules.have_changed() || self.has_heard {
            self.keep(plane);
        } else if lasting != self.trying.len() || given_up(plane) != self.given_up {
            self.tell(plane);
        } else {
            return false;
        }
        true
    }

    fn keep(&mut self, plane: &Dataplane) {
        self.has_heard = false;
        self.waiting.clear();
        let before = std::mem::take(&mut self.problems);
        let stages = self.plan.stages.clone();
        self.modules.keep(stages.iter().filter_map(|stage| stage.filter.as_ref().ok()));
        self.remove_others(plane, &stages);
        for stage in &stages {
            if let Err(problem) = self.keep_stage(plane, stage) {
                if before.get(&stage.name) != Some(&problem) {
                    match self.is_fetching(stage) {
                        true => {
                            tracing::info!(filter = stage.name, problem, "not yet as it is to be")
                        }
                        false => tracing::warn!(filter = stage.name, problem, "not as it is to be"),
                    }
                }
                self.problems.insert(stage.name.clone(), problem);
            }
        }
        if let Err(error) = self.arrange(plane, &stages) {
            tracing::error!(%error, "stages are not in their order");
        }
        self.tell(plane);
    }

    /// Takes away the stages that are not planned any more.
    fn remove_others(&mut self, plane: &Dataplane, stages: &[PlannedStage]) {
        let planned: BTreeSet<&str> = stages.iter().map(|stage| &*stage.name).collect();
        self.refused.retain(|name, _| planned.contains(&**name));
        self.placed.retain(|name, _| {
            if planned.contains(&**name) {
                return true;
            }
            match plane.remove(name) {
                Ok(()) | Err(StageError::Unknown { .. }) => {
                    tracing::info!(filter = name, "out of the chain");
                    self.kept.forget(name);
                    false
                }
                Err(error) => {
                    tracing::error!(filter = name, %error, "still in the chain");
                    true
                }
            }
        });
    }

    /// Has a stage be as planned; says what keeps it from that.
    fn keep_stage(&mut self, plane: &Dataplane, stage: &PlannedStage) -> Result<(), String> {
        let name = &stage.name;
        let order = plane.order();
        let is_there = order.iter().any(|it| **it == **name);
        if !is_there {
            // if it was, somebody has removed it by hand
            self.placed.remove(name);
        } else if !self.placed.contains_key(name) {
            return Err(format!(
                "the chain has a stage of this name already, which somebody has loaded by hand: \
                 remove it with `millrace filter remove {name}`"
            ));
        }
        let planned = stage.filter.as_ref().map_err(String::clone)?;
        let filter = &planned.filter;
        let found = self.modules.find(planned);
        let found = found.and_then(|module| self.await_turn(stage, planned, module));
        // what an agent before had is as good as what this one has
        let before = if is_there { None } else { self.version_before(stage, filter) };
        let of = |module| Wanted::of(filter, module, stage.mode);
        let wanted = match &found {
            Ok(module) => Some(of(module.clone())),
            Err(_) if self.has_filter(name) => None,
            Err(_) if self.waiting.contains(name) => before.clone(),
            Err(_) => self.kept.find(name, filter.digest).map(of),
        };
        let put = wanted.map(|wanted| {
            if let Some((refused, why)) = self.refused.get(name)
                && *refused == wanted
            {
                return Err(why.clone());
            }
            // first what the stage goes back to where the next one fails
            if let Some(before) = before.filter(|before| wanted.is_another_version(before))
                && let Err(why) = self.put(plane, stage, before)
            {
                tracing::info!(filter = name, why, "the version before is of no use any more");
            }
            self.put(plane, stage, wanted)
        });
        let Err(problem) = found.and(put.unwrap_or(Ok(()))) else { return Ok(()) };
        if self.has_filter(name) {
            return Err(format!("{problem}; the filter before stays in force"));
        }
        if filter.on_missing == OnMissing::Skip {
            return Err(format!("{problem}; the chain does without it"));
        }
        let closed = self.put(plane, stage, Wanted::closed(filter));
        let closed = closed.map_or_else(|error| error, |()| "nothing passes".to_owned());
        Err(format!("{problem}; {closed}"))
    }

    /// What an agent before had in a stage last.
    fn version_before(&self, stage: &PlannedStage, filter: &Filter) -> Option<Wanted> {
        let module = self.kept.find(&stage.name, None)?;
        let config = self.kept.config(&stage.name, &module);
        let with_config_of_now = Wanted::of(filter, module, stage.mode);
        Some(match config {
            Some(config) => Wanted { config, ..with_config_of_now },
            None => with_config_of_now,
        })
    }

    /// The module, if it is this node's turn to take it; else why it is not.
    fn await_turn(
        &mut self,
        stage: &PlannedStage,
        PlannedFilter { filter, module: source }: &PlannedFilter,
        module: ModuleBytes,
    ) -> Result<ModuleBytes, String> {
        let name = &stage.name;
        let (Some(most), Some(rollout)) = (filter.most_unavailable, self.rollouts.get(name)) else {
            return Ok(module);
        };
        let before = match self.placed.get(name) {
            Some(placed) => Some(placed.content.clone()).filter(|content| content.is_filter),
            None => self.version_before(stage, filter),
        };
        let wanted = Wanted::of(filter, module.clone(), stage.mode);
        if before.is_none_or(|before| before == wanted) {
            return Ok(module);
        }
        // each node may have a file of its own
        let is_alike = !matches!(source, PlannedModule::File(_));
        let digest = is_alike.then(|| module.digest());
        let is_ready = |node: &str| self.ready.contains(node);
        match rollout::turn(&self.node, name, digest, most.get(), rollout, is_ready) {
            Ok(()) => {
                self.trying.insert(name.clone(), Instant::now());
                Ok(module)
            }
            Err(why) => {
                self.waiting.insert(name.clone());
                Err(why)
            }
        }
    }

    /// Whether a stage lacks its module for it is on its way.
    fn is_fetching(&self, stage: &PlannedStage) -> bool {
        stage.filter.as_ref().is_ok_and(|planned| self.modules.is_fetching(planned))
    }

    /// Whether a stage has its filter, as it is or as it was.
    fn has_filter(&self, name: &str) -> bool {
        self.placed.get(name).is_some_and(|placed| placed.content.is_filter)
    }

    /// Puts something into a stage, by as small a change as does.
    fn put(
        &mut self,
        plane: &Dataplane,
        stage: &PlannedStage,
        wanted: Wanted,
    ) -> Result<(), String> {
        let name = &*stage.name;
        let given_up = given_up(plane);
        let version = self.placed.get(name).map(|placed| placed.version(given_up.get(name)));
        let outcome = match &version {
            Some(_) if self.placed[name].content == wanted => {
                self.refused.remove(name);
                return Ok(());
            }
            Some(version) => {
                // what a stage went back to by itself may be what is wanted now
                let is_right = given_up.contains_key(name) && !wanted.is_another_version(version);
                let confirmed = match is_right {
                    true => plane.configure(name, &wanted.config),
                    false => Ok(()),
                };
                confirmed.and_then(|()| wanted.replace(version, plane, name))
            }
            None => {
                let load = Load {
                    name: name.to_owned(),
                    module: wanted.module.bytes().to_vec(),
                    config: wanted.config.clone(),
                    position: self.position(plane, stage),
                    terms: wanted.terms.clone(),
                };
                plane.load(load).map(|()| "loaded")
            }
        };
        match outcome {
            Ok(done) => {
                tracing::info!(filter = name, digest = %wanted.module.digest(), "{done}");
                if wanted.is_filter {
                    self.refused.remove(name);
                    self.kept.keep(name, &wanted.module, &wanted.config);
                }
                let before = match version {
                    Some(version) if !wanted.is_another_version(&version) => {
                        self.placed.remove(name).and_then(|placed| placed.before)
                    }
                    version => version,
                };
                self.placed.insert(name.to_owned(), Placed { content: wanted, before });
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                if wanted.is_filter && !matches!(error, StageError::NoAnswer(_)) {
                    self.refused.insert(name.to_owned(), (wanted, why.clone()));
                }
                Err(why)
            }
        }
    }

    /// Where a stage is loaded, so that no packet meets it elsewhere.
    fn position(&self, plane: &Dataplane, stage: &PlannedStage) -> Position {
        let order = plane.order();
        let desired = desired(&self.plan.stages);
        let before = desired.iter().take_while(|name| ***name != *stage.name);
        let there = |name: &&&str| order.iter().any(|it| **it == ***name);
        let last = before.filter(there).last();
        last.map_or(Position::First, |name| Position::After((*name).to_owned()))
    }

    /// Moves stages that are not where they are planned.
    fn arrange(&self, plane: &Dataplane, stages: &[PlannedStage]) -> Result<(), StageError> {
        let present = plane.order();
        let mut desired = desired(stages);
        desired.retain(|name| present.iter().any(|it| **it == **name));
        let present: Vec<&str> =
            present.iter().map(|it| &**it).filter(|name| desired.contains(name)).collect();
        for (name, position) in moves(present, &desired) {
            plane.move_to(name, &position)?;
        }
        Ok(())
    }

    /// Notes what has become of all that there is.
    fn tell(&mut self, plane: &Dataplane) {
        self.given_up = given_up(plane);
        for (name, given_up) in &self.given_up {
            let version = self.placed.get(name).map(|placed| placed.version(Some(given_up)));
            if let Some(good) = version.filter(|it| it.is_filter) {
                self.kept.keep(name, &good.module, &good.config);
            }
        }
        let mut known = self.known.lock();
        known.chains = standing::chains(&self.filters, &self.plan);
        let standing = |name: &String| {
            let given_up = self.given_up.get(name);
            let version = self.placed.get(name).map(|placed| placed.version(given_up));
            let problem = self.problems.get(name);
            let stage = self.plan.stages.iter().find(|stage| stage.name == *name);
            let phase = match (self.waiting.contains(name), self.trying.contains_key(name)) {
                _ if stage.is_some_and(|stage| self.is_fetching(stage)) => Phase::Fetching,
                (true, _) => Phase::Waiting,
                (false, true) => Phase::Trying,
                (false, false) => Phase::Settled,
            };
            standing::filter(&self.plan, name, version, problem, given_up, phase)
        };
        let planned = self.plan.stages.iter().map(|stage| &stage.name);
        let names: BTreeSet<_> = self.filters.filters.keys().chain(planned).collect();
        known.filters = names.into_iter().map(|name| (name.clone(), standing(name))).collect();
    }
}

impl std::fmt::Debug for ChainKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainKeeper").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// The stages that failed too often.
fn given_up(plane: &Dataplane) -> BTreeMap<String, GivenUp> {
    let stages = plane.given_up().into_iter().filter_map(|(name, state, detail)| {
        let now = match state {
            StageState::Running => return None,
            StageState::RolledBack => "the version before is in force",
            StageState::Ejected => "it is not asked any more",
        };
        let why = format!("it failed too often, and {now}: {detail}");
        Some((name.to_string(), GivenUp { state, why }))
    });
    stages.collect()
}

/// The names of all stages in their order, the built-in ones among them.
fn desired(stages: &[PlannedStage]) -> Vec<&str> {
    let mut names = Vec::new();
    for behind in 0..=BuiltIn::ALL.len() {
        names.extend(stages.iter().filter(|it| it.behind == behind).map(|it| &*it.name));
        names.extend(BuiltIn::ALL.get(behind).map(|built_in| built_in.name()));
    }
    names
}

/// What is to be moved where, one after the other, for these to be in that order.
fn moves<'n>(mut present: Vec<&'n str>, desired: &[&'n str]) -> Vec<(&'n str, Position)> {
    let mut moves = Vec::new();
    for (at, name) in desired.iter().enumerate() {
        if present[at] == *name {
            continue;
        }
        let position = match at.checked_sub(1) {
            Some(before) => Position::After(desired[before].to_owned()),
            None => Position::First,
        };
        present.retain(|it| it != name);
        present.insert(at, name);
        moves.push((*name, position));
    }
    moves
}

/// How long another version has to work before other nodes take it, too: as long as faults are counted.
const PROBATION: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use millrace_control::filter::StageMode;

    use super::*;

    fn stage(name: &str, behind: usize) -> PlannedStage {
        let filter = Err("it is not read here".to_owned());
        PlannedStage { name: name.to_owned(), behind, mode: StageMode::Enforce, filter }
    }

    #[test]
    fn stages_are_among_the_built_in_ones_where_they_say() {
        let stages = [stage("first", 0), stage("x", 3), stage("y", 3), stage("last", 4)];
        let names = ["first", "bridge", "service-lb", "policy", "x", "y", "router", "last"];
        assert_eq!(desired(&stages), names);
        assert_eq!(desired(&[]), crate::node::chain::CHAIN);
    }

    #[test]
    fn what_is_in_its_place_is_not_moved() {
        assert_eq!(moves(vec!["a", "b", "c"], &["a", "b", "c"]), []);
        let after = |name: &str| Position::After(name.to_owned());
        assert_eq!(moves(vec!["a", "b", "c"], &["a", "c", "b"]), [("c", after("a"))]);
        assert_eq!(moves(vec!["a", "b", "c"], &["c", "a", "b"]), [("c", Position::First)]);
    }
}
