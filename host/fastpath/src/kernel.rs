//! The system calls on maps that the loader lacks: many entries at once, and shared memory.
//!
//! Owns the crate's `unsafe`: the promise that layouts are plain bytes, `bpf(2)` for batches
//! (Linux 5.6) and last looks (5.14), and maps in this process's memory (Linux 5.5). Never interprets an entry.
//!
//! A reader must not break this: the kernel reads and writes `count` keys and values of the map's
//! sizes, so slices are as long as the count, and a map is only reached by its type.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use aya::Pod;
use aya::maps::{HashMap, IterableMap, MapData};
use rustix::net::{AddressFamily, SocketType, socket};

use crate::captured::RawTap;
use crate::layout::{
    RawEcho, RawEgress, RawEntry, RawFilter, RawFrontend, RawKey, RawLimit, RawPunt, RawRefuser,
    RawShare, RawSlot, RawUplink,
};

// SAFETY: holds because its fields are integers without padding for any `N`: 2 N bytes, two
// numbers as bytes, one of two bytes at an even place, and two bytes; established at `layout`.
unsafe impl<const N: usize> Pod for RawKey<N> {}
// SAFETY: holds because its fields are integers without padding for the two `N` there are: 72
// bytes, a key, 2 N bytes and 8 make a multiple of 8 for 4 and 16; established at `layout`.
unsafe impl<const N: usize> Pod for RawEntry<N> {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawPunt {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawEgress {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawLimit {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawShare {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawFilter {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawUplink {}
// SAFETY: holds because its fields are integers without padding, established at `layout`.
unsafe impl Pod for RawEcho {}
// SAFETY: holds because its fields are octets, established at `layout`.
unsafe impl Pod for RawFrontend {}
// SAFETY: holds because its fields are 8 bytes and 72 octets, established at `layout`.
unsafe impl Pod for RawRefuser {}

// SAFETY: holds because its fields are integers without padding, established at `captured`.
unsafe impl Pod for RawTap {}

/// The entries of one family.
pub(crate) type Entries<const N: usize> = HashMap<MapData, RawKey<N>, RawEntry<N>>;

/// How many packets of flows without an entry that carries were punted, and to which queue.
pub(crate) type Punted<const N: usize> = HashMap<MapData, RawKey<N>, [u32; 2]>;

/// Some entries, and where to go on.
pub(crate) type Batch<const N: usize> = (Vec<(RawKey<N>, RawEntry<N>)>, Option<u32>);

/// Puts entries in place of those with these keys, up to the first that finds no room.
pub(crate) fn insert_batch<const N: usize, const COUNT: usize>(
    map: &Entries<N>,
    keys: &[RawKey<N>; COUNT],
    entries: &[RawEntry<N>; COUNT],
) -> io::Result<()> {
    let mut call = BatchCall::new(map, COUNT);
    (call.keys, call.values) = (keys.as_ptr() as u64, entries.as_ptr() as u64);
    // SAFETY: holds because the kernel reads `count` keys and entries of the sizes that aya checked
    // when the map was opened with these types, and there are as many of both by their types;
    // established at `BatchCall::new`.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut call) }
}

/// Removes entries up to the first that is not there; says how many it removed.
pub(crate) fn remove_batch<const N: usize>(
    map: &Entries<N>,
    keys: &[RawKey<N>],
) -> io::Result<usize> {
    let mut call = BatchCall::new(map, keys.len());
    call.keys = keys.as_ptr() as u64;
    // SAFETY: holds because the kernel reads `count` keys of the size that aya checked when the
    // map was opened with this type, and `keys` has as many; established at `BatchCall::new`.
    match unsafe { bpf(MAP_DELETE_BATCH, &mut call) } {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(call.count as usize),
    }
}

/// Copies up to `room` entries, from where an earlier call ended.
pub(crate) fn lookup_batch<const N: usize>(
    map: &Entries<N>,
    from: Option<u32>,
    room: usize,
) -> io::Result<Batch<N>> {
    let mut keys = vec![RawKey::BLANK; room];
    let mut entries = vec![RawEntry::blank(); room];
    let mut next = 0u32;
    let mut call = BatchCall::new(map, room);
    call.in_batch = from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64);
    call.out_batch = &raw mut next as u64;
    call.keys = keys.as_mut_ptr() as u64;
    call.values = entries.as_mut_ptr() as u64;
    // SAFETY: holds because the kernel writes up to `count` keys and entries of the sizes that aya
    // checked when the map was opened with these types, both vectors have as many, and a place in
    // a hash map has four bytes; established here and at `BatchCall::new`.
    let more = match unsafe { bpf(MAP_LOOKUP_BATCH, &mut call) } {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    let count = call.count as usize;
    Ok((keys.into_iter().zip(entries).take(count).collect(), more.then_some(next)))
}

/// Removes one entry, and copies what it was at last.
pub(crate) fn take_entry<const N: usize>(
    map: &Entries<N>,
    key: &RawKey<N>,
) -> io::Result<Option<RawEntry<N>>> {
    let mut entry = RawEntry::blank();
    let mut call = ElementCall {
        map: map.map().fd().as_fd().as_raw_fd().cast_unsigned(),
        zero: 0,
        key: std::ptr::from_ref(key) as u64,
        value: &raw mut entry as u64,
        flags: 0,
    };
    // SAFETY: holds because the kernel reads a key and writes an entry of the sizes that aya
    // checked when the map was opened with these types; established here.
    match unsafe { bpf(MAP_LOOKUP_AND_DELETE, &mut call) } {
        Ok(()) => Ok(Some(entry)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An entry as the kernel has it.
pub(crate) fn bytes<const N: usize>(entry: &RawEntry<N>) -> &[u8] {
    let length = size_of::<RawEntry<N>>();
    // SAFETY: holds because an entry is `length` bytes without padding, as `Pod` above promises,
    // and the borrow is as long as the entry's.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(entry).cast(), length) }
}

/// What the kernel tells this thread's network namespace from others by (Linux 5.14).
pub(crate) fn namespace_cookie() -> io::Result<u64> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: holds because the kernel writes `length` bytes at most, and a number has as many;
    // established here.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// An array map of slots, in this process's memory.
pub(crate) struct SlotMemory {
    base: NonNull<RawSlot>,
    count: usize,
}

// SAFETY: holds because all that is reached through it are atomics, established at `slots`.
unsafe impl Send for SlotMemory {}
// SAFETY: holds because all that is reached through it are atomics, established at `slots`.
unsafe impl Sync for SlotMemory {}

impl SlotMemory {
    pub(crate) fn map(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let count = info.max_entries() as usize;
        if info.value_size() as usize != size_of::<RawSlot>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (length, access) = (count * size_of::<RawSlot>(), libc::PROT_READ | libc::PROT_WRITE);
        let descriptor = map.fd().as_fd().as_raw_fd();
        // SAFETY: holds because the kernel chooses a free place; `descriptor` is borrowed from
        // `map` for the call, and the mapping needs it no longer.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, descriptor, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address 0 unasked");
        Ok(Self { base, count })
    }

    pub(crate) fn slots(&self) -> &[RawSlot] {
        // SAFETY: holds because the mapping has `count` values of this size, and is there until
        // `self` is dropped, established at `map`; the program shares it, so all are atomics.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        let length = self.count * size_of::<RawSlot>();
        // SAFETY: holds because `map` mapped so many bytes there, and borrows of them have ended.
        unsafe { libc::munmap(self.base.as_ptr().cast(), length) };
    }
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
    fn new<const N: usize>(map: &Entries<N>, count: usize) -> Self {
        Self {
            in_batch: 0,
            out_batch: 0,
            keys: 0,
            values: 0,
            count: u32::try_from(count).expect("batches have thousands of entries"),
            map: map.map().fd().as_fd().as_raw_fd().cast_unsigned(),
            entry_flags: 0,
            flags: 0,
        }
    }
}

/// The part of `union bpf_attr` for one element.
#[repr(C)]
struct ElementCall {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// # Safety
/// `call` has to be what the command takes, and to point to as many keys and entries of the map's
/// sizes as it says.
unsafe fn bpf<C>(command: libc::c_long, call: &mut C) -> io::Result<()> {
    let size = size_of::<C>();
    // SAFETY: holds because the kernel reads and writes `size` bytes at `call`, which is as long,
    // and what it points to, which the caller answers for.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(call), size) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const MAP_LOOKUP_AND_DELETE: libc::c_long = 21;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const MAP_DELETE_BATCH: libc::c_long = 27;
