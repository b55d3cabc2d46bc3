//! The annotations of policies of both kinds: how they are applied.

use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::manifest::{decode, is_default};
use crate::policy::{PolicyMode, PolicyTerms, RefusedConnections};

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyAnnotations {
    #[serde(rename = "millrace.dev/audit", default, skip_serializing_if = "is_default")]
    audit: Option<Audit>,
    #[serde(rename = "millrace.dev/on-refused", default, skip_serializing_if = "is_default")]
    on_refused: Option<OnRefused>,
}

/// Annotations are texts.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Audit {
    True,
    False,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnRefused {
    Keep,
    Drop,
    Reset,
}

/// How a policy is applied that is not understood otherwise.
pub(super) fn terms(object: &Value) -> PolicyTerms {
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let annotations = annotations.and_then(|it| decode::<PolicyAnnotations>(it.clone()).ok());
    annotations.unwrap_or_default().into()
}

impl From<PolicyAnnotations> for PolicyTerms {
    fn from(annotations: PolicyAnnotations) -> Self {
        Self {
            mode: match annotations.audit {
                Some(Audit::True) => PolicyMode::Audit,
                Some(Audit::False) | None => PolicyMode::Enforce,
            },
            on_refused: annotations.on_refused.map(|it| match it {
                OnRefused::Keep => RefusedConnections::Keep,
                OnRefused::Drop => RefusedConnections::Drop,
                OnRefused::Reset => RefusedConnections::Reset,
            }),
        }
    }
}

impl From<PolicyTerms> for PolicyAnnotations {
    fn from(terms: PolicyTerms) -> Self {
        Self {
            audit: (terms.mode == PolicyMode::Audit).then_some(Audit::True),
            on_refused: terms.on_refused.map(|it| match it {
                RefusedConnections::Keep => OnRefused::Keep,
                RefusedConnections::Drop => OnRefused::Drop,
                RefusedConnections::Reset => OnRefused::Reset,
            }),
        }
    }
}
