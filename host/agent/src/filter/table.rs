//! `millrace filter table`: what a filter remembers.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use crate::api::tables::{MapColumn, MapTable};
use crate::filter::about;
use crate::output::{Asking, Heading, Table, age, count};

/// Show what a filter remembers: its host maps.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter table bridge
  millrace filter table bridge stations -o json | jq .rows[].cells")]
pub(crate) struct TableArgs {
    /// The stage.
    name: String,
    /// The map, if the filter has several.
    map: Option<String>,
    /// Rows that are shown, at most.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(args: &TableArgs) -> anyhow::Result<()> {
    let TableArgs { name, map, limit, asking } = args;
    let path = about(name, &format!("/maps?limit={limit}"));
    let mut maps: Vec<MapTable> = asking.client()?.get(&path)?;
    let names: Vec<_> = maps.iter().map(|map| format!("`{}`", map.name)).collect();
    let names = names.join(", ");
    if let Some(map) = map {
        maps.retain(|present| present.name == *map);
    }
    match (&maps[..], map) {
        ([map], _) => asking.print(map, text),
        ([], Some(map)) if !names.is_empty() => {
            bail!("filter `{name}` has no map `{map}`, but {names}")
        }
        ([], _) => bail!("filter `{name}` has no maps"),
        _ => bail!("filter `{name}` has several maps: name one of {names}"),
    }
}

fn text(map: &MapTable) -> String {
    let heading = |column: &MapColumn| match column.kind.as_str() {
        "u8" | "u16" | "u32" | "u64" => Heading::Number(column.name.clone()),
        _ => Heading::Text(column.name.clone()),
    };
    let forgotten = std::iter::once(Heading::text("forgotten in"));
    let mut table = Table::new(map.columns.iter().map(heading).chain(forgotten));
    for row in &map.rows {
        let cells = row.cells.iter().zip(&map.columns).map(|(cell, column)| print(cell, column));
        let expires = row.expires_ms.map_or_else(|| "never".to_owned(), age);
        table.row(cells.chain(std::iter::once(expires)));
    }
    let shown = map.rows.len() as u64;
    match map.entries {
        0 => format!("map {} is empty", map.name),
        entries if shown < entries => {
            format!("{}\n{} of {} entries", table.text(), count(shown), count(entries))
        }
        _ => table.text(),
    }
}

fn print(cell: &Value, column: &MapColumn) -> String {
    match (cell, column.kind.as_str()) {
        (Value::Number(ms), "time") => format!("{} ago", age(ms.as_u64().unwrap_or_default())),
        (Value::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tables::MapRow;

    #[test]
    fn a_map_is_printed_by_the_types_of_its_columns() {
        let column = |name: &str, kind: &str| MapColumn { name: name.into(), kind: kind.into() };
        let map = MapTable {
            name: "stations".into(),
            entries: 2,
            columns: vec![column("vlan", "u16"), column("port", "port"), column("seen", "time")],
            rows: vec![MapRow {
                cells: vec![json!(10), json!("veth-a"), json!(2500)],
                expires_ms: Some(300_000),
            }],
        };
        assert_eq!(
            text(&map),
            "VLAN  PORT    SEEN     FORGOTTEN IN\n  10  veth-a  2 s ago  5 min\n1 of 2 entries"
        );
    }
}
