//! What of the manifests does not count, and why.

use std::fmt;
use std::path::PathBuf;

use crate::manifest::FieldPath;

/// One thing that does not count. Shown as `pods.yaml:12: Pod default/web: spec.nodeName: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where it is, if it is in a file.
    pub place: Option<Place>,
    /// Kind and name of the object that it is in, as far as it says.
    pub object: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, seen from the directory.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file cannot be read, or is no text. Nothing in it counts.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// A document is no YAML. The file's other documents count.
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// A document is YAML, but no object: it has no `apiVersion` or no `kind`.
    NoObject,
    /// A field is not as it should be. The object does not count.
    Field {
        /// Where it is in the object.
        field: FieldPath,
        /// What is wrong with it.
        reason: String,
    },
    /// There was an object of this kind and name before, which counts.
    Duplicate {
        /// Where that one is.
        first: Option<Place>,
    },
    /// Not wrong, just nothing that is looked at: a note.
    OtherKind {
        /// The group and version.
        api_version: String,
        /// The kind.
        kind: String,
    },
}

impl Complaint {
    /// Whether nothing is wrong, and whoever wrote it may still want to know.
    pub fn is_note(&self) -> bool {
        matches!(self.fault, Fault::OtherKind { .. })
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        self.fault.fmt(f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
            Self::Syntax { reason } => write!(f, "this is no YAML: {reason}"),
            Self::NoObject => f.write_str("this is no object: give it `apiVersion` and `kind`"),
            Self::Field { field, reason } if *field == FieldPath::root() => f.write_str(reason),
            Self::Field { field, reason } => write!(f, "{field}: {reason}"),
            Self::Duplicate { first: Some(first) } => {
                write!(f, "there is one already at {first}, which counts")
            }
            Self::Duplicate { first: None } => f.write_str("there is one already, which counts"),
            Self::OtherKind { api_version, kind } => {
                write!(f, "not looked at: {api_version} {kind} is no kind that counts here")
            }
        }
    }
}
