//! How a runtime is told that something failed: a code of the specification's table, and a sentence.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::Version;

/// Why a call is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: Code,
    /// What failed.
    pub message: String,
    /// Why, and what to do.
    pub details: String,
}

/// Kinds of failures: up to 99 the specification's, from 100 on this plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The version of the configuration is not spoken, or lacks the verb.
    Version = 1,
    /// The configuration asks for something that is not done here.
    Field = 2,
    /// There is no such container; it needs no DEL.
    Container = 3,
    /// A variable is missing, or makes no sense.
    Environment = 4,
    /// A file cannot be read or written.
    Io = 5,
    /// The configuration cannot be read.
    Decoding = 6,
    /// The configuration can be read, and makes no sense.
    Configuration = 7,
    /// The network namespace cannot be used.
    Namespace = 8,
    /// The agent cannot do it now.
    TryLater = 11,
    /// The agent cannot attach anything (STATUS).
    Unavailable = 50,
    /// The agent says no.
    Refused = 100,
    /// The container has that interface already.
    Attached = 101,
    /// The attachment is not as it was made (CHECK).
    Changed = 102,
}

impl Failure {
    /// What failed, and why.
    pub fn new(code: Code, message: impl Display, details: impl Display) -> Self {
        Self { code, message: message.to_string(), details: details.to_string() }
    }

    /// As the runtime is told it, which speaks `version`.
    pub fn to_json(&self, version: Version) -> Value {
        json!({
            "cniVersion": version.text(),
            "code": self.code as u32,
            "msg": self.message,
            "details": self.details,
        })
    }
}
