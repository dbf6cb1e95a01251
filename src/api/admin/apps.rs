//! `GET /admin/v1/apps`, `PUT /admin/v1/apps/{name}`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::app::{AppName, AppSettings, Holdings};
use crate::domain::day::{Day, DayUsage};
use crate::domain::quantity::parse_size;
use crate::store::AppReport;

use super::super::body::{read_short, require_json};
use super::super::error::{ApiError, Result};
use super::super::fields::{Fields, WholeNumber, wrong_type};
use super::super::list::List;
use super::super::path::Path;
use super::super::query::Query;
use super::super::state::Api;
use super::MAX_BODY;
use super::keys::{app_name, too_many_apps};
use super::limits::{LimitsView, read_limits};

const FIELDS: [&str; 4] = ["weight", "limits", "items_queued", "bytes_stored"];
/// Days of usage shown unless asked, today included, and the most.
const DAYS: u32 = 7;
const MOST_DAYS: u32 = 366;
const MOST_WEIGHT: u32 = 10_000;

/// An app with what it holds and used.
#[derive(Debug, Serialize)]
pub(crate) struct AppView {
    object: &'static str,
    name: String,
    weight: u32,
    limits: LimitsView,
    items_queued: Option<u64>,
    bytes_stored: Option<u64>,
    held: HeldView,
    usage: Vec<DayView>,
    created_at: i64,
}

#[derive(Debug, Serialize)]
struct HeldView {
    items_queued: u64,
    bytes_stored: u64,
}

/// One day's usage.
#[derive(Debug, Serialize)]
struct DayView {
    day: String,
    requests: u64,
    failures: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
}

impl DayView {
    fn new(day: Day, used: DayUsage) -> Self {
        let DayUsage { requests, failures, input_tokens, cached_tokens, output_tokens } = used;
        Self { day: day.to_string(), requests, failures, input_tokens, cached_tokens, output_tokens }
    }
}

impl AppView {
    /// Today always comes first, whatever was used on it.
    fn new(report: AppReport, today: Day) -> Self {
        let AppReport { app, holdings: Holdings { items_queued, bytes_stored }, mut usage } = report;
        if usage.first().is_none_or(|(day, _)| *day < today) {
            usage.insert(0, (today, DayUsage::default()));
        }
        Self {
            object: "sluicegate.app",
            name: app.name.to_string(),
            weight: app.settings.weight,
            limits: LimitsView::new(&app.settings.limits),
            items_queued: app.settings.items_queued,
            bytes_stored: app.settings.bytes_stored,
            held: HeldView { items_queued, bytes_stored },
            usage: usage.into_iter().map(|(day, used)| DayView::new(day, used)).collect(),
            created_at: app.created_at.seconds(),
        }
    }
}

/// `GET /admin/v1/apps`
pub(crate) async fn list_apps(State(api): State<Api>, query: Query) -> Result<Json<List<AppView>>> {
    let days = query.number("days", 1..=MOST_DAYS)?.unwrap_or(DAYS);
    let today = Day::of(api.clock.now());
    let reports = api.store.app_reports(today.before(days - 1)).await?;
    let data = reports.into_iter().map(|report| AppView::new(report, today)).collect();
    Ok(Json(List::new(data, false, |app: &AppView| &app.name)))
}

/// `PUT /admin/v1/apps/{name}`: makes an app or replaces all of its settings.
pub(crate) async fn put_app(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AppView>> {
    require_json(&headers)?;
    let name = app_name("name", &name)?;
    let body = read_short(body, MAX_BODY).await?;
    let settings = read_settings(&body)?;
    let app = api.store.put_app(name, settings).await?.ok_or_else(too_many_apps)?;
    api.keyring.reload().await?;
    let today = Day::of(api.clock.now());
    let report = find(api.store.app_reports(today).await?, &app.name);
    let report = report.ok_or_else(|| ApiError::internal("an app is gone as soon as it was put"))?;
    Ok(Json(AppView::new(report, today)))
}

fn find(reports: Vec<AppReport>, name: &AppName) -> Option<AppReport> {
    reports.into_iter().find(|report| report.app.name == *name)
}

fn read_settings(body: &[u8]) -> Result<AppSettings> {
    let mut fields = Fields::parse(body)?;
    let settings = AppSettings {
        weight: weight(&mut fields)?,
        limits: fields.raw("limits").map(read_limits).transpose()?.unwrap_or_default(),
        items_queued: fields.raw("items_queued").map(items_queued).transpose()?,
        bytes_stored: fields.raw("bytes_stored").map(size).transpose()?,
    };
    fields.finish(&FIELDS)?;
    Ok(settings)
}

fn weight(fields: &mut Fields<'_>) -> Result<u32> {
    let weight = fields.take::<WholeNumber>("weight", "a whole number")?.map_or(1, |weight| weight.0);
    let weight = u32::try_from(weight).ok().filter(|weight| (1..=MOST_WEIGHT).contains(weight));
    weight.ok_or_else(|| {
        ApiError::invalid("weight", format!("Invalid 'weight': it must be from 1 to {MOST_WEIGHT}."))
    })
}

fn items_queued(value: &RawValue) -> Result<u64> {
    let most = serde_json::from_str::<WholeNumber>(value.get()).ok();
    let most = most.and_then(|most| u64::try_from(most.0).ok());
    most.ok_or_else(|| wrong_type("items_queued", "a whole number or null", value))
}

fn size(value: &RawValue) -> Result<u64> {
    let number = serde_json::from_str::<WholeNumber>(value.get()).map(|number| number.0.to_string());
    let text = serde_json::from_str::<String>(value.get()).or(number).unwrap_or_default();
    let wrong = |_| wrong_type("bytes_stored", "a number of bytes or a size such as \"8GiB\"", value);
    parse_size(&text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::error::Refusal;
    use super::*;
    use crate::domain::limits::Rate;

    #[test]
    fn settings_are_read() {
        let body =
            br#"{"weight":3,"limits":{"requests":["500/min",7],"max_concurrent":4,"day_starts":"07:30"},
            "items_queued":1000,"bytes_stored":"8GiB"}"#;
        let settings = read_settings(body).unwrap();
        let minute = Duration::from_secs(60);
        let rates = [Rate { amount: 500, period: minute }, Rate { amount: 7, period: minute }];
        assert_eq!((settings.weight, settings.limits.max_concurrent), (3, Some(4)));
        assert_eq!(settings.limits.requests, rates);
        assert_eq!(settings.limits.day_starts, Some(27_000));
        assert_eq!((settings.items_queued, settings.bytes_stored), (Some(1_000), Some(8 << 30)));
        assert_eq!(read_settings(b"{}").unwrap(), AppSettings::default());
        let pointed =
            br#"{"weight":3.0,"items_queued":1e3,"bytes_stored":8.0,"limits":{"requests":7.0,"burst":2.0}}"#;
        let pointed = read_settings(pointed).unwrap();
        assert_eq!((pointed.weight, pointed.items_queued, pointed.bytes_stored), (3, Some(1_000), Some(8)));
        assert_eq!(pointed.limits.requests, rates[1..]);
    }

    #[test]
    fn what_can_not_be_is_named() {
        let refused = |body: &[u8]| read_settings(body).unwrap_err().refusal();
        assert_eq!(refused(br#"{"weight":0}"#), Refusal::InvalidValue);
        assert_eq!(refused(br#"{"wieght":1}"#), Refusal::UnknownParameter);
        assert_eq!(refused(br#"{"items_queued":-1}"#), Refusal::InvalidType);
        assert_eq!(refused(br#"{"bytes_stored":"many"}"#), Refusal::InvalidType);
        assert_eq!(refused(br#"{"limits":{"requests":"many"}}"#), Refusal::InvalidValue);
        assert_eq!(refused(br#"{"limits":{"requests":0}}"#), Refusal::InvalidValue);
        assert_eq!(refused(br#"{"limits":{"max_concurrent":0}}"#), Refusal::InvalidValue);
        assert_eq!(refused(br#"{"limits":{"day_starts":"24:00"}}"#), Refusal::InvalidValue);
        assert_eq!(refused(br#"{"limits":{"reqests":1}}"#), Refusal::UnknownParameter);
        assert_eq!(refused(br#"{"limits":[]}"#), Refusal::InvalidType);
    }
}
