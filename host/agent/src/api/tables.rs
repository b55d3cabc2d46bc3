//! Host maps as they are said over the admin socket: tables, with headings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A host map, read as its filter's manifest says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapTable {
    /// Its name.
    pub(crate) name: String,
    /// Entries in it.
    pub(crate) entries: u64,
    /// What is in each place of a row: the columns of the key, then those of the value.
    pub(crate) columns: Vec<MapColumn>,
    /// The entries, by key; fewer than there are if that was asked for.
    pub(crate) rows: Vec<MapRow>,
}

/// A column of a host map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapColumn {
    /// Its heading.
    pub(crate) name: String,
    /// What it holds, in the words of manifests. A `time` is an age in milliseconds; a `port` is
    /// a name, or a number if the port is gone.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// An entry of a host map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapRow {
    /// By column.
    pub(crate) cells: Vec<Value>,
    /// Milliseconds until it is forgotten; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_ms: Option<u64>,
}
