//! Who asks a registry: a file of credentials as `docker login` and Kubernetes' Secrets of the type
//! `kubernetes.io/dockerconfigjson` have it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::error::{RegistryError, printable};

/// What a registry knows somebody by. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    /// Both, as Basic has them.
    #[serde(default)]
    auth: Option<String>,
}

impl Credentials {
    /// Those for a repository of a registry, if a file has some: the entry counts that says most of it.
    pub(crate) fn find(
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Self>, RegistryError> {
        let text = fs::read(path).map_err(|error| error.to_string());
        let found = text.and_then(|text| Self::read(&text, registry, repository));
        found.map_err(|cause| RegistryError::File { path: path.to_owned(), cause })
    }

    /// The same, of what a file has.
    ///
    /// # Errors
    /// If nobody can tell what is in it, or what is for the repository.
    pub fn read(text: &[u8], registry: &str, repository: &str) -> Result<Option<Self>, String> {
        // what a parser says of it may have some of it
        let file: File = serde_json::from_slice(text).map_err(|error| {
            format!(
                "it is no configuration of Docker's, as `docker login` writes it: line {}, column {}",
                error.line(),
                error.column()
            )
        })?;
        let whole = format!("{registry}/{repository}");
        let is_for = |place: &str| {
            let rest = whole.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = file.auths.iter().map(|(key, entry)| (place(key), key, entry));
        let of_it = entries.filter(|(place, ..)| is_for(place));
        let Some((_, key, entry)) = of_it.max_by_key(|(place, ..)| place.len()) else {
            return Ok(None);
        };
        let unusable = || {
            format!(
                "the entry `{}` has neither `auth` nor `username` and `password`: helpers and identity \
                 tokens are not asked",
                printable(key)
            )
        };
        entry.read().map(Some).ok_or_else(unusable)
    }

    /// As Basic has them.
    pub fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl Entry {
    fn read(&self) -> Option<Credentials> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Some(Credentials { user: user.clone(), password: password.clone() });
        }
        let auth = BASE64.decode(self.auth.as_ref()?.trim()).ok()?;
        let auth = String::from_utf8(auth).ok()?;
        let (user, password) = auth.split_once(':')?;
        Some(Credentials { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What an entry is for: a registry, and perhaps the beginning of names there. Docker's own has an address
/// of its former API.
fn place(key: &str) -> &str {
    let place = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let place = place.unwrap_or(key).trim_end_matches('/');
    let place = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place);
    if place == "index.docker.io" { "docker.io" } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, registry: &str, repository: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, file).unwrap();
        let found = Credentials::find(&path, registry, repository);
        let found = found.map(|it| it.map(|it| format!("{}:{}", it.user, it.password)));
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn the_entry_counts_that_says_most_of_a_repository() {
        let encoded = BASE64.encode("c:d:e");
        let file = format!(
            r#"{{"auths": {{
                "registry.example": {{"username": "a", "password": "b"}},
                "registry.example/team/": {{"auth": "{encoded}"}},
                "https://other.example:5000/v2/": {{"username": "f", "password": "g"}},
                "https://index.docker.io/v1/": {{"username": "h", "password": "i"}}
            }}, "credsStore": "x"}}"#
        );
        for (registry, repository, expected) in [
            ("registry.example", "filter", Some("a:b")),
            ("registry.example", "teams/filter", Some("a:b")),
            ("registry.example", "team/filter", Some("c:d:e")),
            ("other.example:5000", "filter", Some("f:g")),
            ("docker.io", "team/filter", Some("h:i")),
            ("other.example", "filter", None),
            ("registry.example:5000", "filter", None),
            ("registry.example.org", "filter", None),
        ] {
            let found = find(&file, registry, repository).unwrap();
            assert_eq!(found.as_deref(), expected, "{registry}/{repository}");
        }
        assert_eq!(find("{}", "a.example", "b"), Ok(None));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_nothing_of_it_is_said() {
        let missing = Credentials::find(Path::new("/none/config.json"), "a.example", "b");
        assert!(missing.unwrap_err().to_string().starts_with("/none/config.json: No such file"));
        for (file, why) in [
            (
                r#"{"auths": {"a.example": {"auth": 5ecret}}}"#,
                "as `docker login` writes it: line 1",
            ),
            (r#"{"auths": {"a.example": {"identitytoken": "5ecret"}}}"#, "`a.example` has neither"),
            (r#"{"auths": {"a.example": {"auth": "5ecret"}}}"#, "`a.example` has neither"),
        ] {
            let error = find(file, "a.example", "b").unwrap_err();
            assert!(error.contains(why) && !error.contains("5ecret"), "{error}");
        }
        let credentials = Credentials { user: "u".into(), password: "5ecret".into() };
        assert!(!format!("{credentials:?}").contains("5ecret"));
    }
}
