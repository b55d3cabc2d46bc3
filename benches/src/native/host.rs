//! The host of a native filter: what the sandbox's imports do, without the boundary.
//!
//! One filter has it, on one thread at a time; between setup and drop its maps stay what they are,
//! so that finding one takes no lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use millrace_abi::MapShape;
use millrace_abi::limits::{HISTOGRAM_BUCKETS, MAX_MAPS};
use millrace_abi::names::{map_flag, map_status, metric_kind};
use millrace_filter::Error;
use millrace_filter::testing::host::Host;
use millrace_sandbox::maps::{HostMap, MapName, MapRegistry, Outcome, Shape};
use millrace_sandbox::{Metric, MetricValue, now_ns};

/// What the host keeps for one native filter.
pub(super) struct NativeHost {
    stage: Arc<str>,
    registry: Arc<MapRegistry>,
    /// When the batch in hand was received; the time of host map operations.
    batch_ns: AtomicU64,
    opened: AtomicUsize,
    maps: [OnceLock<Arc<HostMap>>; MAX_MAPS],
    metrics: Mutex<Vec<Declared>>,
}

struct Declared {
    kind: u32,
    name: String,
    value: Arc<[AtomicU64]>,
}

impl NativeHost {
    pub(super) fn new(stage: &Arc<str>, registry: &Arc<MapRegistry>) -> Self {
        Self {
            stage: Arc::clone(stage),
            registry: Arc::clone(registry),
            batch_ns: AtomicU64::new(now_ns()),
            opened: AtomicUsize::new(0),
            maps: Default::default(),
            metrics: Mutex::default(),
        }
    }

    /// States when the batch in hand was received.
    #[inline]
    pub(super) fn begin(&self, now_ns: u64) {
        self.batch_ns.store(now_ns, Relaxed);
    }

    /// What the filter counts, as of now.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let declared = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        declared.iter().map(Declared::read).collect()
    }

    #[inline]
    fn map(&self, handle: i32) -> Option<&HostMap> {
        self.maps.get(usize::try_from(handle).ok()?)?.get().map(Arc::as_ref)
    }

    #[inline]
    fn time(&self) -> u64 {
        self.batch_ns.load(Relaxed)
    }
}

impl Host for NativeHost {
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn log(&self, _level: u32, _text: &str) {}

    fn metric(&self, kind: u32, name: &str, value: Arc<[AtomicU64]>) -> Result<(), Error> {
        let declared = Declared { kind, name: name.to_owned(), value };
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).push(declared);
        Ok(())
    }

    fn map_open(&self, name: &str, stated: &MapShape) -> Result<i32, Error> {
        let shared = stated.flags & map_flag::SHARED != 0;
        let owner = (!shared).then(|| Arc::clone(&self.stage));
        let shape = Shape::new(stated).map_err(Error::new)?;
        let map = self
            .registry
            .open(MapName { owner, name: name.to_owned() }, shape)
            .map_err(|present| Error::new(format!("host map `{name}` exists as {present}")))?;
        let handle = self.opened.fetch_add(1, Relaxed);
        let place = self.maps.get(handle).ok_or_else(|| Error::new("too many host maps"))?;
        place.get_or_init(|| map);
        Ok(handle as i32)
    }

    #[inline]
    fn map_get(&self, map: i32, key: &[u8], value: &mut [u8]) -> i32 {
        let Some(map) = self.map(map) else { return map_status::REFUSED };
        if map.get(key, value, self.time()) { map_status::OK } else { map_status::ABSENT }
    }

    #[inline]
    fn map_set(&self, map: i32, key: &[u8], value: &[u8]) -> i32 {
        let Some(map) = self.map(map) else { return map_status::REFUSED };
        status(map.set(key, value, self.time()))
    }

    #[inline]
    fn map_remove(&self, map: i32, key: &[u8]) -> i32 {
        let Some(map) = self.map(map) else { return map_status::REFUSED };
        status(map.remove(key, self.time()))
    }

    #[inline]
    fn map_add(&self, map: i32, key: &[u8], delta: i64, sum: &mut u64) -> i32 {
        let Some(map) = self.map(map) else { return map_status::REFUSED };
        match map.add(key, delta, self.time()) {
            Ok(total) => {
                *sum = total;
                map_status::OK
            }
            Err(outcome) => status(outcome),
        }
    }

    #[inline]
    fn map_exchange(&self, map: i32, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> i32 {
        let Some(map) = self.map(map) else { return map_status::REFUSED };
        status(map.exchange(key, expected, value, self.time()))
    }

    fn emit(&self, _port: u16, _frame: &[u8]) -> bool {
        false
    }
}

impl Declared {
    fn read(&self) -> Metric {
        let number = |at: usize| self.value[at].load(Relaxed);
        let value = match self.kind {
            metric_kind::COUNTER => MetricValue::Counter(number(0)),
            metric_kind::GAUGE => MetricValue::Gauge(number(0) as i64),
            _ => MetricValue::Histogram {
                buckets: Box::new(std::array::from_fn(number)),
                sum: number(HISTOGRAM_BUCKETS),
            },
        };
        Metric { name: self.name.clone(), value }
    }
}

fn status(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Done => map_status::OK,
        Outcome::Absent => map_status::ABSENT,
        Outcome::Full => map_status::FULL,
    }
}
