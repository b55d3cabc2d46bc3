//! A page of metrics, as Prometheus reads it: families with samples, in the order in which
//! they are first added.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::api::types::MetricStatus;
use crate::metrics::families::Family;

/// What is read at once.
#[derive(Default)]
pub(super) struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// Adds a sample of a counter or a gauge.
    pub(super) fn add(&mut self, family: &Family, labels: &[(&str, &str)], value: f64) {
        let metric = single(family.kind, labels, value);
        self.push(family.name.to_owned(), family.kind, family.help.to_owned(), metric);
    }

    /// Adds what the filter in `stage` counts under `name`.
    pub(super) fn add_counted(&mut self, stage: &str, name: &str, value: &MetricStatus) {
        let labels = [("stage", stage)];
        let (kind, metric) = match value {
            MetricStatus::Counter(n) => {
                (MetricType::COUNTER, single(MetricType::COUNTER, &labels, *n as f64))
            }
            MetricStatus::Gauge(n) => {
                (MetricType::GAUGE, single(MetricType::GAUGE, &labels, *n as f64))
            }
            MetricStatus::Histogram { buckets, sum } => {
                (MetricType::HISTOGRAM, histogram(&labels, buckets, *sum))
            }
        };
        let help = format!("`{name}`, as filters count it.");
        self.push(counted_name(name, kind), kind, help, metric);
    }

    /// The page as text.
    pub(super) fn text(&self) -> String {
        let text = TextEncoder::new().encode_to_string(&self.families);
        text.expect("every family has a name and a sample")
    }

    fn push(&mut self, mut name: String, kind: MetricType, help: String, metric: Metric) {
        loop {
            match self.families.iter_mut().find(|family| family.name() == name) {
                Some(family) if family.get_field_type() == kind => {
                    return family.mut_metric().push(metric);
                }
                // filters that count different things under one name
                Some(_) => name += "_other",
                None => break,
            }
        }
        let mut family = MetricFamily::default();
        family.set_name(name);
        family.set_help(help);
        family.set_field_type(kind);
        family.set_metric(vec![metric]);
        self.families.push(family);
    }
}

/// The name under which a filter's metric is published.
fn counted_name(name: &str, kind: MetricType) -> String {
    // names of filters' metrics are letters, digits, `-` and `_`
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let plain = format!("millrace_filter_{name}");
    match kind {
        MetricType::COUNTER if !plain.ends_with("_total") => plain + "_total",
        _ => plain,
    }
}

fn single(kind: MetricType, labels: &[(&str, &str)], value: f64) -> Metric {
    let mut metric = labelled(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// A histogram of powers of two. Bucket `i` has the whole numbers below 2 to the power `i`, and
/// not below the bucket before; the last one has all others.
fn histogram(labels: &[(&str, &str)], buckets: &[u64], sum: u64) -> Metric {
    let (mut seen, mut cumulative) = (0, Vec::new());
    for (power, count) in buckets.iter().enumerate().take(buckets.len().saturating_sub(1)) {
        seen += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(((1_u64 << power) - 1) as f64);
        bucket.set_cumulative_count(seen);
        cumulative.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(buckets.iter().sum());
    histogram.set_sample_sum(sum as f64);
    histogram.set_bucket(cumulative);
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    // a label without a value is the same as none
    let labels = labels.iter().filter(|(_, value)| !value.is_empty());
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.map(pair).collect())
}
