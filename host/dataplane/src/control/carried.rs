//! What the kernel has carried by way of each port, from what its entries count.
//!
//! Entries are read in slices, beside workers: nothing they wait for is locked meanwhile. What is
//! published is never more than was carried, only grows, and is as old as the last walk through the
//! entries; there is one a second, unless no packet came.

use std::sync::Arc;
use std::time::Duration;

use millrace_fastpath::{
    self as fastpath, Carried, Counter, Cursor, FlowCache, MapFault, Reader, Traffic,
};
use parking_lot::Mutex;

use crate::control::ports::Ports;
use crate::control::punt::Punt;
use crate::port::PortId;

/// Adds up what the kernel has carried.
pub(super) struct Sampler {
    reader: Reader,
    cache: Arc<Mutex<FlowCache>>,
    walk: Mutex<Walk>,
    published: Mutex<Carried>,
}

/// A walk through the entries.
#[derive(Default)]
struct Walk {
    /// Where it goes on; nothing between two walks.
    next: Option<Cursor>,
    sum: Carried,
    /// Packets that had been carried when it began.
    hits: u64,
    /// When the next one begins.
    due_ns: u64,
}

/// What the kernel has carried by way of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortTraffic {
    pub(super) came: Traffic,
    pub(super) left: Traffic,
}

impl Sampler {
    pub(super) fn new(cache: Arc<Mutex<FlowCache>>) -> Result<Self, MapFault> {
        let reader = cache.lock().reader()?;
        Ok(Self { reader, cache, walk: Mutex::default(), published: Mutex::default() })
    }

    /// Goes on with a walk, or begins one if it is time.
    pub(super) fn step(&self, now_ns: u64) -> Result<(), MapFault> {
        let walk = &mut *self.walk.lock();
        if walk.next.is_none() {
            if now_ns < walk.due_ns {
                return Ok(());
            }
            walk.due_ns = now_ns + EVERY.as_nanos() as u64;
            let cache = self.cache.lock();
            let hits = cache.count(Counter::Hit)?;
            if hits == walk.hits {
                return Ok(());
            }
            walk.hits = hits;
            walk.sum = cache.gone().clone();
            walk.next = Some(Cursor::default());
        }
        let mut looked_at = 0;
        while let Some(from) = walk.next
            && looked_at < FlowCache::SLICE
        {
            let slice = self.reader.slice(from)?;
            looked_at += slice.entries.len();
            slice.entries.iter().for_each(|(key, usage)| walk.sum.add(key.from(), usage));
            walk.next = slice.next;
        }
        if walk.next.is_none() {
            raise(&mut self.published.lock(), &walk.sum);
        }
        Ok(())
    }

    /// What was carried by way of the port with this number and link.
    fn of(&self, port: u16, link: u32) -> PortTraffic {
        let published = self.published.lock();
        PortTraffic {
            came: published.came.get(&port).copied().unwrap_or_default(),
            left: published.left.get(&link).copied().unwrap_or_default(),
        }
    }

    /// Forgets a port that is gone, and whose entries are.
    fn forget(&self, port: fastpath::PortId, link: u32) {
        let mut walk = self.walk.lock();
        self.cache.lock().forget_carried(port, link);
        walk.sum.forget(port.number(), link);
        self.published.lock().forget(port.number(), link);
    }
}

impl Ports {
    /// What adds up what the kernel carries, if there is a flow cache.
    pub(super) fn sampler(&self) -> Option<Arc<Sampler>> {
        self.punt.as_ref().map(|punt| Arc::clone(&punt.sampler))
    }

    /// What the kernel has carried by way of a port.
    pub(super) fn carried(&self, port: PortId, link: Option<u32>) -> PortTraffic {
        let of = |(punt, link): (&Punt, u32)| punt.sampler.of(port.number(), link);
        self.punt.as_ref().zip(link).map_or_else(PortTraffic::default, of)
    }

    /// Forgets that of a port that is gone, and whose entries are.
    pub(super) fn forget_carried(&self, port: PortId, link: Option<u32>) {
        let number = fastpath::PortId::new(port.number());
        if let (Some(punt), Some(number), Some(link)) = (&self.punt, number, link) {
            punt.sampler.forget(number, link);
        }
    }
}

/// An entry that went while a walk was under way may be missing in its sum.
fn raise(published: &mut Carried, sum: &Carried) {
    fn one(published: &mut Traffic, sum: Traffic) {
        published.packets = published.packets.max(sum.packets);
        published.bytes = published.bytes.max(sum.bytes);
    }
    for (port, traffic) in &sum.came {
        one(published.came.entry(*port).or_default(), *traffic);
    }
    for (link, traffic) in &sum.left {
        one(published.left.entry(*link).or_default(), *traffic);
    }
}

/// How often a walk begins.
const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(came: &[(u16, u64)]) -> Carried {
        let traffic = |packets| Traffic { packets, bytes: 100 * packets };
        let came = came.iter().map(|&(port, packets)| (port, traffic(packets))).collect();
        Carried { came, ..Carried::default() }
    }

    #[test]
    fn what_is_published_never_falls() {
        let mut published = carried(&[(1, 10), (2, 5)]);
        raise(&mut published, &carried(&[(1, 9), (2, 6), (3, 1)]));
        assert_eq!(published, carried(&[(1, 10), (2, 6), (3, 1)]));
    }
}
