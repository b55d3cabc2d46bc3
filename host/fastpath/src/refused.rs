//! Packets that entries drop, counted by who has them dropped.
//!
//! An entry says by number who that is, and the program counts by the number: what was counted stays
//! when the entry goes, and when the process does. Names are kept for successors, and never
//! interpreted here.

use std::collections::HashMap;

use aya::maps::{HashMap as BpfHashMap, MapData, PerCpuArray};
use rustix::time::{ClockId, clock_gettime};

use crate::FlowCache;
use crate::cache::MapFault;
use crate::entries::{NO_EXIST, exists};
use crate::layout::{MOST_REFUSERS, RawRefuser};

/// Who has packets dropped, in words of the cache's owner.
pub type RefuserName = [u8; 72];

/// The number of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refuser(pub(crate) u32);

impl Refuser {
    /// Nobody that is counted apart.
    pub const UNNAMED: Self = Self(0);
}

/// By whom packets were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// Nobody that is counted apart.
    Unnamed,
    /// One that this cache was told of.
    Own(RefuserName),
    /// One that a predecessor's was told of.
    Predecessor(RefuserName),
}

pub(crate) struct Refusers {
    names: BpfHashMap<MapData, u32, RawRefuser>,
    counts: PerCpuArray<MapData, u64>,
    /// When this cache was made: tells what it was told from what its predecessors were.
    era: u64,
    own: HashMap<RefuserName, u32>,
    next: u32,
}

impl Refusers {
    pub(crate) fn new(
        names: BpfHashMap<MapData, u32, RawRefuser>,
        counts: PerCpuArray<MapData, u64>,
    ) -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let era = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        Self { names, counts, era, own: HashMap::new(), next: 1 }
    }

    fn count(&self, number: u32) -> Result<u64, MapFault> {
        Ok(self.counts.get(&number, 0).map_err(MapFault)?.iter().sum())
    }
}

impl FlowCache {
    /// The number of who has packets dropped; that of nobody if there are too many of them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn refuser(&mut self, name: &RefuserName) -> Result<Refuser, MapFault> {
        let Refusers { names, era, own, next, .. } = &mut self.refusers;
        if let Some(number) = own.get(name) {
            return Ok(Refuser(*number));
        }
        while *next < MOST_REFUSERS {
            let number = *next;
            *next += 1;
            let raw = RawRefuser { era: *era, name: *name };
            match names.insert(number, raw, NO_EXIST) {
                // a predecessor's
                Err(error) if exists(&error) => {}
                outcome => {
                    outcome.map_err(MapFault)?;
                    own.insert(*name, number);
                    return Ok(Refuser(number));
                }
            }
        }
        Ok(Refuser::UNNAMED)
    }

    /// How many packets were dropped by entries, by whom, since the maps are there; a super-packet
    /// is one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn refused_by(&self) -> Result<Vec<(RefusedBy, u64)>, MapFault> {
        let refusers = &self.refusers;
        let mut refused = vec![(RefusedBy::Unnamed, refusers.count(Refuser::UNNAMED.0)?)];
        for named in refusers.names.iter() {
            let (number, RawRefuser { era, name }) = named.map_err(MapFault)?;
            let by = match era == refusers.era {
                true => RefusedBy::Own(name),
                false => RefusedBy::Predecessor(name),
            };
            refused.push((by, refusers.count(number)?));
        }
        Ok(refused)
    }
}
