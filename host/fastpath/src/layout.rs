//! The layouts that are shared with `bpf/flow_cache.h`.
//!
//! Owns every number that both sides must agree on, and asserts it; the header asserts the same.
//! Never interprets a value: [`Key`](crate::Key) and [`Verdict`](crate::Verdict) do.
//!
//! A reader must not break this: no layout has padding, since the kernel compares keys and copies
//! values byte by byte.

use std::mem::offset_of;
use std::sync::atomic::AtomicU32;

/// What became of a packet. Each is counted once, but [`Forced`](Counter::Forced) and
/// [`LostEvents`](Counter::LostEvents) beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// It took its entry.
    Hit,
    /// No entry has its key.
    MissUnknown,
    /// Its entry was changed while it was read.
    MissChanged,
    /// Its entry says that user space wants it.
    MissPunt,
    /// Its entry waits until earlier packets of the flow have left user space.
    MissWaiting,
    /// It opens a connection where the entry is of an older one, or its flags make no sense.
    MissSyn,
    /// It is larger than its entry allows.
    MissMtu,
    /// It has no hop left.
    MissTtl,
    /// It is a fragment.
    MissFragment,
    /// It has IP options or extension headers.
    MissOptions,
    /// It is neither TCP nor UDP over IP.
    MissProtocol,
    /// Its headers are cut short, or say what cannot be.
    MissMalformed,
    /// Its entry says so.
    DropEntry,
    /// It came with a VLAN tag.
    DropTagged,
    /// It came by an interface that is no port.
    DropNoPort,
    /// It missed, and there is no punt pair.
    DropNoPunt,
    /// It missed, and user space gave no sign of life.
    DropDown,
    /// It missed, as more did than its port may have.
    DropLimit,
    /// The kernel refused to change it.
    DropFailed,
    /// It came from the underlay, and not from the node that its source belongs to.
    DropForged,
    /// User space sent it to a port.
    Returned,
    /// User space sent it without a port's number.
    DropUntagged,
    /// It was for what is no port.
    DropGone,
    /// Not a packet's fate: a flow went over to its entry before it was sure that no packet
    /// overtakes another.
    Forced,
    /// Not a packet's fate: an event found no room.
    LostEvents,
}

impl Counter {
    /// Every counter, in the order of the map.
    pub const ALL: [Self; 25] = [
        Self::Hit,
        Self::MissUnknown,
        Self::MissChanged,
        Self::MissPunt,
        Self::MissWaiting,
        Self::MissSyn,
        Self::MissMtu,
        Self::MissTtl,
        Self::MissFragment,
        Self::MissOptions,
        Self::MissProtocol,
        Self::MissMalformed,
        Self::DropEntry,
        Self::DropTagged,
        Self::DropNoPort,
        Self::DropNoPunt,
        Self::DropDown,
        Self::DropLimit,
        Self::DropFailed,
        Self::DropForged,
        Self::Returned,
        Self::DropUntagged,
        Self::DropGone,
        Self::Forced,
        Self::LostEvents,
    ];
}

/// A key of the family whose addresses have `N` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct RawKey<const N: usize> {
    pub(crate) source: [u8; N],
    pub(crate) destination: [u8; N],
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    pub(crate) from: u16,
    pub(crate) protocol: u8,
    pub(crate) zero: u8,
}

impl<const N: usize> RawKey<N> {
    pub(crate) const BLANK: Self = Self {
        source: [0; N],
        destination: [0; N],
        source_port: [0; 2],
        destination_port: [0; 2],
        from: 0,
        protocol: 0,
        zero: 0,
    };
}

/// What entries of both families begin with.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawHead {
    pub(crate) version: u32,
    pub(crate) generation: u32,
    pub(crate) egress: u32,
    pub(crate) mtu: u16,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    pub(crate) difference: u32,
    pub(crate) slot: u32,
    pub(crate) seen: u32,
    pub(crate) zero: u32,
    pub(crate) last_seen: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// An entry of the family whose addresses have `N` bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawEntry<const N: usize> {
    pub(crate) head: RawHead,
    pub(crate) own: RawKey<N>,
    pub(crate) source: [u8; N],
    pub(crate) destination: [u8; N],
    pub(crate) sealed: u32,
    pub(crate) zero: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawPunt {
    pub(crate) ifindex: u32,
    pub(crate) queues: u32,
    pub(crate) until: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawFilter {
    pub(crate) handle: u32,
    pub(crate) priority: u16,
    pub(crate) zero: u16,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawLimit {
    pub(crate) interval: u64,
    pub(crate) credit: u64,
    pub(crate) spent: u64,
    pub(crate) refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawShare {
    pub(crate) interval: u64,
    pub(crate) credit: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawEgress {
    pub(crate) ifindex: u32,
    pub(crate) flags: u32,
    pub(crate) vni: u32,
    pub(crate) family: u32,
    pub(crate) remote: [u32; 4],
}

/// A prefix, as `aya` has it: its length in bits, and these.
pub(crate) type RawAddress = [u8; 16];

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawRefuser {
    pub(crate) era: u64,
    pub(crate) name: [u8; 72],
}

/// Addresses are in network byte order.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawUplink {
    pub(crate) port: u32,
    pub(crate) gateway_mac: [u8; 6],
    pub(crate) tunnel_port: [u8; 2],
    pub(crate) own4: [u8; 4],
    pub(crate) pods4: [u8; 4],
    pub(crate) mask4: [u8; 4],
    pub(crate) own6: [u8; 16],
    pub(crate) pods6: [u8; 16],
    pub(crate) mask6: [u8; 16],
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawEcho {
    pub(crate) peer: RawAddress,
    pub(crate) identifier: [u8; 2],
    pub(crate) zero: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct RawFrontend {
    pub(crate) address: RawAddress,
    pub(crate) port: [u8; 2],
    pub(crate) protocol: u8,
    pub(crate) zero: u8,
}

impl<const N: usize> RawEntry<N> {
    pub(crate) fn blank() -> Self {
        Self {
            head: RawHead::default(),
            own: RawKey::BLANK,
            source: [0; N],
            destination: [0; N],
            sealed: 0,
            zero: 0,
        }
    }
}

/// One place of [`Acks`](crate::Acks), shared with the program through memory.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct RawSlot {
    pub(crate) generation: AtomicU32,
    pub(crate) left: AtomicU32,
    pub(crate) force: AtomicU32,
    pub(crate) over: AtomicU32,
}

pub(crate) const FORWARD: u8 = 1;
pub(crate) const PUNT: u8 = 2;
pub(crate) const DROP: u8 = 3;

pub(crate) const TO_PEER: u8 = 1;
pub(crate) const TO_HOST: u8 = 2;
pub(crate) const TTL: u8 = 4;
pub(crate) const TRANSLATE: u8 = 8;
pub(crate) const TO_TUNNEL: u8 = 16;
pub(crate) const TO_NEIGHBOUR: u8 = 32;

/// Of the owner of a prefix.
pub(crate) const EITHER_WAY: u32 = 0x1_0000;
/// Words of the bits that say which ports are reserved.
pub(crate) const RESERVED_WORDS: usize = 65_536 / 32;

/// Numbers of who has packets dropped.
pub(crate) const MOST_REFUSERS: u32 = 4096;

/// The place of a port in keys, for packets from the underlay.
pub(crate) const UNDERLAY: u16 = 0;

/// Before the entries in a packet that changes some; of which family they are; and how many there
/// are at most.
pub(crate) const BEFORE_CHANGES: usize = 16;
pub(crate) const CHANGES_FAMILY: usize = 14;
pub(crate) const MOST_CHANGES: usize = 16;

pub(crate) const SEEN_MORE: u32 = 1;
pub(crate) const SEEN_FIN: u32 = 2;
pub(crate) const SEEN_RST: u32 = 4;

/// Of an event: the key, then these.
pub(crate) const EVENT_SIZE: usize = 48;
pub(crate) const EVENT_GENERATION: usize = 40;
pub(crate) const EVENT_FAMILY: usize = 44;
pub(crate) const EVENT_SEEN: usize = 45;

const _: () = {
    assert!(size_of::<RawKey<4>>() == 16);
    assert!(offset_of!(RawKey<4>, from) == 12);
    assert!(size_of::<RawKey<16>>() == 40);
    assert!(offset_of!(RawKey<16>, from) == 36);
    assert!(size_of::<RawHead>() == 72);
    assert!(offset_of!(RawHead, mtu) == 12);
    assert!(offset_of!(RawHead, kind) == 14);
    assert!(offset_of!(RawHead, destination_mac) == 16);
    assert!(offset_of!(RawHead, source_port) == 28);
    assert!(offset_of!(RawHead, slot) == 36);
    assert!(offset_of!(RawHead, last_seen) == 48);
    assert!(offset_of!(RawHead, bytes) == 64);
    assert!(size_of::<RawEntry<4>>() == 104);
    assert!(offset_of!(RawEntry<4>, source) == 88);
    assert!(offset_of!(RawEntry<4>, sealed) == 96);
    assert!(size_of::<RawEntry<16>>() == 152);
    assert!(offset_of!(RawEntry<16>, source) == 112);
    assert!(offset_of!(RawEntry<16>, sealed) == 144);
    assert!(size_of::<RawSlot>() == 16);
    assert!(offset_of!(RawSlot, over) == 12);
    assert!(size_of::<RawPunt>() == 16);
    assert!(size_of::<RawLimit>() == 32);
    assert!(size_of::<RawShare>() == 16);
    assert!(size_of::<RawRefuser>() == 80);
    assert!(size_of::<RawFilter>() == 8);
    assert!(size_of::<RawUplink>() == 72);
    assert!(offset_of!(RawUplink, own4) == 12);
    assert!(offset_of!(RawUplink, own6) == 24);
    assert!(size_of::<RawEcho>() == 20);
    assert!(size_of::<RawFrontend>() == 20);
    assert!(size_of::<RawEgress>() == 32);
};

#[cfg(test)]
mod tests {
    use super::*;

    /// `MISS_NO_PORT` for `MissNoPort`.
    fn in_c(name: &str) -> String {
        let mut out = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(letter.to_ascii_uppercase());
        }
        out
    }

    fn enumerators(name: &str) -> Vec<(String, Option<u32>)> {
        let header = include_str!("../bpf/flow_cache.h");
        let (_, body) = header.split_once(&format!("enum {name} {{")).expect("the header has it");
        let (body, _) = body.split_once("};").expect("it ends");
        let lines = body.lines().map(|line| line.split("//").next().expect("split yields one"));
        let names = lines.filter_map(|line| line.trim().strip_suffix(','));
        names
            .map(|line| match line.split_once(" = ") {
                Some((name, value)) => (name.to_owned(), Some(value.parse().expect("a number"))),
                None => (line.to_owned(), None),
            })
            .collect()
    }

    #[test]
    fn counters_stand_in_the_order_of_the_header() {
        let mut header: Vec<_> = enumerators("counter").into_iter().map(|(name, _)| name).collect();
        assert_eq!(header.pop().as_deref(), Some("COUNTERS"));
        let here: Vec<_> =
            Counter::ALL.iter().map(|counter| in_c(&format!("{counter:?}"))).collect();
        assert_eq!(here, header);
        for (at, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, at);
        }
    }

    #[test]
    fn kinds_and_flags_have_the_numbers_of_the_header() {
        let one = |name: &str, value: u32| (name.to_owned(), Some(value));
        assert_eq!((PUNT, DROP), (FORWARD + 1, FORWARD + 2));
        let next = |name: &str| (name.to_owned(), None);
        assert_eq!(
            enumerators("kind"),
            [one("FORWARD", u32::from(FORWARD)), next("PUNT"), next("DROP")]
        );
        assert_eq!(
            enumerators("flags"),
            [
                one("TO_PEER", u32::from(TO_PEER)),
                one("TO_HOST", u32::from(TO_HOST)),
                one("TTL", u32::from(TTL)),
                one("TRANSLATE", u32::from(TRANSLATE)),
                one("TO_TUNNEL", u32::from(TO_TUNNEL)),
                one("TO_NEIGHBOUR", u32::from(TO_NEIGHBOUR)),
            ]
        );
        for line in [format!("UNDERLAY {UNDERLAY}"), format!("EITHER_WAY {EITHER_WAY:#x}")] {
            let line = format!("#define {line}\n");
            assert!(include_str!("../bpf/flow_cache.h").contains(&line), "{line}");
        }
        for line in [
            format!("#define MOST_CHANGES {MOST_CHANGES}\n"),
            format!("#define MOST_REFUSERS {MOST_REFUSERS}\n"),
        ] {
            assert!(include_str!("../bpf/flow_cache.h").contains(&line), "{line}");
        }
        assert_eq!(
            enumerators("seen"),
            [one("SEEN_MORE", SEEN_MORE), one("SEEN_FIN", SEEN_FIN), one("SEEN_RST", SEEN_RST)]
        );
    }
}
