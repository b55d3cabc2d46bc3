//! `gateway.networking.k8s.io/v1 ReferenceGrant`.

use serde::{Deserialize, Serialize};

use crate::QualifiedName;
use crate::gateway::{ObjectKind, ReferenceGrant};
use crate::manifest::is_default;
use crate::manifest::meta::{Metadata, Subdomain};

#[derive(Serialize, Deserialize)]
pub(super) struct GrantManifest {
    metadata: Metadata<Subdomain>,
    spec: GrantSpec,
}

#[derive(Serialize, Deserialize)]
struct GrantSpec {
    from: Vec<FromSpec>,
    to: Vec<ToSpec>,
}

#[derive(Serialize, Deserialize)]
struct FromSpec {
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Serialize, Deserialize)]
struct ToSpec {
    group: String,
    kind: String,
    #[serde(default, skip_serializing_if = "is_default")]
    name: Option<String>,
}

impl From<GrantManifest> for ReferenceGrant {
    fn from(manifest: GrantManifest) -> Self {
        let GrantManifest { mut metadata, spec } = manifest;
        let from = spec.from.into_iter();
        let to = spec.to.into_iter();
        Self {
            name: QualifiedName::new(metadata.take_namespace(), metadata.name.0),
            from: from
                .map(|it| (ObjectKind { group: it.group, kind: it.kind }, it.namespace))
                .collect(),
            to: to.map(|it| (ObjectKind { group: it.group, kind: it.kind }, it.name)).collect(),
        }
    }
}

impl From<&ReferenceGrant> for GrantManifest {
    fn from(grant: &ReferenceGrant) -> Self {
        let QualifiedName { namespace, name } = &grant.name;
        let name = Subdomain(name.clone());
        let from = grant.from.iter().cloned().map(|(of, namespace)| FromSpec {
            group: of.group,
            kind: of.kind,
            namespace,
        });
        let to = grant.to.iter().cloned();
        let to = to.map(|(of, name)| ToSpec { group: of.group, kind: of.kind, name });
        Self {
            metadata: Metadata::new(name, Some(namespace), &<_>::default(), <_>::default()),
            spec: GrantSpec { from: from.collect(), to: to.collect() },
        }
    }
}
