//! `v1 Namespace`.

use serde::{Deserialize, Serialize};

use crate::Namespace;
use crate::manifest::meta::{LabelName, Metadata};

#[derive(Serialize, Deserialize)]
pub(super) struct NamespaceManifest {
    metadata: Metadata<LabelName>,
}

impl From<NamespaceManifest> for Namespace {
    /// The label with its name is the API server's to set, and so is ours.
    fn from(manifest: NamespaceManifest) -> Self {
        let mut namespace = Self::named(&manifest.metadata.name.0);
        let own = manifest.metadata.labels.into_iter().filter(|(key, _)| key != Self::NAME_LABEL);
        namespace.labels.extend(own);
        namespace
    }
}

impl From<&Namespace> for NamespaceManifest {
    fn from(namespace: &Namespace) -> Self {
        let name = LabelName(namespace.name.clone());
        Self { metadata: Metadata::new(name, None, &namespace.labels, <_>::default()) }
    }
}
