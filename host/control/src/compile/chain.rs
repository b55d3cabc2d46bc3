//! Which filters a node's chain has beside the built-in ones.
//!
//! Of several FilterChains for a node one counts: that with the highest priority, and of those the
//! first by name. Nothing here looks at a module; whether one can be had is seen on the node.

use std::cmp::Reverse;
use std::path::PathBuf;

use crate::World;
use crate::filter::{ChainStage, Filter, FilterChain, ModuleBytes, ModuleSource, StageMode};
use crate::image::PinnedImage;

/// What a node's chain is to have beside the built-in filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainPlan {
    /// The FilterChain that counts, if there is one for the node.
    pub chain: Option<String>,
    /// Its stages, in the order of the chain.
    pub stages: Vec<PlannedStage>,
    /// The FilterChains that are for the node and do not count.
    pub overridden: Vec<String>,
}

/// A stage as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its name, and that of its filter.
    pub name: String,
    /// How many of the built-in filters are before it.
    pub behind: usize,
    /// Whether its answers count.
    pub mode: StageMode,
    /// What is to be in it; or why that is not known.
    pub filter: Result<Box<PlannedFilter>, String>,
}

/// A filter, and where its module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFilter {
    /// The filter.
    pub filter: Filter,
    /// Its module.
    pub module: PlannedModule,
}

/// Where a module is, as far as the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedModule {
    /// Here.
    Bytes(ModuleBytes),
    /// In a file of the node.
    File(PathBuf),
    /// In an image that a registry serves.
    Image(PinnedImage),
    /// The agent has it, by this name.
    BuiltIn(String),
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// What a node's chain is to have; `before` is what it has. A chain that cannot be read stays as it is
/// where it is in force, and is passed over elsewhere.
pub fn chain(world: &World, node: &str, before: &ChainPlan) -> ChainPlan {
    let chains = &world.filters.chains;
    let last = before.chain.as_ref().and_then(|name| chains.get(name));
    if last.is_some_and(|chain| chain.stages.is_none()) {
        return before.clone();
    }
    let Some(node) = world.nodes.get(node) else { return ChainPlan::default() };
    let is_here =
        |chain: &&FilterChain| chain.stages.is_some() && chain.nodes.selects(&node.labels);
    let mut here: Vec<&FilterChain> = chains.values().filter(is_here).collect();
    here.sort_by_key(|chain| (Reverse(chain.priority), &chain.name));
    let Some((counts, others)) = here.split_first() else { return ChainPlan::default() };

    let mut stages: Vec<_> =
        counts.stages.iter().flatten().map(|stage| planned(world, stage)).collect();
    // those of one place stay in their order
    stages.sort_by_key(|stage| stage.behind);
    ChainPlan {
        chain: Some(counts.name.clone()),
        stages,
        overridden: others.iter().map(|chain| chain.name.clone()).collect(),
    }
}

fn planned(world: &World, stage: &ChainStage) -> PlannedStage {
    let name = &stage.filter;
    let filter = world.filters.filters.get(name).map(|filter| {
        let filter = filter.clone();
        Box::new(PlannedFilter { module: module(world, &filter.source), filter })
    });
    PlannedStage {
        name: name.clone(),
        behind: stage.place.behind(),
        mode: stage.mode,
        filter: filter.ok_or_else(|| format!("there is no Filter `{name}` that can be read")),
    }
}

fn module(world: &World, source: &ModuleSource) -> PlannedModule {
    match source {
        ModuleSource::File(path) => PlannedModule::File(path.clone()),
        ModuleSource::Image(image) => PlannedModule::Image(image.clone()),
        ModuleSource::BuiltIn(name) => PlannedModule::BuiltIn(name.clone()),
        ModuleSource::ConfigMap { map, key } => match world.filters.modules.get(map) {
            None => PlannedModule::Nowhere(format!(
                "there is no ConfigMap `{map}` that has `binaryData` and the label \
                 `millrace.dev/filters`"
            )),
            Some(found) => match found.modules.get(key) {
                Some(module) => PlannedModule::Bytes(module.clone()),
                None => {
                    let keys: Vec<_> = found.modules.keys().map(|it| format!("`{it}`")).collect();
                    PlannedModule::Nowhere(format!(
                        "ConfigMap `{map}` has no `{key}` in its `binaryData`, but {}",
                        keys.join(", ")
                    ))
                }
            },
        },
    }
}

#[cfg(test)]
mod tests;
