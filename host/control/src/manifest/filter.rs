//! `millrace.dev/v1alpha1 Filter`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use millrace_abi::{Capability, PortKind, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::filter::{BuiltIn, Filter, ModuleDigest, ModuleSource, OnFault, OnMissing, OnRefused};
use crate::image::PinnedImage;
use crate::manifest::meta::{LabelName, Metadata, Subdomain};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::word::Word;
use crate::{ByteCount, QualifiedName};

#[derive(Serialize, Deserialize)]
pub(super) struct FilterManifest {
    metadata: Metadata<LabelName>,
    spec: FilterSpec,
}

/// A filter of one's own: a module, how it is configured, and the terms it runs on.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterSpec {
    /// Where the module is; exactly one of these.
    source: SourceSpec,
    /// The SHA-256 of the only module that it may be.
    #[serde(default, skip_serializing_if = "is_default")]
    digest: Option<ModuleDigest>,
    /// How the filter is configured; what it takes is its own affair.
    #[serde(default = "empty")]
    #[schemars(
        skip_serializing_if = "is_empty",
        extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true)
    )]
    config: Value,
    /// What it may do, of what its manifest wants; all of that unless said.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxItems" = Capability::ALL.len(), "x-kubernetes-list-type" = "set"))]
    capabilities: Option<Vec<Word<Capability>>>,
    /// The kinds of ports whose packets it is asked about; all unless said.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxItems" = PortKind::ALL.len(), "x-kubernetes-list-type" = "set"))]
    kinds: Vec<Word<PortKind>>,
    /// What it may use up.
    #[serde(default, skip_serializing_if = "is_default")]
    limits: LimitsSpec,
    /// Whether packets are dropped when the filter fails, or go on without it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = OnFault::default()))]
    on_fault: OnFault,
    /// What happens to a live connection that the filter would not let go on any more: its packets are
    /// dropped, it goes on, or both ends are told that it is over.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = OnRefused::default()))]
    on_refused: OnRefused,
    /// What happens where the module cannot be had and never could: the chain does without it, or
    /// nothing passes that it would be asked about.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = OnMissing::default()))]
    on_missing: OnMissing,
    /// Has another version of it go from node to node, and stop where it does not work. Unless said all
    /// nodes take it at once.
    #[serde(default, skip_serializing_if = "is_default")]
    rollout: Option<RolloutSpec>,
}

/// Another version goes from node to node.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RolloutSpec {
    /// How many nodes may be on their way to it at a time.
    max_unavailable: NonZeroU16,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.configMap), has(self.oci), has(self.file), has(self.builtin)].filter(is, is).size() == 1",
    "message": "give it exactly one of `file`, `configMap`, `oci` and `builtin`",
}]))]
struct SourceSpec {
    /// In a file of each node, by its absolute path.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("maxLength" = 4096, "pattern" = "^/"))]
    file: Option<String>,
    /// In the `binaryData` of a ConfigMap that has the label `millrace.dev/filters`.
    #[serde(skip_serializing_if = "is_default")]
    config_map: Option<KeySpec>,
    /// The agent has it, by this name.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("minLength" = 1, "maxLength" = 64))]
    builtin: Option<String>,
    /// In an image that a registry serves: that of an OCI artifact whose one layer is the module.
    #[serde(skip_serializing_if = "is_default")]
    oci: Option<ImageSpec>,
}

#[derive(PartialEq, Serialize, Deserialize, JsonSchema)]
struct ImageSpec {
    /// Its name with the digest of its manifest: `registry.example/team/filter:1.2@sha256:…`. Who may
    /// read it is the agents' affair, by a file of theirs.
    image: PinnedImage,
}

#[derive(PartialEq, Serialize, Deserialize, JsonSchema)]
struct KeySpec {
    /// The ConfigMap's namespace.
    namespace: LabelName,
    /// Its name.
    name: Subdomain,
    /// The key in it.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    key: String,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct LimitsSpec {
    /// Memory of each instance, as a quantity; 64Mi unless said.
    #[serde(skip_serializing_if = "is_default")]
    memory: Option<ByteCount>,
    /// How long one call may take, in steps of 5 ms; 10ms unless said.
    #[serde(skip_serializing_if = "is_default")]
    deadline: Option<Deadline>,
}

/// A whole number of milliseconds, as `10ms`.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("maxLength" = 12, "pattern" = "^[1-9][0-9]*(ms|s)$"))]
struct Deadline(u32);

impl TryFrom<FilterManifest> for Filter {
    type Error = FieldError;

    fn try_from(manifest: FilterManifest) -> Result<Self, FieldError> {
        let name = manifest.metadata.name.0;
        if BuiltIn::ALL.iter().any(|built_in| built_in.name() == name) {
            let reason = format!("`{name}` is a stage that every chain has: choose another name");
            return Err(FieldError {
                field: FieldPath::root().key("metadata").key("name"),
                reason,
            });
        }
        let spec = manifest.spec;
        let field = FieldPath::root().key("spec");
        let wrong = |key: &str, reason: &str| {
            Err(FieldError { field: field.clone().key(key), reason: reason.to_owned() })
        };
        if !spec.config.is_object() {
            return wrong("config", "it is an object, as in `{rules: []}`");
        }
        if spec.config.to_string().len() > limits::MAX_CONFIG {
            return wrong("config", "it is too long: a configuration has 1 MiB at most, as JSON");
        }
        Ok(Self {
            name,
            source: spec.source.read(&field.clone().key("source"))?,
            digest: spec.digest,
            config: spec.config,
            capabilities: spec.capabilities.map(|of| of.into_iter().map(|it| it.0).collect()),
            kinds: spec.kinds.into_iter().map(|kind| kind.0).collect(),
            memory: spec.limits.memory.map(|bytes| bytes.0),
            deadline: spec.limits.deadline.map(|it| Duration::from_millis(it.0.into())),
            on_fault: spec.on_fault,
            on_refused: spec.on_refused,
            on_missing: spec.on_missing,
            most_unavailable: spec.rollout.map(|rollout| rollout.max_unavailable),
        })
    }
}

impl SourceSpec {
    fn read(self, field: &FieldPath) -> Result<ModuleSource, FieldError> {
        let wrong = |key: Option<&str>, reason: &str| {
            let field = key.map_or_else(|| field.clone(), |key| field.clone().key(key));
            Err(FieldError { field, reason: reason.to_owned() })
        };
        match (self.file, self.config_map, self.oci, self.builtin) {
            (Some(file), None, None, None) if file.starts_with('/') => {
                Ok(ModuleSource::File(PathBuf::from(file)))
            }
            (Some(_), None, None, None) => wrong(Some("file"), "a path on a node begins with `/`"),
            (None, Some(KeySpec { namespace, name, key }), None, None) => {
                let map = QualifiedName::new(namespace.0, name.0);
                Ok(ModuleSource::ConfigMap { map, key })
            }
            (None, None, Some(ImageSpec { image }), None) => Ok(ModuleSource::Image(image)),
            (None, None, None, Some(name)) => Ok(ModuleSource::BuiltIn(name)),
            _ => wrong(None, "give it exactly one of `file`, `configMap`, `oci` and `builtin`"),
        }
    }
}

impl From<&Filter> for FilterManifest {
    fn from(filter: &Filter) -> Self {
        let name = LabelName(filter.name.clone());
        let source = match &filter.source {
            ModuleSource::File(path) => {
                SourceSpec { file: Some(path.display().to_string()), ..<_>::default() }
            }
            ModuleSource::ConfigMap { map, key } => {
                let namespace = LabelName(map.namespace.clone());
                let spec =
                    KeySpec { namespace, name: Subdomain(map.name.clone()), key: key.clone() };
                SourceSpec { config_map: Some(spec), ..<_>::default() }
            }
            ModuleSource::Image(image) => {
                SourceSpec { oci: Some(ImageSpec { image: image.clone() }), ..<_>::default() }
            }
            ModuleSource::BuiltIn(name) => {
                SourceSpec { builtin: Some(name.clone()), ..<_>::default() }
            }
        };
        let deadline = filter.deadline.map(|it| Deadline(it.as_millis() as u32));
        Self {
            metadata: Metadata::new(name, None, &<_>::default(), <_>::default()),
            spec: FilterSpec {
                source,
                digest: filter.digest,
                config: filter.config.clone(),
                capabilities: filter.capabilities.map(|set| set.iter().map(Word).collect()),
                kinds: filter.kinds.iter().copied().map(Word).collect(),
                limits: LimitsSpec { memory: filter.memory.map(ByteCount), deadline },
                on_fault: filter.on_fault,
                on_refused: filter.on_refused,
                on_missing: filter.on_missing,
                rollout: filter
                    .most_unavailable
                    .map(|max_unavailable| RolloutSpec { max_unavailable }),
            },
        }
    }
}

impl TryFrom<String> for Deadline {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match &text[digits.len()..] {
            "ms" => Some(1),
            "s" => Some(1000),
            _ => None,
        };
        let number = digits.parse().ok().filter(|number| *number > 0);
        let deadline =
            number.zip(factor).and_then(|(number, by): (u32, u32)| number.checked_mul(by));
        deadline.map(Self).ok_or_else(|| {
            format!("`{text}` is no time for a call: write a whole number with `ms` or `s`")
        })
    }
}

impl From<Deadline> for String {
    fn from(deadline: Deadline) -> Self {
        format!("{}ms", deadline.0)
    }
}

fn empty() -> Value {
    Value::Object(<_>::default())
}

fn is_empty(config: &Value) -> bool {
    *config == empty()
}

#[cfg(test)]
mod tests;
