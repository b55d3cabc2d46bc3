//! Requests about host maps: bytes made readable with what the filter's manifest says of
//! them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use millrace_dataplane::control::StageError;
use millrace_sandbox::maps::{HostMap, MapEntry};
use millrace_sandbox::{MapDeclaration, MapField, now_ns};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::server::{Answer, Host, Shared};
use crate::api::tables::{MapColumn, MapRow, MapTable};

/// How much of the maps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// So many rows of each, at most.
    #[serde(default = "usual_limit")]
    limit: usize,
}

/// The maps that a stage owns, and those it shares with others or reads of the host's.
pub(super) async fn list(
    State(host): Shared,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Vec<MapTable>> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    Ok(Json(host.ask(move |host| tables(host, &name, wanted.limit)).await?))
}

fn tables(host: &Host, stage: &str, limit: usize) -> Result<Vec<MapTable>, ApiError> {
    let manifest = host.plane.manifest(stage).map_err(|error: StageError| ApiError::from(error))?;
    let ports = host.plane.ports()?;
    let ports = ports.into_iter().map(|port| (port.id.number(), port.name)).collect();
    let declared = |name: &str| manifest.maps.iter().find(|map| map.name == name);

    let maps = host.plane.sandbox().maps().list().into_iter();
    let visible = maps.filter(|(name, _)| match &name.owner {
        Some(owner) => **owner == *stage,
        None => declared(&name.name).is_some(),
    });
    let mut visible: Vec<_> = visible.map(|(name, map)| (name.name, map)).collect();
    if declared(CONNECTIONS).is_some() && visible.iter().all(|(name, _)| name != CONNECTIONS) {
        visible
            .push((CONNECTIONS.to_owned(), Arc::clone(host.plane.sandbox().maps().connections())));
    }
    let reader = Reader { ports, now_ns: now_ns(), limit };
    Ok(visible.iter().map(|(name, map)| reader.table(name, declared(name), map)).collect())
}

/// Reads maps at one moment.
struct Reader {
    /// Names of ports.
    ports: BTreeMap<u16, String>,
    now_ns: u64,
    limit: usize,
}

impl Reader {
    fn table(&self, name: &str, declared: Option<&MapDeclaration>, map: &Arc<HostMap>) -> MapTable {
        let shape = map.shape();
        let field = |name: &str, len: usize| MapField {
            name: name.to_owned(),
            kind: format!("bytes{len}"),
        };
        // a map that the manifest does not describe, or not as it is, is shown as bytes
        let len = |fields: &[MapField]| fields.iter().filter_map(MapField::bytes).sum::<usize>();
        let described = declared.filter(|declared| {
            (len(&declared.key), len(&declared.value)) == (shape.key_len(), shape.value_len())
        });
        let fields = match described {
            Some(declared) => [&declared.key[..], &declared.value[..]].concat(),
            None => vec![field("key", shape.key_len()), field("value", shape.value_len())],
        };

        let mut entries = map.entries(self.now_ns);
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let count = entries.len() as u64;
        entries.truncate(self.limit);
        MapTable {
            name: name.to_owned(),
            entries: count,
            rows: entries.iter().map(|entry| self.row(&fields, entry)).collect(),
            columns: fields
                .into_iter()
                .map(|field| MapColumn { name: field.name, kind: field.kind })
                .collect(),
        }
    }

    fn row(&self, fields: &[MapField], entry: &MapEntry) -> MapRow {
        let bytes = [&entry.key[..], &entry.value[..]].concat();
        let mut rest = &bytes[..];
        let cells = fields.iter().map(|field| {
            let (cell, behind) = rest.split_at(field.bytes().unwrap_or(0).min(rest.len()));
            rest = behind;
            self.cell(&field.kind, cell)
        });
        let expires = |at: u64| at.saturating_sub(self.now_ns) / NS_PER_MS;
        MapRow { cells: cells.collect(), expires_ms: entry.expires_ns.map(expires) }
    }

    fn cell(&self, kind: &str, bytes: &[u8]) -> Value {
        let number = || bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        match kind {
            "u8" | "u16" | "u32" | "u64" => json!(number()),
            "mac" => json!(hex(bytes, ":")),
            "ip" => json!(address(bytes)),
            "port" => match self.ports.get(&(number() as u16)) {
                Some(name) => json!(name),
                None => json!(number()),
            },
            "time" => json!(self.now_ns.saturating_sub(number()) / NS_PER_MS),
            _ => json!(hex(bytes, "")),
        }
    }
}

fn address(bytes: &[u8]) -> String {
    let Ok(octets) = <[u8; 16]>::try_from(bytes) else { return hex(bytes, "") };
    Ipv6Addr::from(octets).to_canonical().to_string()
}

fn hex(bytes: &[u8], separator: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
}

fn usual_limit() -> usize {
    1000
}

const NS_PER_MS: u64 = 1_000_000;
/// What filters that read it call the host's map of connections.
const CONNECTIONS: &str = "connections";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_a_manifest_is_read() {
        let reader = Reader {
            ports: BTreeMap::from([(3, "veth-a".to_owned())]),
            now_ns: 5_000_000_000,
            limit: 1,
        };
        let mapped = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets();
        let real = "fd00::1".parse::<Ipv6Addr>().unwrap().octets();
        let two_seconds_ago = 3_000_000_000_u64.to_le_bytes();
        for (kind, bytes, expected) in [
            ("u8", &[7][..], json!(7)),
            ("u16", &[1, 2], json!(0x0201)),
            ("u32", &[1, 0, 0, 0x80], json!(0x8000_0001_u32)),
            ("u64", &[0xff; 8], json!(u64::MAX)),
            ("mac", &[2, 0, 0, 0, 0, 0xfe], json!("02:00:00:00:00:fe")),
            ("ip", &mapped, json!("10.0.0.1")),
            ("ip", &real, json!("fd00::1")),
            ("port", &[3, 0], json!("veth-a")),
            ("port", &[4, 0], json!(4)),
            ("time", &two_seconds_ago, json!(2000)),
            ("bytes3", &[0xa, 0xb, 0xc], json!("0a0b0c")),
        ] {
            assert_eq!(reader.cell(kind, bytes), expected, "{kind}");
        }
    }

    #[test]
    fn a_row_is_its_key_and_then_its_value() {
        let reader = Reader { ports: BTreeMap::new(), now_ns: 1_000_000, limit: 1 };
        let fields: Vec<_> = [("vlan", "u16"), ("mac", "mac"), ("seen", "u8")]
            .map(|(name, kind)| MapField { name: name.into(), kind: kind.into() })
            .into();
        let entry = MapEntry {
            key: vec![10, 0, 2, 0, 0, 0, 0, 1],
            value: vec![9],
            expires_ns: Some(6_000_000),
        };
        let row = reader.row(&fields, &entry);
        assert_eq!(row.cells, [json!(10), json!("02:00:00:00:00:01"), json!(9)]);
        assert_eq!(row.expires_ms, Some(5));
    }
}
