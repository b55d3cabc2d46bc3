//! `discovery.k8s.io/v1 EndpointSlice`.

use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::service::FamilyName;
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::service::{Condition, EndpointSlice, Family, Hints, SliceEndpoint, SlicePort};
use crate::{Protocol, QualifiedName};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceManifest {
    metadata: Metadata<Subdomain>,
    address_type: FamilyName,
    #[serde(default, skip_serializing_if = "is_default")]
    endpoints: Vec<EndpointSpec>,
    #[serde(default, skip_serializing_if = "is_default")]
    ports: Vec<PortSpec>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointSpec {
    addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    conditions: Conditions,
    #[serde(default, skip_serializing_if = "is_default")]
    node_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    hints: HintsSpec,
    #[serde(default, skip_serializing_if = "is_default")]
    target_ref: Option<Target>,
}

/// What is there: of a pod, whose namespace is the slice's.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Target {
    kind: String,
    name: String,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HintsSpec {
    #[serde(skip_serializing_if = "is_default")]
    for_zones: Vec<Name>,
    #[serde(skip_serializing_if = "is_default")]
    for_nodes: Vec<Name>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Name {
    name: String,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct PortSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    protocol: Protocol,
    /// Absent, it would be every port, which no Service has.
    port: NonZeroU16,
}

impl TryFrom<SliceManifest> for EndpointSlice {
    type Error = FieldError;

    fn try_from(manifest: SliceManifest) -> Result<Self, FieldError> {
        let SliceManifest { mut metadata, address_type, endpoints, ports } = manifest;
        let name = QualifiedName::new(metadata.take_namespace(), metadata.name.0);
        let family = Family::from(address_type);
        for (index, endpoint) in endpoints.iter().enumerate() {
            let field = FieldPath::root().key("endpoints").index(index).key("addresses");
            if endpoint.addresses.is_empty() {
                let reason = "an endpoint has one address at least".to_owned();
                return Err(FieldError { field, reason });
            }
            let mut addresses = endpoint.addresses.iter().enumerate();
            if let Some((at, other)) = addresses.find(|(_, it)| Family::of(**it) != family) {
                let reason = format!("`{other}` is not of the slice's `addressType`");
                return Err(FieldError { field: field.index(at), reason });
            }
        }
        Ok(Self {
            name,
            labels: metadata.labels,
            family,
            endpoints: endpoints.into_iter().map(SliceEndpoint::from).collect(),
            ports: ports.into_iter().map(SlicePort::from).collect(),
        })
    }
}

impl From<EndpointSpec> for SliceEndpoint {
    fn from(spec: EndpointSpec) -> Self {
        let Conditions { ready, serving, terminating } = spec.conditions;
        let ready = ready.unwrap_or(true);
        let names = |names: Vec<Name>| names.into_iter().map(|it| it.name).collect();
        let pod = spec.target_ref.filter(|it| it.kind == POD).map(|it| it.name);
        Self {
            pod,
            addresses: spec.addresses,
            condition: Condition {
                ready,
                serving: serving.unwrap_or(ready),
                terminating: terminating.unwrap_or(false),
            },
            node: spec.node_name,
            hints: Hints { zones: names(spec.hints.for_zones), nodes: names(spec.hints.for_nodes) },
        }
    }
}

impl From<PortSpec> for SlicePort {
    fn from(spec: PortSpec) -> Self {
        Self { name: spec.name, protocol: spec.protocol, port: spec.port.get() }
    }
}

impl From<&EndpointSlice> for SliceManifest {
    fn from(slice: &EndpointSlice) -> Self {
        let name = Subdomain(slice.name.name.clone());
        let names = |names: &[String]| names.iter().map(|it| Name { name: it.clone() }).collect();
        let endpoint = |it: &SliceEndpoint| EndpointSpec {
            addresses: it.addresses.clone(),
            conditions: Conditions {
                ready: Some(it.condition.ready),
                serving: Some(it.condition.serving),
                terminating: Some(it.condition.terminating),
            },
            node_name: it.node.clone(),
            hints: HintsSpec {
                for_zones: names(&it.hints.zones),
                for_nodes: names(&it.hints.nodes),
            },
            target_ref: it.pod.clone().map(|name| Target { kind: POD.to_owned(), name }),
        };
        let port = |it: &SlicePort| PortSpec {
            name: it.name.clone(),
            protocol: it.protocol,
            port: NonZeroU16::new(it.port).expect("port 0 is never read"),
        };
        let namespace = Some(&*slice.name.namespace);
        Self {
            metadata: Metadata::new(name, namespace, &slice.labels, <_>::default()),
            address_type: slice.family.into(),
            endpoints: slice.endpoints.iter().map(endpoint).collect(),
            ports: slice.ports.iter().map(port).collect(),
        }
    }
}

const POD: &str = "Pod";
