//! Durations, counted in fixed buckets.

use std::time::Duration;

use super::counter::Counter;

/// The upper bounds of the buckets, in microseconds. The last bucket has none.
///
/// A warm exchange takes some 50 µs, a statement some ms, a password 20 ms, and no call longer than its limit,
/// by default 10 s.
const BOUNDS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The same in seconds, as they are served; the last one is infinite.
pub const BOUNDS: [f64; BUCKETS] = {
    let mut bounds = [f64::INFINITY; BUCKETS];
    let mut i = 0;
    while i < BOUNDS_MICROS.len() {
        bounds[i] = BOUNDS_MICROS[i] as f64 / 1e6;
        i += 1;
    }
    bounds
};

const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// How many durations there were in each bucket, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

/// What a histogram held at one time.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The count of each bucket alone, in the order of [`BOUNDS`].
    pub buckets: [u64; BUCKETS],
    pub count: u64,
    pub seconds: f64,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].one();
        self.sum_micros.add(micros);
    }

    /// What it holds. Its count is the sum of its buckets, so that the two agree.
    pub fn read(&self) -> Reading {
        let buckets = self.buckets.each_ref().map(Counter::get);
        Reading { buckets, count: buckets.iter().sum(), seconds: self.sum_micros.get() as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record(Duration::MAX);
        let Reading { buckets, count, .. } = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[BUCKETS - 2], buckets[BUCKETS - 1]), (2, 1, 1, 2));
        assert_eq!(count, 6);
        assert!(BOUNDS.is_sorted() && BOUNDS[0] == 0.0001 && BOUNDS[BUCKETS - 1].is_infinite());
    }
}
