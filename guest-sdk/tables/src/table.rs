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
    /// Whose addresses are: [`IpAddr`](core::net::IpAddr) to [`Owner`](crate::Owner).
    Owners = 4,
    /// What pods are to policies: [`Identity`](crate::Identity) to [`Selectors`](crate::Selectors).
    Identities = 5,
    /// Addresses that policies are about: [`Block`](crate::Block) to
    /// [`Addresses`](crate::Addresses).
    Blocks = 6,
    /// What policies allow: [`PolicySet`](crate::PolicySet) to [`Policies`](crate::Policies).
    Policies = 7,
    /// Whom connections may come from: [`Source`](crate::Source) to nothing.
    Sources = 8,
    /// Names that policies are about: [`Domain`](crate::Domain) to [`Pattern`](crate::Pattern).
    Domains = 9,
    /// Whose answers say which addresses names have: [`IpAddr`](core::net::IpAddr) to nothing.
    Resolvers = 10,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Services,
        Self::Endpoints,
        Self::Ranges,
        Self::Owners,
        Self::Identities,
        Self::Blocks,
        Self::Policies,
        Self::Sources,
        Self::Domains,
        Self::Resolvers,
    ];

    /// The word used in manifests: the table, and the version of its rows.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Services => "services/0",
            Self::Endpoints => "endpoints/0",
            Self::Ranges => "ranges/0",
            Self::Owners => "owners/0",
            Self::Identities => "identities/0",
            Self::Blocks => "blocks/0",
            Self::Policies => "policies/0",
            Self::Sources => "sources/0",
            Self::Domains => "domains/0",
            Self::Resolvers => "resolvers/0",
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
