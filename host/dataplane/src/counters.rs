//! What became of packets, counted by port, stage, verdict and reason; and by which rules they went
//! no further.
//!
//! One writer, the worker, and any number of readers, without locks: an entry's key
//! is written once, before anybody can find it, and its counts only grow.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use millrace_abi::Reason;

use crate::port::{PortId, add};
use crate::verdict::Decider;

/// The counters of one worker, of one kind.
#[derive(Debug)]
pub struct Counters<K = Key> {
    entries: Box<[Entry]>,
    /// Packets that found no entry: there are more combinations than places.
    pub overflow: AtomicU64,
    of: PhantomData<K>,
}

/// What is counted apart.
pub trait Counted: Copy {
    /// A number for it, not 0, that no other has.
    fn to_bits(self) -> u64;

    /// What has this number.
    fn from_bits(bits: u64) -> Option<Self>;
}

/// What became of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The port the packets came in by.
    pub port: PortId,
    /// Who decided.
    pub by: Decider,
    /// What became of them.
    pub fate: Fate,
}

/// By what packets went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleKey {
    /// The port they came in by.
    pub port: PortId,
    /// The stage that decided.
    pub by: Decider,
    /// Why.
    pub reason: Reason,
    /// Its rule.
    pub rule: u32,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It left by one port.
    Forwarded,
    /// It left by one port, in fragments.
    Fragmented,
    /// It left by every other port of its VLAN.
    Flooded,
    /// The packet hook answered it.
    Answered,
    /// It was dropped.
    Dropped(Reason),
    /// It was dropped, and its sender told.
    Rejected(Reason),
}

impl Fate {
    /// The word used in metrics and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Fragmented => "fragmented",
            Self::Flooded => "flooded",
            Self::Answered => "answered",
            Self::Dropped(_) => "dropped",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Why, for packets that went no further.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Dropped(reason) | Self::Rejected(reason) => Some(reason),
            _ => None,
        }
    }

    fn to_bits(self) -> u64 {
        match self {
            Self::Forwarded => 1,
            Self::Flooded => 2,
            Self::Answered => 3,
            Self::Dropped(reason) => 4 | (reason as u64) << 8,
            Self::Rejected(reason) => 5 | (reason as u64) << 8,
            Self::Fragmented => 6,
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let reason = || Reason::from_u16((bits >> 8) as u16);
        match bits & 0xff {
            1 => Some(Self::Forwarded),
            2 => Some(Self::Flooded),
            3 => Some(Self::Answered),
            4 => reason().map(Self::Dropped),
            5 => reason().map(Self::Rejected),
            6 => Some(Self::Fragmented),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// 0 while nobody has it.
    key: AtomicU64,
    packets: AtomicU64,
}

impl<K: Counted> Counters<K> {
    /// Counters that are all zero.
    pub fn new() -> Self {
        let entries = std::iter::repeat_with(Entry::default).take(PLACES).collect();
        Self { entries, overflow: AtomicU64::new(0), of: PhantomData }
    }

    /// Counts `packets`. For the worker alone.
    #[inline]
    pub fn count(&self, key: K, packets: u64) {
        let bits = key.to_bits();
        let start = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        for at in start..start + PROBES {
            let entry = &self.entries[at % PLACES];
            match entry.key.load(Relaxed) {
                0 => {
                    entry.packets.store(packets, Relaxed);
                    entry.key.store(bits, Release);
                    return;
                }
                present if present == bits => return add(&entry.packets, packets),
                _ => {}
            }
        }
        add(&self.overflow, packets);
    }

    /// Every counter that is not zero.
    pub fn read(&self) -> impl Iterator<Item = (K, u64)> {
        self.entries.iter().filter_map(|entry| {
            let key = K::from_bits(entry.key.load(Acquire))?;
            Some((key, entry.packets.load(Relaxed)))
        })
    }
}

impl<K: Counted> Default for Counters<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Counted for Key {
    fn to_bits(self) -> u64 {
        let by = u64::from(self.by.number());
        u64::from(self.port.number()) | by << 16 | self.fate.to_bits() << 24
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let by = decider(bits >> 16);
        Some(Self { port: PortId::new(bits as u16)?, by, fate: Fate::from_bits(bits >> 24)? })
    }
}

impl Counted for RuleKey {
    fn to_bits(self) -> u64 {
        let (port, by) = (u64::from(self.port.number()), u64::from(self.by.number()));
        port | by << 16 | (self.reason as u64) << 24 | u64::from(self.rule) << 32
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let reason = Reason::from_u16(u16::from((bits >> 24) as u8))?;
        let (port, rule) = (PortId::new(bits as u16)?, (bits >> 32) as u32);
        Some(Self { port, by: decider(bits >> 16), reason, rule })
    }
}

fn decider(bits: u64) -> Decider {
    match bits as u8 {
        0 => Decider::HOST,
        stage => Decider::stage(stage),
    }
}

const _: () = {
    let mut at = 0;
    while at < Reason::ALL.len() {
        assert!(Reason::ALL[at] as u16 <= u8::MAX as u16, "a rule's key has 8 bits for its reason");
        at += 1;
    }
};

/// Combinations that can be counted apart: a power of two.
const PLACES: usize = 4096;
/// Places that are looked at for one of them: no packet waits for long when most are taken.
const PROBES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_counted_apart_and_read_back() {
        let counters = Counters::new();
        let mut expected = Vec::new();
        for port in [1, 2, 4094] {
            let port = PortId::new(port).expect("a port's number");
            for by in [Decider::HOST, Decider::stage(1), Decider::stage(255)] {
                for fate in [
                    Fate::Forwarded,
                    Fate::Fragmented,
                    Fate::Flooded,
                    Fate::Answered,
                    Fate::Dropped(Reason::Denied),
                    Fate::Rejected(Reason::Denied),
                    Fate::Dropped(Reason::KernelRefused),
                ] {
                    let key = Key { port, by, fate };
                    counters.count(key, 2);
                    counters.count(key, expected.len() as u64);
                    expected.push((key, 2 + expected.len() as u64));
                }
            }
        }
        let mut read: Vec<_> = counters.read().collect();
        read.sort();
        expected.sort();
        assert_eq!(read, expected);
    }

    #[test]
    fn rules_are_counted_apart_and_what_has_no_place_any_more_is_counted_together() {
        let counters = Counters::<RuleKey>::new();
        let port = PortId::new(4094).expect("a port's number");
        let (by, reason) = (Decider::stage(255), Reason::Isolated);
        let keys = (1..=PLACES as u32 * 2).map(|rule| RuleKey {
            port,
            by,
            reason,
            rule: rule.wrapping_mul(0x9e37_79b9),
        });
        keys.clone().for_each(|key| counters.count(key, 3));
        let read: std::collections::BTreeMap<_, _> = counters.read().collect();
        assert!(read.values().all(|packets| *packets == 3));
        assert!(keys.clone().filter(|key| read.contains_key(key)).count() == read.len());
        let lost = counters.overflow.load(Relaxed);
        assert_eq!(read.len() as u64 * 3 + lost, keys.count() as u64 * 3);
        assert!(read.len() > PLACES / 2, "{}", read.len());
    }
}
