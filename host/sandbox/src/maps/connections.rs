//! How many live connections each endpoint has: a map that the host writes, and filters read.
//!
//! Nobody who reads it can change it, it belongs to no stage, and it is not kept for the next
//! process: that one has the connections, and counts them itself. Until somebody reads it, nobody
//! need write it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_abi::{MapShape, limits, names::map_flag};

use super::{HostMap, MapRegistry, Shape};

/// Who has connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    /// IPv4 as IPv4-mapped IPv6.
    pub address: [u8; 16],
    /// The port there.
    pub port: u16,
    /// The upper-layer protocol's number.
    pub protocol: u8,
}

/// The map itself.
#[derive(Debug)]
pub(super) struct Own(Arc<HostMap>);

impl MapRegistry {
    /// How many live connections each endpoint has.
    pub fn connections(&self) -> &Arc<HostMap> {
        &self.connections.0
    }

    /// The same for a filter that opens it.
    ///
    /// # Errors
    /// What it states of the shape that cannot be.
    pub(crate) fn open_connections(&self, stated: &MapShape) -> Result<Arc<HostMap>, String> {
        let MapShape { key_len, value_len, flags, ttl_ms, quota, .. } = *stated;
        let fits = (key_len as usize, value_len as usize) == (KEY_LEN, VALUE_LEN)
            && (flags, ttl_ms, quota) == (map_flag::CONNECTIONS, 0, 0);
        match fits {
            true => Ok(Arc::clone(self.connections())),
            false => Err(format!(
                "the map of connections has keys of {KEY_LEN} bytes, values of {VALUE_LEN}, no \
                 other flag, no life and no quota"
            )),
        }
    }
}

impl HostMap {
    /// Whether the host itself writes the map, and nobody else may.
    pub fn is_own(&self) -> bool {
        self.read.is_some()
    }

    /// Whether anybody has read a map that the host itself writes.
    pub fn is_read(&self) -> bool {
        self.read.as_ref().is_some_and(|read| read.load(Ordering::Relaxed))
    }

    /// Counts one more connection; false if there is no room for another endpoint.
    pub fn raise(&self, served: &Served) -> bool {
        self.add(&served.key(), 1, 0).is_ok()
    }

    /// Counts one connection less of those that were counted.
    pub fn lower(&self, served: &Served) {
        let key = served.key();
        let (hash, shard) = self.locate(&key);
        let mut shard = shard.lock();
        let Some(at) = shard.position(hash, &key) else { return };
        let value = &mut shard.entries[at].value;
        let (head, _) = value.split_first_chunk_mut().expect("values have eight bytes");
        let rest = u64::from_le_bytes(*head).saturating_sub(1);
        *head = rest.to_le_bytes();
        if rest == 0 {
            self.released(&shard.take(at));
        }
    }

    #[inline]
    pub(super) fn note_reading(&self) {
        // a store that changes nothing would take the line from others all the same
        if let Some(read) = &self.read
            && !read.load(Ordering::Relaxed)
        {
            read.store(true, Ordering::Relaxed);
        }
    }
}

impl Served {
    fn key(&self) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        key[..16].copy_from_slice(&self.address);
        key[16..18].copy_from_slice(&self.port.to_le_bytes());
        key[18] = self.protocol;
        key
    }
}

impl Default for Own {
    fn default() -> Self {
        let shape = MapShape {
            key_len: KEY_LEN as u32,
            value_len: VALUE_LEN as u32,
            capacity: limits::MAX_MAP_ENTRIES,
            ..MapShape::ZERO
        };
        let shape = Shape::new(&shape).expect("its lengths and its capacity are within the limits");
        Self(Arc::new(HostMap { read: Some(AtomicBool::new(false)), ..HostMap::new(shape) }))
    }
}

const KEY_LEN: usize = 20;
const VALUE_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn count(map: &HostMap, served: &Served) -> Option<u64> {
        let mut value = [0; VALUE_LEN];
        map.get(&served.key(), &mut value, 1).then(|| u64::from_le_bytes(value))
    }

    #[test]
    fn who_has_connections_has_an_entry_and_loses_it_with_the_last_one() {
        let maps = MapRegistry::default();
        let map = maps.connections();
        let [a, b] = [80, 81].map(|port| Served { address: [1; 16], port, protocol: 6 });
        assert!(map.raise(&a) && map.raise(&a) && map.raise(&b));
        assert!(!map.is_read(), "writing is not reading");
        assert_eq!((count(map, &a), count(map, &b), map.len()), (Some(2), Some(1), 2));
        assert!(map.is_read());
        map.lower(&a);
        map.lower(&b);
        map.lower(&b);
        assert_eq!((count(map, &a), count(map, &b), map.len()), (Some(1), None, 1));
        assert!(maps.list().is_empty(), "it is nobody's to list, keep or sweep");
    }
}
