//! Host maps: what a filter remembers beyond its own life.
//!
//! A map belongs to the node: every worker's instance of a filter sees the same
//! entries, and they stay when the filter is swapped. Keys and values are plain
//! bytes of a fixed length. Each operation on an entry is atomic.
//!
//! An entry lives as long as its time to live says since it was last written
//! (or, in a map opened to touch, read). Dead entries are never seen; they are
//! cleared away by [`HostMap::sweep`] and when room is needed.
//!
//! - `connections`: the one that the host itself writes
//! - `kept`: maps as bytes, for the process that has the filters next

mod connections;
mod kept;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

pub use connections::Served;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
pub use kept::NotAMap;
use millrace_abi::names::map_flag;
use millrace_abi::{MapShape, limits};
use parking_lot::Mutex;

/// The shape of a map: two openings of one map must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    key_len: usize,
    value_len: usize,
    capacity: u32,
    ttl: Duration,
    touch: bool,
    quota: Option<NonZeroU32>,
}

impl Shape {
    /// Checks what an opening states.
    ///
    /// # Errors
    /// What is out of range.
    pub fn new(stated: &MapShape) -> Result<Self, String> {
        let (key_len, value_len) = (stated.key_len as usize, stated.value_len as usize);
        let quota = NonZeroU32::new(stated.quota);
        if stated.flags & !map_flag::KNOWN != 0 {
            return Err(format!("flags {:#x} are unknown", stated.flags & !map_flag::KNOWN));
        }
        if !(1..=limits::MAX_KEY).contains(&key_len)
            || !(1..=limits::MAX_VALUE).contains(&value_len)
            || !(1..=limits::MAX_MAP_ENTRIES).contains(&stated.capacity)
        {
            return Err(format!(
                "a key has 1 to {} bytes, a value 1 to {}, a map 1 to {} entries",
                limits::MAX_KEY,
                limits::MAX_VALUE,
                limits::MAX_MAP_ENTRIES
            ));
        }
        if quota.is_some() && value_len < GROUP_LEN {
            return Err(
                "values of a map with a quota begin with two bytes for the group".to_owned()
            );
        }
        Ok(Self {
            key_len,
            value_len,
            capacity: stated.capacity,
            ttl: Duration::from_millis(stated.ttl_ms.into()),
            touch: stated.flags & map_flag::TOUCH != 0,
            quota,
        })
    }

    /// Bytes of a key.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Bytes of a value.
    pub fn value_len(&self) -> usize {
        self.value_len
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries of {} + {} bytes, life {:?}",
            self.capacity, self.key_len, self.value_len, self.ttl
        )?;
        if self.touch {
            write!(f, ", renewed by reading")?;
        }
        match self.quota {
            Some(quota) => write!(f, ", {quota} per group"),
            None => Ok(()),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// There is no such entry, or it is not what was expected.
    Absent,
    /// There is no room for another entry.
    Full,
}

/// One map.
#[derive(Debug)]
pub struct HostMap {
    shape: Shape,
    hasher: RandomState,
    live: AtomicU32,
    /// Entries of each group, in a map with a quota.
    groups: Mutex<HashMap<[u8; GROUP_LEN], u32>>,
    shards: [Mutex<Shard>; SHARDS],
    /// If the host itself writes it: whether anybody has read it.
    read: Option<AtomicBool>,
}

/// One entry, as listed for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value's bytes.
    pub value: Vec<u8>,
    /// When it dies, on the clock of [`now_ns`](crate::now_ns); `None` for never.
    pub expires_ns: Option<u64>,
}

impl HostMap {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            hasher: RandomState::default(),
            live: AtomicU32::new(0),
            groups: Mutex::default(),
            shards: Default::default(),
            read: None,
        }
    }

    /// The map's shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Entries in the map, dead ones included until they are swept.
    pub fn len(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the value of `key` into `value`; false if there is none.
    ///
    /// # Panics
    /// If a slice is not as long as the shape says; so for every operation.
    pub fn get(&self, key: &[u8], value: &mut [u8], now_ns: u64) -> bool {
        self.note_reading();
        let (hash, shard) = self.locate(key);
        let mut shard = shard.lock();
        let Some(at) = shard.find(hash, key, now_ns) else { return false };
        if self.shape.touch {
            shard.entries[at].expires_ns = self.expiry(now_ns);
            shard.changes += 1;
        }
        value.copy_from_slice(&shard.entries[at].value);
        true
    }

    /// As [`HostMap::get`], but renews nothing.
    pub fn peek(&self, key: &[u8], value: &mut [u8], now_ns: u64) -> bool {
        self.note_reading();
        let (hash, shard) = self.locate(key);
        let shard = shard.lock();
        let Some(at) = shard.find(hash, key, now_ns) else { return false };
        value.copy_from_slice(&shard.entries[at].value);
        true
    }

    /// Writes an entry.
    pub fn set(&self, key: &[u8], value: &[u8], now_ns: u64) -> Outcome {
        self.write(key, now_ns, |_| Some(value))
    }

    /// Writes an entry if its present value is `expected`, or, with `None`, if there is none.
    pub fn exchange(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
        now_ns: u64,
    ) -> Outcome {
        self.write(key, now_ns, |present| (present == expected).then_some(value))
    }

    /// Adds to the integer in the first 8 bytes of an entry, wrapping; a new entry starts from
    /// zeros. Returns the sum.
    ///
    /// # Errors
    /// [`Outcome::Full`]; [`Outcome::Absent`] if values are shorter than 8 bytes.
    pub fn add(&self, key: &[u8], delta: i64, now_ns: u64) -> Result<u64, Outcome> {
        if self.shape.value_len < 8 {
            return Err(Outcome::Absent);
        }
        let mut value = [0; limits::MAX_VALUE];
        let value = &mut value[..self.shape.value_len];
        let mut sum = 0;
        let outcome = self.write(key, now_ns, |present| {
            if let Some(present) = present {
                value.copy_from_slice(present);
            }
            let (head, _) = value.split_first_chunk_mut::<8>()?;
            sum = u64::from_le_bytes(*head).wrapping_add_signed(delta);
            *head = sum.to_le_bytes();
            Some(value)
        });
        match outcome {
            Outcome::Done => Ok(sum),
            other => Err(other),
        }
    }

    /// Removes an entry.
    pub fn remove(&self, key: &[u8], now_ns: u64) -> Outcome {
        let (hash, shard) = self.locate(key);
        let mut shard = shard.lock();
        match shard.find(hash, key, now_ns) {
            Some(at) => {
                self.released(&shard.take(at));
                Outcome::Done
            }
            None => Outcome::Absent,
        }
    }

    /// Every live entry, in no particular order.
    pub fn entries(&self, now_ns: u64) -> Vec<MapEntry> {
        let mut entries = Vec::with_capacity(self.len() as usize);
        for shard in &self.shards {
            let shard = shard.lock();
            entries.extend(shard.entries.iter().filter(|e| e.expires_ns > now_ns).map(|e| {
                MapEntry {
                    key: e.key.to_vec(),
                    value: e.value.to_vec(),
                    expires_ns: (e.expires_ns != NEVER).then_some(e.expires_ns),
                }
            }));
        }
        entries
    }

    /// Clears dead entries away, one shard at a time.
    pub fn sweep(&self, now_ns: u64) {
        if self.shape.ttl.is_zero() {
            return;
        }
        for shard in &self.shards {
            self.sweep_shard(&mut shard.lock(), now_ns);
        }
    }

    /// Removes the entries that `is_over`, asked with key and value, says so of.
    pub fn remove_if(&self, is_over: impl Fn(&[u8], &[u8]) -> bool) {
        for shard in &self.shards {
            self.clear(&mut shard.lock(), |slot| is_over(&slot.key, &slot.value));
        }
    }

    /// Writes what `change` makes of the present value, unless it declines.
    fn write<'v>(
        &self,
        key: &[u8],
        now_ns: u64,
        change: impl FnOnce(Option<&[u8]>) -> Option<&'v [u8]>,
    ) -> Outcome {
        let (hash, shard) = self.locate(key);
        let mut shard = shard.lock();
        if let Some(at) = shard.position(hash, key) {
            // a dead entry is absent, and its place is used again
            let entry = &mut shard.entries[at];
            let present = (entry.expires_ns > now_ns).then_some(&*entry.value);
            let Some(value) = change(present) else { return Outcome::Absent };
            if !self.regroup(Some(&entry.value), Some(value)) {
                return Outcome::Full;
            }
            entry.value.copy_from_slice(value);
            entry.expires_ns = self.expiry(now_ns);
            shard.changes += 1;
            return Outcome::Done;
        }

        let Some(value) = change(None) else { return Outcome::Absent };
        assert_eq!(value.len(), self.shape.value_len, "a value is as long as its map says");
        let has_room = || self.reserve(value);
        if !has_room() && (self.sweep_shard(&mut shard, now_ns) == 0 || !has_room()) {
            return Outcome::Full;
        }
        let expires_ns = self.expiry(now_ns);
        shard.put(MapSlot { hash, expires_ns, key: key.into(), value: value.into() });
        Outcome::Done
    }

    /// Counts one more entry, if there is room in the map and in the value's group.
    fn reserve(&self, value: &[u8]) -> bool {
        let fits = |live: u32| (live < self.shape.capacity).then_some(live + 1);
        if self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let admitted = self.regroup(None, Some(value));
        if !admitted {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Counts an entry out of one value's group and into another's, if that has room.
    fn regroup(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> bool {
        let Some(quota) = self.shape.quota else { return true };
        let group = |value: &[u8]| value.first_chunk::<GROUP_LEN>().copied();
        let (from, to) = (from.and_then(group), to.and_then(group));
        if from == to {
            return true;
        }
        let mut groups = self.groups.lock();
        if let Some(to) = to {
            let entries = groups.entry(to).or_default();
            if *entries >= quota.get() {
                return false;
            }
            *entries += 1;
        }
        if let Some(from) = from
            && let Some(entries) = groups.get_mut(&from)
        {
            *entries -= 1;
            if *entries == 0 {
                groups.remove(&from);
            }
        }
        true
    }

    /// Counts entries that were taken out.
    fn released(&self, slot: &MapSlot) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.regroup(Some(&slot.value), None);
    }

    fn sweep_shard(&self, shard: &mut Shard, now_ns: u64) -> u32 {
        self.clear(shard, |slot| slot.expires_ns <= now_ns)
    }

    /// Takes out what `is_over`, and says how much that was.
    fn clear(&self, shard: &mut Shard, is_over: impl Fn(&MapSlot) -> bool) -> u32 {
        let mut cleared = 0;
        let mut at = 0;
        while at < shard.entries.len() {
            if is_over(&shard.entries[at]) {
                self.released(&shard.take(at));
                cleared += 1;
            } else {
                at += 1;
            }
        }
        cleared
    }

    fn locate(&self, key: &[u8]) -> (u64, &Mutex<Shard>) {
        assert_eq!(key.len(), self.shape.key_len, "a key is as long as its map says");
        let hash = self.hasher.hash_one(key);
        (hash, &self.shards[(hash >> 57) as usize % SHARDS])
    }

    fn expiry(&self, now_ns: u64) -> u64 {
        match self.shape.ttl.as_nanos() as u64 {
            0 => NEVER,
            ttl => now_ns.saturating_add(ttl),
        }
    }
}

/// The maps of a node, by owner and name.
#[derive(Debug, Default)]
pub struct MapRegistry {
    maps: Mutex<BTreeMap<MapName, Arc<HostMap>>>,
    connections: connections::Own,
    /// What there was of maps before this process, until somebody opens them.
    awaited: Mutex<BTreeMap<MapName, Vec<u8>>>,
}

/// Whose a map is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapName {
    /// The stage that owns it; `None` if it is shared by name.
    pub owner: Option<Arc<str>>,
    /// Its name.
    pub name: String,
}

impl MapRegistry {
    /// Opens a map, making it if there is none; of what it was like before this process, it has
    /// what [waits](Self::resume) for it.
    ///
    /// # Errors
    /// The shape it has, if that is another one.
    pub fn open(&self, name: MapName, shape: Shape) -> Result<Arc<HostMap>, Shape> {
        let mut maps = self.maps.lock();
        let map = maps.entry(name).or_insert_with_key(|name| {
            let map = Arc::new(HostMap::new(shape));
            self.fill(name, &map);
            map
        });
        if map.shape == shape { Ok(Arc::clone(map)) } else { Err(map.shape) }
    }

    /// Every map, with its name.
    pub fn list(&self) -> Vec<(MapName, Arc<HostMap>)> {
        self.maps.lock().iter().map(|(name, map)| (name.clone(), Arc::clone(map))).collect()
    }

    /// The maps of a stage.
    pub fn owned_by(&self, owner: &str) -> Vec<(String, Arc<HostMap>)> {
        let mut list = self.list();
        list.retain(|(name, _)| name.owner.as_deref() == Some(owner));
        list.into_iter().map(|(name, map)| (name.name, map)).collect()
    }

    /// Forgets the maps of a stage that is no more. Instances that still hold one keep it.
    pub fn forget(&self, owner: &str) {
        let is_others = |name: &MapName| name.owner.as_deref() != Some(owner);
        self.maps.lock().retain(|name, _| is_others(name));
        self.awaited.lock().retain(|name, _| is_others(name));
    }

    /// Forgets maps that are empty and that no instance holds: a filter opened them that then did
    /// not start.
    pub(crate) fn forget_unused(&self) {
        self.maps.lock().retain(|_, map| Arc::strong_count(map) > 1 || !map.is_empty());
    }

    /// Clears dead entries away in every map.
    pub fn sweep(&self, now_ns: u64) {
        for (_, map) in self.list() {
            map.sweep(now_ns);
        }
    }
}

/// A part of a map under one lock. The table holds indices of `entries`.
#[derive(Debug, Default)]
struct Shard {
    table: HashTable<u32>,
    entries: Vec<MapSlot>,
    /// How often one of them was written, removed or renewed.
    changes: u64,
}

#[derive(Debug)]
struct MapSlot {
    hash: u64,
    expires_ns: u64,
    key: Box<[u8]>,
    value: Box<[u8]>,
}

impl Shard {
    /// Where the entry of `key` is, dead or alive.
    fn position(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |&at: &u32| *self.entries[at as usize].key == *key;
        self.table.find(hash, same).map(|&at| at as usize)
    }

    /// Where the live entry of `key` is.
    fn find(&self, hash: u64, key: &[u8], now_ns: u64) -> Option<usize> {
        self.position(hash, key).filter(|&at| self.entries[at].expires_ns > now_ns)
    }

    /// Adds an entry whose key is not there.
    fn put(&mut self, slot: MapSlot) {
        let Self { table, entries, changes } = self;
        *changes += 1;
        table.insert_unique(slot.hash, entries.len() as u32, |&at| entries[at as usize].hash);
        entries.push(slot);
    }

    /// Removes the entry at `at`; the last entry takes its place.
    fn take(&mut self, at: usize) -> MapSlot {
        self.changes += 1;
        let last = self.entries.len() - 1;
        let hash = self.entries[at].hash;
        if let Ok(found) = self.table.find_entry(hash, |&i| i as usize == at) {
            found.remove();
        }
        if at != last
            && let Some(moved) =
                self.table.find_mut(self.entries[last].hash, |&i| i as usize == last)
        {
            *moved = at as u32;
        }
        self.entries.swap_remove(at)
    }
}

const SHARDS: usize = 16;

/// Bytes of a value that name its group.
const GROUP_LEN: usize = 2;

/// The expiry of an entry that never dies.
const NEVER: u64 = u64::MAX;

#[cfg(test)]
mod tests;
