//! What is said about each thing that can be wrong.

use super::*;

fn said(given: &Given<'_>) -> String {
    let problems = given.problems();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[rstest]
#[case::unknown_key(
    "[server]\nlistn = 1",
    "sluicegate.toml:2: server.listn is not a key; server has listen, admin_listen, public_url, drain_timeout, cors_origins, trusted_proxies, memory_budget, compress; the nearest is server.listen"
)]
#[case::unknown_section("[servr]\nlisten = 1", "sluicegate.toml:1: servr is not a key")]
#[case::key_of_another_section("max_concurrent = 1", "the nearest is limits.max_concurrent")]
#[case::slip("limits.request = 1\n[providers.a]\nbase_url = 'http://h/v1'", "the nearest is limits.requests")]
#[case::tokens_are_no_secret(
    "limits.tokens = '1OO/min'",
    "limits.tokens = \"1OO/min\": expected a rate such as"
)]
#[case::the_key_itself(
    "[providers.a]\nbase_url = 'http://h/v1'\napi_key = 'sk-1'",
    "sluicegate.toml:3: providers.a.api_key is not a key"
)]
#[case::unknown_in_a_lane(
    "[providers.a]\nbase_url = 'http://h/v1'\nlanes = [{ match = 'm', upstream = 'n' }]",
    "the nearest is providers.a.lanes[0].upstream_model"
)]
#[case::address(
    "server.listen = '8080'",
    "sluicegate.toml:1: server.listen = \"8080\": expected an address and a port"
)]
#[case::duration(
    "server.drain_timeout = '90'",
    "server.drain_timeout = \"90\": expected a duration with its unit"
)]
#[case::bare_duration(
    "server.drain_timeout = 90",
    "server.drain_timeout = 90: expected a duration with its unit"
)]
#[case::size("server.memory_budget = '64M'", "server.memory_budget = \"64M\": expected a size such as")]
#[case::rate("limits.requests = '500/mn'", "limits.requests = \"500/mn\": expected a rate such as")]
#[case::rate_in_a_list(
    "limits.requests = ['5/s', 'fast']",
    "limits.requests = [\"5/s\", \"fast\"]: expected a rate such as"
)]
#[case::no_rate("limits.requests = 0", "expected a rate of at least 1 per period")]
#[case::negative_rate("limits.requests = -1", "expected a rate of at least 1 per period")]
#[case::no_period(
    "limits.requests = 5\nlimits.period = '0s'",
    "limits.requests must be a rate whose period is at least 1ms"
)]
#[case::count("limits.max_concurrent = 0", "expected a whole number of at least 1")]
#[case::time_of_day("limits.day_starts = '24:00'", "expected a time of day in UTC")]
#[case::choice(
    "log.format = 'jason'",
    "log.format = \"jason\": expected text or json; the nearest is \"json\""
)]
#[case::level("log.level = 'inof'", "the nearest is \"info\"")]
#[case::level_of_a_target(
    "log.level = 'info,sluicegate=verbose'",
    "expected error, warn, info, debug, trace, off"
)]
#[case::share("interactive.share = 1.5", "interactive.share = 1.5: expected a number from 0 to 1")]
#[case::truth("server.compress = 'yes'", "server.compress = \"yes\": expected true or false")]
#[case::network("server.trusted_proxies = ['10.0.0.0/33']", "expected networks such as")]
#[case::retry_on("retry.on = ['6xx']", "expected statuses from 400 to 599")]
#[case::retry_on_success("retry.on = [200]", "expected statuses from 400 to 599")]
#[case::a_date("server.drain_timeout = 2024-01-01", "server.drain_timeout = 2024-01-01: expected a duration")]
#[case::section_as_value("server = 3", "server = 3: expected a section, [server]")]
#[case::value_as_section("[server.listen]\na = 1", "server.listen = {…}: expected an address")]
#[case::lanes_as_value(
    "[providers.a]\nbase_url = 'http://h/v1'\nlanes = 'm'",
    "expected a list of tables, [[providers.a.lanes]]"
)]
#[case::lane_without_match(
    "[providers.a]\nbase_url = 'http://h/v1'\nlanes = [{ order = 1 }]",
    "providers.a.lanes[0].match is missing"
)]
#[case::lane_twice(
    "[providers.a]\nbase_url = 'http://h/v1'\nlanes = [{ match = 'm' }, { match = 'm' }]",
    "providers.a.lanes[1].match = \"m\": is there already"
)]
#[case::delays(
    "retry = { min_delay = '2s', max_delay = '1s' }",
    "retry.min_delay = \"2s\": must be at most retry.max_delay, \"1s\""
)]
#[case::provider_delays(
    "[providers.a]\nbase_url = 'http://h/v1'\nretry.min_delay = '2m'",
    "providers.a.retry.min_delay = \"2m\": must be at most"
)]
#[case::no_timeout("timeouts.idle = '0s'", "timeouts.idle = \"0s\": must be longer than nothing")]
#[case::no_retention("retention.files = '0s'", "retention.files = \"0s\": must be longer than nothing")]
#[case::file_below_line(
    "batches.max_file = '1MiB'",
    "batches.max_file = \"1MiB\": must be at least batches.max_line, \"16MiB\""
)]
#[case::memory_below_lines(
    "server.memory_budget = '16MiB'",
    "must be at least twice batches.max_line, \"32MiB\""
)]
#[case::same_address("server.admin_listen = '127.0.0.1:8080'", "must differ from server.listen")]
#[case::no_database(
    "store.url = 'mysql://u:hunter2@h/db'",
    "store.url = \"mysql:…\": expected a URL such as"
)]
#[case::schema_name(
    "store = { url = 'postgres://h/db', schema = 'My-Own' }",
    "store.schema = \"My-Own\": is no name for a schema"
)]
#[case::schema("store.schema = 's'", "store.schema = \"s\": is for PostgreSQL")]
#[case::url_twice(
    "store = { url = 'sqlite:a', url_file = 'url.txt' }",
    "store.url_file = \"url.txt\": is given beside store.url"
)]
#[case::url_file("store.url_file = 'absent'", "store.url_file = \"absent\": can't be read")]
#[case::no_base_url(
    "[providers.opnai]\nhttp = 2",
    "providers.opnai.base_url is missing: the provider's URL with its version prefix, such as \"https://api.example.com/v1\"; the nearest is providers.openai"
)]
#[case::bad_base_url("providers.a.base_url = 'h/v1'", "providers.a.base_url = \"h/v1\": expected a URL")]
#[case::user_in_url(
    "providers.a.base_url = 'http://u:hunter2@h/v1'",
    "providers.a.base_url = \"http://***@h/v1\": must not hold a user"
)]
#[case::query_in_url("providers.a.base_url = 'http://h/v1?a=b'", "must not hold a query")]
#[case::provider_name(
    "[providers.A-1]\nbase_url = 'http://h/v1'",
    "providers.A-1 must be named with a letter first"
)]
#[case::kind(
    "[providers.a]\nbase_url = 'http://h/v1'\nkind = 'open-ai'",
    "expected openai or anthropic or azure; the nearest is \"openai\""
)]
#[case::http(
    "[providers.a]\nbase_url = 'http://h/v1'\nhttp = 3",
    "providers.a.http = 3: expected auto or 1 or 2"
)]
#[case::header(
    "[providers.a]\nbase_url = 'http://h/v1'\nheaders = { 'a b' = 'c' }",
    "providers.a.headers holds \"a b\""
)]
#[case::header_value(
    "[providers.a]\nbase_url = 'http://h/v1'\nheaders = { 'a' = 1 }",
    "providers.a.headers = {…}: expected names with texts"
)]
#[case::auth_without_key(
    "[providers.a]\nbase_url = 'http://h/v1'\nauth = 'bearer'",
    "providers.a.auth = \"bearer\": needs a key"
)]
#[case::two_keys(
    "[providers.a]\nbase_url = 'http://h/v1'\napi_key_file = 'f'\napi_key_command = 'c'",
    "providers.a.api_key_command is given beside api_key_file"
)]
#[case::unset_variable(
    "[providers.a]\nbase_url = 'http://h/v1'\napi_key_env = 'MY_KEY'",
    "providers.a.api_key_env = \"MY_KEY\": this variable is not set"
)]
#[case::catch_alls(
    "[providers.a]\nbase_url = 'http://h/v1'\n[providers.b]\nbase_url = 'http://i/v1'",
    "providers.b takes every model with order 0, and so does providers.a"
)]
fn each_is_named(#[case] text: &str, #[case] message: &str) {
    let said = said(&Given { file: text, ..NOTHING });
    assert!(said.contains(message), "{said}");
    assert_eq!(said.lines().count(), 1, "only one problem: {said}");
    assert!(!said.contains("hunter2") && !said.contains("sk-1"), "{said}");
}

#[rstest]
#[case("SLUICEGATE__SERVER__LISTN", "1", "SLUICEGATE__SERVER__LISTN: server.listn is not a key")]
#[case("SLUICEGATE__SERVER", "1", "SLUICEGATE__SERVER: server names no key")]
#[case(
    "SLUICEGATE__LIMITS_REQUESTS",
    "1",
    "limits_requests names no key: expected a section and a key, in a variable"
)]
#[case("SLUICEGATE__SERVER__", "1", "names no key: expected a section and a key")]
#[case(
    "SLUICEGATE__SERVER__LISTEN",
    "",
    "SLUICEGATE__SERVER__LISTEN: server.listen = \"\": expected an address"
)]
#[case("SLUICEGATE__SERVER__LISTEN__PORT", "1", "server.listen = {…}: expected an address")]
#[case(
    "SLUICEGATE__SERVER__COMPRESS",
    "yes",
    "SLUICEGATE__SERVER__COMPRESS: server.compress = \"yes\": expected true"
)]
#[case("SLUICEGATE__PROVIDERS__OPENIA__HTTP", "2", "the nearest is providers.openai")]
#[case(
    "SLUICEGATE__PROVIDERS__A__LANES",
    "m",
    "expected a list of tables, [[providers.a.lanes]], which only the file"
)]
#[case("SLUICEGATE__PROVIDERS__OPENAI__API_KEY_ENV", "sk-1-2", "= ***: expected the name of a variable")]
#[case(
    "SLUICEGATE__PROVIDERS__OPENAI__HEADERS",
    "sk-1",
    "providers.openai.headers = \"***\": expected names"
)]
fn variables_are_named(#[case] name: &str, #[case] value: &str, #[case] message: &str) {
    let base = ("SLUICEGATE__PROVIDERS__A__BASE_URL", "http://h/v1");
    let said = said(&Given { variables: &[(name, value), base], ..NOTHING });
    assert!(said.contains(message), "{said}");
    assert!(!said.contains("sk-1"), "{said}");
}

#[test]
fn lists_of_tables_come_from_the_file_only() {
    let given = Given {
        file: "[providers.a]\nbase_url = 'http://h/v1'\nlanes = [{ match = 'm' }]",
        variables: &[("SLUICEGATE__PROVIDERS__A__LANES__0__MATCH", "n")],
        ..NOTHING
    };
    assert!(said(&given).contains("providers.a.lanes is a list"), "{}", said(&given));
}

#[rstest]
#[case("", true)]
#[case("budget = 'shared'", true)]
#[case("budget = 'mine'", false)]
fn one_account_under_two_names(#[case] budget: &str, #[case] is_refused: bool) {
    let text = format!(
        "[providers.a]\nbase_url = 'http://h/v1'\napi_key_env = 'ONE'\nbudget = 'mine'\n\
         [providers.b]\nbase_url = 'http://h/v1/'\napi_key_env = 'TWO'\n{budget}\nlanes = [{{ match = 'm' }}]"
    );
    let given = Given { file: &text, variables: &[("ONE", "sk-1"), ("TWO", "sk-1")], ..NOTHING };
    match given.load() {
        Ok(_) => assert!(!is_refused),
        Err(error) => {
            assert!(is_refused, "{error}");
            assert!(error.to_string().contains("same key and base_url as providers.a"), "{error}");
        }
    }
    let other_keys = Given { variables: &[("ONE", "sk-1"), ("TWO", "sk-2")], ..given };
    assert!(other_keys.load().is_ok());
}

#[test]
fn one_budget_has_one_set_of_limits() {
    let text = |limits: &str| {
        format!(
            "[providers.a]\nbase_url = 'http://h/v1'\nbudget = 'mine'\nlimits = {{ requests = '5/s' }}\n\
             [providers.b]\nbase_url = 'http://h/v1'\nbudget = 'mine'\nlimits = {{ {limits} }}\nlanes = [{{ match = 'm' }}]"
        )
    };
    let load =
        |text: &str| Given { file: text, ..NOTHING }.load().map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(load(&text("requests = '5/s'")), Ok(()));
    let error = load(&text("requests = '6/s'")).unwrap_err();
    assert!(error.contains("providers.b.budget = \"mine\": is shared with providers.a"), "{error}");
}

#[test]
fn all_at_once_in_the_order_of_the_sources() {
    let given = Given {
        file: "[server]\nlistn = 1\ndrain_timeout = 'soon'\n[limits]\nrequests = 'many'\n[providers.a]\nhttp = 9\n",
        variables: &[("SLUICEGATE__LOG__FORMAT", "xml")],
        overrides: &[("batches.max_itms", "5")],
    };
    insta::assert_snapshot!(given.load().unwrap_err(), @r#"
    configuration: 7 problems
      sluicegate.toml:2: server.listn is not a key; server has listen, admin_listen, public_url, drain_timeout, cors_origins, trusted_proxies, memory_budget, compress; the nearest is server.listen
      sluicegate.toml:3: server.drain_timeout = "soon": expected a duration such as "90s", "1h30m" or "7d" (units ms, s, m, h, d)
      sluicegate.toml:5: limits.requests = "many": expected a rate such as "500/min", "10/s", "10000/day" or "600/90s"
      sluicegate.toml:6: providers.a.base_url is missing: the provider's URL with its version prefix, such as "https://api.example.com/v1"
      sluicegate.toml:7: providers.a.http = 9: expected auto or 1 or 2
      SLUICEGATE__LOG__FORMAT: log.format = "xml": expected text or json
      --set: batches.max_itms is not a key; batches has max_items, max_line, max_file, max_inline; the nearest is batches.max_items
    "#);
}

#[test]
fn broken_files_are_not_quoted() {
    let text = "[server]\nlisten = 'sk-1\n\n[limits\nx = 1\n";
    let said = said(&Given { file: text, ..NOTHING });
    assert!(said.starts_with("sluicegate.toml:2: not TOML: "), "{said}");
    assert!(said.contains("\nsluicegate.toml:4: not TOML: "), "{said}");
    assert!(!said.contains("sk-1"), "{said}");
}
