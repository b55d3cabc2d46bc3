//! The system calls on maps that the loader lacks: many entries at once.
//!
//! Owns the crate's `unsafe`: the promise that layouts are plain bytes, and `bpf(2)` for batches
//! (Linux 5.6). Never interprets an entry.
//!
//! A reader must not break this: the kernel reads and writes `count` keys and values of the map's
//! sizes, so slices are as long as the count, and types are those that the map was opened with.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

use crate::layout::{Key4, Key6, RawEgress, RawEntry, RawPunt};

// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for Key4 {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for Key6 {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawEntry {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawPunt {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawEgress {}

/// Keys of one of the two entry maps; who has the map's descriptor says which.
pub(crate) trait EntryKey: Pod + Default {}

impl EntryKey for Key4 {}
impl EntryKey for Key6 {}

/// Some entries, and where to go on.
pub(crate) type Batch<K> = (Vec<(K, RawEntry)>, Option<u32>);

/// Removes entries up to the first that is not there; says how many it removed.
pub(crate) fn remove_batch<K: EntryKey>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<usize> {
    let mut call = BatchCall::new(map, keys.len());
    call.keys = keys.as_ptr() as u64;
    match bpf(MAP_DELETE_BATCH, &mut call) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(call.count as usize),
    }
}

/// Copies up to `room` entries, from where an earlier call ended.
pub(crate) fn lookup_batch<K: EntryKey>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    room: usize,
) -> io::Result<Batch<K>> {
    let mut keys = vec![K::default(); room];
    let mut entries = vec![RawEntry::default(); room];
    let mut next = 0u32;
    let mut call = BatchCall::new(map, room);
    call.in_batch = from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64);
    call.out_batch = &raw mut next as u64;
    call.keys = keys.as_mut_ptr() as u64;
    call.values = entries.as_mut_ptr() as u64;
    let more = match bpf(MAP_LOOKUP_BATCH, &mut call) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    let count = call.count as usize;
    Ok((keys.into_iter().zip(entries).take(count).collect(), more.then_some(next)))
}

/// The part of `union bpf_attr` for batches.
#[repr(C)]
struct BatchCall {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    entry_flags: u64,
    flags: u64,
}

impl BatchCall {
    fn new(map: BorrowedFd<'_>, count: usize) -> Self {
        Self {
            in_batch: 0,
            out_batch: 0,
            keys: 0,
            values: 0,
            count: u32::try_from(count).expect("batches have thousands of entries"),
            map: map.as_raw_fd().cast_unsigned(),
            entry_flags: 0,
            flags: 0,
        }
    }
}

fn bpf(command: libc::c_long, call: &mut BatchCall) -> io::Result<()> {
    let size = size_of::<BatchCall>();
    // SAFETY: holds because the kernel reads and writes `size` bytes at `call`, and `count` keys
    // and entries where it points, which live and are as many; established by the two callers.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(call), size) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_DELETE_BATCH: libc::c_long = 27;
