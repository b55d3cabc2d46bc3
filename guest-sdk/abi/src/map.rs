//! The shape of a host map.

use crate::layout;

layout! {
    /// The shape of a host map. Every opening of one map must state the same.
    pub struct MapShape as "millrace_map_shape", 32 bytes {
        /// Bytes of a key, 1 to 64.
        0 => key_len: u32,
        /// Bytes of a value, 1 to 256.
        4 => value_len: u32,
        /// Entries at most, 1 to 1048576.
        8 => capacity: u32,
        /// Milliseconds an entry lives after it was written; 0 for ever.
        12 => ttl_ms: u32,
        /// MILLRACE_MAP_* bits.
        16 => flags: u32,
        /// Entries of one group at most, so that none crowds out the others; 0 for no such limit.
        /// The group of an entry is the first two bytes of its value.
        20 => quota: u32,
        /// Zero.
        24 => reserved: u64,
    }
}
