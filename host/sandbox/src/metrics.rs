//! What a filter counts: numbers in the guest's own memory, declared once and
//! read by the host when somebody asks. Counting costs the guest one store.

use millrace_abi::limits::HISTOGRAM_BUCKETS;
use millrace_abi::names::metric_kind;

use crate::memory;

/// A metric of one instance, with its value when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as the filter declared it.
    pub name: String,
    /// Its value.
    pub value: MetricValue,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricValue {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(i64),
    /// How many values fell into each bucket, and their sum.
    Histogram {
        /// Bucket `i` counts values below 2 to the power `i`; the last one all others.
        buckets: Box<[u64; HISTOGRAM_BUCKETS]>,
        /// The sum of all values, wrapping.
        sum: u64,
    },
}

impl MetricValue {
    /// Adds what another instance of the same filter counted.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter(a), Self::Counter(b)) => *a = a.wrapping_add(*b),
            (Self::Gauge(a), Self::Gauge(b)) => *a = a.wrapping_add(*b),
            (
                Self::Histogram { buckets: a, sum },
                Self::Histogram { buckets: b, sum: other_sum },
            ) => {
                for (a, b) in a.iter_mut().zip(b.iter()) {
                    *a = a.wrapping_add(*b);
                }
                *sum = sum.wrapping_add(*other_sum);
            }
            _ => {}
        }
    }
}

/// Where a metric lies in the guest's memory.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    kind: Kind,
    at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Declaration {
    /// A declaration, if the kind exists and the value lies in `memory`.
    pub(crate) fn new(kind: u32, name: String, at: u32, memory: &[u8]) -> Option<Self> {
        let kind = match kind {
            metric_kind::COUNTER => Kind::Counter,
            metric_kind::GAUGE => Kind::Gauge,
            metric_kind::HISTOGRAM => Kind::Histogram,
            _ => return None,
        };
        let declaration = Self { name, kind, at };
        memory::bytes(memory, at, declaration.len()).is_some().then_some(declaration)
    }

    /// Bytes of the value.
    fn len(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 8,
            Kind::Histogram => (HISTOGRAM_BUCKETS + 1) * 8,
        }
    }

    /// The value's bytes; memory never shrinks, so they are where they were declared.
    pub(crate) fn bytes<'m>(&self, memory: &'m [u8]) -> &'m [u8] {
        memory::bytes(memory, self.at, self.len()).unwrap_or_default()
    }

    /// The value's bytes, for putting an earlier value back.
    pub(crate) fn bytes_mut<'m>(&self, memory: &'m mut [u8]) -> &'m mut [u8] {
        memory::bytes_mut(memory, self.at, self.len()).unwrap_or_default()
    }

    /// Counts from zero again. A gauge says how something is, and goes on saying so.
    pub(crate) fn recount(&self, memory: &mut [u8]) {
        if self.kind != Kind::Gauge {
            self.bytes_mut(memory).fill(0);
        }
    }

    pub(crate) fn read(&self, memory: &[u8]) -> Metric {
        let mut words =
            self.bytes(memory).as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
        let mut next = || words.next().unwrap_or_default();
        let value = match self.kind {
            Kind::Counter => MetricValue::Counter(next()),
            Kind::Gauge => MetricValue::Gauge(next() as i64),
            Kind::Histogram => {
                let buckets = Box::new(std::array::from_fn(|_| next()));
                MetricValue::Histogram { buckets, sum: next() }
            }
        };
        Metric { name: self.name.clone(), value }
    }
}
