//! `gateway.networking.k8s.io/v1 TCPRoute` and `UDPRoute`, which are written alike.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::gateway::{BackendRef, ObjectKind, ParentRef, Route, RouteName};
use crate::manifest::gateway::gateway_group;
use crate::manifest::meta::{LabelName, Metadata, Subdomain};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::{Protocol, QualifiedName};

#[derive(Serialize, Deserialize)]
pub(super) struct RouteManifest {
    metadata: Metadata<Subdomain>,
    spec: RouteSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    parent_refs: Vec<ParentSpec>,
    rules: Vec<RuleSpec>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    backend_refs: Vec<BackendSpec>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentSpec {
    #[serde(default = "gateway_group")]
    group: String,
    #[serde(default = "gateway")]
    kind: String,
    #[serde(default, skip_serializing_if = "is_default")]
    namespace: Option<LabelName>,
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    section_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    port: Option<NonZeroU16>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct BackendSpec {
    /// The core one has no name.
    #[serde(default, skip_serializing_if = "is_default")]
    group: String,
    #[serde(default = "service")]
    kind: String,
    #[serde(default, skip_serializing_if = "is_default")]
    namespace: Option<LabelName>,
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    port: Option<NonZeroU16>,
    #[serde(default = "one")]
    weight: u32,
}

impl RouteManifest {
    /// The route for a protocol that is written here.
    pub(super) fn read(mut self, protocol: Protocol) -> Result<Route, FieldError> {
        let rules = FieldPath::root().key("spec").key("rules");
        let name = QualifiedName::new(self.metadata.take_namespace(), self.metadata.name.0);
        let [rule] =
            <[RuleSpec; 1]>::try_from(self.spec.rules).map_err(|rules_read| FieldError {
                field: rules.clone(),
                reason: format!(
                    "{} rules: there has to be one, for nothing tells which is meant",
                    rules_read.len()
                ),
            })?;
        for (at, backend) in rule.backend_refs.iter().enumerate() {
            if backend.weight > HEAVIEST {
                let field = rules.index(0).key("backendRefs").index(at).key("weight");
                let reason = format!("{} is more than {HEAVIEST}", backend.weight);
                return Err(FieldError { field, reason });
            }
        }
        Ok(Route {
            name: RouteName { protocol, name },
            created: self.metadata.creation,
            parents: self.spec.parent_refs.into_iter().map(ParentRef::from).collect(),
            backends: rule.backend_refs.into_iter().map(BackendRef::from).collect(),
        })
    }
}

impl From<&Route> for RouteManifest {
    fn from(route: &Route) -> Self {
        let QualifiedName { namespace, name } = &route.name.name;
        let name = Subdomain(name.clone());
        let metadata = Metadata::new(name, Some(namespace), &<_>::default(), <_>::default());
        Self {
            metadata: Metadata { creation: route.created.clone(), ..metadata },
            spec: RouteSpec {
                parent_refs: route.parents.iter().map(ParentSpec::from).collect(),
                rules: vec![RuleSpec {
                    backend_refs: route.backends.iter().map(BackendSpec::from).collect(),
                }],
            },
        }
    }
}

impl From<ParentSpec> for ParentRef {
    fn from(spec: ParentSpec) -> Self {
        Self {
            of: ObjectKind { group: spec.group, kind: spec.kind },
            namespace: spec.namespace.map(|it| it.0),
            name: spec.name,
            section: spec.section_name,
            port: spec.port.map(NonZeroU16::get),
        }
    }
}

impl From<&ParentRef> for ParentSpec {
    fn from(parent: &ParentRef) -> Self {
        let ObjectKind { group, kind } = parent.of.clone();
        Self {
            group,
            kind,
            namespace: parent.namespace.clone().map(LabelName),
            name: parent.name.clone(),
            section_name: parent.section.clone(),
            port: parent.port.and_then(NonZeroU16::new),
        }
    }
}

impl From<BackendSpec> for BackendRef {
    fn from(spec: BackendSpec) -> Self {
        Self {
            of: ObjectKind { group: spec.group, kind: spec.kind },
            namespace: spec.namespace.map(|it| it.0),
            name: spec.name,
            port: spec.port.map(NonZeroU16::get),
            weight: spec.weight,
        }
    }
}

impl From<&BackendRef> for BackendSpec {
    fn from(backend: &BackendRef) -> Self {
        let ObjectKind { group, kind } = backend.of.clone();
        Self {
            group,
            kind,
            namespace: backend.namespace.clone().map(LabelName),
            name: backend.name.clone(),
            port: backend.port.and_then(NonZeroU16::new),
            weight: backend.weight,
        }
    }
}

fn gateway() -> String {
    "Gateway".to_owned()
}

fn service() -> String {
    "Service".to_owned()
}

fn one() -> u32 {
    1
}

/// The API's bound.
const HEAVIEST: u32 = 1_000_000;
