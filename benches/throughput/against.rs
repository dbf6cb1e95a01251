//! Two builds in one run: small batches in turn, so that a machine whose speed changes from second to second is the
//! same for both.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Arguments;
use crate::harness::api::Api;
use crate::harness::input::Input;
use crate::harness::measures::Usage;
use crate::harness::service::{Provider, Service};
use crate::harness::upstream::Upstream;
use crate::harness::{median, say};
use crate::runs;

/// One of the builds, running.
struct Build {
    service: Service,
    api: Api,
    file: String,
    upstream: Upstream,
    /// Items a second of each batch, and its microseconds of CPU for an item.
    done: Vec<(f64, f64)>,
}

impl Build {
    async fn start(
        program: Option<&Path>,
        folder: &Path,
        arguments: &Arguments,
        input: &Input,
        latency: &str,
    ) -> anyhow::Result<Self> {
        let upstream = runs::upstream(arguments, latency)?;
        let provider = Provider::only(upstream.base_url(), arguments.in_flight);
        let mut service = Service::prepare(folder, &[provider])?;
        if let Some(program) = program {
            service.program = OsString::from(program);
        }
        let api = service.start_ready().await?;
        let file = api.upload(input.file.clone()).await?;
        Ok(Self { service, api, file, upstream, done: Vec::new() })
    }

    async fn batch(&mut self, items: usize) -> anyhow::Result<()> {
        let process = self.service.process_id()?;
        let (before, started) = (Usage::of(process)?, Instant::now());
        let batch = self.api.create(&self.file).await?;
        let batch = self.api.ended(&batch, Duration::from_millis(10), Duration::from_secs(3_600)).await?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu = Usage::of(process)?.since(before).cpu_seconds;
        let completed = batch["request_counts"]["completed"].as_u64().context("no counts")?;
        anyhow::ensure!(completed == items as u64, "not every item succeeded: {batch}");
        self.done.push((items as f64 / seconds, cpu / items as f64 * 1e6));
        Ok(())
    }

    fn middle(&self, figure: impl Fn(&(f64, f64)) -> f64) -> f64 {
        median(&self.done.iter().map(figure).collect::<Vec<_>>())
    }
}

/// Runs this build and another one, `arguments.runs` batches each after one to warm up, and shows how they compare.
pub(crate) async fn compare(
    other: &Path,
    arguments: &Arguments,
    input: &Input,
    latency: &str,
) -> anyhow::Result<()> {
    let folders = (arguments.setting.folder()?, arguments.setting.folder()?);
    let mut this = Build::start(None, folders.0.path(), arguments, input, latency).await?;
    let mut that = Build::start(Some(other), folders.1.path(), arguments, input, latency).await?;
    for round in 0..=arguments.runs {
        for turn in 0..2 {
            let build = if (round + turn) % 2 == 0 { &mut this } else { &mut that };
            build.batch(input.items()).await?;
        }
        if round == 0 {
            this.done.clear();
            that.done.clear();
        }
    }
    let ratios = |figure: fn(&(f64, f64)) -> f64| {
        let pairs = this.done.iter().zip(&that.done);
        let mut ratios: Vec<f64> = pairs.map(|(this, that)| figure(this) / figure(that)).collect();
        ratios.sort_by(f64::total_cmp);
        let quarter = |part: usize| ratios[ratios.len() * part / 4];
        // The middle half of the pairs tells how far the median is to be trusted.
        format!("{:.3} ({:.3}–{:.3})", median(&ratios), quarter(1), quarter(3))
    };
    for (name, build) in [("this", &this), ("other", &that)] {
        say(format!(
            "{latency:>6} {name:<6} {:>8.0} items/s   cpu {:>6.1} µs/item   upstreams' cpu {:>6.1} µs/item",
            build.middle(|done| done.0),
            build.middle(|done| done.1),
            Usage::of(build.upstream.process_id())?.cpu_seconds
                / (input.items() * (arguments.runs + 1)) as f64
                * 1e6,
        ));
    }
    say(format!(
        "median at {latency} of {} pairs (middle half): items/s {}   cpu {}",
        arguments.runs,
        ratios(|done| done.0),
        ratios(|done| done.1)
    ));
    Ok(())
}
