//! Numbers that tell insertions and changes of entries apart, over all caches that share maps.

use aya::maps::{Array, MapData};

use crate::Generation;
use crate::cache::MapFault;

/// Takes numbers by the block, so that it seldom costs a system call.
pub(crate) struct Numbers {
    given_out: Array<MapData, u32>,
    last: u32,
    left: u32,
}

impl Numbers {
    pub(crate) fn new(given_out: Array<MapData, u32>) -> Self {
        Self { given_out, last: 0, left: 0 }
    }

    /// A number that nothing had for long; never 0.
    pub(crate) fn take(&mut self) -> Result<Generation, MapFault> {
        if self.left == 0 {
            let start = self.given_out.get(&0, 0).map_err(MapFault)?;
            self.given_out.set(0, start.wrapping_add(BLOCK), 0).map_err(MapFault)?;
            // the first of a block is a multiple of its size, and once that is 0
            (self.last, self.left) = (start, BLOCK - 1);
        }
        self.left -= 1;
        self.last += 1;
        Ok(Generation(self.last))
    }
}

const BLOCK: u32 = 1 << 20;
