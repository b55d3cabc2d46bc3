//! What the kernel has carried by way of ports, added up from what entries count.
//!
//! A sum over a walk through the entries is right but for those that go meanwhile; so what gone
//! entries have carried is kept, and taken when a walk begins: an entry is then counted once, or
//! not yet.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
use aya::maps::{HashMap as BpfHashMap, Map, MapData};

use crate::cache::{MapFault, fault};
use crate::entries::slice;
use crate::kernel::Entries;
use crate::{Cursor, FlowCache, PortId, Slice, Usage};

/// Packets and bytes that the kernel has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets as on the wire: a super-packet counts as its segments.
    pub packets: u64,
    /// Bytes, Ethernet headers included; the headers of a super-packet count once.
    pub bytes: u64,
}

/// What the kernel has carried, by where it came in and by where it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// By the number of the port that packets came in by.
    pub came: HashMap<u16, Traffic>,
    /// By the index of the link that they left by.
    pub left: HashMap<u32, Traffic>,
}

/// Reads entries beside their cache, and without waiting for whoever has that.
pub struct Reader {
    flows4: Entries<4>,
    flows6: Entries<16>,
}

impl Traffic {
    /// Adds some more.
    pub fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl Carried {
    /// Adds what an entry has carried, whose packets come in by `from`.
    pub fn add(&mut self, from: PortId, usage: &Usage) {
        let traffic = Traffic { packets: usage.packets, bytes: usage.bytes };
        if traffic == Traffic::default() {
            return;
        }
        self.came.entry(from.number()).or_default().add(traffic);
        if let Some(link) = usage.link {
            self.left.entry(link).or_default().add(traffic);
        }
    }

    /// Forgets a port, whose number and link others may get.
    pub fn forget(&mut self, port: u16, link: u32) {
        self.came.remove(&port);
        self.left.remove(&link);
    }
}

impl FlowCache {
    /// Another hand on the entries, which only reads.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub fn reader(&self) -> Result<Reader, MapFault> {
        Ok(Reader { flows4: again(&self.flows4)?, flows6: again(&self.flows6)? })
    }

    /// What entries have carried that are gone.
    pub fn gone(&self) -> &Carried {
        &self.gone
    }

    /// Forgets what went by a port that is gone itself, and whose entries are.
    pub fn forget_carried(&mut self, port: PortId, link: u32) {
        self.gone.forget(port.number(), link);
    }
}

impl Reader {
    /// Copies some entries, as [`FlowCache::slice`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn slice(&self, from: Cursor) -> Result<Slice, MapFault> {
        slice(&self.flows4, &self.flows6, from)
    }
}

/// The same map by another descriptor.
fn again<K: Pod, V: Pod>(
    map: &BpfHashMap<MapData, K, V>,
) -> Result<BpfHashMap<MapData, K, V>, MapFault> {
    use aya::maps::IterableMap;

    let descriptor: OwnedFd = map.map().fd().as_fd().try_clone_to_owned().map_err(fault("dup"))?;
    let data = MapData::from_fd(descriptor).map_err(MapFault)?;
    BpfHashMap::try_from(Map::HashMap(data)).map_err(MapFault)
}
