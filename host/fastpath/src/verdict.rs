//! What an entry says, and what was seen of its packets.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::layout::{
    DROP, FORWARD, PUNT, RawHead, SEEN_FIN, SEEN_MORE, SEEN_RST, TO_HOST, TO_NEIGHBOUR, TO_PEER,
    TO_TUNNEL, TRANSLATE, TTL,
};
use crate::{PortId, Refuser, Translation};

/// What is to become of the packets of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are sent on.
    Forward(Forward),
    /// User space wants each of them.
    Punt {
        /// Of the worker that has the flow; taken modulo the queues of the punt pair.
        queue: u32,
    },
    /// They are dropped, and counted for who has them dropped.
    Drop(Refuser),
}

/// How packets are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where they leave.
    pub egress: Egress,
    /// What becomes their destination.
    pub destination_mac: [u8; 6],
    /// What becomes their source.
    pub source_mac: [u8; 6],
    /// The largest IP packet that may leave there, in bytes; a larger one goes to user space. Of
    /// a super-packet each segment counts.
    pub mtu: u16,
    /// Whether that is a hop.
    pub hop: Hop,
    /// The addresses and ports they leave with, where these are others.
    pub translation: Option<Translation>,
}

/// Where packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Received at once by the other end of the veth with this index, which has to be in another
    /// network namespace: within one, the kernel drops such packets without a word.
    Peer(u32),
    /// Sent by the link with this index.
    Link(u32),
    /// Received by the link with this index, as if by its wire: by the host, if it is an end of a
    /// veth of the host's own.
    Host(u32),
    /// Sent by the link with this index, to the neighbour that the host's routes name.
    Neighbour(u32),
    /// In the tunnel to the node that is this port.
    Tunnel(PortId),
}

/// Whether the TTL or hop limit goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Within a segment: it stays.
    Bridged,
    /// Between segments: it goes down by one, and a packet with none left goes to user space.
    Routed,
}

/// Tells insertions of one cache apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub(crate) u32);

impl Generation {
    /// Its number, which is never 0.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl From<NonZeroU32> for Generation {
    fn from(number: NonZeroU32) -> Self {
        Self(number.get())
    }
}

/// What was seen of an entry's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of the insertion.
    pub generation: Generation,
    /// Packets as on the wire: a super-packet counts as its segments. Those that missed and those
    /// that user space wants are counted there.
    pub packets: u64,
    /// Bytes that the kernel carried for them, Ethernet headers included; the headers of a
    /// super-packet count once.
    pub bytes: u64,
    /// When the last one came, on the clock of [`FlowCache::now`](crate::FlowCache::now).
    pub last_seen: Duration,
    /// Of TCP: whether any of them was more than a bare SYN.
    pub beyond_syn: bool,
    /// Of TCP: what its end was begun with, if it was.
    pub closing: Option<Closing>,
    /// The index of the link they leave by, if they do.
    pub link: Option<u32>,
    /// The number of the slot it waits with; 0 if it carries.
    pub(crate) waits_with: u32,
}

/// How a TCP direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// A FIN was seen.
    Fin,
    /// An RST was seen, and no data after it.
    Reset,
}

impl Egress {
    /// The index of the link, or the number of the port, and what is done with it.
    pub(crate) fn parts(self) -> (u32, u8) {
        match self {
            Self::Peer(index) => (index, TO_PEER),
            Self::Link(index) => (index, 0),
            Self::Host(index) => (index, TO_HOST),
            Self::Neighbour(index) => (index, TO_NEIGHBOUR),
            Self::Tunnel(port) => (port.number().into(), TO_TUNNEL),
        }
    }
}

impl Verdict {
    pub(crate) fn translation(&self) -> Option<Translation> {
        match self {
            Self::Forward(way) => way.translation,
            _ => None,
        }
    }

    /// What an entry begins with, but for the translation's own.
    pub(crate) fn head(&self, generation: Generation, now: Duration) -> RawHead {
        let last_seen = u64::try_from(now.as_nanos()).expect("a machine is up for < 584 years");
        let blank = RawHead {
            version: generation.0,
            generation: generation.0,
            last_seen,
            ..RawHead::default()
        };
        match *self {
            Self::Forward(way) => {
                let (egress, to) = way.egress.parts();
                let ttl = if way.hop == Hop::Routed { TTL } else { 0 };
                let translate = if way.translation.is_some() { TRANSLATE } else { 0 };
                RawHead {
                    kind: FORWARD,
                    flags: to | ttl | translate,
                    egress,
                    mtu: way.mtu,
                    destination_mac: way.destination_mac,
                    source_mac: way.source_mac,
                    ..blank
                }
            }
            Self::Punt { queue } => RawHead { kind: PUNT, egress: queue, ..blank },
            Self::Drop(Refuser(number)) => RawHead { kind: DROP, egress: number, ..blank },
        }
    }
}

impl From<&RawHead> for Usage {
    fn from(entry: &RawHead) -> Self {
        Self {
            generation: Generation(entry.generation),
            packets: entry.packets,
            bytes: entry.bytes,
            last_seen: Duration::from_nanos(entry.last_seen),
            beyond_syn: entry.seen & SEEN_MORE != 0,
            closing: Closing::of(entry.seen),
            link: (entry.kind == FORWARD).then_some(entry.egress),
            waits_with: entry.slot,
        }
    }
}

impl Closing {
    pub(crate) fn of(seen: u32) -> Option<Self> {
        match seen {
            seen if seen & SEEN_RST != 0 => Some(Self::Reset),
            seen if seen & SEEN_FIN != 0 => Some(Self::Fin),
            _ => None,
        }
    }
}
