//! The definitions of our own kinds: CustomResourceDefinitions, of the types that agents read and write
//! objects with.
//!
//! `deploy/crds` has them as files, and a test compares. `cargo run -p millrace-kube --example
//! definitions` writes them anew.

use std::collections::BTreeMap;

use millrace_control::manifest::{Kind, schema};
use serde_json::{Value, json};

use crate::conditions::Condition;
use crate::report::Entry;
use crate::watch::resource;

/// The definition of a kind of our own; none of Kubernetes' kinds.
pub fn definition(kind: Kind) -> Option<Value> {
    let mut spec = schema::of_spec(kind)?;
    let (group, version) = kind.api_version().split_once('/')?;
    let (name, plural) = (kind.name(), plural(kind));
    let mut whole = json!({
        "type": "object",
        "required": ["spec"],
        // the API server says what an object's description is, not that of a field
        "description": spec.as_object_mut().and_then(|spec| spec.remove("description")),
        "properties": { "spec": spec, "status": status(kind) },
    });
    if kind == Kind::Filter {
        whole["x-kubernetes-validations"] = names_of_filters();
    }
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "labels": { "app.kubernetes.io/name": "millrace" },
        },
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {
                "kind": name,
                "listKind": format!("{name}List"),
                "plural": plural,
                "singular": name.to_lowercase(),
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(kind),
                "schema": { "openAPIV3Schema": whole },
            }],
        },
    }))
}

/// The same, as a file of `deploy/crds`.
pub fn file(kind: Kind) -> Option<String> {
    let text = serde_norway::to_string(&definition(kind)?).expect("JSON is YAML");
    Some(format!(
        "# Nobody edits it: `make crds` writes it, of the types that agents read.\n{text}"
    ))
}

/// The name of a kind's objects in paths of the API, and that of its file in `deploy/crds`.
pub fn plural(kind: Kind) -> String {
    resource(kind).plural
}

/// What agents say of an object.
fn status(kind: Kind) -> Value {
    let mut properties = json!({
        "conditions": {
            "type": "array",
            "maxItems": 8,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": schema::structural::<Condition>(),
        },
    });
    if kind == Kind::AddressPool {
        properties["assigned"] = json!({
            "description": "How many of its addresses Services have.",
            "type": "integer",
            "format": "int32",
        });
    } else {
        properties["inForce"] = json!({
            "description": "On how many nodes it is in force as it is now, of those that it is for.",
            "type": "string",
        });
        let mut nodes = schema::structural::<BTreeMap<String, Entry>>();
        nodes["description"] =
            "What has become of it on each node that it is for, as that node says.".into();
        nodes["x-kubernetes-map-type"] = "atomic".into();
        properties["nodes"] = nodes;
    }
    json!({
        "type": "object",
        "description": "What agents say has become of it.",
        "properties": properties,
    })
}

/// What `kubectl get` shows; the last of each only when asked for more.
fn columns(kind: Kind) -> Vec<Value> {
    let column = |name: &str, r#type: &str, path: &str| json!({ "name": name, "type": r#type, "jsonPath": path });
    let wide = |name: &str, path: &str| {
        let mut column = column(name, "string", path);
        column["priority"] = 1.into();
        column
    };
    let programmed = |field: &str| format!(".status.conditions[?(@.type==\"Programmed\")].{field}");
    let mut columns = match kind {
        Kind::AddressPool => vec![
            column("CIDRs", "string", ".spec.cidrs"),
            column("Announcement", "string", ".spec.announcement"),
            column("Assigned", "integer", ".status.assigned"),
        ],
        Kind::Filter => vec![
            column("ConfigMap", "string", ".spec.source.configMap.name"),
            column("Key", "string", ".spec.source.configMap.key"),
            wide("Image", ".spec.source.oci.image"),
            wide("File", ".spec.source.file"),
            wide("Builtin", ".spec.source.builtin"),
            column("On missing", "string", ".spec.onMissing"),
        ],
        _ => vec![
            column("Priority", "integer", ".spec.priority"),
            column("Filters", "string", ".spec.stages[*].filter"),
            wide("Nodes", ".spec.nodeSelector.matchLabels"),
        ],
    };
    if kind != Kind::AddressPool {
        columns.extend([
            column("Programmed", "string", &programmed("status")),
            column("In force", "string", ".status.inForce"),
            wide("Reason", &programmed("message")),
        ]);
    }
    columns.push(column("Age", "date", ".metadata.creationTimestamp"));
    columns
}

/// A Filter's name is that of a stage, and the built-in ones have theirs.
fn names_of_filters() -> Value {
    json!([
        {
            "rule": "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && \
                     size(self.metadata.name) <= 63",
            "message": "the name of a Filter is that of a stage, of at most 63 of a-z, 0-9 and `-`",
        },
        {
            "rule": "!(self.metadata.name in ['bridge', 'service-lb', 'policy', 'router'])",
            "message": "every chain has a stage of this name already",
        },
    ])
}
