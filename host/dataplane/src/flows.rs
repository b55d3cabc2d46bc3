//! Walk `packet` 3/7: burst → **flows** → chain.
//!
//! Verdicts that are remembered, by flow: what makes the chain a question per flow
//! rather than per packet.
//!
//! The map is one worker's own and bounded: a flow that finds no place takes that of
//! the one unheard for longest among its neighbours. To forget a flow costs a
//! question to the chain, nothing else.

use std::hash::{BuildHasher, RandomState};

use millrace_abi::{INSPECT_ALL, Slot};

use crate::verdict::{MAX_STAGES, Terms, Verdict};

/// The remembered verdicts of one worker.
pub struct FlowMap {
    entries: Vec<Entry>,
    mask: usize,
    seeds: [u64; 4],
    /// Entries of other epochs are forgotten.
    epoch: u32,
    len: usize,
    /// The stamp of the last flow that got a place.
    stamp: u32,
}

/// Where a flow's entry is, as long as no other flow takes its place: the place, and above it the
/// entry's stamp. One word, because it comes and goes in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowIndex(u64);

/// What makes two packets one flow to a direct port: everything the chain's decision
/// can depend on but time, so that a hit is always the chain's own answer.
#[derive(Clone, Copy, Eq, Default)]
struct Key([u64; 7]);

#[derive(Clone)]
struct Entry {
    key: Key,
    verdict: Verdict,
    /// 0 where the place was never used.
    epoch: u32,
    /// Tells the flow from those that had the place before.
    stamp: u32,
    last_seen_ns: u64,
    idle_ns: u64,
    /// When the chain is asked again.
    valid_until_ns: u64,
    inspect_left: [u16; MAX_STAGES],
}

impl FlowMap {
    /// A map for `capacity` flows, rounded up to a power of two.
    pub fn new(capacity: usize) -> Self {
        let size = capacity.next_power_of_two().max(NEIGHBOURS);
        let random = RandomState::new();
        Self {
            entries: vec![Entry::UNUSED; size],
            mask: size - 1,
            // an outsider who knew the seeds could make flows crowd each other out
            seeds: std::array::from_fn(|n| random.hash_one(n)),
            epoch: 1,
            len: 0,
            stamp: 0,
        }
    }

    /// Where the slot's flow is remembered, if it is and its verdict still holds.
    #[inline]
    pub fn find(&mut self, slot: &Slot) -> Option<FlowIndex> {
        // with cached ports alone nearly nothing is remembered here, and each look costs: the
        // places are seldom near
        if self.is_empty() {
            return None;
        }
        let key = Key::of(slot);
        let start = self.hash(&key);
        let at = (start..start + NEIGHBOURS)
            .map(|at| at & self.mask)
            .find(|&at| self.entries[at].key == key)?;
        let entry = &mut self.entries[at];
        if entry.epoch != self.epoch || !entry.holds(slot.now_ns) {
            return None;
        }
        entry.last_seen_ns = slot.now_ns;
        Some(FlowIndex::new(at, entry.stamp))
    }

    /// The remembered verdict of a flow that was just found.
    #[inline]
    pub fn verdict(&self, flow: FlowIndex) -> Verdict {
        self.entries[flow.place()].verdict
    }

    /// Remembers a verdict.
    pub fn insert(&mut self, slot: &Slot, verdict: &Verdict, terms: &Terms) -> FlowIndex {
        let key = Key::of(slot);
        let start = self.hash(&key);
        let mut best = start & self.mask;
        for at in (start..start + NEIGHBOURS).map(|at| at & self.mask) {
            let entry = &self.entries[at];
            if entry.key == key {
                best = at;
                break;
            }
            if entry.age(self.epoch) < self.entries[best].age(self.epoch) {
                best = at;
            }
        }
        let place = &self.entries[best];
        self.len += usize::from(place.epoch != self.epoch);
        // a flow that is decided again keeps its stamp: packets at hand may have its index
        let stamp = if place.key == key && place.epoch == self.epoch {
            place.stamp
        } else {
            self.stamp = self.stamp.wrapping_add(1);
            self.stamp
        };
        self.entries[best] = Entry {
            key,
            verdict: *verdict,
            epoch: self.epoch,
            stamp,
            last_seen_ns: slot.now_ns,
            idle_ns: u64::from(terms.idle_ms) * NS_PER_MS,
            valid_until_ns: match terms.revalidate_ms {
                0 => u64::MAX,
                ms => slot.now_ns + u64::from(ms) * NS_PER_MS,
            },
            inspect_left: terms.inspect_left,
        };
        FlowIndex::new(best, stamp)
    }

    /// Forgets everything: the chain is another one now.
    pub fn forget_all(&mut self) {
        self.len = 0;
        self.epoch += 1;
        if self.epoch == u32::MAX {
            self.entries.fill(Entry::UNUSED);
            self.epoch = 1;
        }
    }

    /// Whether the stage at `position` still wants a packet of the flow, which is one less to come
    /// then. A flow that has lost its place is shown for as long as its packets ask for it.
    pub fn inspect(&mut self, flow: FlowIndex, position: usize) -> bool {
        let Some(entry) = self.entry(flow) else { return true };
        if entry.verdict.inspect & (1 << position) == 0 {
            return false;
        }
        let left = &mut entry.inspect_left[position];
        if *left != INSPECT_ALL {
            *left = left.saturating_sub(1);
        }
        if *left == 0 {
            entry.verdict.inspect &= !(1 << position);
        }
        true
    }

    /// Notes that the stage at `position` wants no more packets of the flow.
    pub fn released(&mut self, flow: FlowIndex, position: usize) {
        if let Some(entry) = self.entry(flow) {
            entry.verdict.inspect &= !(1 << position);
        }
    }

    /// Places in use. Entries that no longer hold count until something takes their place.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no place is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Places there are.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, flow: FlowIndex) -> Option<&mut Entry> {
        let entry = &mut self.entries[flow.place()];
        (entry.stamp == flow.stamp()).then_some(entry)
    }

    #[inline]
    fn hash(&self, Key(words): &Key) -> usize {
        let [a, b, c, d] = self.seeds;
        let hash = fold(words[0] ^ a, words[1] ^ b)
            ^ fold(words[2] ^ c, words[3] ^ d)
            ^ fold(words[4] ^ b, words[5] ^ c)
            ^ fold(words[6] ^ d, a);
        (hash >> 16) as usize
    }
}

impl FlowIndex {
    #[inline]
    fn new(place: usize, stamp: u32) -> Self {
        Self(place as u64 | u64::from(stamp) << 32)
    }

    #[inline]
    fn place(self) -> usize {
        self.0 as u32 as usize
    }

    fn stamp(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Key {
    #[inline]
    fn of(slot: &Slot) -> Self {
        let half = |address: &[u8; 16], at| {
            let (_, rest) = address.split_at(at);
            rest.first_chunk::<8>().map_or(0, |half| u64::from_le_bytes(*half))
        };
        let mac = |[a, b, c, d, e, f]: [u8; 6], word: u16| {
            let (low, high) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
            u64::from(low) | u64::from(high) << 32 | u64::from(word) << 48
        };
        let ports = u64::from(slot.src_port) | u64::from(slot.dst_port) << 16;
        let kind = u64::from(slot.protocol) << 32 | u64::from(slot.ip_version) << 40;
        let service = u64::from(slot.traffic_class) << 48;
        Self([
            half(&slot.src_addr, 0),
            half(&slot.src_addr, 8),
            half(&slot.dst_addr, 0),
            half(&slot.dst_addr, 8),
            ports | kind | service,
            mac(slot.src_mac, slot.vlan),
            mac(slot.dst_mac, slot.ingress),
        ])
    }
}

impl PartialEq for Key {
    /// Without a branch or a call: keys that are compared are nearly always the same.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }
}

impl Entry {
    const UNUSED: Self = Self {
        key: Key([0; 7]),
        verdict: Verdict::OPEN,
        epoch: 0,
        stamp: 0,
        last_seen_ns: 0,
        idle_ns: 0,
        valid_until_ns: 0,
        inspect_left: [0; MAX_STAGES],
    };

    #[inline]
    fn holds(&self, now_ns: u64) -> bool {
        now_ns < self.valid_until_ns && now_ns.saturating_sub(self.last_seen_ns) < self.idle_ns
    }

    /// Places to take first have the least: unused and forgotten ones, then the longest unheard.
    fn age(&self, epoch: u32) -> u64 {
        if self.epoch == epoch { self.last_seen_ns + 1 } else { 0 }
    }
}

/// Both halves of the product, together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Places that a flow may have, one behind the other.
const NEIGHBOURS: usize = 8;
const NS_PER_MS: u64 = 1_000_000;
