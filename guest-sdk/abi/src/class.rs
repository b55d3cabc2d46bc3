//! Classes of packets: which ones a decision can be remembered for, and which
//! ones a packet hook may ask to see without asking flow by flow.

/// What a packet is, as far as remembering decisions goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// TCP, UDP or SCTP over plain IP: a flow whose decision is remembered.
    Flow = 0,
    /// ARP.
    Arp = 1,
    /// ICMPv6 neighbour discovery (RFC 4861).
    Nd = 2,
    /// Any other ICMP or ICMPv6.
    Icmp = 3,
    /// A fragment.
    Fragment = 4,
    /// IP with another upper protocol, or with options or extension headers before TCP, UDP or
    /// SCTP.
    OtherIp = 5,
    /// Neither IP nor ARP.
    NonIp = 6,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 7] =
        [Self::Flow, Self::Arp, Self::Nd, Self::Icmp, Self::Fragment, Self::OtherIp, Self::NonIp];

    /// The class with this number.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        if (value as usize) < Self::ALL.len() { Some(Self::ALL[value as usize]) } else { None }
    }

    /// The word used in manifests, tables and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Arp => "arp",
            Self::Nd => "nd",
            Self::Icmp => "icmp",
            Self::Fragment => "fragment",
            Self::OtherIp => "other-ip",
            Self::NonIp => "non-ip",
        }
    }

    /// The class with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.label() == label)
    }
}

/// A set of [`Class`]es.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassSet(u8);

impl ClassSet {
    /// No class.
    pub const EMPTY: Self = Self(0);

    /// Whether `class` is in the set.
    #[inline]
    pub const fn contains(self, class: Class) -> bool {
        self.0 & (1 << class as u8) != 0
    }

    /// The set with `class` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, class: Class) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    /// Whether some class is in both sets.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The classes of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |&class| self.contains(class))
    }
}

impl FromIterator<Class> for ClassSet {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        classes.into_iter().fold(Self::EMPTY, Self::with)
    }
}
