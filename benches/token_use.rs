//! How much of a token budget is used while there is a backlog, and whether it is ever exceeded.
//!
//! Every provider of one service is an upstream with a law of its own, all at the same time. Some charge on
//! admission what a request may use; the others charge what it used when its answer leaves.
//!
//! ```text
//! cargo bench --bench token_use -- --minutes 10
//! ```

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod harness;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use harness::api::Api;
use harness::law::{Law, limits};
use harness::oracle::{Reading, read_all};
use harness::say;
use harness::service::Service;
use harness::setting::{self, Setting, Watch};
use harness::tokens::TokenMix;
use harness::upstream::Upstream;

/// Use of token budgets, side by side.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    watch: Watch,
    /// How long answers take
    #[arg(long, default_value = "50ms..450ms")]
    latency: String,
    /// Tokens per minute of each provider
    #[arg(long, default_value_t = 2_000_000)]
    limit: u64,
    /// The least that an item may take, in tokens
    #[arg(long, default_value_t = 200)]
    least: u64,
    /// Providers as law:charging:largest, with the largest item in percent of the limit; may be repeated
    #[arg(long, default_values_t = [
        "bucket:admission:0.4", "fixed:admission:0.4", "sliding:admission:0.4",
        "bucket:actual:0.4", "fixed:actual:0.4", "sliding:actual:0.4",
        "sliding:admission:5", "sliding:admission:20",
    ].map(str::to_owned))]
    place: Vec<String>,
    #[command(flatten)]
    setting: Setting,
}

/// How a provider charges tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charging {
    /// What a request may use, when it arrives: OpenAI's way.
    Admission,
    /// What it used, when its answer leaves: Anthropic's way.
    Actual,
}

impl Charging {
    fn unit(self) -> &'static str {
        if self == Self::Admission { "tokens" } else { "used-tokens" }
    }

    fn provider_kind(self) -> &'static str {
        if self == Self::Admission { "openai" } else { "anthropic" }
    }

    fn endpoint(self) -> &'static str {
        if self == Self::Admission { "/v1/chat/completions" } else { "/v1/messages" }
    }
}

/// One upstream with its law and its batch.
struct Place {
    label: String,
    charging: Charging,
    mix: TokenMix,
    upstream: Upstream,
    batch: String,
}

fn main() -> anyhow::Result<()> {
    setting::run(measure)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (time, skip) = arguments.watch.times()?;
    let folder = arguments.setting.folder()?;
    let mut places =
        arguments.place.iter().map(|text| place(arguments, text)).collect::<Result<Vec<_>, _>>()?;
    let mut service = Service::configure(folder.path(), &providers(arguments, &places)?)?;
    let api = service.start_ready().await?;
    let mut files = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let file = place.mix.file(
            items(arguments, &place.mix, time),
            &format!("p{index}"),
            place.charging.endpoint(),
            7,
        );
        files.push(api.upload(file).await?);
    }
    for (place, file) in places.iter_mut().zip(files) {
        place.batch = api.create_for(&file, place.charging.endpoint(), "24h").await?;
    }
    tokio::time::sleep(skip).await;
    let early = read_all(places.iter().map(|place| &place.upstream)).await?;
    tokio::time::sleep(time - skip).await;
    let late = read_all(places.iter().map(|place| &place.upstream)).await?;
    say(format!(
        "{:<24} {:>8} {:>8} {:>6} {:>10} {:>11} {:>12}",
        "place", "used", "calls/s", "429s", "429 share", "peak/limit", "windows over"
    ));
    for ((place, early), late) in places.iter().zip(&early).zip(&late) {
        show(place, early, late);
    }
    say(format!("logged:\n{}", service.log()?));
    still_running(&api, &places).await?;
    service.kill()
}

fn place(arguments: &Arguments, text: &str) -> anyhow::Result<Place> {
    let parts: Vec<&str> = text.split(':').collect();
    let [law, charging, percent] = parts[..] else { anyhow::bail!("`{text}` is no law:charging:largest") };
    let charging = match charging {
        "admission" => Charging::Admission,
        "actual" => Charging::Actual,
        _ => anyhow::bail!("`{charging}` is neither admission nor actual"),
    };
    let percent: f64 = percent.parse().with_context(|| format!("the percent of `{text}`"))?;
    let most = (arguments.limit as f64 * percent / 100.0) as u64;
    let script = format!("latency = \"{}\"\nlog = \"off\"\n", arguments.latency)
        + &limits(&[Law::per_minute(law, charging.unit(), arguments.limit)]);
    // Text has to be sent: of huge items most is what may be generated.
    let input = if percent > 1.0 { 0.01..=0.05 } else { 0.2..=0.6 };
    Ok(Place {
        label: format!(
            "{law} {} ≤ {percent} %",
            if charging == Charging::Actual { "actual" } else { "admission" }
        ),
        charging,
        mix: TokenMix { size: arguments.least..=most, input, output: 0.1..=1.0 },
        upstream: Upstream::start(&script)?,
        batch: String::new(),
    })
}

fn providers(arguments: &Arguments, places: &[Place]) -> anyhow::Result<String> {
    let mut text = String::new();
    for (index, place) in places.iter().enumerate() {
        write!(
            text,
            "[providers.p{index}]\nkind = \"{}\"\nbase_url = \"{}\"\nlimits.tokens = [\"{}/min\"]\n\
             [[providers.p{index}.lanes]]\nmatch = \"p{index}\"\n",
            place.charging.provider_kind(),
            place.upstream.base_url(),
            arguments.limit
        )?;
    }
    Ok(text)
}

/// Items that outlast the run, whatever is charged for them.
fn items(arguments: &Arguments, mix: &TokenMix, time: Duration) -> usize {
    let mean = (mix.size.start() + mix.size.end()) as f64 / 2.0;
    let per_second = arguments.limit as f64 / 60.0 / mean;
    (per_second * (time.as_secs_f64() + 60.0) * 1.7) as usize + 100
}

fn show(place: &Place, early: &Reading, late: &Reading) {
    let refused = late.answered(429);
    say(format!(
        "{:<24} {:>8.4} {:>8.2} {refused:>6} {:>9.4}% {:>11.4} {:>12}",
        place.label,
        late.used_since(early),
        late.pace_since(early, 200),
        refused / late.arrived().max(1.0) * 100.0,
        late.law("peak") / late.law("limit"),
        late.law("windows_over"),
    ));
}

/// Every batch still runs, without failures.
async fn still_running(api: &Api, places: &[Place]) -> anyhow::Result<()> {
    for place in places {
        let batch = api.unended(&place.batch, &place.label).await?;
        anyhow::ensure!(batch["request_counts"]["failed"] == 0, "{} had failures: {batch}", place.label);
    }
    Ok(())
}
