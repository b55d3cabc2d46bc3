//! What all objects have: names, labels, annotations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::is_default;
use crate::world::{DEFAULT_NAMESPACE, Labels};

/// `metadata`, with the annotations that count for a kind.
#[derive(Serialize, Deserialize)]
pub(super) struct Metadata<N, A = NoAnnotations>
where
    A: Default + PartialEq,
{
    pub(super) name: N,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) namespace: Option<LabelName>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) labels: Labels,
    #[serde(
        default,
        skip_serializing_if = "is_default",
        bound(deserialize = "A: Default + Deserialize<'de>")
    )]
    pub(super) annotations: A,
    /// When the object was made (RFC 3339, UTC).
    #[serde(rename = "creationTimestamp", default, skip_serializing_if = "is_default")]
    pub(super) creation: Option<String>,
    /// There once the object is to be deleted.
    #[serde(rename = "deletionTimestamp", default, skip_serializing_if = "is_default")]
    pub(super) deletion: Option<String>,
}

/// None of a kind's annotations count.
#[derive(Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NoAnnotations {}

/// A DNS subdomain (RFC 1123), as most objects' names are.
#[derive(PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = MOST_OF_A_SUBDOMAIN))]
pub(super) struct Subdomain(pub(super) String);

/// A DNS label (RFC 1123), as names of namespaces and containers are.
#[derive(PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = MOST_OF_A_LABEL))]
pub(super) struct LabelName(pub(super) String);

impl<N, A: Default + PartialEq> Metadata<N, A> {
    /// What an object of a world says of itself.
    pub(super) fn new(name: N, namespace: Option<&str>, labels: &Labels, annotations: A) -> Self {
        let namespace = namespace.map(|name| LabelName(name.to_owned()));
        let labels = labels.clone();
        Self { name, namespace, labels, annotations, creation: None, deletion: None }
    }

    /// The namespace it is in.
    pub(super) fn take_namespace(&mut self) -> String {
        self.namespace.take().map_or_else(|| DEFAULT_NAMESPACE.to_owned(), |name| name.0)
    }
}

impl TryFrom<String> for Subdomain {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if (1..=MOST_OF_A_SUBDOMAIN).contains(&name.len()) && name.split('.').all(is_label) {
            return Ok(Self(name));
        }
        Err(format!(
            "`{name}` is no name: use at most {MOST_OF_A_SUBDOMAIN} of a-z, 0-9, `-` and `.`, with \
             a letter or digit at the start and the end and on both sides of each dot"
        ))
    }
}

impl TryFrom<String> for LabelName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name.len() <= MOST_OF_A_LABEL && is_label(&name) {
            return Ok(Self(name));
        }
        Err(format!(
            "`{name}` is no name: use at most {MOST_OF_A_LABEL} of a-z, 0-9 and `-`, with a letter \
             or digit at the start and the end"
        ))
    }
}

fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

const MOST_OF_A_SUBDOMAIN: usize = 253;
const MOST_OF_A_LABEL: usize = 63;
