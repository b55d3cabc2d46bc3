use std::fs;

use crate::filter::{ModuleSource, OnMissing, StageMode};
use crate::source::Manifests;
use crate::{World, manifest};

fn read(text: &str) -> (World, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let (world, complaints) = Manifests::open(folder.path()).unwrap().read().unwrap();
    (world, complaints.iter().map(ToString::to_string).collect())
}

const WHOLE: &str = "
apiVersion: millrace.dev/v1alpha1
kind: Filter
metadata:
  name: quiet
spec:
  source:
    configMap: {namespace: net, name: modules, key: quiet.wasm}
  digest: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  config: {rules: [{port: 22, to: null}], action: Drop}
  capabilities: [drop, inspect]
  kinds: [pod]
  limits: {memory: 16Mi, deadline: 1s}
  onFault: open
  onRefused: reset
  onMissing: closed
---
apiVersion: millrace.dev/v1alpha1
kind: FilterChain
metadata:
  name: edge
spec:
  nodeSelector: {matchExpressions: [{key: zone, operator: In, values: [a]}]}
  priority: -3
  stages:
  - filter: quiet
    before: service-lb
    shadow: true
---
apiVersion: v1
kind: ConfigMap
metadata: {name: modules, namespace: net, labels: {millrace.dev/filters: modules}}
binaryData: {quiet.wasm: AGFzbQ==}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: others, namespace: net}
binaryData: {big: AGFzbQ==}
";

#[test]
fn filters_and_chains_read_back_as_they_were_written() {
    let (world, complaints) = read(WHOLE);
    assert_eq!(complaints, [""; 0]);
    let filters = &world.filters;
    let filter = &filters.filters["quiet"];
    assert_eq!(filter.config["rules"][0]["to"], serde_json::Value::Null);
    assert_eq!((filter.memory, filter.on_missing), (Some(16 << 20), OnMissing::Closed));
    assert_eq!(filter.deadline.unwrap().as_millis(), 1000);
    let chain = &filters.chains["edge"];
    assert_eq!((chain.priority, chain.stages.as_ref().unwrap()[0].mode), (-3, StageMode::Shadow));
    assert_eq!(filters.modules.len(), 1, "one without the label is of no concern");
    let (again, complaints) = read(&manifest::write(&world));
    assert_eq!(complaints, [""; 0]);
    assert_eq!(again, world);
}

#[test]
fn an_image_reads_back_as_it_was_written() {
    let source = "configMap: {namespace: net, name: modules, key: quiet.wasm}";
    let image = format!("registry.example:5000/team/quiet:1.2@sha256:{}", "0a".repeat(32));
    let (world, complaints) = read(&WHOLE.replace(source, &format!("oci: {{image: '{image}'}}")));
    assert_eq!(complaints, [""; 0]);
    let ModuleSource::Image(read_image) = &world.filters.filters["quiet"].source else {
        panic!("{world:?}");
    };
    assert_eq!(read_image.to_string(), image);
    let (again, complaints) = read(&manifest::write(&world));
    assert_eq!(complaints, [""; 0]);
    assert_eq!(again, world);
}

#[test]
fn what_is_wrong_with_a_filter_or_a_chain_is_named_with_its_line_and_field() {
    let source = "configMap: {namespace: net, name: modules, key: quiet.wasm}";
    for (right, wrong, complaint) in [
        ("name: quiet\n", "name: policy\n", "5: Filter policy: metadata.name: `policy` is a stage"),
        (source, "{}", "8: Filter quiet: spec.source: give it exactly one of"),
        (source, "{file: /a, builtin: b}", "8: Filter quiet: spec.source: give it exactly one of"),
        (source, "file: a.wasm", "8: Filter quiet: spec.source.file: a path on a node begins"),
        (
            source,
            "oci: {image: a}",
            "8: Filter quiet: spec.source.oci.image: `a` is no name of an image",
        ),
        (
            source,
            "oci: {image: 'a.example/b:1'}",
            "8: Filter quiet: spec.source.oci.image: `a.example/b:1` may become another image",
        ),
        (source, "oci: {}", "8: Filter quiet: spec.source.oci: missing"),
        (source, "configMap: {name: a, key: b}", "8: Filter quiet: spec.source.configMap: missing"),
        ("sha256:e3", "e3", "9: Filter quiet: spec.digest: `e3b0c4"),
        ("sha256:e3", "sha256:E3", "9: Filter quiet: spec.digest: `sha256:E3b0c4"),
        (
            "config: {rules: [{port: 22, to: null}], action: Drop}",
            "config: []",
            "10: Filter quiet: spec.config: it is an object",
        ),
        (
            "[drop, inspect]",
            "[drop, fly]",
            "11: Filter quiet: spec.capabilities[1]: `fly` is no capability; there are `drop`",
        ),
        (
            "kinds: [pod]",
            "kinds: [pond]",
            "12: Filter quiet: spec.kinds[0]: `pond` is no kind of port",
        ),
        ("16Mi", "lots", "13: Filter quiet: spec.limits.memory: `lots` is no number of bytes"),
        ("1s", "1h", "13: Filter quiet: spec.limits.deadline: `1h` is no time for a call"),
        ("onFault: open", "onFault: maybe", "14: Filter quiet: spec.onFault: unknown variant"),
        (
            "onMissing: closed",
            "onMissing: open",
            "16: Filter quiet: spec.onMissing: unknown variant",
        ),
        ("priority: -3", "priority: high", "24: FilterChain edge: spec.priority: invalid type"),
        (
            "values: [a]",
            "values: []",
            "23: FilterChain edge: spec.nodeSelector.matchExpressions[0].values: `In`",
        ),
        (
            "before: service-lb",
            "before: nat",
            "27: FilterChain edge: spec.stages[0].before: unknown variant",
        ),
        (
            "before: service-lb",
            "before: bridge\n    after: bridge",
            "26: FilterChain edge: spec.stages[0]: say either `before`",
        ),
        (
            "before: service-lb",
            "note: none",
            "26: FilterChain edge: spec.stages[0]: say either `before`",
        ),
        (
            "shadow: true",
            "shadow: true\n  - {filter: quiet, after: policy}",
            "29: FilterChain edge: spec.stages[1].filter: `quiet` has a stage",
        ),
        (
            "AGFzbQ==}\n---",
            "A}\n---",
            "33: ConfigMap net/modules: binaryData[quiet.wasm]: this is no Base64",
        ),
    ] {
        assert!(WHOLE.contains(right), "{right}");
        let (_, complaints) = read(&WHOLE.replacen(right, wrong, 1));
        let [said] = &complaints[..] else { panic!("{wrong}: {complaints:?}") };
        assert!(said.starts_with(&format!("a.yaml:{complaint}")), "{said}");
    }
}

#[test]
fn a_chain_that_cannot_be_read_is_known_by_its_name() {
    let (world, complaints) = read(&WHOLE.replace("before: service-lb", "before: nat"));
    assert_eq!(complaints.len(), 1);
    assert_eq!(world.filters.chains["edge"].stages, None);
}
