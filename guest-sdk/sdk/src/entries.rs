//! Many entries of a map at once: a call to the host costs as much as reading an entry,
//! so a batch of flows is better served by one call than by one for each.

use std::hash::BuildHasher;
use std::marker::PhantomData;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::abi::limits::MAX_AT_ONCE;
use crate::abi::names::map_status;
use crate::host;
use crate::map::Map;
use crate::record::Record;

/// Entries of a map that are asked for together.
///
/// Keep one in the filter, so that its memory is used again.
///
/// ```
/// # use millrace_filter::prelude::*;
/// # fn flows(sources: &Map<u64, u64>, entries: &mut Entries<u64, u64>) {
/// entries.clear();
/// for source in [1, 2, 3] {
///     entries.ask(&source);
/// }
/// sources.read(entries);
/// let second: Option<u64> = entries.get(1);
/// # }
/// ```
#[derive(Debug)]
pub struct Entries<K, V> {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Not 0 where there is an entry.
    found: Vec<u8>,
    /// What the entries shall be.
    wanted: Vec<u8>,
    done: Vec<i8>,
    /// Where each key is among the keys, of those that are asked for once.
    places: HashTable<u32>,
    _types: PhantomData<fn(K) -> V>,
}

impl<K: Record, V: Record> Entries<K, V> {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            found: Vec::new(),
            wanted: Vec::new(),
            done: Vec::new(),
            places: HashTable::new(),
            _types: PhantomData,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.found.clear();
        self.places.clear();
    }

    /// Adds the entry of `key` to those that the next call asks for.
    #[inline]
    pub fn ask(&mut self, key: &K) {
        let mut bytes = K::ZEROS;
        key.write(bytes.as_mut());
        self.keys.extend_from_slice(bytes.as_ref());
    }

    /// As [`Entries::ask`], unless the entry is asked for already by this function. Returns the
    /// entry's number.
    pub fn ask_once(&mut self, key: &K) -> usize {
        let Self { keys, places, .. } = self;
        let mut bytes = K::ZEROS;
        key.write(bytes.as_mut());
        let key = bytes.as_ref();
        let hash = |key: &[u8]| FixedState::default().hash_one(key);
        let of = |at: u32| &keys[at as usize * K::LEN..][..K::LEN];
        match places.entry(hash(key), |&at| of(at) == key, |&at| hash(of(at))) {
            Entry::Occupied(place) => *place.get() as usize,
            Entry::Vacant(place) => {
                let at = keys.len() / K::LEN;
                place.insert(at as u32);
                keys.extend_from_slice(key);
                at
            }
        }
    }

    /// The value of the entry that was asked for as number `at`, counted from 0, as it was when the
    /// host was asked.
    #[inline]
    pub fn get(&self, at: usize) -> Option<V> {
        let value = || V::read(&self.values[at * V::LEN..(at + 1) * V::LEN]);
        self.found.get(at).is_some_and(|&found| found != 0).then(value)
    }

    /// How many entries are asked for.
    pub fn len(&self) -> usize {
        self.keys.len() / K::LEN
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn key(&self, at: usize) -> K {
        K::read(&self.keys[at * K::LEN..(at + 1) * K::LEN])
    }

    /// Writes down what the entry shall be.
    #[inline]
    fn want(&mut self, at: usize, value: &V) {
        value.write(&mut self.wanted[at * V::LEN..(at + 1) * V::LEN]);
    }
}

impl<K: Record, V: Record> Default for Entries<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Record, V: Record> Map<K, V> {
    /// Reads all entries that are asked for, with one call to the host.
    pub fn read(&self, entries: &mut Entries<K, V>) {
        let count = entries.len();
        entries.values.resize(count * V::LEN, 0);
        entries.found.clear();
        entries.found.resize(count, 0);
        let keys = entries.keys.chunks(MAX_AT_ONCE * K::LEN);
        let values = entries.values.chunks_mut(MAX_AT_ONCE * V::LEN);
        for ((keys, values), found) in keys.zip(values).zip(entries.found.chunks_mut(MAX_AT_ONCE)) {
            host::map_get_all(self.handle, keys, values, found);
        }
    }

    /// As [`Map::update`] for all entries that are asked for, with two calls to the host where
    /// nobody else changes them meanwhile.
    ///
    /// `change` gets the number of an entry and its present value, and may be called again for an
    /// entry that changed. Afterwards the entries are what was written; one that could not be
    /// written is absent.
    pub fn update_all(
        &self,
        entries: &mut Entries<K, V>,
        mut change: impl FnMut(usize, Option<&V>) -> V,
    ) {
        self.read(entries);
        let count = entries.len();
        entries.wanted.resize(count * V::LEN, 0);
        for at in 0..count {
            let value = change(at, entries.get(at).as_ref());
            entries.want(at, &value);
        }
        self.exchange_all(entries);

        // one that is in the batch twice, or that another worker changed, is done by itself
        for at in 0..count {
            let status = i32::from(entries.done[at]);
            entries.found[at] = (status == map_status::OK).into();
            if status == map_status::ABSENT
                && let Some(value) =
                    self.update(&entries.key(at), |present| Some(change(at, present)))
            {
                entries.want(at, &value);
                entries.found[at] = 1;
            }
        }
        std::mem::swap(&mut entries.values, &mut entries.wanted);
    }

    fn exchange_all(&self, entries: &mut Entries<K, V>) {
        let Entries { keys, values, found, wanted, done, .. } = entries;
        done.clear();
        done.resize(found.len(), map_status::ABSENT as i8);
        for (nth, done) in done.chunks_mut(MAX_AT_ONCE).enumerate() {
            let part = |len| {
                let start = nth * MAX_AT_ONCE * len;
                start..start + done.len() * len
            };
            host::map_exchange_all(
                self.handle,
                &keys[part(K::LEN)],
                &found[part(1)],
                &values[part(V::LEN)],
                &wanted[part(V::LEN)],
                done,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::MapOptions;
    use crate::testing::host::{Host, StandIn, with};

    fn in_host(test: impl FnOnce(&Map<u16, u64>)) {
        let host: Arc<dyn Host> = Arc::new(StandIn::default());
        with(&host, || test(&Map::open("entries", MapOptions::new(4)).expect("a first map")));
    }

    fn asked(keys: &[u16]) -> Entries<u16, u64> {
        let mut entries = Entries::new();
        keys.iter().for_each(|key| entries.ask(key));
        entries
    }

    fn all(entries: &Entries<u16, u64>) -> Vec<Option<u64>> {
        (0..entries.len()).map(|at| entries.get(at)).collect()
    }

    #[test]
    fn entries_are_read_in_the_order_in_which_they_were_asked_for() {
        in_host(|map| {
            map.set(&1, &10).expect("there is room");
            map.set(&3, &30).expect("there is room");
            let mut entries = asked(&[3, 2, 1, 3]);
            map.read(&mut entries);
            assert_eq!(all(&entries), [Some(30), None, Some(10), Some(30)]);

            entries.clear();
            assert_eq!(entries.get(0), None);
            entries.ask(&1);
            map.read(&mut entries);
            assert_eq!(all(&entries), [Some(10)]);
        });
    }

    #[test]
    fn an_entry_that_is_asked_for_twice_is_changed_twice() {
        in_host(|map| {
            map.set(&1, &10).expect("there is room");
            let mut entries = asked(&[1, 2, 1, 2, 1]);
            map.update_all(&mut entries, |_, present| present.map_or(100, |present| present + 1));
            assert_eq!(all(&entries), [Some(11), Some(100), Some(12), Some(101), Some(13)]);
            assert_eq!((map.get(&1), map.get(&2)), (Some(13), Some(101)));
        });
    }

    #[test]
    fn what_is_asked_for_once_has_one_number() {
        in_host(|map| {
            map.set(&5, &50).expect("there is room");
            let mut entries = Entries::new();
            assert_eq!([5, 6, 5, 7, 6, 5].map(|key| entries.ask_once(&key)), [0, 1, 0, 2, 1, 0]);
            map.read(&mut entries);
            assert_eq!(all(&entries), [Some(50), None, None]);
            entries.clear();
            assert_eq!([6, 5].map(|key| entries.ask_once(&key)), [0, 1]);
        });
    }

    #[test]
    fn what_finds_no_room_is_absent() {
        in_host(|map| {
            let mut entries = asked(&[1, 2, 3, 4, 5]);
            map.update_all(&mut entries, |at, _| at as u64);
            assert_eq!(all(&entries), [Some(0), Some(1), Some(2), Some(3), None]);
            assert_eq!(map.get(&5), None);
        });
    }

    #[test]
    fn any_number_of_entries_is_read() {
        in_host(|map| {
            map.set(&7, &70).expect("there is room");
            let mut entries = asked(&vec![7; 2 * MAX_AT_ONCE + 1]);
            map.read(&mut entries);
            assert!(all(&entries).iter().all(|&value| value == Some(70)));
        });
    }
}
