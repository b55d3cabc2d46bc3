//! What the API server checks of an object of our own kinds: a structural schema, of the structs that
//! read it here.
//!
//! Owns the difference between JSON Schema and what CustomResourceDefinitions take of it (KEP-3937 and
//! "structural schemas"): no references, no alternatives, nothing that may be `null`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::manifest::Kind;
use crate::manifest::chain::ChainSpec;
use crate::manifest::filter::FilterSpec;
use crate::manifest::pool::PoolSpec;

/// The schema of the `spec` of a kind of our own; none of Kubernetes' kinds.
pub fn of_spec(kind: Kind) -> Option<Value> {
    match kind {
        Kind::AddressPool => Some(structural::<PoolSpec>()),
        Kind::Filter => Some(structural::<FilterSpec>()),
        Kind::FilterChain => Some(structural::<ChainSpec>()),
        _ => None,
    }
}

/// The schema of a type, as CustomResourceDefinitions take it.
///
/// # Panics
/// If the type needs more than they have.
pub fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    schema
}

fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { panic!("{schema} is no structural schema") };
    fields.remove("title");
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    // a field that may be missing may not be `null`, too
    if let Some(Value::Array(either)) = fields.remove("anyOf") {
        let mut there = either.into_iter().filter(|it| it["type"] != "null");
        let (Some(Value::Object(only)), None) = (there.next(), there.next()) else {
            panic!("only `null` may be the alternative to something else")
        };
        for (key, value) in only {
            fields.entry(key).or_insert(value);
        }
    }
    if let Some(Value::Array(types)) = fields.get("type") {
        let only = types.iter().find(|it| **it != "null").cloned();
        fields.insert("type".to_owned(), only.expect("something but `null` is allowed"));
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(variants)) = fields.remove("oneOf") {
        fields.extend(words(&variants));
    }
    // Kubernetes knows the signed ones, and the limits say the rest
    if fields.get("format").and_then(Value::as_str).is_some_and(|it| it.starts_with("uint")) {
        fields.remove("format");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key).filter(|it| it.is_object()) {
            simplify(inner);
            // whose field it is says it
            inner.as_object_mut().and_then(|inner| inner.remove("description"));
        }
    }
}

/// Variants that are described one by one, as words of a list.
fn words(variants: &[Value]) -> Map<String, Value> {
    let mut words = Vec::new();
    for variant in variants {
        match (variant.get("const"), variant.get("enum")) {
            (Some(word), None) => words.push(word.clone()),
            (None, Some(Value::Array(several))) => words.extend(several.iter().cloned()),
            _ => panic!("{variant} is no word"),
        }
    }
    let fields = [("type", "string".into()), ("enum", Value::Array(words))];
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}
