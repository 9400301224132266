//! Writes families of metrics.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::metrics::{BOUNDS, Histogram, Reading};

/// A label and its value. Both are texts of the program: nothing that a request says becomes one.
pub(super) type Label = (&'static str, &'static str);

/// Writes families of metrics.
pub(super) struct Writer<'a>(DescriptorEncoder<'a>);

impl<'a> Writer<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// A family of numbers that only rise. Its name gets `_total` at its end.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            labelled(&mut family, labels, |metric| {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None::<&Exemplar<NoLabelSet, f64>>)
            })?;
        }
        Ok(())
    }

    /// A number that only rises.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    /// A family of numbers that rise and fall. With a unit its name ends in it.
    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = ([Label; N], f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            labelled(&mut family, labels, |metric| metric.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// A number that rises and falls.
    pub(super) fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, [([], value)])
    }

    /// A family of durations, those that have any.
    pub(super) fn durations<'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label; N], &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let Reading { buckets, count, seconds } = histogram.read();
            if count == 0 {
                continue;
            }
            let buckets: Vec<_> = BOUNDS.into_iter().zip(buckets).collect();
            labelled(&mut family, labels, |metric| {
                metric.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
            })?;
        }
        Ok(())
    }

    /// What does not change: its labels say it. Its name gets `_info` at its end.
    pub(super) fn info<const N: usize>(&mut self, name: &str, help: &str, labels: [Label; N]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(&labels.to_vec())
    }
}

fn labelled<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: [Label; N],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if N == 0 {
        return write(family);
    }
    let labels = labels.to_vec();
    write(&mut family.encode_family(&labels)?)
}
