//! What `deploy` asks a cluster for is what agents need of it, and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_control::manifest::Kind;
use millrace_kube::definition::file;
use serde::Deserialize;
use serde_norway::Value;

#[test]
fn agents_may_read_what_they_follow_and_write_what_has_become_of_it() {
    let role = object("millrace.yaml", "ClusterRole");
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_sequence().expect("a list") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    allowed.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    let written = [
        "patch /nodes/status",
        "patch /services/status",
        "patch millrace.dev/addresspools/status",
        "patch millrace.dev/filters/status",
        "patch millrace.dev/filterchains/status",
        "patch gateway.networking.k8s.io/gatewayclasses/status",
        "patch gateway.networking.k8s.io/gateways/status",
        "patch gateway.networking.k8s.io/tcproutes/status",
        "patch gateway.networking.k8s.io/udproutes/status",
        "create events.k8s.io/events",
    ];
    let mut needed: BTreeSet<_> = written.map(str::to_owned).into();
    for kind in Kind::ALL {
        let group = kind.api_version().split_once('/').map_or("", |(group, _)| group);
        for verb in ["list", "watch"] {
            needed.insert(format!("{verb} {group}/{}", plural(kind.name())));
        }
    }
    assert_eq!(allowed, needed);
}

#[test]
fn each_kind_of_our_own_is_defined_as_it_is_followed() {
    let own = Kind::ALL.into_iter().filter(|kind| kind.api_version().starts_with("millrace.dev/"));
    for kind in own {
        let file = format!("crds/{}.yaml", plural(kind.name()));
        let definition = object(&file, "CustomResourceDefinition");
        let spec = &definition["spec"];
        let version = format!(
            "{}/{}",
            spec["group"].as_str().expect("it has one"),
            spec["versions"][0]["name"].as_str().expect("it has one")
        );
        assert_eq!(version, kind.api_version());
        assert_eq!(spec["names"]["kind"], kind.name());
        assert_eq!(spec["names"]["plural"].as_str(), Some(&*plural(kind.name())));
        let status = &spec["versions"][0]["subresources"]["status"];
        assert!(status.is_mapping(), "{file}: what becomes of it is no part of what it is to be");
    }
}

#[test]
fn definitions_are_what_the_types_give_that_objects_are_read_with() {
    for (kind, expected) in Kind::ALL.into_iter().filter_map(|kind| Some((kind, file(kind)?))) {
        let path = format!("crds/{}.yaml", plural(kind.name()));
        let written = fs::read_to_string(deploy().join(&path)).expect("it is there");
        assert!(written == expected, "{path} is of other types: `make crds` writes it");
    }
}

#[test]
fn manifests_name_the_image_of_this_version() {
    let image = format!("millrace.dev/millrace:{}", env!("CARGO_PKG_VERSION"));
    for (file, expected) in [("millrace.yaml", 2), ("cleanup.yaml", 2)] {
        let daemon_set = object(file, "DaemonSet");
        let pod = &daemon_set["spec"]["template"]["spec"];
        let containers = ["initContainers", "containers"].map(|key| pod[key].as_sequence());
        let containers: Vec<_> = containers.into_iter().flatten().flatten().collect();
        assert_eq!(containers.len(), expected);
        for container in containers {
            assert_eq!(container["image"], *image, "{file}");
        }
    }
}

/// The only object of a kind in a file.
fn object(file: &str, kind: &str) -> Value {
    let path = deploy().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let documents = serde_norway::Deserializer::from_str(&text);
    let objects = documents.map(|document| Value::deserialize(document).expect("it is YAML"));
    let mut objects = objects.filter(|object| object["kind"] == kind);
    let object = objects.next().unwrap_or_else(|| panic!("{file} has no {kind}"));
    assert!(objects.next().is_none(), "{file} has another {kind}");
    object
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_sequence().expect("a list");
    list.iter().map(|text| text.as_str().expect("a text"))
}

/// As the API server has it in paths.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}
