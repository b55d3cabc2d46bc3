//! `millrace.dev/v1alpha1 FilterChain`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::filter::{BuiltIn, ChainStage, FilterChain, StageMode, StagePlace};
use crate::manifest::meta::{LabelName, Metadata, Subdomain};
use crate::manifest::selector::SelectorSpec;
use crate::manifest::{FieldError, FieldPath, decode, is_default};
use crate::policy::Selector;

#[derive(Serialize, Deserialize)]
pub(super) struct ChainManifest {
    metadata: Metadata<Subdomain>,
    spec: ChainSpec,
}

/// Which filters the chain of some nodes has beside the built-in ones.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChainSpec {
    /// The labels of the nodes that it is for; all nodes unless said.
    #[serde(default, skip_serializing_if = "is_default")]
    node_selector: SelectorSpec,
    /// Which one counts of several for a node: the highest, and of those the first by name.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = 0))]
    priority: i32,
    /// The stages, each of them once; those of one place are in this order.
    #[schemars(extend(
        "maxItems" = 12,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["filter"],
    ))]
    stages: Vec<StageSpec>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.before) != has(self.after)",
    "message": "say either `before` or `after` which built-in filter it is",
}]))]
struct StageSpec {
    /// The name of the Filter.
    filter: LabelName,
    /// The built-in filter that it is before.
    #[serde(default, skip_serializing_if = "is_default")]
    before: Option<BuiltIn>,
    /// The built-in filter that it is behind.
    #[serde(default, skip_serializing_if = "is_default")]
    after: Option<BuiltIn>,
    /// Whether its answers are only compared with what the others decide, and counted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    shadow: bool,
}

/// What counts of a chain that is not understood, if it says which it is: its stages stay as they
/// are where it is in force.
pub(super) fn unread(object: &Value) -> Option<FilterChain> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata<Subdomain>,
    }
    let name = decode::<Named>(object.clone()).ok()?.metadata.name.0;
    Some(FilterChain { name, nodes: Selector::default(), priority: 0, stages: None })
}

impl TryFrom<ChainManifest> for FilterChain {
    type Error = FieldError;

    fn try_from(manifest: ChainManifest) -> Result<Self, FieldError> {
        let ChainSpec { node_selector, priority, stages } = manifest.spec;
        let spec = FieldPath::root().key("spec");
        let nodes = node_selector.read(&spec.clone().key("nodeSelector"))?;
        let mut named = BTreeSet::new();
        let stage = |(at, stage): (usize, StageSpec)| {
            let field = spec.clone().key("stages").index(at);
            let StageSpec { filter: LabelName(filter), before, after, shadow } = stage;
            if !named.insert(filter.clone()) {
                let reason = format!("`{filter}` has a stage already: a filter has one in a chain");
                return Err(FieldError { field: field.key("filter"), reason });
            }
            let place = match (before, after) {
                (Some(built_in), None) => StagePlace::Before(built_in),
                (None, Some(built_in)) => StagePlace::After(built_in),
                _ => {
                    let reason = "say either `before` or `after` which built-in filter it is: \
                                  `bridge`, `service-lb`, `policy` or `router`";
                    return Err(FieldError { field, reason: reason.to_owned() });
                }
            };
            let mode = if shadow { StageMode::Shadow } else { StageMode::Enforce };
            Ok(ChainStage { filter, place, mode })
        };
        let stages = stages.into_iter().enumerate().map(stage).collect::<Result<_, _>>()?;
        Ok(Self { name: manifest.metadata.name.0, nodes, priority, stages: Some(stages) })
    }
}

impl From<&FilterChain> for ChainManifest {
    fn from(chain: &FilterChain) -> Self {
        let stage = |stage: &ChainStage| {
            let (before, after) = match stage.place {
                StagePlace::Before(built_in) => (Some(built_in), None),
                StagePlace::After(built_in) => (None, Some(built_in)),
            };
            let filter = LabelName(stage.filter.clone());
            StageSpec { filter, before, after, shadow: stage.mode == StageMode::Shadow }
        };
        let name = Subdomain(chain.name.clone());
        Self {
            metadata: Metadata::new(name, None, &<_>::default(), <_>::default()),
            spec: ChainSpec {
                node_selector: SelectorSpec::from(&chain.nodes),
                priority: chain.priority,
                stages: chain.stages.iter().flatten().map(stage).collect(),
            },
        }
    }
}
