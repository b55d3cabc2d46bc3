//! A configuration's JSON Schema as a table: a line for each key, nested ones with their path.

use serde_json::Value;

use crate::output::{Heading, Table};

/// The keys of a configuration; `None` if it takes none.
pub(super) fn table(schema: &Value) -> Option<String> {
    let mut rows = Vec::new();
    collect(schema, "", &mut rows);
    let headings = ["key", "value", "", "meaning"].map(Heading::text);
    let mut table = Table::new(headings);
    let empty = rows.is_empty();
    rows.into_iter().for_each(|row| table.row(row));
    (!empty).then(|| table.text())
}

/// Adds the keys of an object, and of objects in it.
fn collect(schema: &Value, path: &str, rows: &mut Vec<[String; 4]>) {
    let schema = present(schema);
    if let Some(items) = schema.get("items") {
        return collect(items, &format!("{path}[]"), rows);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required = schema.get("required").and_then(Value::as_array);
    for (key, property) in properties {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let needed = required.is_some_and(|names| names.iter().any(|name| name == key));
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let needed = if needed { "required" } else { "optional" };
        rows.push([at.clone(), kind(property), needed.to_owned(), meaning.to_owned()]);
        collect(property, &at, rows);
    }
}

/// What a value is.
fn kind(schema: &Value) -> String {
    let schema = present(schema);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<_> = words.iter().map(plain).collect();
        return words.join(" | ");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => {
            format!("list of {}", schema.get("items").map_or_else(|| "anything".to_owned(), kind))
        }
        Some("integer") => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(from), Some(to)) => format!("{} to {}", plain(from), plain(to)),
            _ => "integer".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

/// The schema of the value, if it is there: what may be null too is `anyOf` that and null.
fn present(schema: &Value) -> &Value {
    let first = schema.get("anyOf").and_then(|either| either.get(0));
    first.unwrap_or(schema)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_has_a_line_nested_ones_with_their_path() {
        let schema = json!({
            "type": "object",
            "properties": {
                "rules": {
                    "description": "What is denied.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "port": {
                                "description": "The port.",
                                "anyOf": [
                                    {"type": "integer", "minimum": 0, "maximum": 65535},
                                    {"type": "null"},
                                ],
                            },
                        },
                        "required": [],
                    },
                },
                "action": {"description": "", "enum": ["drop", "reject"]},
            },
            "required": ["rules"],
        });
        let text = table(&schema).unwrap();
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        let line = |key: &str| words.iter().find(|words| words[0] == key).unwrap().join(" ");
        assert_eq!(line("rules"), "rules list of object required What is denied.");
        assert_eq!(line("rules[].port"), "rules[].port 0 to 65535 optional The port.");
        assert_eq!(line("action"), "action drop | reject optional");
        assert_eq!(table(&json!({"type": "object", "properties": {}})), None);
    }
}
