//! Ports: everything a packet can enter or leave by.

/// The port id that names no port. Real ids are 1 to
/// [`limits::MAX_PORT`](crate::limits::MAX_PORT).
pub const NO_PORT: u16 = 0;

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PortKind {
    /// A bare interface, held directly.
    Wire = 0,
    /// A pod.
    Pod = 1,
    /// This node's own network stack.
    Host = 2,
    /// A network outside the cluster's own.
    Uplink = 3,
    /// Another node of the cluster.
    Remote = 4,
}

impl PortKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Wire, Self::Pod, Self::Host, Self::Uplink, Self::Remote];

    /// The kind with this number.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        if (value as usize) < Self::ALL.len() { Some(Self::ALL[value as usize]) } else { None }
    }

    /// The word used in tables, selectors and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Pod => "pod",
            Self::Host => "host",
            Self::Uplink => "uplink",
            Self::Remote => "remote",
        }
    }
}
