//! What a process that shares the maps has to know of a connection beside its entries: kept for
//! whoever has the connections next.
//!
//! Nothing here is ever read by the kernel or interpreted here. A connection that nothing is kept
//! of goes on for as long as its entries do, and no longer.

use aya::maps::{HashMap, MapData};

use crate::FlowCache;
use crate::cache::MapFault;
use crate::entries::if_there;

/// What tells a connection from others.
pub type Name = [u8; 40];

/// What is kept of one.
pub type Record = [u8; 256];

pub(crate) type Records = HashMap<MapData, Name, Record>;

impl FlowCache {
    /// Keeps something of a connection, in place of what was kept before.
    ///
    /// # Errors
    /// If there is no room, or the kernel refuses.
    pub fn keep(&mut self, name: &Name, record: &Record) -> Result<(), MapFault> {
        self.records.insert(name, record, 0).map_err(MapFault)
    }

    /// Keeps nothing of a connection any more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn drop_kept(&mut self, name: &Name) -> Result<(), MapFault> {
        if_there(self.records.remove(name)).map(|_| ())
    }

    /// What is kept of all connections, by name. Of what changes meanwhile, some may be seen twice
    /// or not at all.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kept(&self) -> Result<Vec<(Name, Record)>, MapFault> {
        let all: Result<_, _> = self.records.iter().collect();
        all.map_err(MapFault)
    }
}
