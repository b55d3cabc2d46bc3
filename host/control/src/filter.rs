//! Filters as plain data: which modules a node's chain has beside the built-in ones, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use millrace_abi::{CapabilitySet, PortKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::QualifiedName;
use crate::image::PinnedImage;
use crate::policy::Selector;

/// What the cluster has of filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// By name.
    pub filters: BTreeMap<String, Filter>,
    /// By name.
    pub chains: BTreeMap<String, FilterChain>,
    /// ConfigMaps that have modules, by namespace and name.
    pub modules: BTreeMap<QualifiedName, ModuleMap>,
}

/// A module, how it is configured, and the terms it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name, which its stage has, too.
    pub name: String,
    /// Where the module is.
    pub source: ModuleSource,
    /// The only module that it may be, if that is said.
    pub digest: Option<ModuleDigest>,
    /// Its configuration, an object in JSON.
    pub config: serde_json::Value,
    /// What it may do, of what it wants; all of that, if nothing is said.
    pub capabilities: Option<CapabilitySet>,
    /// The kinds of ports whose packets it is asked about; all, if there are none.
    pub kinds: Vec<PortKind>,
    /// Bytes of memory of each instance, if that is said.
    pub memory: Option<u64>,
    /// How long one call may take, if that is said.
    pub deadline: Option<Duration>,
    /// What happens to packets when it fails.
    pub on_fault: OnFault,
    /// What happens to live connections that it would not let go on any more.
    pub on_refused: OnRefused,
    /// What happens where its module cannot be had.
    pub on_missing: OnMissing,
    /// How many nodes may be on their way to another version of it at a time; all, if that is not said.
    pub most_unavailable: Option<NonZeroU16>,
}

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleSource {
    /// In a file of each node, by its absolute path.
    File(PathBuf),
    /// In a ConfigMap.
    ConfigMap {
        /// The ConfigMap.
        map: QualifiedName,
        /// The key in its `binaryData`.
        key: String,
    },
    /// In an image that a registry serves.
    Image(PinnedImage),
    /// The agent has it, by this name.
    BuiltIn(String),
}

/// A ConfigMap that has modules. The others of a cluster are no concern of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleMap {
    /// What tells it from others.
    pub name: QualifiedName,
    /// The modules, by key.
    pub modules: BTreeMap<String, ModuleBytes>,
}

/// A module's bytes; what tells them from others is known.
#[derive(Clone)]
pub struct ModuleBytes {
    bytes: Arc<[u8]>,
    digest: ModuleDigest,
}

/// SHA-256 of a module, written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("maxLength" = 71, "pattern" = "^sha256:[0-9a-f]{64}$"))]
pub struct ModuleDigest([u8; 32]);

/// What happens to packets when a filter fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// They are dropped.
    #[default]
    Closed,
    /// They go on as if the filter were not there.
    Open,
}

/// What happens to a live connection that a filter would not let go on any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRefused {
    /// Its packets are dropped.
    #[default]
    Drop,
    /// It goes on as it is.
    Keep,
    /// Both ends are told that it is over.
    Reset,
}

/// What happens where a filter's module cannot be had, and never could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The chain does without it.
    #[default]
    Skip,
    /// Nothing passes that it would be asked about.
    Closed,
}

/// What the chain of some nodes has beside the built-in filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// Its name.
    pub name: String,
    /// The nodes that it is for.
    pub nodes: Selector,
    /// Which one counts of several for a node: the highest, and of those the first by name.
    pub priority: i32,
    /// The stages, in order; `None` if that cannot be read: those in force stay then.
    pub stages: Option<Vec<ChainStage>>,
}

/// A stage of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStage {
    /// The filter's name.
    pub filter: String,
    /// Where it is among the built-in ones.
    pub place: StagePlace,
    /// Whether its answers count.
    pub mode: StageMode,
}

/// A stage's place; those of one place are in the order in which their chain names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagePlace {
    /// Before a built-in filter.
    Before(BuiltIn),
    /// Behind one.
    After(BuiltIn),
}

/// Whether a stage's answers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageMode {
    /// They do.
    #[default]
    Enforce,
    /// They are compared with what the others decide.
    Shadow,
}

/// The filters that the chain of every node has, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltIn {
    /// Knows stations.
    Bridge,
    /// Knows Services.
    ServiceLb,
    /// Knows NetworkPolicies.
    Policy,
    /// Knows routes.
    Router,
}

impl StagePlace {
    /// How many of the built-in filters are before it.
    pub fn behind(self) -> usize {
        match self {
            Self::Before(built_in) => built_in as usize,
            Self::After(built_in) => built_in as usize + 1,
        }
    }
}

impl BuiltIn {
    /// All of them, in the order of the chain.
    pub const ALL: [Self; 4] = [Self::Bridge, Self::ServiceLb, Self::Policy, Self::Router];

    /// The name of its stage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::ServiceLb => "service-lb",
            Self::Policy => "policy",
            Self::Router => "router",
        }
    }
}

impl ModuleBytes {
    /// The module.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What tells it from others.
    pub fn digest(&self) -> ModuleDigest {
        self.digest
    }
}

impl From<Vec<u8>> for ModuleBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let digest = ModuleDigest::of(&bytes);
        Self { bytes: bytes.into(), digest }
    }
}

impl PartialEq for ModuleBytes {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ModuleBytes {}

impl fmt::Debug for ModuleBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.bytes.len(), self.digest)
    }
}

impl ModuleDigest {
    /// The digest of a module.
    pub fn of(module: &[u8]) -> Self {
        Self(Sha256::digest(module).into())
    }
}

impl FromStr for ModuleDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |digits: &str| {
            let octets = digits.as_bytes().chunks(2).map(|pair| {
                let lower = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
                let pair =
                    std::str::from_utf8(pair).ok().filter(|it| it.bytes().all(|b| lower(&b)));
                u8::from_str_radix(pair?, 16).ok()
            });
            octets.collect::<Option<Vec<u8>>>()?.try_into().ok()
        };
        let digest = text.strip_prefix(SHA256).filter(|digits| digits.len() == 64).and_then(read);
        digest.map(Self).ok_or_else(|| {
            format!("`{text}` is no digest: write `{SHA256}` and what `sha256sum` prints")
        })
    }
}

impl TryFrom<String> for ModuleDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ModuleDigest> for String {
    fn from(digest: ModuleDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHA256)?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const SHA256: &str = "sha256:";
