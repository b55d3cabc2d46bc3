//! What a filter may do. A manifest says what it wants; the operator grants,
//! and the host checks every answer against the grant.

/// Something a filter may do only when granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Drop flows and packets.
    Drop = 0,
    /// Reject flows: drop and tell the sender.
    Reject = 1,
    /// State an egress port, flood, next hop or time-to-live change.
    Redirect = 2,
    /// Translate source or destination, or masquerade.
    Translate = 3,
    /// See packets, by flow or by class.
    Inspect = 4,
    /// Change the bytes of packets it sees.
    Rewrite = 5,
    /// Send packets of its own, answers included.
    Emit = 6,
    /// Open host maps that other filters share by name.
    Share = 7,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 8] = [
        Self::Drop,
        Self::Reject,
        Self::Redirect,
        Self::Translate,
        Self::Inspect,
        Self::Rewrite,
        Self::Emit,
        Self::Share,
    ];

    /// The word used in manifests and configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Redirect => "redirect",
            Self::Translate => "translate",
            Self::Inspect => "inspect",
            Self::Rewrite => "rewrite",
            Self::Emit => "emit",
            Self::Share => "share",
        }
    }

    /// The capability with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.label() == label)
    }
}

/// A set of [`Capability`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(u8);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether `capability` is in the set.
    #[inline]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    /// The set with `capability` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// What is in this set and not in `other`.
    #[inline]
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |&capability| self.contains(capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}
