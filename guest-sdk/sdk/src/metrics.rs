//! What a filter counts. A metric is a number in the filter's own memory, which
//! the host reads when somebody asks: counting is a store, not a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::limits::HISTOGRAM_BUCKETS;
use crate::abi::names::metric_kind;
use crate::filter::Error;
use crate::host;

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Arc<[AtomicU64; 1]>);

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge(Arc<[AtomicU64; 1]>);

/// How values are distributed over powers of two.
#[derive(Debug)]
pub struct Histogram(Arc<[AtomicU64; HISTOGRAM_BUCKETS + 1]>);

// A filter has one thread, and atomics are plain loads and stores to it; natively
// they let a test read what another thread counts.

impl Counter {
    pub(crate) fn declare(name: &str) -> Result<Self, Error> {
        let value = Arc::default();
        host::metric(metric_kind::COUNTER, name, Arc::<[AtomicU64; 1]>::clone(&value))?;
        Ok(Self(value))
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        add(&self.0[0], n);
    }

    /// What was counted since the filter was made.
    pub fn value(&self) -> u64 {
        self.0[0].load(Relaxed)
    }
}

impl Gauge {
    pub(crate) fn declare(name: &str) -> Result<Self, Error> {
        let value = Arc::default();
        host::metric(metric_kind::GAUGE, name, Arc::<[AtomicU64; 1]>::clone(&value))?;
        Ok(Self(value))
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0[0].store(value as u64, Relaxed);
    }

    /// Adds `n`, which may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        add(&self.0[0], n as u64);
    }

    /// The value.
    pub fn value(&self) -> i64 {
        self.0[0].load(Relaxed) as i64
    }
}

impl Histogram {
    pub(crate) fn declare(name: &str) -> Result<Self, Error> {
        let value = Arc::new([const { AtomicU64::new(0) }; HISTOGRAM_BUCKETS + 1]);
        host::metric(metric_kind::HISTOGRAM, name, Arc::<[AtomicU64; _]>::clone(&value))?;
        Ok(Self(value))
    }

    /// Counts `value` in the first bucket whose bound, a power of two, is above it.
    #[inline]
    pub fn observe(&self, value: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        add(&self.0[bucket.min(HISTOGRAM_BUCKETS - 1)], 1);
        add(&self.0[HISTOGRAM_BUCKETS], value);
    }
}

#[inline]
fn add(number: &AtomicU64, n: u64) {
    number.store(number.load(Relaxed).wrapping_add(n), Relaxed);
}
