//! What is said of an object in its status.

/// A condition (KEP-1623), but for when it became so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is about: `Accepted`.
    pub about: &'static str,
    /// Whether that is so.
    pub is_so: bool,
    /// Why, in a word that programs know.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(about: &'static str, message: impl Into<String>) -> Self {
        Self { about, is_so: true, reason: about, message: message.into() }
    }

    /// It is not.
    pub fn no(about: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about, is_so: false, reason, message: message.into() }
    }
}
