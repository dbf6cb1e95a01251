use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::domain::limits::Rate;

mod changes;
mod documents;
mod from_environment;
mod problems;
mod reference;

/// Sources with one file, given as text.
struct Given<'a> {
    file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    overrides: &'a [(&'a str, &'a str)],
}

const NOTHING: Given<'static> = Given { file: "", variables: &[], overrides: &[] };

impl Given<'_> {
    fn load(&self) -> Result<Config, ConfigError> {
        let files: BTreeMap<&str, &str> =
            [("./sluicegate.toml", self.file), ("url.txt", "sqlite:/data/store.db\n")].into();
        let read_file = |path: &Path| {
            let text = path.to_str().and_then(|path| files.get(path));
            text.map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let override_of = |(key, value): &(&str, &str)| Override {
            flag: "--set".to_owned(),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        Config::load(&Sources {
            file: None,
            environment: self.variables.iter().copied().collect(),
            overrides: self.overrides.iter().map(override_of).collect(),
            read_file: &read_file,
        })
    }

    fn problems(&self) -> Vec<Problem> {
        match self.load().unwrap_err() {
            ConfigError::Problems(problems) => problems,
            error @ ConfigError::NoProvider => panic!("{error}"),
        }
    }
}

fn file(text: &str) -> Config {
    Given { file: text, ..NOTHING }.load().unwrap()
}

fn variables(variables: &[(&str, &str)]) -> Config {
    Given { variables, ..NOTHING }.load().unwrap()
}

fn rate(amount: u64, seconds: u64) -> Rate {
    Rate { amount, period: Duration::from_secs(seconds) }
}

#[test]
fn defaults_are_the_pinned_ones() {
    insta::assert_snapshot!(file("").show(), @r#"
    [server]
    listen = "127.0.0.1:8080"
    drain_timeout = "30s"
    memory_budget = "64MiB"
    compress = false

    [auth]
    mode = "auto"

    [store]
    url = "sqlite:./sluicegate-data/store.db"
    min_free = "1GiB"

    [limits]
    max_concurrent = 1024

    [timeouts]
    connect = "10s"
    first_byte = "5m"
    idle = "2m"
    request = "10m"

    [retry]
    max_attempts = 5
    min_delay = "500ms"
    max_delay = "1m"
    on = [408, 409, 425, "5xx", "timeout", "network"]

    [interactive]
    max_wait = "30s"
    share = 0.5
    passthrough = true

    [retention]
    files = "30d"
    results = "30d"

    [batches]
    max_items = 1000000
    max_line = "16MiB"
    max_file = "512MiB"
    max_inline = "32MiB"

    [log]
    format = "text"
    level = "info"
    "#);
}

#[test]
fn no_provider_is_an_error_only_where_one_is_needed() {
    let error = file("").require_provider().unwrap_err();
    insta::assert_snapshot!(error, @r#"
    no provider is configured: there is nowhere to send requests to. Any of these is enough:
      1. a key in the environment:         OPENAI_API_KEY=sk-… sluicegate serve
         (or ANTHROPIC_API_KEY, OPENROUTER_API_KEY)
      2. a model server of your own:       OPENAI_BASE_URL=http://127.0.0.1:8000/v1 sluicegate serve
         (llama.cpp, vLLM, …; for Ollama: OLLAMA_HOST=127.0.0.1:11434)
      3. a table in ./sluicegate.toml:     [providers.openai]
                                           api_key_env = "OPENAI_API_KEY"
                                           limits.requests = "500/min"
    To look around first, without any of them: sluicegate demo
    "#);
}

#[test]
fn stronger_sources_win_key_by_key() {
    let given = Given {
        file: "[server]\nlisten = '127.0.0.1:1'\ndrain_timeout = '1s'\n[limits]\nmax_concurrent = 1\n",
        variables: &[
            ("SLUICEGATE__SERVER__DRAIN_TIMEOUT", "2s"),
            ("SLUICEGATE__LIMITS__MAX_CONCURRENT", "2"),
            ("SLUICEGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SLUICEGATE_SERVICE_HOST", "10.0.0.1"),
        ],
        overrides: &[("limits.max_concurrent", "3")],
    };
    let config = given.load().unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(config.server.drain_timeout, Duration::from_secs(2));
    assert_eq!(config.limits.max_concurrent, Some(3));
    let shown = config.show();
    assert!(shown.contains("listen = \"127.0.0.1:1\"  # sluicegate.toml:2\n"), "{shown}");
    assert!(shown.contains("drain_timeout = \"2s\"  # SLUICEGATE__SERVER__DRAIN_TIMEOUT\n"), "{shown}");
    assert!(shown.contains("max_concurrent = 3  # --set\n"), "{shown}");
}

#[test]
fn variables_are_read_by_the_keys_type() {
    let config = variables(&[
        ("SLUICEGATE__SERVER__COMPRESS", "true"),
        ("SLUICEGATE__SERVER__CORS_ORIGINS", "https://a.example, https://b.example"),
        ("SLUICEGATE__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,::1"),
        ("SLUICEGATE__SERVER__MEMORY_BUDGET", "128MiB"),
        ("SLUICEGATE__SERVER__PUBLIC_URL", "https://gate.example/"),
        ("SLUICEGATE__LIMITS__REQUESTS", "500/min,10/s,7"),
        ("SLUICEGATE__LIMITS__PERIOD", "90s"),
        ("SLUICEGATE__LIMITS__LEARN", "false"),
        ("SLUICEGATE__LIMITS__DAY_STARTS", "07:30"),
        ("SLUICEGATE__INTERACTIVE__SHARE", "0.25"),
        ("SLUICEGATE__BATCHES__MAX_ITEMS", "12"),
        ("SLUICEGATE__RETRY__ON", "5xx,408,timeout"),
        ("SLUICEGATE__RETENTION__FILES", "1h30m"),
        ("SLUICEGATE__LOG__LEVEL", "info,sluicegate::gate=debug"),
        ("SLUICEGATE__LOG__FORMAT", "json"),
        ("SLUICEGATE__STORE__URL_FILE", "url.txt"),
    ]);
    assert!(config.server.compress);
    assert_eq!(config.server.cors_origins, ["https://a.example", "https://b.example"]);
    assert!(config.server.trusted_proxies[0].contains("10.9.9.9".parse().unwrap()));
    assert_eq!(config.server.memory_budget, Size(128 << 20));
    assert_eq!(config.server.public_url.as_ref().unwrap().as_str(), "https://gate.example");
    assert_eq!(config.limits.requests, [rate(500, 60), rate(10, 1), rate(7, 90)]);
    assert_eq!(config.limits.learn, Some(false));
    assert_eq!(config.limits.day_starts, Some(27_000));
    assert_eq!(config.interactive.share, Share(0.25));
    assert_eq!(config.batches.max_items.get(), 12);
    assert_eq!(config.retry.on, [RetryOn::AnyServerError, RetryOn::Status(408), RetryOn::Timeout]);
    assert_eq!(config.retention.files, Duration::from_mins(90));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.store.location, StoreLocation::Sqlite("/data/store.db".into()));
}

#[test]
fn an_empty_variable_unsets_what_the_file_sets() {
    let given = Given {
        file: "[server]\nadmin_listen = '127.0.0.1:9'\ncors_origins = ['https://a.example']\n",
        variables: &[("SLUICEGATE__SERVER__ADMIN_LISTEN", ""), ("SLUICEGATE__SERVER__CORS_ORIGINS", "")],
        ..NOTHING
    };
    let config = given.load().unwrap();
    assert_eq!(config.server.admin_listen, None);
    assert!(config.server.cors_origins.is_empty());
}

const TWO_PROVIDERS: &str = r#"
limits.period = "10s"
timeouts.idle = "50s"

[providers.first]
base_url = "https://first.example/v1/"
api_key_file = "/run/secrets/first"
headers = { "X-Team" = "search", "X-Api-Key-2" = "hunter2" }
query = { "api-version" = "2024-10-21" }
http = 1
limits = { requests = ["500/min", 7], max_concurrent = 9 }
timeouts.request = "70s"
retry.max_attempts = 2

[[providers.first.lanes]]
match = "gpt-4o"
upstream_model = "gpt-4o-2024-08-06"
order = 1
weight = 3
limits.tokens = 1000

[providers.second]
kind = "anthropic"
base_url = "https://second.example/v1"
api_key_command = "echo hunter3"
"#;

#[test]
fn providers_are_resolved() {
    let config = file(TWO_PROVIDERS);
    let [first, second] = config.providers.as_slice() else { panic!("{:?}", config.providers) };
    assert_eq!(first.base_url.as_str(), "https://first.example/v1");
    assert_eq!(first.auth, AuthScheme::Bearer);
    assert_eq!(first.key, Some(KeySource::File("/run/secrets/first".into())));
    assert_eq!(first.http, HttpVersion::One);
    assert_eq!(first.limits.requests, [rate(500, 60), rate(7, 10)]);
    assert_eq!(first.timeouts.idle, Duration::from_secs(50));
    assert_eq!(first.timeouts.request, Duration::from_secs(70));
    assert_eq!(second.timeouts.request, Duration::from_mins(10));
    assert_eq!((first.retry.max_attempts.get(), second.retry.max_attempts.get()), (2, 5));
    let lane = &first.lanes[0];
    assert_eq!((lane.order, lane.weight, lane.each_model), (1, 3, false));
    assert_eq!(lane.limits.tokens, [rate(1000, 10)]);
    assert_eq!(lane.limits.max_concurrent, None, "its provider's ceiling binds");
    assert_eq!(second.auth, AuthScheme::XApiKey);
    assert_eq!(second.headers, [("anthropic-version".to_owned(), Secret::new("2023-06-01"))]);
    assert!(second.lanes[0].each_model && second.lanes[0].pattern.is_any());
    assert_eq!(second.lanes[0].limits.max_concurrent, Some(64));
    assert_eq!(config.limits.max_concurrent, None, "the engine has a ceiling for each process");
    assert_eq!(config.route("gpt-4o")[0].provider.name, "second");
}

#[test]
fn a_shown_configuration_is_the_same_configuration() {
    let config = file(TWO_PROVIDERS);
    let shown = config.show();
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    let again = file(&shown);
    assert_eq!(again.providers[0].limits, config.providers[0].limits);
    assert_eq!(again.providers[0].lanes, config.providers[0].lanes);
    assert_eq!(again.server, config.server);
    let without_origins = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let expected: Vec<_> = without_origins(&shown)
        .into_iter()
        .filter(|line| line != "# made anew for each model met, up to 64")
        .collect();
    let shown_again: Vec<_> = without_origins(&again.show())
        .into_iter()
        .filter(|line| line != "# made anew for each model met, up to 64")
        .collect();
    assert_eq!(shown_again, expected);
}

#[rstest]
#[case::nothing_at_all("", Some(64))]
#[case::a_rate_of_the_service("limits.requests = 5", None)]
#[case::a_rate_of_the_provider("providers.local.limits.requests = 5", None)]
#[case::slots_of_the_provider("providers.local.limits.max_concurrent = 5", None)]
fn lanes_have_a_ceiling_where_nothing_else_binds(#[case] text: &str, #[case] ceiling: Option<u32>) {
    let config = file(&format!("{text}\nproviders.local.base_url = 'http://localhost:8000/v1'"));
    assert_eq!(config.providers[0].lanes[0].limits.max_concurrent, ceiling);
    assert_eq!(config.limits.max_concurrent, None);
}

#[test]
fn the_named_file_must_be_there() {
    let load = |file: Option<&str>, variable: &str| {
        Config::load(&Sources {
            file: file.map(Into::into),
            environment: [("SLUICEGATE_CONFIG", variable)].into_iter().collect(),
            overrides: Vec::new(),
            read_file: &|path| match path.to_str() {
                Some("there.toml") => Ok("log.level = 'debug'".to_owned()),
                Some("/etc/sluicegate/sluicegate.toml") => Ok("log.level = 'trace'".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        })
    };
    assert_eq!(load(Some("there.toml"), "absent.toml").unwrap().log.level.0, "debug");
    assert_eq!(load(None, "there.toml").unwrap().log.level.0, "debug");
    assert_eq!(load(None, "").unwrap().log.level.0, "trace");
    let error = load(Some("absent.toml"), "there.toml").unwrap_err();
    insta::assert_snapshot!(error, @r"configuration: --config: the configuration file absent.toml can't be read: entity not found");
    let error = load(None, "absent.toml").unwrap_err();
    insta::assert_snapshot!(error, @r"configuration: SLUICEGATE_CONFIG: the configuration file absent.toml can't be read: entity not found");
}

#[test]
fn a_server_may_be_the_store_and_its_password_is_not_shown() {
    let url = "postgres://u:hunter2@h/db?password=hunter3&sslmode=verify-full";
    let config = file(&format!("store.url = '{url}'\n[providers.a]\nbase_url = 'https://a.example/v1'"));
    let schema = "sluicegate".to_owned();
    assert_eq!(
        config.store.location,
        StoreLocation::Postgres { url: Secret::new(url), schema, url_file: None }
    );
    let shown = config.show();
    assert!(shown.contains("url = \"postgres://***@h/db?password=***&sslmode=verify-full\""), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}
