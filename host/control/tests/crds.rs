//! The CustomResourceDefinitions of `deploy/crds` have the fields that are read here, and no others:
//! the API server keeps what counts, and turns away what would be complained of.

use std::collections::BTreeSet;

use millrace_control::manifest::{Kind, write};
use millrace_control::source::Manifests;
use serde_norway::Value;

/// Objects that say all that can be said.
const WHOLE: &str = "
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: a},
 spec: {source: {configMap: {namespace: net, name: modules, key: a.wasm}},
   digest: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
   config: {rules: []}, capabilities: [drop], kinds: [pod], limits: {memory: 16Mi, deadline: 20ms},
   onFault: open, onRefused: keep, onMissing: closed, rollout: {maxUnavailable: 2}}}
---
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: b}, spec: {source: {file: /b.wasm}}}
---
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: c}, spec: {source: {builtin: deny-list}}}
---
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: d}, spec: {source: {oci: {image:
  'registry.example/d:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}}}}
---
{apiVersion: millrace.dev/v1alpha1, kind: FilterChain, metadata: {name: edge},
 spec: {priority: 7, nodeSelector: {matchLabels: {a: b},
     matchExpressions: [{key: zone, operator: In, values: [a]}]},
   stages: [{filter: a, before: bridge, shadow: true}, {filter: b, after: policy}]}}
---
{apiVersion: millrace.dev/v1alpha1, kind: AddressPool, metadata: {name: outside},
 spec: {cidrs: [192.0.2.0/24], announcement: None}}
";

const DEFINITIONS: [(Kind, &str); 3] = [
    (Kind::AddressPool, include_str!("../../../deploy/crds/addresspools.yaml")),
    (Kind::Filter, include_str!("../../../deploy/crds/filters.yaml")),
    (Kind::FilterChain, include_str!("../../../deploy/crds/filterchains.yaml")),
];

#[test]
fn a_definition_has_every_field_that_is_read_and_no_other() {
    for (kind, text) in DEFINITIONS {
        let mut there = BTreeSet::new();
        for object in written(WHOLE, kind) {
            used(&spec_of(text), &object["spec"], "spec", &mut there);
        }
        let mut defined = BTreeSet::new();
        defines(&spec_of(text), "spec", &mut defined);
        assert_eq!(there, defined, "{}", kind.name());
    }
}

#[test]
fn every_word_that_a_definition_allows_is_read_and_no_other_is() {
    for (kind, text) in DEFINITIONS {
        let mut words = Vec::new();
        enums(&spec_of(text), &mut Vec::new(), &mut words);
        assert!(!words.is_empty());
        for (path, mut words) in words {
            words.push("no-such-word".to_owned());
            for word in words {
                let complaints = complaints_with(kind, &path, &word);
                let is_right = word != "no-such-word";
                assert_eq!(complaints.is_empty(), is_right, "{path:?}: {word}: {complaints:?}");
            }
        }
    }
}

#[test]
fn the_example_is_read() {
    let (written, complaints) = read(include_str!("../../../examples/filters/no-echo.yaml"));
    assert_eq!(complaints, [""; 0]);
    assert_eq!(documents(&written).count(), 2);
}

fn spec_of(definition: &str) -> Value {
    let definition: Value = serde_norway::from_str(definition).expect("it is YAML");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"].clone()
}

fn read(text: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), text).expect("it can be written");
    let manifests = Manifests::open(folder.path()).expect("it is there");
    let (world, complaints) = manifests.read().expect("it is there");
    (write(&world), complaints.iter().map(ToString::to_string).collect())
}

fn documents(text: &str) -> impl Iterator<Item = Value> {
    text.split("---\n").map(|document| serde_norway::from_str(document).expect("it is YAML"))
}

/// The objects of a kind, as they are written once they have been read.
fn written(text: &str, kind: Kind) -> Vec<Value> {
    let (written, complaints) = read(text);
    assert_eq!(complaints, [""; 0]);
    documents(&written).filter(|it| it["kind"] == kind.name()).collect()
}

/// The paths of a value's fields, each of which is to be in the schema, with the type it says.
fn used(schema: &Value, value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    let is = match value {
        Value::Mapping(_) => "object",
        Value::Sequence(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(schema["type"], is, "{path}");
    paths.insert(path.to_owned());
    match value {
        Value::Mapping(fields) if schema.get("properties").is_some() => {
            for (key, value) in fields {
                let key = key.as_str().expect("a text");
                let field = schema["properties"].get(key);
                let field = field.unwrap_or_else(|| panic!("{path}.{key} is not defined"));
                used(field, value, &format!("{path}.{key}"), paths);
            }
        }
        Value::Sequence(items) => {
            items.iter().for_each(|it| used(&schema["items"], it, &format!("{path}[]"), paths));
        }
        _ => {}
    }
}

/// The paths of all fields that a schema defines.
fn defines(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    paths.insert(path.to_owned());
    for (key, field) in schema.get("properties").and_then(Value::as_mapping).into_iter().flatten() {
        defines(field, &format!("{path}.{}", key.as_str().expect("a text")), paths);
    }
    if let Some(items) = schema.get("items") {
        defines(items, &format!("{path}[]"), paths);
    }
}

/// The fields that have one of some words, and these.
fn enums(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Vec<String>)>) {
    if let Some(words) = schema.get("enum").and_then(Value::as_sequence) {
        let words = words.iter().map(|word| word.as_str().expect("a text").to_owned()).collect();
        found.push((path.clone(), words));
    }
    let properties = schema.get("properties").and_then(Value::as_mapping).into_iter().flatten();
    let fields = properties.map(|(key, field)| (key.as_str().expect("a text"), field));
    for (key, field) in fields.chain(schema.get("items").map(|items| ("[]", items))) {
        path.push(key.to_owned());
        enums(field, path, found);
        path.pop();
    }
}

/// What is complained of if each field of that path that is there has this word.
fn complaints_with(kind: Kind, path: &[String], word: &str) -> Vec<String> {
    let mut objects: Vec<Value> = documents(WHOLE).collect();
    let ours = objects.iter_mut().filter(|it| it["kind"] == kind.name());
    let changed: usize = ours.map(|object| set(&mut object["spec"], path, word)).sum();
    assert!(changed > 0, "{path:?} is nowhere");
    let texts: Vec<_> =
        objects.iter().map(|it| serde_norway::to_string(it).expect("it is YAML")).collect();
    read(&texts.join("---\n")).1
}

fn set(value: &mut Value, path: &[String], word: &str) -> usize {
    let Some((step, rest)) = path.split_first() else {
        *value = Value::from(word);
        return 1;
    };
    // these operators go without values
    if step == "operator" && word.contains("Exist") {
        value.as_mapping_mut().expect("it has an operator").remove("values");
    }
    match value {
        Value::Sequence(items) => items.iter_mut().map(|it| set(it, rest, word)).sum(),
        Value::Mapping(fields) => fields.get_mut(&**step).map_or(0, |it| set(it, rest, word)),
        _ => 0,
    }
}
