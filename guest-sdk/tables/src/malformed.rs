//! What can be wrong with the octets of an update.

use core::fmt;

use crate::Table;

/// Why octets are no update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end in the middle of a record.
    Truncated,
    /// A record does what does not exist.
    Operation(u8),
    /// A record is of a table that does not exist.
    Table(u8),
    /// A key has not the octets that keys of its table have.
    Key(Table),
    /// A value has not the octets that values of its table have.
    Value(Table),
    /// A commit has no generation.
    Generation,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the update ends in the middle of a record"),
            Self::Operation(number) => write!(f, "{number} is no operation of an update"),
            Self::Table(number) => write!(f, "{number} is no table"),
            Self::Key(table) => write!(f, "a key is none of `{}`", table.label()),
            Self::Value(table) => write!(f, "a value is none of `{}`", table.label()),
            Self::Generation => f.write_str("a commit has no generation"),
        }
    }
}

impl core::error::Error for Malformed {}
