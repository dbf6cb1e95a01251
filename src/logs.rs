//! Logging on standard error: what is logged, and how lines look.

use std::fmt;
use std::io;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFilter, LogFormat};

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("log.level: {0}")]
    Filter(#[from] ParseError),
    /// Traces can't be exported as the environment asks.
    #[cfg(feature = "otel")]
    #[error("{0}")]
    Traces(#[from] crate::traces::TraceError),
    /// There is a logger already: it was set up twice.
    #[error("logging: {0}")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Changes what is logged while the process runs. Clones change the same.
#[derive(Clone)]
pub struct LogLevel(Arc<dyn Fn(EnvFilter) + Send + Sync>);

impl LogLevel {
    /// Of what takes another filter.
    fn new(change: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Logs by another filter from now on; with none that can be used everything stays as it is.
    ///
    /// # Errors
    /// A filter that is none.
    pub fn set(&self, level: &LogFilter) -> Result<(), LogError> {
        (self.0)(filter(level)?);
        Ok(())
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogLevel")
    }
}

/// Whether a filter can be used.
///
/// # Errors
/// One that is none.
pub fn check(level: &LogFilter) -> Result<(), ParseError> {
    filter(level).map(|_| ())
}

/// What a level lets pass. The pool of connections says of each that broke that it did, and not why, and the driver of each
/// that the server ended; whoever used it tells what came of that.
///
/// # Errors
/// A filter that is none.
fn filter(level: &LogFilter) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(&without_pool(level).0)
}

/// A level, without the pool's lines and what the server sends each connection beside its answers, unless it speaks of
/// them.
fn without_pool(level: &LogFilter) -> LogFilter {
    let mut text = level.0.clone();
    for quiet in ["deadpool=off", "tokio_postgres=warn"] {
        let target = quiet.split('=').next().unwrap_or(quiet);
        if !text.contains(target) {
            text = format!("{text},{quiet}");
        }
    }
    LogFilter(text)
}

/// Sets up logging for the whole process, on standard error.
///
/// # Errors
/// A filter that is none, and a second call.
pub fn start(log: &Log) -> Result<LogLevel, LogError> {
    #[cfg(feature = "otel")]
    if let Some((subscriber, change)) = crate::traces::subscriber(&exported(log), io::stderr)? {
        subscriber.try_init()?;
        return Ok(LogLevel::new(change));
    }
    let (subscriber, level) = subscriber(log, io::stderr)?;
    subscriber.try_init()?;
    Ok(level)
}

/// What the subscriber that exports is set up with.
#[cfg(feature = "otel")]
fn exported(log: &Log) -> Log {
    Log { format: log.format, level: without_pool(&log.level) }
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

/// Times are RFC 3339 in UTC, so that lines of several machines sort together.
fn subscriber<W>(log: &Log, writer: W) -> Result<(Subscriber, LogLevel), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let Log { format, level } = log;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_timer(UtcTime::rfc_3339())
        .with_writer(writer)
        .with_ansi(false);
    // A subscriber that is gone logs nothing, by whichever filter.
    Ok(match format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            let level = LogLevel::new(move |filter| {
                let _ = handle.reload(filter);
            });
            (Box::new(lines.finish()), level)
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            let level = LogLevel::new(move |filter| {
                let _ = handle.reload(filter);
            });
            (Box::new(lines.finish()), level)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogFilter;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { format, level: LogFilter(level.to_owned()) };
        let (subscriber, _) = subscriber(&log, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(items = 3, "accepted");
            tracing::debug!("detail");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_of_text_start_with_the_time() {
        let text = logged(LogFormat::Text, "info");
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.contains('T') && time.ends_with('Z'), "{time}");
        assert!(rest.contains("INFO") && rest.contains("accepted items=3"), "{rest}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn lines_of_json_are_objects() {
        let text = logged(LogFormat::Json, "debug");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["message"], "accepted");
        assert_eq!(lines[0]["items"], 3);
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[1]["level"], "DEBUG");
    }

    #[test]
    fn the_pool_of_connections_is_quiet_unless_asked_for() {
        for (level, lines) in [("info", 0), ("warn,deadpool=warn", 1)] {
            let written = Written::default();
            let writer = written.clone();
            let log = Log { format: LogFormat::Text, level: LogFilter(level.to_owned()) };
            let (subscriber, _) = subscriber(&log, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "deadpool.postgres", "Connection error: db error");
                tracing::info!(target: "tokio_postgres::connection", "WARNING: terminating connection");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), lines, "{level}: {text}");
        }
    }

    #[test]
    fn another_level_holds_at_once() {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { format: LogFormat::Text, level: LogFilter("warn".to_owned()) };
        let (subscriber, level) = subscriber(&log, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for (filter, logs) in [("info", true), ("no such=thing=1", true), ("warn", false)] {
                assert_eq!(level.set(&LogFilter(filter.to_owned())).is_ok(), !filter.contains(' '));
                let before = written.0.lock().unwrap().len();
                tracing::info!("said");
                assert_eq!(written.0.lock().unwrap().len() > before, logs, "{filter}");
            }
        });
    }

    #[test]
    fn targets_have_levels_of_their_own() {
        assert_eq!(logged(LogFormat::Text, "off").lines().count(), 0);
        assert_eq!(logged(LogFormat::Text, "warn,sluicegate=debug").lines().count(), 2);
    }
}
