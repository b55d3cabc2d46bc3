//! The entries: inserted, removed, and looked at.
//!
//! A reader must not break this: an entry that is there is never inserted again. The kernel would
//! put a new element in its place, and what was counted and seen of the flow would be lost.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{IterableMap, MapError};

use crate::cache::MapFault;
use crate::kernel::{Batch, EntryKey, lookup_batch, remove_batch};
use crate::key::Raw;
use crate::layout::RawEntry;
use crate::{FlowCache, Generation, Key, Usage, Verdict};

/// A place in the walk through all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    family: Family,
    bucket: Option<u32>,
}

/// Some entries, and where the walk goes on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// At most [`FlowCache::SLICE`]; may be none before the end.
    pub entries: Vec<(Key, Usage)>,
    /// Nothing at the end of the walk.
    pub next: Option<Cursor>,
}

impl FlowCache {
    /// Entries in a slice, at most.
    pub const SLICE: usize = 4096;

    /// Installs an entry; packets take it from now on.
    ///
    /// # Errors
    /// If there is one with this key, or no room.
    pub fn insert(&mut self, key: &Key, verdict: &Verdict) -> Result<Generation, InsertError> {
        let generation = Generation(self.generation.checked_add(1).unwrap_or(1));
        let entry = verdict.entry(generation, Self::now());
        match key.0 {
            Raw::V4(key) => self.flows4.insert(key, entry, NO_EXIST),
            Raw::V6(key) => self.flows6.insert(key, entry, NO_EXIST),
        }
        .map_err(|error| match errno(&error) {
            Some(libc::EEXIST) => InsertError::Exists,
            Some(libc::E2BIG) => InsertError::Full,
            _ => InsertError::Refused(MapFault(error)),
        })?;
        self.generation = generation.0;
        Ok(generation)
    }

    /// Removes entries, and says how many there were.
    ///
    /// # Errors
    /// If the kernel refuses; some may be removed.
    pub fn remove(&mut self, keys: &[Key]) -> Result<usize, MapFault> {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for key in keys {
            match key.0 {
                Raw::V4(key) => four.push(key),
                Raw::V6(key) => six.push(key),
            }
        }
        Ok(remove_all(self.map4(), &four)? + remove_all(self.map6(), &six)?)
    }

    /// What was seen of an entry's packets, if it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn usage(&self, key: &Key) -> Result<Option<Usage>, MapFault> {
        let entry = match key.0 {
            Raw::V4(key) => self.flows4.get(&key, 0),
            Raw::V6(key) => self.flows6.get(&key, 0),
        };
        match entry {
            Ok(entry) => Ok(Some(Usage::from(&entry))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(MapFault(error)),
        }
    }

    /// Copies some entries, from [`Cursor::default`] or where the last slice ended. Entries that
    /// are there all through a walk are seen in it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn slice(&self, from: Cursor) -> Result<Slice, MapFault> {
        match from.family {
            Family::V4 => {
                let (entries, next) = lookup(self.map4(), from.bucket)?;
                let next = Some(match next {
                    Some(bucket) => Cursor { bucket: Some(bucket), ..from },
                    None => Cursor { family: Family::V6, bucket: None },
                });
                Ok(Slice { entries: read(entries, Raw::V4), next })
            }
            Family::V6 => {
                let (entries, next) = lookup(self.map6(), from.bucket)?;
                let next = next.map(|bucket| Cursor { bucket: Some(bucket), ..from });
                Ok(Slice { entries: read(entries, Raw::V6), next })
            }
        }
    }

    fn map4(&self) -> BorrowedFd<'_> {
        self.flows4.map().fd().as_fd()
    }

    fn map6(&self) -> BorrowedFd<'_> {
        self.flows6.map().fd().as_fd()
    }
}

/// Why an entry is not there.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There is one with the same key.
    #[error("the flow has an entry: remove it first")]
    Exists,
    /// There is no room.
    #[error("the flow cache is full")]
    Full,
    /// The kernel refused for another reason.
    #[error(transparent)]
    Refused(MapFault),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    #[default]
    V4,
    V6,
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

fn fault(call: &'static str) -> impl Fn(std::io::Error) -> MapFault {
    move |io_error| MapFault(MapError::SyscallError(aya::sys::SyscallError { call, io_error }))
}

/// A batch ends at an entry that is not there: the rest follows in another.
fn remove_all<K: EntryKey>(map: BorrowedFd<'_>, mut keys: &[K]) -> Result<usize, MapFault> {
    let mut removed = 0;
    while !keys.is_empty() {
        let done = remove_batch(map, keys).map_err(fault("bpf_map_delete_batch"))?;
        removed += done;
        keys = keys.get(done + 1..).unwrap_or_default();
    }
    Ok(removed)
}

fn lookup<K: EntryKey>(map: BorrowedFd<'_>, from: Option<u32>) -> Result<Batch<K>, MapFault> {
    lookup_batch(map, from, FlowCache::SLICE).map_err(fault("bpf_map_lookup_batch"))
}

fn read<K>(entries: Vec<(K, RawEntry)>, family: fn(K) -> Raw) -> Vec<(Key, Usage)> {
    entries.into_iter().map(|(key, entry)| (Key(family(key)), Usage::from(&entry))).collect()
}

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;
