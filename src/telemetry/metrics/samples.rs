//! The samples of one metric while it is being exposed.

use prometheus::proto::{self, MetricFamily};

use super::family::Family;
use super::latency::Reading;

/// Collects the samples of one metric from all of its owners.
pub(super) struct Samples {
    family: Family,
    metrics: Vec<proto::Metric>,
}

impl Samples {
    pub(super) const fn new(family: Family) -> Self {
        Self { family, metrics: Vec::new() }
    }

    /// The metric for which samples are wanted.
    pub(super) const fn family(&self) -> Family {
        self.family
    }

    /// Adds a counter's value. The label values are the owner's, then the sample's own.
    pub(super) fn counter(&mut self, owner: &[&str], own: Option<&str>, value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut metric = self.labelled(owner, own);
        metric.set_counter(counter);
        self.metrics.push(metric);
    }

    /// Adds a counter's value if it has counted anything: of the many values that the label might
    /// have, only those that occurred are exposed.
    pub(super) fn occurred(&mut self, owner: &[&str], own: &str, value: u64) {
        if value > 0 {
            self.counter(owner, Some(own), value as f64);
        }
    }

    /// Adds a gauge's value.
    pub(super) fn gauge(&mut self, owner: &[&str], own: Option<&str>, value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = self.labelled(owner, own);
        metric.set_gauge(gauge);
        self.metrics.push(metric);
    }

    /// Adds a gauge's value if it is known.
    pub(super) fn known(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(&[], None, value);
        }
    }

    /// Adds a histogram if it has observed anything: an idle one would cost a line for each bucket.
    pub(super) fn histogram(&mut self, owner: &[&str], reading: &Reading) {
        if reading.count == 0 {
            return;
        }
        let bucket = |(bound, count): &(f64, u64)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(reading.buckets.iter().map(bucket).collect());
        histogram.set_sample_count(reading.count);
        histogram.set_sample_sum(reading.sum);
        let mut metric = self.labelled(owner, None);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    /// The metric with its samples; `None` when it has none, for it is then left out.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.family.name().to_owned());
        family.set_help(self.family.help().to_owned());
        family.set_field_type(self.family.kind());
        family.set_metric(self.metrics);
        Some(family)
    }

    fn labelled(&self, owner: &[&str], own: Option<&str>) -> proto::Metric {
        let labels = self.family.labels();
        debug_assert_eq!(labels.len(), owner.len() + usize::from(own.is_some()));
        let values = owner.iter().copied().chain(own);
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        proto::Metric::from_label(labels.iter().zip(values).map(pair).collect())
    }
}
