//! `v1 ConfigMap`, as far as it has modules of filters: it says so with a label, so that a node need
//! not know all the others of its cluster.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::filter::{ModuleBytes, ModuleMap};
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::{Labels, QualifiedName};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModulesManifest {
    metadata: Metadata<Subdomain>,
    #[serde(default, skip_serializing_if = "is_default")]
    binary_data: BTreeMap<String, String>,
}

impl TryFrom<ModulesManifest> for ModuleMap {
    type Error = FieldError;

    fn try_from(mut manifest: ModulesManifest) -> Result<Self, FieldError> {
        let namespace = manifest.metadata.take_namespace();
        let has_modules = manifest.metadata.labels.contains_key(MODULES_LABEL);
        let read = |(key, text): (String, String)| match BASE64.decode(text) {
            Ok(bytes) => Ok((key, ModuleBytes::from(bytes))),
            Err(error) => {
                let field = FieldPath::root().key("binaryData").key(&key);
                Err(FieldError { field, reason: format!("this is no Base64: {error}") })
            }
        };
        let data = manifest.binary_data.into_iter().filter(|_| has_modules);
        let modules = data.map(read).collect::<Result<_, _>>()?;
        Ok(Self { name: QualifiedName::new(namespace, manifest.metadata.name.0), modules })
    }
}

impl From<&ModuleMap> for ModulesManifest {
    fn from(map: &ModuleMap) -> Self {
        let labels = Labels::from([(MODULES_LABEL.to_owned(), "modules".to_owned())]);
        let name = Subdomain(map.name.name.clone());
        let namespace = Some(&*map.name.namespace);
        let written =
            |(key, module): (&String, &ModuleBytes)| (key.clone(), BASE64.encode(module.bytes()));
        Self {
            metadata: Metadata::new(name, namespace, &labels, <_>::default()),
            binary_data: map.modules.iter().map(written).collect(),
        }
    }
}

/// The label of ConfigMaps that have modules.
pub(super) const MODULES_LABEL: &str = "millrace.dev/filters";
