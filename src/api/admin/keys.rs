//! `GET|POST /admin/v1/keys`, `DELETE /admin/v1/keys/{key_id}`

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;

use crate::domain::api_key::{KeyRecord, KeyText, Scope};
use crate::domain::app::{AppName, LONGEST_APP_NAME};
use crate::domain::ids::KeyId;
use crate::domain::quantity::parse_duration;
use crate::domain::time::Timestamp;
use crate::store::{KeyOrigin, KeyQuery, MOST_APPS, MOST_LIVE_KEYS, NewKey, NewKeyOutcome, Store};

use super::super::body::{read_short, require_json};

use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::{Fields, WholeNumber};
use super::super::files::Deleted;
use super::super::keyring::Keyring;
use super::super::list::List;
use super::super::path::Path;
use super::super::query::{Query, not_one_of};
use super::super::state::Api;
use super::MAX_BODY;

const FIELDS: [&str; 7] = ["app", "scope", "name", "expires_at", "expires_in", "replaces", "overlap"];
/// How long both keys are good, unless said.
const OVERLAP: Duration = Duration::from_hours(1);
/// Longest overlap and lifetime: what is meant to be longer is meant to be for ever.
const LONGEST: Duration = Duration::from_hours(24 * 3_660);
const LONGEST_NAME: usize = 100;
const MOST_LISTED: usize = 1_000;
const LISTED: usize = 100;

/// A key without its text.
#[derive(Debug, Serialize)]
pub(crate) struct KeyView {
    object: &'static str,
    id: String,
    app: String,
    name: Option<String>,
    scope: &'static str,
    status: &'static str,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_on: Option<String>,
    replaces: Option<String>,
}

/// A key with its text: the one time that it is shown.
#[derive(Debug, Serialize)]
struct NewKeyView {
    #[serde(flatten)]
    key: KeyView,
    #[serde(rename = "key")]
    text: String,
}

impl KeyView {
    fn new(record: KeyRecord, now: Timestamp) -> Self {
        let status = match (record.is_live(now), record.revoked_at) {
            (true, _) => "active",
            (false, Some(_)) => "revoked",
            (false, None) => "expired",
        };
        Self {
            object: "sluicegate.key",
            id: record.id.to_string(),
            app: record.app_name.to_string(),
            name: record.name,
            scope: record.scope.as_str(),
            status,
            created_at: record.created_at.seconds(),
            expires_at: record.expires_at.map(Timestamp::seconds),
            revoked_at: record.revoked_at.map(Timestamp::seconds),
            last_used_on: record.last_used.map(|day| day.to_string()),
            replaces: record.replaces.map(|id| id.to_string()),
        }
    }
}

/// `GET /admin/v1/keys`
pub(crate) async fn list_keys(State(api): State<Api>, query: Query) -> Result<Json<List<KeyView>>> {
    let asked = KeyQuery {
        app: query.text("app")?.map(|name| app_name("app", name)).transpose()?,
        after: query.text("after")?.map(KeyId::new),
        limit: query.number("limit", 1..=MOST_LISTED)?.unwrap_or(LISTED),
    };
    let page = api.store.api_keys(asked).await?;
    let now = api.clock.now();
    let data = page.data.into_iter().map(|record| KeyView::new(record, now)).collect();
    Ok(Json(List::new(data, page.has_more, |key: &KeyView| &key.id)))
}

/// `POST /admin/v1/keys`: makes a key and shows it, once.
pub(crate) async fn create_key(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Response> {
    require_json(&headers)?;
    let body = read_short(body, MAX_BODY).await?;
    let now = api.clock.now();
    let (mut fields, text) = (Fields::parse(&body)?, KeyText::from_random(rand::random()));
    let new = NewKey {
        id: KeyId::from_random(rand::random()),
        hash: text.hash(),
        name: name(&mut fields)?,
        expires_at: expiry(&mut fields, now)?,
        origin: origin(&mut fields)?,
    };
    fields.finish(&FIELDS)?;
    refuse_locking_out(&api.keyring, &new.origin)?;
    let record = made(api.store.create_api_key(new).await?)?;
    api.keyring.reload().await?;
    let view = NewKeyView { key: KeyView::new(record, now), text: text.expose().to_owned() };
    let mut response = Json(view).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn made(outcome: NewKeyOutcome) -> Result<KeyRecord> {
    match outcome {
        NewKeyOutcome::Made(record) => Ok(record),
        NewKeyOutcome::NothingToReplace => {
            let why = "There is no key of that id that could be replaced: it is unknown, expired or revoked.";
            Err(ApiError::invalid("replaces", why))
        }
        NewKeyOutcome::TooManyKeys => {
            let why = format!("There are {MOST_LIVE_KEYS} keys already; revoke some that are not used.");
            Err(ApiError::new(Refusal::Conflict, why))
        }
        NewKeyOutcome::TooManyApps => Err(too_many_apps()),
    }
}

/// 409: no further app can be made.
pub(super) fn too_many_apps() -> ApiError {
    ApiError::new(Refusal::Conflict, format!("There are {MOST_APPS} apps already; no more can be made."))
}

/// With the first key, keys are asked for: someone must be able to make the second.
fn refuse_locking_out(keyring: &Keyring, origin: &KeyOrigin) -> Result<()> {
    let is_admin = matches!(origin, KeyOrigin::App { scope: Scope::Admin, .. });
    if is_admin || !keyring.first_must_be_admin() {
        return Ok(());
    }
    let why = "The first key must have the scope 'admin', as from then on every call needs a key. Or give the \
               service an admin key of your own: SLUICEGATE_ADMIN_KEY or auth.admin_key_file.";
    Err(ApiError::invalid("scope", why))
}

fn name(fields: &mut Fields<'_>) -> Result<Option<String>> {
    let Some(name) = fields.take::<String>("name", "a string")? else { return Ok(None) };
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let why = format!("Invalid 'name': 1 to {LONGEST_NAME} bytes without control characters.");
        return Err(ApiError::invalid("name", why));
    }
    Ok(Some(name))
}

fn expiry(fields: &mut Fields<'_>, now: Timestamp) -> Result<Option<Timestamp>> {
    let at = fields.take::<WholeNumber>("expires_at", "a whole number of unix seconds")?;
    let after = duration(fields, "expires_in")?;
    let expires = match (at.map(|at| Timestamp::from_seconds(at.0)), after) {
        (Some(_), Some(_)) => {
            let why = "Give either 'expires_at' or 'expires_in', not both.";
            return Err(ApiError::invalid("expires_in", why));
        }
        (at, after) => at.or_else(|| after.map(|after| now + after)),
    };
    match expires {
        Some(expires) if expires <= now => {
            let param = if after.is_some() { "expires_in" } else { "expires_at" };
            Err(ApiError::invalid(param, format!("Invalid '{param}': it must lie in the future.")))
        }
        expires => Ok(expires),
    }
}

fn origin(fields: &mut Fields<'_>) -> Result<KeyOrigin> {
    let app = fields.take::<String>("app", "a string")?;
    let scope = fields.take::<String>("scope", "a string")?;
    let replaces = fields.take::<String>("replaces", "a string")?;
    let overlap = duration(fields, "overlap")?;
    match (replaces, app) {
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("app", "A key that replaces another one has that one's app and scope."))
        }
        (Some(_), None) if scope.is_some() => {
            Err(ApiError::invalid("scope", "A key that replaces another one has that one's app and scope."))
        }
        (Some(id), None) => {
            Ok(KeyOrigin::Replacing { id: KeyId::new(id), overlap: overlap.unwrap_or(OVERLAP) })
        }
        (None, _) if overlap.is_some() => {
            Err(ApiError::invalid("overlap", "'overlap' is for a key that 'replaces' another one."))
        }
        (None, None) => Err(ApiError::missing("app")),
        (None, Some(name)) => Ok(KeyOrigin::App {
            name: app_name("app", &name)?,
            scope: scope.map_or(Ok(Scope::App), |word| read_scope(&word))?,
        }),
    }
}

fn read_scope(word: &str) -> Result<Scope> {
    let scopes = Scope::ALL.into_iter().map(Scope::as_str);
    Scope::from_stored(word).ok_or_else(|| not_one_of("scope", word, scopes))
}

fn duration(fields: &mut Fields<'_>, name: &str) -> Result<Option<Duration>> {
    let Some(text) = fields.take::<String>(name, "a duration such as \"90d\"")? else { return Ok(None) };
    match parse_duration(&text) {
        Ok(duration) if duration <= LONGEST => Ok(Some(duration)),
        Ok(_) => Err(ApiError::invalid(name, format!("Invalid '{name}': at most 3660d."))),
        Err(error) => Err(ApiError::invalid(name, format!("Invalid '{name}': expected {error}."))),
    }
}

/// An app's name as given in `param`.
pub(super) fn app_name(param: &str, text: &str) -> Result<AppName> {
    AppName::new(text).ok_or_else(|| {
        let why = format!(
            "Invalid name of an app: 1 to {LONGEST_APP_NAME} of a-z, 0-9, '_', '-' and '.', the first one of \
             a-z or 0-9."
        );
        ApiError::invalid(param, why)
    })
}

/// `DELETE /admin/v1/keys/{key_id}`: the key is refused from now on.
pub(crate) async fn revoke_key(
    State(store): State<Store>,
    State(keyring): State<Keyring>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>> {
    if !store.revoke_api_key(&KeyId::new(id.as_str())).await? {
        let shown: String = id.chars().take(100).collect();
        return Err(ApiError::new(Refusal::NotFound, format!("No key found with id '{shown}'.")));
    }
    keyring.reload().await?;
    Ok(Json(Deleted::new(id, "sluicegate.key")))
}
