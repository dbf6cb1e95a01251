//! `keys`, `apps` and `budget`: who may use a service, who uses it, and what is left.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::arguments::Global;
use super::batches::{show, text};
use super::client::{Client, escaped};
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::show::{ago, count, counted, seconds, table};
use super::{server, tell};
use crate::config::Environment;
use crate::domain::quantity::display_size;

/// Who may use a service.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Lists keys, without their texts
    List,
    /// Makes a key and prints it: the only time that it is shown
    Create(KeysCreate),
    /// Refuses a key from now on
    Revoke(KeysRevoke),
}

/// Makes a key.
#[derive(Clone, Debug, Args)]
pub struct KeysCreate {
    /// The app that it belongs to, which is made if there is none of that name
    #[arg(long, value_name = "NAME")]
    pub app: String,
    /// What it allows
    #[arg(long, value_enum, default_value = "app")]
    pub scope: Scope,
    /// What you call it
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// From when on it is refused, such as `90d`
    #[arg(long, value_name = "DURATION")]
    pub expires_in: Option<String>,
}

/// What a key allows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// Everything that its app can do
    App,
    /// Reading what its app has
    Read,
    /// That, and administration
    Admin,
}

/// Refuses a key.
#[derive(Clone, Debug, Args)]
pub struct KeysRevoke {
    /// The key's id, as `keys list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Who uses a service.
#[derive(Clone, Debug, Args)]
pub struct Apps {
    /// How many days of usage, in UTC, today included
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
}

/// `keys`.
pub(super) fn keys(
    command: &KeysCommand,
    global: &Global,
    environment: Environment,
) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    Runtimes::start()?.block_on(async {
        match command {
            KeysCommand::List => list_keys(&client, global).await,
            KeysCommand::Create(create) => create_key(&client, create, global).await,
            KeysCommand::Revoke(revoke) => {
                let path = format!("/admin/v1/keys/{}", escaped(&revoke.id));
                let gone: Value = client.json(client.request(Method::DELETE, &path)).await?;
                show(global, &gone, &format!("{} is refused from now on", text(&gone, "id")))
            }
        }
    })
}

async fn list_keys(client: &Client, global: &Global) -> Result<Exit, CliError> {
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let mut page: Value = client.get(&format!("/admin/v1/keys?limit=1000{after}")).await?;
        if let Some(Value::Array(more)) = page.get_mut("data").map(Value::take) {
            keys.extend(more);
        }
        match page["last_id"].as_str().filter(|_| page["has_more"] == true) {
            Some(last) => after = format!("&after={last}"),
            None => break,
        }
    }
    let row = |key: &Value| {
        vec![
            text(key, "id").to_owned(),
            text(key, "app").to_owned(),
            text(key, "scope").to_owned(),
            text(key, "status").to_owned(),
            text(key, "name").to_owned(),
            key["created_at"].as_u64().map_or_else(|| "-".to_owned(), ago),
            text(key, "last_used_on").to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    if rows.is_empty() {
        tell(
            global,
            "no keys; `sluicegate keys create` makes one. Until then the service is open to everyone on its machine, \
             unless auth.mode asks for keys all the same",
        );
    }
    let heading = ["id", "app", "scope", "status", "name", "created", "last used"];
    let human = if rows.is_empty() { String::new() } else { table(&heading, &rows) };
    show(global, &json!({"object": "list", "data": keys}), human.trim_end())
}

async fn create_key(client: &Client, create: &KeysCreate, global: &Global) -> Result<Exit, CliError> {
    let scope = create.scope.to_possible_value();
    let scope = scope.as_ref().map_or("app", clap::builder::PossibleValue::get_name);
    let mut body = json!({"app": create.app, "scope": scope});
    for (field, value) in [("name", &create.name), ("expires_in", &create.expires_in)] {
        if let Some(value) = value {
            body[field] = value.clone().into();
        }
    }
    let key: Value = client.json(client.request(Method::POST, "/admin/v1/keys").json(&body)).await?;
    tell(global, &format!("{} of the app {}; the key is shown this once:", text(&key, "id"), create.app));
    show(global, &key, text(&key, "key"))
}

/// `apps`.
pub(super) fn apps(apps: &Apps, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let path = format!("/admin/v1/apps?days={}", apps.days);
    let list: Value = Runtimes::start()?.block_on(client.get(&path))?;
    let row = |app: &Value| {
        let sum = |field: &str| {
            let days = app["usage"].as_array().into_iter().flatten();
            count(days.filter_map(|day| day[field].as_u64()).sum())
        };
        let held = &app["held"];
        vec![
            text(app, "name").to_owned(),
            app["weight"].to_string(),
            count(held["items_queued"].as_u64().unwrap_or(0)),
            display_size(held["bytes_stored"].as_u64().unwrap_or(0)),
            sum("requests"),
            sum("failures"),
            sum("input_tokens"),
            sum("output_tokens"),
        ]
    };
    let rows: Vec<Vec<String>> = list["data"].as_array().into_iter().flatten().map(row).collect();
    tell(global, &format!("usage of the last {}", counted(apps.days.into(), "day")));
    let heading = ["app", "weight", "queued", "stored", "requests", "failures", "tokens in", "tokens out"];
    show(global, &list, table(&heading, &rows).trim_end())
}

/// Whose limit it is: the service is one, of all others there may be several.
fn level_of(limit: &Value) -> String {
    match text(limit, "level") {
        "service" => "service".to_owned(),
        level => format!("{level} {}", text(limit, "name")),
    }
}

/// `budget`.
pub(super) fn budget(global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let client = server::named_or_usual(global, &environment)?;
    let budget: Value = Runtimes::start()?.block_on(client.get("/v1/budget"))?;
    let row = |limit: &Value| {
        let number = |field: &str| limit[field].as_u64();
        let (used, most) = (number("used").unwrap_or(0), number("limit"));
        let share = most.filter(|most| *most > 0).map(|most| used as f64 / most as f64 * 100.0);
        let period = limit["period_seconds"].as_f64().map_or_else(|| "at once".to_owned(), seconds);
        vec![
            level_of(limit),
            text(limit, "dimension").to_owned(),
            count(used),
            most.map_or_else(|| "-".to_owned(), count),
            share.map_or_else(|| "-".to_owned(), |share| format!("{share:.0} %")),
            period,
            text(limit, "source").to_owned(),
            text(limit, "state").to_owned(),
            count(number("waiting").unwrap_or(0)),
        ]
    };
    let rows: Vec<Vec<String>> = budget["data"].as_array().into_iter().flatten().map(row).collect();
    let heading = ["level", "of", "used", "limit", "share", "period", "source", "state", "waiting"];
    show(global, &budget, table(&heading, &rows).trim_end())
}
