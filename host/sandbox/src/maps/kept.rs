//! Host maps as bytes, for whoever has the node's filters next: a shape, and entries with the time
//! when each dies. That is of a clock which starts with the machine: bytes of an earlier start say
//! nothing.
//!
//! Nobody waits for long while a map is written down: what changes meanwhile may be there as it was
//! or as it is, and what stays is there.

use std::sync::Arc;
use std::time::Duration;

use super::{HostMap, MapName, MapRegistry, MapSlot, Outcome, Shape};

/// Why bytes are no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAMap {
    /// They are of another version of this program, or of something else.
    #[error("it is no host map of this version")]
    OtherVersion,
    /// They end too early.
    #[error("it is not whole")]
    CutOff,
}

impl HostMap {
    /// How often something of the map has changed, lives that were renewed included.
    pub fn changes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().changes).sum()
    }

    /// The map as bytes, which [`MapRegistry::resume`] takes.
    pub fn to_bytes(&self, now_ns: u64) -> Vec<u8> {
        let Shape { key_len, value_len, capacity, ttl, touch, quota } = self.shape;
        let entry = 8 + key_len + value_len;
        let mut bytes = Vec::with_capacity(HEADER + self.len() as usize * entry);
        bytes.extend(MAGIC);
        for number in [key_len as u32, value_len as u32, capacity, quota.map_or(0, u32::from)] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend((ttl.as_millis() as u64).to_le_bytes());
        bytes.extend(u64::from(touch).to_le_bytes());
        let mut write = |slot: &MapSlot| {
            bytes.extend(slot.expires_ns.to_le_bytes());
            bytes.extend(&*slot.key);
            bytes.extend(&*slot.value);
        };
        for shard in &self.shards {
            // from the end: whoever is removed leaves its place to the last one
            let mut rest = usize::MAX;
            while rest > 0 {
                let shard = shard.lock();
                let end = rest.min(shard.entries.len());
                rest = end.saturating_sub(AT_ONCE);
                let alive = |slot: &&MapSlot| slot.expires_ns > now_ns;
                shard.entries[rest..end].iter().filter(alive).for_each(&mut write);
            }
        }
        bytes
    }

    /// Takes entries that are not there yet, for as long as they have to live.
    fn fill(&self, entries: &[u8], now_ns: u64) {
        let entry_len = 8 + self.shape.key_len + self.shape.value_len;
        for entry in entries.chunks_exact(entry_len) {
            let (expires, rest) = entry.split_at(8);
            let (key, value) = rest.split_at(self.shape.key_len);
            let expires_ns = expires.try_into().map_or(0, u64::from_le_bytes);
            if expires_ns > now_ns && self.exchange(key, None, value, now_ns) == Outcome::Done {
                let (hash, shard) = self.locate(key);
                let mut shard = shard.lock();
                if let Some(at) = shard.find(hash, key, now_ns) {
                    let longest = self.expiry(now_ns);
                    shard.entries[at].expires_ns = expires_ns.min(longest);
                }
            }
        }
    }
}

impl MapRegistry {
    /// Has a map go on with what it was like before: now if somebody has opened it, else once
    /// somebody does. What was written since counts; a map of another shape has nothing of it.
    ///
    /// # Errors
    /// If the bytes are no map.
    pub fn resume(&self, name: MapName, bytes: Vec<u8>, now_ns: u64) -> Result<(), NotAMap> {
        Shape::of_bytes(&bytes)?;
        let maps = self.maps.lock();
        match maps.get(&name) {
            Some(map) => fill(map, &bytes, now_ns),
            None => drop(self.awaited.lock().insert(name, bytes)),
        }
        Ok(())
    }

    /// Whether a map waits for somebody to open it.
    pub fn is_awaited(&self, name: &MapName) -> bool {
        self.awaited.lock().contains_key(name)
    }

    /// A map that was just made goes on with what waits for it.
    pub(super) fn fill(&self, name: &MapName, map: &Arc<HostMap>) {
        if let Some(bytes) = self.awaited.lock().remove(name) {
            fill(map, &bytes, crate::now_ns());
        }
    }
}

impl Shape {
    fn of_bytes(bytes: &[u8]) -> Result<Self, NotAMap> {
        let fields = bytes.strip_prefix(MAGIC).ok_or(NotAMap::OtherVersion)?;
        let fields = fields.get(..HEADER - MAGIC.len()).ok_or(NotAMap::CutOff)?;
        let mut words = fields.chunks_exact(4).map(|word| {
            u32::from_le_bytes(word.try_into().expect("a chunk has as many bytes as asked for"))
        });
        let mut next = || words.next().expect("the header has eight words");
        let (key_len, value_len) = (next() as usize, next() as usize);
        let (capacity, quota) = (next(), std::num::NonZeroU32::new(next()));
        let (ttl, touch) = ((next(), next()), next() != 0);
        let ttl = Duration::from_millis(u64::from(ttl.0) | u64::from(ttl.1) << 32);
        let entry = 8 + key_len + value_len;
        if !(bytes.len() - HEADER).is_multiple_of(entry) {
            return Err(NotAMap::CutOff);
        }
        Ok(Self { key_len, value_len, capacity, ttl, touch, quota })
    }
}

fn fill(map: &HostMap, bytes: &[u8], now_ns: u64) {
    if Shape::of_bytes(bytes) == Ok(map.shape) {
        map.fill(&bytes[HEADER..], now_ns);
    }
}

/// What bytes of this version begin with.
const MAGIC: &[u8] = b"millrace host map 1\n";
/// Bytes before the first entry: what they are, and the shape.
const HEADER: usize = MAGIC.len() + 4 * 4 + 2 * 8;
/// Entries that are written down while others wait for their part of the map.
const AT_ONCE: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(ttl_ms: u64, quota: u32) -> Shape {
        Shape {
            key_len: 2,
            value_len: 3,
            capacity: 3000,
            ttl: Duration::from_millis(ttl_ms),
            touch: true,
            quota: std::num::NonZeroU32::new(quota),
        }
    }

    fn name(name: &str) -> MapName {
        MapName { owner: Some("stage".into()), name: name.to_owned() }
    }

    fn sorted(map: &HostMap, now_ns: u64) -> Vec<super::super::MapEntry> {
        let mut entries = map.entries(now_ns);
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    proptest! {
        #[test]
        fn a_map_is_the_same_behind_its_bytes(
            entries in prop::collection::vec((any::<u16>(), any::<[u8; 3]>(), 0..100u64), 0..2000),
            ttl_ms in prop::sample::select(vec![0, 1, 50]),
        ) {
            let now = crate::now_ns();
            let map = HostMap::new(shape(ttl_ms, 0));
            for (key, value, age_ms) in entries {
                map.set(&key.to_le_bytes(), &value, now - age_ms * 1_000_000);
            }
            let registry = MapRegistry::default();
            let next = registry.open(name("m"), map.shape()).expect("it is new");
            prop_assert_eq!(registry.resume(name("m"), map.to_bytes(now), now), Ok(()));
            prop_assert_eq!(sorted(&next, now), sorted(&map, now));
        }

        #[test]
        fn bytes_of_any_kind_are_refused_or_taken(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            begins_well in any::<bool>(),
        ) {
            if begins_well {
                bytes.splice(0..0, MAGIC.iter().copied());
            }
            let registry = MapRegistry::default();
            if registry.resume(name("m"), bytes, 1).is_ok() {
                let _ = registry.open(name("m"), shape(50, 0));
            }
        }
    }

    #[test]
    fn what_was_written_since_counts_and_groups_keep_their_quota() {
        let map = HostMap::new(shape(0, 2));
        for key in 0..4u8 {
            map.set(&[key, 0], &[key / 2, 0, 1], 1);
        }
        let registry = MapRegistry::default();
        let next = registry.open(name("m"), map.shape()).expect("it is new");
        next.set(&[0, 0], &[0, 0, 2], 1);
        next.set(&[9, 9], &[0, 0, 2], 1);
        registry.resume(name("m"), map.to_bytes(1), 1).expect("it is a map");
        let entry = |key: [u8; 2]| {
            let mut value = [0; 3];
            next.peek(&key, &mut value, 1).then_some(value)
        };
        assert_eq!(entry([0, 0]), Some([0, 0, 2]), "the newer one");
        assert_eq!(entry([1, 0]), None, "its group was full");
        assert_eq!(entry([3, 0]), Some([1, 0, 1]));
        assert_eq!(next.len(), 4);
    }

    #[test]
    fn a_map_that_nobody_has_opened_waits_and_another_shape_gets_nothing() {
        let map = HostMap::new(shape(0, 0));
        map.set(&[1, 0], &[7; 3], 1);
        let registry = MapRegistry::default();
        for maps in ["same", "other", "forgotten"] {
            registry.resume(name(maps), map.to_bytes(1), 1).expect("it is a map");
            assert!(registry.is_awaited(&name(maps)));
        }
        let open = |called, shape| registry.open(name(called), shape).expect("it is new").len();
        assert_eq!(open("same", map.shape()), 1);
        assert_eq!(open("other", shape(50, 0)), 0);
        assert!(!registry.is_awaited(&name("other")));
        registry.forget("stage");
        assert!(!registry.is_awaited(&name("forgotten")));
    }

    #[test]
    fn whoever_renews_or_removes_an_entry_changes_the_map() {
        let map = HostMap::new(shape(50, 0));
        let mut before = map.changes();
        let mut has_changed = || std::mem::replace(&mut before, map.changes()) != map.changes();
        assert!(!has_changed());
        map.set(&[1, 0], &[7; 3], 1);
        assert!(has_changed());
        map.peek(&[1, 0], &mut [0; 3], 1);
        assert!(!has_changed());
        map.get(&[1, 0], &mut [0; 3], 1);
        assert!(has_changed());
        map.remove(&[1, 0], 1);
        assert!(has_changed());
        map.sweep(1);
        assert!(!has_changed());
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let bytes = HostMap::new(shape(0, 0)).to_bytes(1);
        for (bytes, why) in [
            (&b"millrace host map 2\n"[..], NotAMap::OtherVersion),
            (&bytes[..bytes.len() - 1], NotAMap::CutOff),
            (&[&bytes[..], &[0; 4]].concat()[..], NotAMap::CutOff),
        ] {
            let registry = MapRegistry::default();
            assert_eq!(registry.resume(name("m"), bytes.to_vec(), 1), Err(why));
        }
    }
}
