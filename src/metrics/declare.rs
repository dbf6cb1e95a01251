//! Declaring a group of metrics: name, labels and buckets beside the doc comment that is the help text.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// What every metric's name starts with.
const PREFIX: &str = "sluicegate";

/// One metric as declared.
pub(super) struct Declaration {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) buckets: &'static [f64],
}

impl Declaration {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help.trim()).namespace(PREFIX)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts { common_opts: self.opts(), buckets: self.buckets.to_vec() }
    }
}

/// A kind of metric that a declaration can make.
pub(super) trait Declared: Sized {
    fn register(registry: &Registry, declaration: &Declaration) -> Result<Self, prometheus::Error>;
}

macro_rules! declared {
    ($($kind:ty: |$declaration:ident| $make:expr;)*) => {$(
        impl Declared for $kind {
            fn register(registry: &Registry, $declaration: &Declaration) -> Result<Self, prometheus::Error> {
                let metric = $make?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            }
        }
    )*};
}

declared! {
    Gauge: |it| Gauge::with_opts(it.opts());
    IntGauge: |it| IntGauge::with_opts(it.opts());
    Histogram: |it| Histogram::with_opts(it.histogram_opts());
    IntCounterVec: |it| IntCounterVec::new(it.opts(), it.labels);
    IntGaugeVec: |it| IntGaugeVec::new(it.opts(), it.labels);
    prometheus::GaugeVec: |it| prometheus::GaugeVec::new(it.opts(), it.labels);
    HistogramVec: |it| HistogramVec::new(it.histogram_opts(), it.labels);
}

/// A struct of metrics, each `field: Kind = "name" ["label", …] buckets;`, with a constructor that
/// registers them all.
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        $vis:vis struct $group:ident {
            $(
                $(#[doc = $help:literal])+
                $field_vis:vis $field:ident: $kind:ty = $name:literal [$($label:literal),*] $($buckets:expr)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $group {
            $($(#[doc = $help])+ $field_vis $field: $kind,)*
        }

        impl $group {
            fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
                Ok(Self {$(
                    $field: <$kind as $crate::metrics::declare::Declared>::register(
                        registry,
                        &$crate::metrics::declare::Declaration {
                            name: $name,
                            help: concat!($($help),+),
                            labels: &[$($label),*],
                            buckets: $crate::metrics::declare::metrics!(@buckets $($buckets)?),
                        },
                    )?,
                )*})
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
}
pub(super) use metrics;

/// Seconds of calls to providers: 0.05 doubling to 1,638.4, because a reasoning model may take many minutes.
pub(super) const CALL_SECONDS: [f64; 16] =
    [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2, 1638.4];

/// Seconds of waiting: 1 ms, times four each, to 18.6 hours.
pub(super) const WAIT_SECONDS: [f64; 14] = [
    0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536, 262.144, 1048.576, 4194.304, 16777.216,
    67108.864,
];

/// Seconds of whole batches: one second to 48 hours.
pub(super) const BATCH_SECONDS: [f64; 14] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0, 172_800.0,
];

/// Seconds of our own work, commits and HTTP calls: 0.5 ms to a minute, the longest long poll.
pub(super) const LOCAL_SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Rows in one commit.
pub(super) const ROWS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];
