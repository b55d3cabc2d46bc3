//! The names by which host and guest find each other.

/// The custom section that holds the manifest: JSON, UTF-8.
pub const MANIFEST_SECTION: &str = "millrace";

/// What a module exports.
pub mod export {
    /// The guest's linear memory.
    pub const MEMORY: &str = "memory";
    /// `(len: i32) -> i32`: memory for the host to write to, aligned to 16; 0 if there is none.
    pub const ALLOC: &str = "millrace_alloc";
    /// `(json: i32, len: i32) -> i32`: takes a configuration; not 0 refuses it.
    pub const CONFIGURE: &str = "millrace_configure";
    /// `(changes: i32, len: i32) -> i32`: takes changes of tables; not 0 refuses them.
    pub const UPDATE: &str = "millrace_update";
    /// `(slots: i32, decisions: i32, n: i32) -> i32`: the flow hook; not 0 is a fault.
    pub const FLOW: &str = "millrace_flow";
    /// `(slots: i32, packets: i32, n: i32) -> i32`: the packet hook; not 0 is a fault.
    pub const PACKET: &str = "millrace_packet";
    /// `(now_ns: i64) -> i32`: called about once a second; not 0 is a fault.
    pub const TICK: &str = "millrace_tick";
}

/// What a module may import.
pub mod import {
    /// The module all imports come from.
    pub const MODULE: &str = "millrace";
    /// `(level: i32, text: i32, len: i32)`: writes a line to the filter's log, rate-limited.
    pub const LOG: &str = "log";
    /// `(text: i32, len: i32)`: says why the call in progress is about to fail.
    pub const FAIL: &str = "fail";
    /// `() -> i64`: nanoseconds of the clock that slots use.
    pub const NOW: &str = "now";
    /// `(kind: i32, name: i32, len: i32, value: i32) -> i32`: declares a metric; during configure.
    pub const METRIC: &str = "metric";
    /// `(name: i32, len: i32, shape: i32) -> i32`: opens a host map; during configure.
    pub const MAP_OPEN: &str = "map_open";
    /// `(map: i32, key: i32, value: i32) -> i32`: reads an entry.
    pub const MAP_GET: &str = "map_get";
    /// `(map: i32, key: i32, value: i32) -> i32`: writes an entry.
    pub const MAP_SET: &str = "map_set";
    /// `(map: i32, key: i32) -> i32`: removes an entry.
    pub const MAP_REMOVE: &str = "map_remove";
    /// `(map: i32, key: i32, delta: i64, out: i32) -> i32`: adds to the first 8 bytes of an entry.
    pub const MAP_ADD: &str = "map_add";
    /// `(map: i32, key: i32, expected: i32, value: i32) -> i32`: replaces an entry if unchanged.
    pub const MAP_EXCHANGE: &str = "map_exchange";
    /// `(map: i32, n: i32, keys: i32, values: i32, found: i32) -> i32`: reads `n` entries.
    pub const MAP_GET_ALL: &str = "map_get_all";
    /// `(map: i32, n: i32, keys: i32, found: i32, expected: i32, values: i32, done: i32) -> i32`:
    /// replaces `n` entries, each if it is unchanged.
    pub const MAP_EXCHANGE_ALL: &str = "map_exchange_all";
    /// `(port: i32, frame: i32, len: i32) -> i32`: sends a frame out of a port.
    pub const EMIT: &str = "emit";
}

/// Levels of [`import::LOG`].
pub mod log_level {
    /// Something failed.
    pub const ERROR: u32 = 1;
    /// Something is odd.
    pub const WARN: u32 = 2;
    /// Worth knowing.
    pub const INFO: u32 = 3;
    /// Worth knowing while looking for a fault.
    pub const DEBUG: u32 = 4;
}

/// Kinds of [`import::METRIC`].
pub mod metric_kind {
    /// A `u64` that only grows.
    pub const COUNTER: u32 = 1;
    /// An `i64` that goes up and down.
    pub const GAUGE: u32 = 2;
    /// [`HISTOGRAM_BUCKETS`](crate::limits::HISTOGRAM_BUCKETS) + 1 `u64`: the buckets, then the
    /// sum of all values.
    pub const HISTOGRAM: u32 = 3;
}

/// [`MapShape::flags`](crate::MapShape::flags).
pub mod map_flag {
    /// The map is shared by name among filters; needs the capability `share`.
    pub const SHARED: u32 = 1 << 0;
    /// Reading an entry renews its time to live, as writing does.
    pub const TOUCH: u32 = 1 << 1;
    /// The map is the host's own, to be read: how many live connections it has translated to each
    /// endpoint.
    pub const CONNECTIONS: u32 = 1 << 2;
    /// Every bit that means something.
    pub const KNOWN: u32 = SHARED | TOUCH | CONNECTIONS;
}

/// What the map imports return.
pub mod map_status {
    /// Done; for [`MAP_GET`](super::import::MAP_GET) and
    /// [`MAP_EXCHANGE`](super::import::MAP_EXCHANGE): found, replaced.
    pub const OK: i32 = 1;
    /// No such entry, or the entry is not what was expected.
    pub const ABSENT: i32 = 0;
    /// The map is full.
    pub const FULL: i32 = -1;
    /// The call is not allowed here, or the map was opened with another shape.
    pub const REFUSED: i32 = -2;
}

/// What [`import::EMIT`] returns.
pub mod emit_status {
    /// The frame is on its way.
    pub const OK: i32 = 1;
    /// No port can have this number, a bad length, no capability, or no room this time.
    pub const REFUSED: i32 = -2;
}
