//! What a filter says of itself: a constant, so that the host can read it before
//! anything of the filter runs.

use crate::abi::{ABI_VERSION, limits};
use crate::record::{Column, Record};
use crate::tables::Table;
use crate::text::Text;
use crate::{Capability, Class};

/// A filter's manifest.
#[derive(Clone, Copy)]
pub struct Manifest {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    capabilities: &'static [Capability],
    classes: &'static [Class],
    tables: &'static [Table],
    snap: u32,
    rules: &'static [Rule],
    maps: Text,
}

/// A rule that decisions name, so that people can see which one decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number, for [`Decision::by_rule`](crate::Decision::by_rule).
    pub id: u32,
    name: &'static str,
    help: &'static str,
}

impl Manifest {
    /// The manifest of the filter called `name`: lower-case letters, digits and dashes.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            description: "",
            capabilities: &[],
            classes: &[],
            tables: &[],
            snap: limits::DEFAULT_SNAP,
            rules: &[],
            maps: Text::EMPTY,
        }
    }

    /// Says in one sentence what the filter does.
    #[must_use]
    pub const fn describes(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Says what the filter needs to be allowed.
    #[must_use]
    pub const fn wants(mut self, capabilities: &'static [Capability]) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Says which classes of packets the packet hook looks at without asking flow by flow.
    #[must_use]
    pub const fn sees(mut self, classes: &'static [Class]) -> Self {
        self.classes = classes;
        self
    }

    /// Says which tables the filter is told, by [`update`](crate::Filter::update).
    #[must_use]
    pub const fn subscribes(mut self, tables: &'static [Table]) -> Self {
        self.tables = tables;
        self
    }

    /// The tables the filter is told.
    pub const fn tables(&self) -> &'static [Table] {
        self.tables
    }

    /// Says how many bytes of a packet the packet hook looks at.
    #[must_use]
    pub const fn snap(mut self, bytes: u32) -> Self {
        self.snap = bytes;
        self
    }

    /// How many bytes of a packet the packet hook looks at.
    pub const fn snap_len(&self) -> usize {
        self.snap as usize
    }

    /// Names the rules that decisions refer to.
    #[must_use]
    pub const fn rules(mut self, rules: &'static [Rule]) -> Self {
        self.rules = rules;
        self
    }

    /// Describes a map, so that its entries can be shown to people.
    #[must_use]
    pub const fn map<K: Record, V: Record>(mut self, name: &'static str) -> Self {
        let mut maps = if self.maps.is_empty() { self.maps } else { self.maps.with(",") };
        maps = maps.with("{\"name\":").with_json(name).with(",\"key\":");
        maps = columns(maps, K::FIELDS).with(",\"value\":");
        self.maps = columns(maps, V::FIELDS).with("}");
        self
    }

    /// The manifest as JSON, with the hooks that are exported and the schema of the configuration.
    pub const fn to_json(&self, hooks: &[&str], schema: &Text) -> Text {
        let mut json = Text::EMPTY
            .with("{\"abi\":")
            .with_number(ABI_VERSION as u64)
            .with(",\"name\":")
            .with_json(self.name)
            .with(",\"version\":")
            .with_json(self.version)
            .with(",\"description\":")
            .with_json(self.description)
            .with(",\"hooks\":[");
        let mut index = 0;
        while index < hooks.len() {
            json = separate(json, index).with_json(hooks[index]);
            index += 1;
        }
        json = json.with("],\"classes\":[");
        index = 0;
        while index < self.classes.len() {
            json = separate(json, index).with_json(self.classes[index].label());
            index += 1;
        }
        json = json.with("],\"capabilities\":[");
        index = 0;
        while index < self.capabilities.len() {
            json = separate(json, index).with_json(self.capabilities[index].label());
            index += 1;
        }
        json = json.with("],\"tables\":[");
        index = 0;
        while index < self.tables.len() {
            json = separate(json, index).with_json(self.tables[index].label());
            index += 1;
        }
        json = json.with("],\"snap\":").with_number(self.snap as u64);
        json = json.with(",\"config\":").with_text(schema).with(",\"rules\":[");
        index = 0;
        while index < self.rules.len() {
            let rule = self.rules[index];
            json = separate(json, index).with("{\"id\":").with_number(rule.id as u64);
            json = json.with(",\"name\":").with_json(rule.name);
            json = json.with(",\"help\":").with_json(rule.help).with("}");
            index += 1;
        }
        json.with("],\"maps\":[").with_text(&self.maps).with("]}")
    }
}

impl Rule {
    /// Rule number `id`, not 0, called `name`; `help` says in one sentence what it does.
    pub const fn new(id: u32, name: &'static str, help: &'static str) -> Self {
        assert!(id != 0, "rule number 0 means that there is no rule");
        Self { id, name, help }
    }
}

const fn columns(mut json: Text, columns: &[Column]) -> Text {
    json = json.with("[");
    let mut index = 0;
    while index < columns.len() {
        let column = columns[index];
        json = separate(json, index).with("{\"name\":").with_json(column.name);
        json = json.with(",\"type\":").with_json(column.kind).with("}");
        index += 1;
    }
    json.with("]")
}

const fn separate(json: Text, index: usize) -> Text {
    if index == 0 { json } else { json.with(",") }
}
