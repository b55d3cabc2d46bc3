//! What is said of each Filter and FilterChain on a node.

use std::collections::BTreeMap;

use millrace_control::compile::ChainPlan;
use millrace_control::filter::{Filters, ModuleDigest};
use millrace_dataplane::control::status::StageState;
use serde::{Deserialize, Serialize};

use super::GivenUp;
use super::wanted::Wanted;

/// What has become of a FilterChain on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChainStanding {
    /// Whether it counts here.
    pub(crate) state: ChainState,
    /// Its filters, in the order in which it names them.
    pub(crate) filters: Vec<String>,
    /// Why it does not count although it is for this node, or not as it is now.
    pub(crate) problems: Vec<String>,
}

/// Whether a FilterChain counts on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ChainState {
    /// It does.
    InForce,
    /// Another one does that is for this node, too.
    Overridden,
    /// It is for other nodes.
    Elsewhere,
    /// It cannot be read.
    Unread,
}

/// What has become of a Filter on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilterStanding {
    /// Whether it is in the chain.
    pub(crate) state: FilterState,
    /// The FilterChain that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
    /// The digest of the module that is in force in its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<ModuleDigest>,
    /// Why it is not in the chain as it is to be.
    pub(crate) problems: Vec<String>,
}

/// Whether a Filter is in a node's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FilterState {
    /// It is, as it says.
    InForce,
    /// It is, since a moment: whether it works is to be seen.
    Trying,
    /// It is as it was before, until other nodes have the next version.
    Waiting,
    /// It is as it was before, or not at all, until a registry has given its module.
    Fetching,
    /// It is as it was before.
    Behind,
    /// It was, and failed too often: the version before is, or none.
    Failed,
    /// It is not, and its stage lets nothing pass.
    Closed,
    /// It is not, and should be.
    Missing,
    /// No FilterChain of this node has it.
    Unused,
}

/// How far a filter's next version is that goes from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is in force, if nothing is wrong.
    Settled,
    /// It is since a moment.
    Trying,
    /// Others take it first.
    Waiting,
    /// Its module is on its way.
    Fetching,
}

/// What is to be said of FilterChains where this plan is in force.
pub(super) fn chains(filters: &Filters, plan: &ChainPlan) -> BTreeMap<String, ChainStanding> {
    let standing = filters.chains.values().map(|chain| {
        let is_it = |name: &String| *name == chain.name;
        let counts = plan.chain.as_ref().filter(|name| is_it(name));
        let (state, problem) = match (&chain.stages, counts) {
            (Some(_), Some(_)) => (ChainState::InForce, None),
            (None, counts) => {
                let what = counts.map_or("it does not count", |_| "its stages stay as they are");
                (ChainState::Unread, Some(format!("it cannot be read: {what}")))
            }
            (Some(_), None) => match (plan.overridden.iter().any(is_it), &plan.chain) {
                (true, Some(other)) => {
                    let why =
                        format!("FilterChain `{other}` is for this node, too, and goes first");
                    (ChainState::Overridden, Some(why))
                }
                _ => (ChainState::Elsewhere, None),
            },
        };
        let filters = chain.stages.iter().flatten().map(|stage| stage.filter.clone()).collect();
        let problems = problem.into_iter().collect();
        (chain.name.clone(), ChainStanding { state, filters, problems })
    });
    standing.collect()
}

/// What is to be said of a filter where this plan is in force, and its stage has this version, if there is
/// one.
pub(super) fn filter(
    plan: &ChainPlan,
    name: &str,
    version: Option<Wanted>,
    problem: Option<&String>,
    given_up: Option<&GivenUp>,
    phase: Phase,
) -> FilterStanding {
    let is_planned = plan.stages.iter().any(|stage| stage.name == name);
    let state = match (version.as_ref().map(|it| it.is_filter), problem) {
        _ if !is_planned => FilterState::Unused,
        _ if phase == Phase::Fetching => FilterState::Fetching,
        (Some(true), None) if given_up.is_some() => FilterState::Failed,
        (Some(true), None) if phase == Phase::Trying => FilterState::Trying,
        (Some(true), None) => FilterState::InForce,
        (Some(true), Some(_)) if phase == Phase::Waiting => FilterState::Waiting,
        (Some(true), Some(_)) => FilterState::Behind,
        (Some(false), _) => FilterState::Closed,
        (None, _) => FilterState::Missing,
    };
    // one that is not asked any more is not in force
    let is_asked = given_up.is_none_or(|it| it.state != StageState::Ejected);
    let in_force = version.filter(|it| it.is_filter && is_asked);
    let fault = given_up.filter(|_| is_planned).map(|it| &it.why);
    FilterStanding {
        state,
        chain: plan.chain.clone().filter(|_| is_planned),
        digest: in_force.map(|it| it.module.digest()),
        problems: problem.into_iter().chain(fault).cloned().collect(),
    }
}
