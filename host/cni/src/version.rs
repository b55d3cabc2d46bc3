//! Versions of the specification.

use std::fmt;
use std::str::FromStr;

/// A version that is spoken here. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Results list interfaces.
    V0_3_0,
    /// Plugins are chained.
    V0_3_1,
    /// CHECK; DEL gets the result of ADD.
    V0_4_0,
    /// Addresses do not say their family.
    V1_0_0,
    /// GC and STATUS; results say the MTU.
    V1_1_0,
}

impl Version {
    /// All, the earliest first.
    pub const ALL: [Self; 5] =
        [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// What is spoken to who does not say.
    pub const LATEST: Self = Self::V1_1_0;

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|version| version.text() == text).ok_or(())
    }
}
