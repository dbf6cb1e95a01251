//! Spans, exported over HTTP by OTLP.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use http::Response;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use tracing_subscriber::filter::{Directive, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use super::AttemptFacts;
use crate::config::{Log, LogFormat};

/// Marks our spans: only they are exported, and log lines don't name them.
const TARGET: &str = "otel";

/// The variables that name a collector, the more particular one first; without either nothing is exported.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// What still has spans to send when the process ends.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Why spans can't be exported as asked.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter can't be built from the environment.
    #[error("the export of traces (OTEL_EXPORTER_OTLP_…): {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The log's filter is none.
    #[error("log.level: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// What lines and spans go to.
type Subscribing = Box<dyn tracing::Subscriber + Send + Sync>;

/// Takes another filter of lines.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// A subscriber that logs as always and exports spans, and what changes its level; `None` unless the environment names
/// a collector.
///
/// # Errors
/// If the environment asks for what can't be done.
pub(crate) fn subscriber<W>(log: &Log, writer: W) -> Result<Option<(Subscribing, Change)>, TraceError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || !ENDPOINTS.iter().any(named) {
        return Ok(None);
    }
    let mut resource = Resource::builder();
    if !named(&"OTEL_SERVICE_NAME") {
        resource = resource.with_service_name("sluicegate");
    }
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider =
        SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
    let tracer = provider.tracer("sluicegate");
    // Logging starts once.
    let _ = PROVIDER.set(provider);
    let no_spans: Directive = format!("{TARGET}=off").parse()?;
    let filter = EnvFilter::try_new(&log.level.0)?.add_directive(no_spans.clone());
    let (filter, handle) = reload::Layer::new(filter);
    let change = move |filter: EnvFilter| {
        let _ = handle.reload(filter.add_directive(no_spans.clone()));
    };
    let lines =
        tracing_subscriber::fmt::layer().with_timer(UtcTime::rfc_3339()).with_writer(writer).with_ansi(false);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        // Where in the source a span begins, and on which thread, tells an operator nothing.
        .with_location(false)
        .with_threads(false)
        .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET));
    let subscriber = Registry::default().with(lines.with_filter(filter)).with(spans);
    Ok(Some((Box::new(subscriber), Box::new(change))))
}

/// A call of a client, in a span that ends with the head of its answer.
pub async fn call<F, B>(answering: F, method: &str, route: &str) -> Response<B>
where
    F: Future<Output = Response<B>>,
{
    let span = tracing::info_span!(
        target: TARGET,
        "call",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    let answer = answering.instrument(span.clone()).await;
    span.record("http.response.status_code", answer.status().as_u16());
    if answer.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    answer
}

/// The span of an attempt.
#[derive(Debug)]
pub struct AttemptSpan(Span);

impl AttemptSpan {
    /// Of an attempt that is about to begin.
    pub fn new(facts: &AttemptFacts<'_>) -> Self {
        let AttemptFacts { provider, model, endpoint, number } = *facts;
        Self(tracing::info_span!(
            target: TARGET,
            parent: None,
            "attempt",
            otel.kind = "client",
            otel.status_code = Empty,
            provider,
            model,
            endpoint,
            attempt = number,
            outcome = Empty,
        ))
    }

    /// The attempt, in its span.
    pub fn around<F: Future>(self, attempt: F) -> impl Future<Output = F::Output> {
        attempt.instrument(self.0)
    }
}

/// How the attempt ended that this runs in.
pub fn outcome(outcome: &'static str) {
    let span = Span::current();
    span.record("outcome", outcome);
    if outcome != "ok" {
        span.record("otel.status_code", "ERROR");
    }
}

/// Sends what has not been sent yet; waits 5 s at most.
pub fn end() {
    if let Some(Err(error)) = PROVIDER.get().map(SdkTracerProvider::shutdown) {
        // The process is about to end: who looks for missing spans finds out here.
        let _ =
            io::Write::write_fmt(&mut io::stderr(), format_args!("the last traces were not sent: {error}\n"));
    }
}
