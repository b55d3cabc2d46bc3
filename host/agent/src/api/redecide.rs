//! Requests to decide live connections anew.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use millrace_abi::{Tag, TagKind};
use millrace_dataplane::control::Which;
use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Host, Shared};
use crate::api::types::Redecided;
use crate::output::quoted_names;
use crate::text;

/// Which connections are to be decided anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Redecide {
    /// All.
    All,
    /// Those that depend on any of these.
    Tags(Vec<TagName>),
    /// Those that come or go by this port.
    Port(String),
}

/// A tag as people write it: `service:7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagName(#[serde(with = "text")] Written);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    kind: TagKind,
    number: u32,
}

/// Decides anew, and says what became of the connections.
pub(super) async fn redecide(
    State(host): Shared,
    Body(which): Body<Redecide>,
) -> Answer<Redecided> {
    let came_to = host.ask(move |host| {
        let which = match which {
            Redecide::All => Which::All,
            Redecide::Tags(tags) => Which::Tags(tags.into_iter().map(TagName::tag).collect()),
            Redecide::Port(name) => {
                Which::Tags(vec![Tag::new(TagKind::Port, number_of(host, &name)?.into())])
            }
        };
        Ok::<_, ApiError>(host.plane.redecide(&which))
    });
    Ok(Json(came_to.await?))
}

fn number_of(host: &Host, name: &str) -> Result<u16, ApiError> {
    let numbers = host.plane.numbers();
    numbers.get(name).copied().ok_or_else(|| {
        let there = quoted_names(numbers.keys());
        ApiError::not_found(format!("there is no port `{name}`; there are: {there}"))
    })
}

impl TagName {
    fn tag(self) -> Tag {
        Tag::new(self.0.kind, self.0.number)
    }
}

impl FromStr for TagName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (kind, number) = text.split_once(':')?;
            let kind = TagKind::ALL.into_iter().find(|known| known.label() == kind)?;
            let number = number.parse().ok().filter(|number| *number < 1 << Tag::ID_BITS)?;
            Some(Self { kind, number })
        };
        read().ok_or_else(|| {
            let kinds = TagKind::ALL.map(|kind| format!("`{}`", kind.label())).join(", ");
            format!("`{text}` is no tag: it is a kind and a number, as in `service:7`; kinds are {kinds}")
        })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.label(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_the_document_says() {
        let tags = ["service:7", "policy-set:268435455"].map(|tag| tag.parse().unwrap());
        for (request, written) in [
            (Redecide::All, r#""all""#),
            (Redecide::Tags(tags.to_vec()), r#"{"tags":["service:7","policy-set:268435455"]}"#),
            (Redecide::Port("mp1".into()), r#"{"port":"mp1"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), written);
            assert_eq!(serde_json::from_str::<Redecide>(written).unwrap(), request);
        }
        assert_eq!(tags[0].tag(), Tag::new(TagKind::Service, 7));
    }

    #[test]
    fn what_is_no_tag_is_told_what_would_be() {
        for text in ["", "service", "pod:1", "service:", "service:-1", "prefix:268435456"] {
            let error = text.parse::<TagName>().unwrap_err();
            assert!(error.contains("`policy-set`"), "{text}: {error}");
        }
    }
}
