//! What a module says of itself: JSON in a custom section, read before anything
//! of the module runs.

use std::collections::BTreeSet;

use millrace_abi::names::MANIFEST_SECTION;
use millrace_abi::{ABI_VERSION, Capability, CapabilitySet, Class, ClassSet, limits};
use millrace_tables::Table;
use serde::{Deserialize, Serialize};

/// A module's manifest. `ABI.md` describes every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the contract the module was built for.
    pub abi: u32,
    /// The filter's name: lower-case letters, digits and dashes.
    pub name: String,
    /// The filter's own version, for people.
    #[serde(default)]
    pub version: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// The hooks it has; each must be exported.
    #[serde(default)]
    pub hooks: BTreeSet<Hook>,
    /// The classes of packets its packet hook sees without asking flow by flow.
    #[serde(default)]
    classes: Vec<String>,
    /// What it wants to be allowed.
    #[serde(default)]
    capabilities: Vec<String>,
    /// The tables it is told.
    #[serde(default)]
    tables: Vec<String>,
    /// How many bytes of a packet its packet hook sees.
    #[serde(default = "default_snap")]
    pub snap: u32,
    /// JSON Schema of its configuration; absent if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// The rules its decisions name.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The host maps it opens, described for people to read.
    #[serde(default)]
    pub maps: Vec<MapDeclaration>,
}

/// A hook that a module may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Decides about flows.
    Flow,
    /// Sees packets.
    Packet,
    /// Is called about once a second.
    Tick,
    /// Is told what changes of tables.
    Update,
}

impl Hook {
    /// The word used in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Packet => "packet",
            Self::Tick => "tick",
            Self::Update => "update",
        }
    }
}

/// A rule that a filter's decisions may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The number in decisions; not 0.
    pub id: u32,
    /// The word in tables and metrics.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub help: String,
}

/// How to read a host map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapDeclaration {
    /// The name it is opened by.
    pub name: String,
    /// The fields of a key, in order and without gaps.
    pub key: Vec<MapField>,
    /// The fields of a value, likewise.
    pub value: Vec<MapField>,
}

/// One field of a host map's key or value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapField {
    /// The column's heading.
    pub name: String,
    /// What it holds: `u8`, `u16`, `u32`, `u64`, `mac`, `ip`, `port`, `time` (nanoseconds),
    /// or `bytes` followed by a length, as in `bytes12`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl MapField {
    /// Bytes of the field; `None` if its type is unknown.
    pub fn bytes(&self) -> Option<usize> {
        match self.kind.as_str() {
            "u8" => Some(1),
            "u16" | "port" => Some(2),
            "u32" => Some(4),
            "u64" | "time" => Some(8),
            "mac" => Some(6),
            "ip" => Some(16),
            other => other.strip_prefix("bytes").and_then(|len| len.parse().ok()),
        }
    }
}

/// Why a manifest is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// There is none.
    #[error(
        "it has no custom section `{MANIFEST_SECTION}`; build it with the filter SDK, or put the \
         manifest there as ABI.md says"
    )]
    Missing,
    /// There are several.
    #[error("it has more than one custom section `{MANIFEST_SECTION}`")]
    Repeated,
    /// It is longer than it may be.
    #[error("its manifest is {0} bytes long; the limit is {limit}", limit = limits::MAX_MANIFEST)]
    TooLong(usize),
    /// It is not the JSON it should be.
    #[error("its manifest cannot be read: {0}")]
    Syntax(String),
    /// It is for another host.
    #[error(
        "it was built for version {0} of the filter ABI and this host speaks version \
         {ABI_VERSION}; rebuild it with an SDK or header of version {ABI_VERSION}, or run a host \
         that speaks version {0}"
    )]
    Abi(u32),
    /// The name is no name.
    #[error(
        "the {what} `{name}` in its manifest is not made of 1 to {limit} lower-case letters, \
         digits and dashes",
        limit = limits::MAX_NAME
    )]
    Name {
        /// What is named.
        what: &'static str,
        /// The name as it stands.
        name: String,
    },
    /// A capability that does not exist.
    #[error("it wants the unknown capability `{0}`; there are {known}", known = known_capabilities())]
    UnknownCapability(String),
    /// A class that does not exist.
    #[error("it wants to see packets of the unknown class `{0}`; there are {known}", known = known_classes())]
    UnknownClass(String),
    /// It asks to see flows as a class.
    #[error("the class `flow` cannot be declared: the flow hook asks for flows one by one")]
    FlowClass,
    /// A packet hook without the capability to see packets.
    #[error("it has a packet hook, and must want the capability `inspect` for it")]
    NeedsInspect,
    /// Classes without a packet hook.
    #[error("it declares packet classes, and has no packet hook to see them")]
    NeedsPacketHook,
    /// A table that does not exist, or not in this version.
    #[error("it subscribes to the unknown table `{0}`; there are {known}", known = known_tables())]
    UnknownTable(String),
    /// Tables without the hook that is told of them, or the reverse.
    #[error("its `tables` and the hook `update` go together: it has one without the other")]
    NeedsTables,
    /// No hook at all.
    #[error("it has no hook: it would never be called")]
    NoHook,
    /// The snap length is out of range.
    #[error("its snap length is {0}; it must be 64 to {limit}", limit = limits::MAX_FRAME)]
    Snap(u32),
    /// Two rules share a number, or a rule has number 0.
    #[error("rule number {0} is used twice, or is 0")]
    RuleId(u32),
    /// A map that cannot be.
    #[error("the host map `{name}` in its manifest: {problem}")]
    Map {
        /// The map.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Manifest {
    /// Reads and checks the contents of the section.
    ///
    /// # Errors
    /// The first thing that is wrong. Bytes of any kind are safe to pass.
    pub fn parse(section: &[u8]) -> Result<Self, ManifestError> {
        if section.len() > limits::MAX_MANIFEST {
            return Err(ManifestError::TooLong(section.len()));
        }

        // the version first: a manifest for another version may look quite different
        #[derive(Deserialize)]
        struct Version {
            abi: u32,
        }
        let version: Version = from_json(section)?;
        if version.abi != ABI_VERSION {
            return Err(ManifestError::Abi(version.abi));
        }
        let manifest: Self = from_json(section)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// What the filter wants to be allowed.
    pub fn capabilities(&self) -> CapabilitySet {
        self.capabilities.iter().filter_map(|label| Capability::from_label(label)).collect()
    }

    /// The classes its packet hook sees.
    pub fn classes(&self) -> ClassSet {
        self.classes.iter().filter_map(|label| Class::from_label(label)).collect()
    }

    /// The tables it is told.
    pub fn tables(&self) -> Vec<Table> {
        self.tables.iter().filter_map(|label| Table::from_label(label)).collect()
    }

    /// Whether it has `hook`.
    pub fn has(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    /// The rule that decisions call `id`.
    pub fn rule(&self, id: u32) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_name("filter name", &self.name)?;
        for label in &self.capabilities {
            if Capability::from_label(label).is_none() {
                return Err(ManifestError::UnknownCapability(label.clone()));
            }
        }
        for label in &self.classes {
            match Class::from_label(label) {
                None => return Err(ManifestError::UnknownClass(label.clone())),
                Some(Class::Flow) => return Err(ManifestError::FlowClass),
                Some(_) => {}
            }
        }
        if let Some(label) = self.tables.iter().find(|label| Table::from_label(label).is_none()) {
            return Err(ManifestError::UnknownTable(label.clone()));
        }
        if self.tables.is_empty() == self.has(Hook::Update) {
            return Err(ManifestError::NeedsTables);
        }
        if self.hooks.is_empty() {
            return Err(ManifestError::NoHook);
        }
        if self.has(Hook::Packet) && !self.capabilities().contains(Capability::Inspect) {
            return Err(ManifestError::NeedsInspect);
        }
        if !self.classes.is_empty() && !self.has(Hook::Packet) {
            return Err(ManifestError::NeedsPacketHook);
        }
        if !(64..=limits::MAX_FRAME as u32).contains(&self.snap) {
            return Err(ManifestError::Snap(self.snap));
        }
        let mut ids = BTreeSet::from([0]);
        for rule in &self.rules {
            check_name("rule name", &rule.name)?;
            if !ids.insert(rule.id) {
                return Err(ManifestError::RuleId(rule.id));
            }
        }
        self.maps.iter().try_for_each(check_map)
    }
}

fn from_json<T: for<'a> Deserialize<'a>>(section: &[u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(section).map_err(|error| ManifestError::Syntax(error.to_string()))
}

fn check_name(what: &'static str, name: &str) -> Result<(), ManifestError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() || name.len() > limits::MAX_NAME || !name.bytes().all(plain) {
        return Err(ManifestError::Name { what, name: name.chars().take(80).collect() });
    }
    Ok(())
}

fn check_map(map: &MapDeclaration) -> Result<(), ManifestError> {
    check_name("map name", &map.name)?;
    let problem = |problem: String| ManifestError::Map { name: map.name.clone(), problem };
    for (what, fields, limit) in
        [("key", &map.key, limits::MAX_KEY), ("value", &map.value, limits::MAX_VALUE)]
    {
        let mut total = 0usize;
        for field in fields {
            let len = field.bytes().ok_or_else(|| {
                problem(format!("`{}` has the unknown type `{}`", field.name, field.kind))
            })?;
            total = total.saturating_add(len);
        }
        if total == 0 || total > limit {
            return Err(problem(format!("its {what} has {total} bytes; 1 to {limit} can be")));
        }
    }
    Ok(())
}

fn known_capabilities() -> String {
    Capability::ALL.map(|c| format!("`{}`", c.label())).join(", ")
}

fn known_classes() -> String {
    Class::ALL[1..].iter().map(|c| format!("`{}`", c.label())).collect::<Vec<_>>().join(", ")
}

fn known_tables() -> String {
    Table::ALL.map(|table| format!("`{}`", table.label())).join(", ")
}

fn default_snap() -> u32 {
    limits::DEFAULT_SNAP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(json.as_bytes())
    }

    #[test]
    fn a_minimal_manifest_is_enough() {
        let manifest = parse(r#"{"abi":1,"name":"nop","hooks":["flow"]}"#).unwrap();
        assert_eq!(manifest.name, "nop");
        assert_eq!(manifest.snap, limits::DEFAULT_SNAP);
        assert!(manifest.capabilities().is_empty());
    }

    #[test]
    fn another_abi_is_named_before_anything_else_is_looked_at() {
        for other in [0, 2, 7] {
            let error = parse(&format!(r#"{{"abi":{other},"shape":"unheard of"}}"#)).unwrap_err();
            assert_eq!(error, ManifestError::Abi(other));
            let remedy = format!("run a host that speaks version {other}");
            assert!(error.to_string().contains(&remedy), "{error}");
        }
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_said() {
        for (json, expected) in [
            (r#"{"abi":1,"name":"a","hooks":[]}"#, "never be called"),
            (r#"{"abi":1,"name":"A b","hooks":["flow"]}"#, "filter name `A b`"),
            (r#"{"abi":1,"name":"a","hooks":["flow"],"extra":1}"#, "unknown field `extra`"),
            (r#"{"abi":1,"name":"a","hooks":["tock"]}"#, "unknown variant `tock`"),
            (r#"{"abi":1,"name":"a","hooks":["flow"],"capabilities":["fly"]}"#, "capability `fly`"),
            (r#"{"abi":1,"name":"a","hooks":["packet"]}"#, "`inspect`"),
            (
                r#"{"abi":1,"name":"a","hooks":["flow"],"classes":["arp"]}"#,
                "no packet hook to see them",
            ),
            (
                r#"{"abi":1,"name":"a","hooks":["packet"],"capabilities":["inspect"],"classes":["ham"]}"#,
                "class `ham`",
            ),
            (
                r#"{"abi":1,"name":"a","hooks":["packet"],"capabilities":["inspect"],"classes":["flow"]}"#,
                "one by one",
            ),
            (r#"{"abi":1,"name":"a","hooks":["flow"],"snap":1}"#, "snap length is 1"),
            (
                r#"{"abi":1,"name":"a","hooks":["flow"],"rules":[{"id":0,"name":"r"}]}"#,
                "rule number 0",
            ),
            (
                r#"{"abi":1,"name":"a","hooks":["flow"],"maps":[{"name":"m","key":[],"value":[]}]}"#,
                "its key has 0 bytes",
            ),
            (
                r#"{"abi":1,"name":"a","hooks":["flow"],"maps":[{"name":"m","key":[{"name":"k","type":"u9"}],"value":[]}]}"#,
                "unknown type `u9`",
            ),
            (
                r#"{"abi":1,"name":"a","hooks":["flow","update"],"tables":["services/9"]}"#,
                "unknown table `services/9`",
            ),
            (r#"{"abi":1,"name":"a","hooks":["flow"],"tables":["services/0"]}"#, "go together"),
            (r#"{"abi":1,"name":"a","hooks":["flow","update"]}"#, "go together"),
            ("not json", "cannot be read"),
        ] {
            let error = parse(json).expect_err(json).to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
