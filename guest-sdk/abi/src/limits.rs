//! The bounds both sides rely on.

/// Slots in one call of a hook, at most.
pub const MAX_BATCH: usize = 256;
/// Tags of one decision, at most.
pub const MAX_TAGS: usize = 8;
/// The highest port id: port ids travel as VLAN identifiers.
pub const MAX_PORT: u16 = 4094;
/// Bytes of the manifest section, at most.
pub const MAX_MANIFEST: usize = 64 << 10;
/// Bytes of a module, at most.
pub const MAX_MODULE: usize = 16 << 20;
/// Bytes of a filter's configuration, at most.
pub const MAX_CONFIG: usize = 1 << 20;
/// Bytes of one update of tables, at most. The host makes them no longer than a quarter of it, unless
/// one row alone is.
pub const MAX_UPDATE: usize = 4 << 20;
/// Bytes of linear memory that a filter may have unless the operator says otherwise.
pub const DEFAULT_MEMORY: usize = 64 << 20;
/// Bytes of one log line or failure text; longer ones are cut.
pub const MAX_TEXT: usize = 1024;
/// Metrics of one filter, at most.
pub const MAX_METRICS: usize = 64;
/// Buckets of a histogram: bucket `i` counts values below 2 to the power `i`, the last one all
/// others.
pub const HISTOGRAM_BUCKETS: usize = 32;
/// Host maps of one filter, at most.
pub const MAX_MAPS: usize = 16;
/// Bytes of a host map's key, at most.
pub const MAX_KEY: usize = 64;
/// Bytes of a host map's value, at most.
pub const MAX_VALUE: usize = 256;
/// Entries in one call of [`MAP_GET_ALL`](crate::names::import::MAP_GET_ALL) or
/// [`MAP_EXCHANGE_ALL`](crate::names::import::MAP_EXCHANGE_ALL), at most.
pub const MAX_AT_ONCE: usize = 1024;
/// Entries of a host map, at most.
pub const MAX_MAP_ENTRIES: u32 = 1 << 20;
/// Bytes of the name of a filter, rule, metric or map, at most.
pub const MAX_NAME: usize = 64;
/// Bytes of a packet that the packet hook sees unless the manifest says otherwise; like every
/// snap length, rounded up to a multiple of [`ALIGNMENT`].
pub const DEFAULT_SNAP: u32 = 2048;
/// Bytes of a packet, at most.
pub const MAX_FRAME: usize = 9216;
/// Alignment of what the guest's allocator returns to the host.
pub const ALIGNMENT: u32 = 16;
