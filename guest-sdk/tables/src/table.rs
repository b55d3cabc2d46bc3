//! The tables.

/// A table that filters may subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Where Services are reached: [`Frontend`](crate::Frontend) to [`Service`](crate::Service).
    Services = 1,
    /// Where their connections go: [`EndpointSet`](crate::EndpointSet) to
    /// [`Endpoints`](crate::Endpoints).
    Endpoints = 2,
    /// Addresses that are reserved for Services: [`Range`](crate::Range) to nothing.
    Ranges = 3,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Services, Self::Endpoints, Self::Ranges];

    /// The word used in manifests: the table, and the version of its rows.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Services => "services/0",
            Self::Endpoints => "endpoints/0",
            Self::Ranges => "ranges/0",
        }
    }

    /// The table with this word.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.label() == label)
    }

    /// The table with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }
}
