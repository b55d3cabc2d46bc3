//! What a lab is called, and by that all that it is made of.
//!
//! A reader must not break this: no lab's name has a dot, so the prefix of one lab's namespaces is
//! never the beginning of another's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use millrace_control::PodName;
use serde::{Deserialize, Serialize};

/// The name of a lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LabName(String);

impl LabName {
    /// Where the lab keeps what it has to remember.
    pub fn folder(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.0)
    }

    /// Where its agents pin what outlives them, in a BPF file system.
    pub fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.0)
    }

    /// What the names of all its network namespaces begin with.
    pub fn prefix(&self) -> String {
        format!("lab.{}.", self.0)
    }

    pub(crate) fn switch(&self) -> String {
        self.namespace("switch")
    }

    pub(crate) fn router(&self) -> String {
        self.namespace("router")
    }

    pub(crate) fn outside(&self) -> String {
        self.namespace("outside")
    }

    pub(crate) fn node(&self, node: &str) -> String {
        self.namespace(&format!("node.{node}"))
    }

    /// A namespace of Kubernetes has no dot in its name either.
    pub(crate) fn pod(&self, pod: &PodName) -> String {
        self.namespace(&format!("pod.{}.{}", pod.namespace, pod.name))
    }

    fn namespace(&self, of: &str) -> String {
        format!("{}{of}", self.prefix())
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for LabName {
    type Err = LabNameError;

    fn from_str(name: &str) -> Result<Self, LabNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain) {
            return Ok(Self(name.to_owned()));
        }
        Err(LabNameError { name: name.to_owned() })
    }
}

impl TryFrom<String> for LabName {
    type Error = LabNameError;

    fn try_from(name: String) -> Result<Self, LabNameError> {
        name.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

/// Why a text is no name of a lab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name of a lab: use at most {LONGEST} of a-z, 0-9 and `-`")]
pub struct LabNameError {
    name: String,
}

/// Where labs have the folders that outlive agents.
const PINS: &str = "/sys/fs/bpf/millrace-lab";
/// The folders of all labs are in this one.
pub(crate) const FOLDER: &str = "/run/millrace/lab";
const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_namespaces_of_a_lab_and_of_no_other_begin_with_its_prefix() {
        let labs: [LabName; 3] = ["a", "a-b", "b"].map(|name| name.parse().unwrap());
        for lab in &labs {
            let pod = PodName::new("shop", "web.0");
            for name in [lab.switch(), lab.router(), lab.outside(), lab.node("a.b"), lab.pod(&pod)]
            {
                let matching = labs.iter().filter(|other| name.starts_with(&other.prefix()));
                assert_eq!(matching.collect::<Vec<_>>(), [lab], "{name}");
            }
        }
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_is_refused() {
        for name in ["", "..", "a/b", "a.b", "A", "a b", &"a".repeat(33)] {
            assert!(name.parse::<LabName>().is_err(), "{name}");
        }
    }
}
