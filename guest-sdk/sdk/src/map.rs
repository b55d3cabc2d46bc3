//! What a filter remembers beyond its own life: maps that the host keeps, the
//! same for every worker, still there when the filter is swapped.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use crate::abi::names::{map_flag, map_status};
use crate::abi::{MapShape, limits};
use crate::filter::Error;
use crate::host;
use crate::record::Record;

/// A map kept by the host. Each operation on an entry is atomic, among all workers.
///
/// An operation costs a call to the host, some tens of nanoseconds: once per flow, rather than
/// once per packet.
#[derive(Debug)]
pub struct Map<K, V> {
    pub(crate) handle: i32,
    _types: PhantomData<fn(K) -> V>,
}

/// How a map is kept.
#[derive(Clone, Copy, Debug)]
pub struct MapOptions {
    capacity: u32,
    ttl: Duration,
    quota: u32,
    flags: u32,
}

/// There is no room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl MapOptions {
    /// A map of `capacity` entries at most, which stay until they are removed.
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, ttl: Duration::ZERO, quota: 0, flags: 0 }
    }

    /// Entries die this long after they were last written.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Reading an entry renews it, as writing does.
    #[must_use]
    pub const fn touch(mut self) -> Self {
        self.flags |= map_flag::TOUCH;
        self
    }

    /// At most `entries` whose values begin with the same two bytes, such as a port's id: so that
    /// one port cannot take the others' room.
    #[must_use]
    pub const fn quota(mut self, entries: u32) -> Self {
        self.quota = entries;
        self
    }

    /// Not a map of the filter's own, but the host's, to be read: how many live connections of the
    /// node are translated to an endpoint. Its key is [`Served`] and its value a `u64`; who has no
    /// connections has no entry.
    pub const fn connections() -> Self {
        Self { flags: map_flag::CONNECTIONS, ..Self::new(1) }
    }

    pub(crate) fn shape<K: Record, V: Record>(self) -> MapShape {
        MapShape {
            key_len: K::LEN as u32,
            value_len: V::LEN as u32,
            capacity: self.capacity,
            ttl_ms: u32::try_from(self.ttl.as_millis()).unwrap_or(u32::MAX),
            flags: self.flags,
            quota: self.quota,
            ..MapShape::ZERO
        }
    }

    /// Other filters that open a shared map of this name have the same one. Needs the capability
    /// `share`.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.flags |= map_flag::SHARED;
        self
    }
}

/// Who has connections: the key of the map that [`MapOptions::connections`] opens.
#[derive(millrace_filter_macros::Record, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    address: IpAddr,
    port: u16,
    protocol: u8,
    zero: u8,
}

impl Served {
    /// Whoever has this address and port, with the upper-layer protocol of this number.
    pub fn new(address: IpAddr, port: u16, protocol: u8) -> Self {
        Self { address, port, protocol, zero: 0 }
    }
}

impl<K: Record, V: Record> Map<K, V> {
    pub(crate) fn open(name: &str, options: MapOptions) -> Result<Self, Error> {
        const {
            assert!(K::LEN >= 1 && K::LEN <= limits::MAX_KEY, "a key has 1 to 64 bytes");
            assert!(V::LEN >= 1 && V::LEN <= limits::MAX_VALUE, "a value has 1 to 256 bytes");
        }
        let shape = options.shape::<K, V>();
        let handle = host::map_open(name, &shape)?;
        Ok(Self { handle, _types: PhantomData })
    }

    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<V> {
        let mut value = V::ZEROS;
        let status = host::map_get(self.handle, bytes(key).as_ref(), value.as_mut());
        (status == map_status::OK).then(|| V::read(value.as_ref()))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// If it is a new one and there is no room.
    #[inline]
    pub fn set(&self, key: &K, value: &V) -> Result<(), Full> {
        let status = host::map_set(self.handle, bytes(key).as_ref(), bytes(value).as_ref());
        if status == map_status::OK { Ok(()) } else { Err(Full) }
    }

    /// Removes an entry; returns whether it was there.
    #[inline]
    pub fn remove(&self, key: &K) -> bool {
        host::map_remove(self.handle, bytes(key).as_ref()) == map_status::OK
    }

    /// Writes an entry if its present value is `expected`, or, with `None`, if there is none.
    /// Returns whether it was written.
    #[inline]
    pub fn exchange(&self, key: &K, expected: Option<&V>, value: &V) -> bool {
        let (key, expected, value) = (bytes(key), expected.map(bytes), bytes(value));
        let expected = expected.as_ref().map(AsRef::as_ref);
        let status = host::map_exchange(self.handle, key.as_ref(), expected, value.as_ref());
        status == map_status::OK
    }

    /// Writes what `change` makes of the present value, whatever others do meanwhile; `None`
    /// leaves the entry as it is. Returns what was written.
    ///
    /// Gives up, with `None`, if there is no room or others keep changing the entry.
    #[inline]
    pub fn update(&self, key: &K, mut change: impl FnMut(Option<&V>) -> Option<V>) -> Option<V> {
        for _ in 0..UPDATE_ATTEMPTS {
            let present = self.get(key);
            let value = change(present.as_ref())?;
            if self.exchange(key, present.as_ref(), &value) {
                return Some(value);
            }
        }
        None
    }
}

impl<K: Record> Map<K, u64> {
    /// Adds to an entry, wrapping; a new one starts from 0. Returns the sum.
    ///
    /// # Errors
    /// If it is a new one and there is no room.
    #[inline]
    pub fn add(&self, key: &K, delta: i64) -> Result<u64, Full> {
        let mut sum = 0;
        let status = host::map_add(self.handle, bytes(key).as_ref(), delta, &mut sum);
        if status == map_status::OK { Ok(sum) } else { Err(Full) }
    }
}

/// A record as the host has it.
#[inline]
fn bytes<R: Record>(record: &R) -> R::Bytes {
    let mut bytes = R::ZEROS;
    record.write(bytes.as_mut());
    bytes
}

/// How often [`Map::update`] tries.
const UPDATE_ATTEMPTS: usize = 16;
