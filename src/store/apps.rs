//! Apps: what they may use, what they hold, what they used.

use crate::domain::app::{AppName, AppRecord, AppSettings, Holdings};
use crate::domain::batch::Usage;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;
use crate::domain::time::Timestamp;
use crate::wakeup::Wakeup;

use super::sqlite::{Lane, Span, apps, usage};
use super::{Database, Result, Store, postgres};

/// Most apps there can be: each is a level of the gate.
pub const MOST_APPS: u64 = 1_000;

/// What an app holds, and what it used on some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppReport {
    /// The app.
    pub app: AppRecord,
    /// What it holds at the moment.
    pub holdings: Holdings,
    /// What it used, the latest day first; days without anything are left out.
    pub usage: Vec<(Day, DayUsage)>,
}

impl Store {
    /// Every app, by its key.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn apps(&self) -> Result<Vec<AppRecord>> {
        match &self.database {
            Database::Sqlite(database) => database.read(Span::Page, apps::all).await,
            Database::Postgres(database) => postgres::apps::all(&**database).await.map_err(Into::into),
        }
    }

    /// Rung after a commit that made or changed an app: [`Store::apps`] tells what there is now.
    pub fn apps_wakeup(&self) -> &Wakeup {
        &self.shared().apps
    }

    /// Makes an app or gives it other settings; `None`: there are [`MOST_APPS`] already.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn put_app(&self, name: AppName, settings: AppSettings) -> Result<Option<AppRecord>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.write(Lane::Control, move |writing| apps::put(writing, &name, &settings)).await
            }
            Database::Postgres(database) => postgres::apps::put(database, &name, &settings).await,
        }
    }

    /// Every app with what it holds and what it used since that day.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn app_reports(&self, since: Day) -> Result<Vec<AppReport>> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Page, move |connection| apps::reports(connection, since)).await
            }
            Database::Postgres(database) => postgres::apps::reports(database, since).await,
        }
    }

    /// Counts one interactive call that ended at that moment. Not awaited: it rides the next commit, at the
    /// latest after a second; a crash before forgets it. What batches use is counted with their results.
    pub fn count_call(&self, app: AppKey, ended_at: Timestamp, failed: bool, usage: &Usage) {
        self.shared().count_usage(app, Day::of(ended_at), &DayUsage::of(failed, usage));
    }

    /// What an app used on one day.
    ///
    /// # Errors
    /// What every read may answer.
    pub async fn day_usage(&self, app: AppKey, day: Day) -> Result<DayUsage> {
        match &self.database {
            Database::Sqlite(database) => {
                database.read(Span::Point, move |connection| usage::of_day(connection, app, day)).await
            }
            Database::Postgres(database) => postgres::usage::of_day(database, app, day).await,
        }
    }
}
