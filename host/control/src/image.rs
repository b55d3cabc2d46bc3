//! What images in registries are called: by whom they are served, under which name, and which one it is.
//!
//! Names are read as the OCI's distribution specification has them, with the registry always said. A
//! tag says to people what an image is; which one it is, its digest alone does.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::filter::ModuleDigest;

/// A name in a registry: `registry.example/team/filter:1.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Who serves it: a host, and a port if that is another than usual.
    pub registry: String,
    /// What it is called there.
    pub repository: String,
    /// Which of them, for people.
    pub tag: Option<String>,
}

/// An image that cannot become another one: its name, and `@` with the digest of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    extend("maxLength" = LONGEST, "pattern" = "^[^/@ ]+/[^@ ]+@sha256:[0-9a-f]{64}$")
)]
pub struct PinnedImage {
    /// Where it is.
    pub name: ImageName,
    /// The digest of its manifest, which names its module by that one's.
    pub digest: ManifestDigest,
}

/// SHA-256 of an image's manifest, written as that of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestDigest(ModuleDigest);

impl ManifestDigest {
    /// The digest of a manifest.
    pub fn of(manifest: &[u8]) -> Self {
        Self(ModuleDigest::of(manifest))
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ImageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("`{text}` is no name of an image: {why}"));
        if text.len() > LONGEST {
            return wrong("it is too long");
        }
        let Some((registry, rest)) = text.split_once('/').filter(|(it, _)| is_registry(it)) else {
            return wrong(
                "begin with the registry's host, as in `registry.example/team/filter:1.2`",
            );
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !repository.split('/').all(is_component) {
            return wrong(
                "behind the host it has lower-case letters, digits, and single `.`, `_`, `-` or `/` \
                 between them",
            );
        }
        if !tag.is_none_or(is_tag) {
            return wrong("a tag has letters, digits, `_`, `.` and `-`, at most 128 of them");
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl FromStr for PinnedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, digest)) = text.split_once('@') else {
            let name: ImageName = text.parse()?;
            return Err(format!(
                "`{name}` may become another image at any time: write `{name}@sha256:…`, as `millrace \
                 filter push` prints it, with the digest that `oras resolve {name}` says"
            ));
        };
        let digest = digest.parse().map_err(|_| {
            format!(
                "`{digest}` is no digest of an image: write `sha256:` and 64 hexadecimal digits"
            )
        })?;
        Ok(Self { name: name.parse()?, digest: ManifestDigest(digest) })
    }
}

impl fmt::Display for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

impl TryFrom<String> for PinnedImage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PinnedImage> for String {
    fn from(image: PinnedImage) -> Self {
        image.to_string()
    }
}

/// A first word without any of these would be part of a name at a registry that others take for granted.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, port)) => {
            return host.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(is_inner) && !label.starts_with('-')
    };
    let is_said = port.is_some() || host.contains('.') || host == "localhost";
    is_said && host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_component(text: &str) -> bool {
    let is_alphanumeric = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let is_run = |run: &[u8]| match run {
        [] | [b'.'] | [b'_'] | [b'_', b'_'] => true,
        dashes => dashes.iter().all(|it| *it == b'-'),
    };
    ends.into_iter().all(|end| end.is_some_and(|it| is_alphanumeric(*it)))
        && bytes.split(|it| is_alphanumeric(*it)).all(is_run)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&text.len())
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

/// Characters that all of it has at most.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in [
            "registry.example/team/filter:1.2",
            "registry.example:5000/filter",
            "localhost/a",
            "127.0.0.1:5000/a/b__c/d-e/f--g:v1_2.3-x",
            "[fd00::1]:5000/a:latest",
            "[::1]/a",
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            let pinned: PinnedImage = format!("{text}@{DIGEST}").parse().unwrap();
            assert_eq!(pinned.name, name);
            assert_eq!(pinned.to_string(), format!("{text}@{DIGEST}"));
        }
        let name: ImageName = "registry.example:5000/team/filter:1".parse().unwrap();
        assert_eq!(name.registry, "registry.example:5000");
        assert_eq!((&*name.repository, name.tag.as_deref()), ("team/filter", Some("1")));
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said_with_what_would_be_right() {
        for (text, why) in [
            ("filter", "begin with the registry's host"),
            ("team/filter", "begin with the registry's host"),
            ("registry.example:0/filter", "begin with the registry's host"),
            ("registry.example:/filter", "begin with the registry's host"),
            ("registry..example/filter", "begin with the registry's host"),
            ("[fd00::g]/filter", "begin with the registry's host"),
            ("https://registry.example/filter", "begin with the registry's host"),
            ("registry.example/", "lower-case letters"),
            ("registry.example/Team/filter", "lower-case letters"),
            ("registry.example/team//filter", "lower-case letters"),
            ("registry.example/a..b", "lower-case letters"),
            ("registry.example/-a", "lower-case letters"),
            ("registry.example/../a", "lower-case letters"),
            ("registry.example/a:", "a tag has letters"),
            ("registry.example/a:b:c", "a tag has letters"),
            ("registry.example/a:-b", "a tag has letters"),
        ] {
            let error = text.parse::<ImageName>().unwrap_err();
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
            assert!(format!("{text}@{DIGEST}").parse::<PinnedImage>().is_err(), "{text}");
        }
        let long = format!("registry.example/{}", "a".repeat(LONGEST));
        assert!(long.parse::<ImageName>().unwrap_err().contains("too long"));
    }

    #[test]
    fn an_image_without_a_digest_is_refused_with_where_to_find_it() {
        let error = "registry.example/a:1".parse::<PinnedImage>().unwrap_err();
        assert!(error.contains("write `registry.example/a:1@sha256:…`"), "{error}");
        assert!(error.contains("millrace filter push"), "{error}");
        for digest in ["", "sha256:ab", "sha512:ab", &DIGEST.replace('e', "E")] {
            let error = format!("registry.example/a@{digest}").parse::<PinnedImage>().unwrap_err();
            assert!(error.contains("is no digest of an image"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_as_an_image_is_written_so(text in "[a-z0-9.:/@\\[\\]_-]{0,40}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
