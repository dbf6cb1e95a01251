//! Places that apps share, such as those of bodies being read: whoever takes one may be slow to give it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::AppKey;

use super::error::{ApiError, Result};

/// A number of places of which one app holds so many at most: its calls wait for each other first, and then for the
/// others' in turn. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    most: usize,
    of_apps: Arc<Mutex<HashMap<AppKey, Arc<Semaphore>>>>,
}

/// Some places, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    // Given back first: who waits for the app's own finds the others' free.
    of_all: OwnedSemaphorePermit,
    of_app: OwnedSemaphorePermit,
}

impl Places {
    /// So many places, of which one app may hold `most`.
    pub(crate) fn new(all: usize, most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), most, of_apps: Arc::default() }
    }

    /// Waits for `count` places at once, which must not be more than an app may hold.
    ///
    /// # Errors
    /// A defect: the places are never closed.
    pub(crate) async fn take(&self, app: AppKey, count: u32) -> Result<Place> {
        let gone = |_| ApiError::internal("the places of an app are gone");
        // Its own first: a call that waits for these holds nothing that others wait for.
        let of_app = self.of_app(app).acquire_many_owned(count).await.map_err(gone)?;
        let of_all = Arc::clone(&self.all).acquire_many_owned(count).await.map_err(gone)?;
        Ok(Place { of_all, of_app })
    }

    /// One app's. They stay once made: there are few apps, and none is as large as a call.
    fn of_app(&self, app: AppKey) -> Arc<Semaphore> {
        let mut of_apps = self.of_apps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(of_apps.entry(app).or_insert_with(|| Arc::new(Semaphore::new(self.most))))
    }
}

impl Place {
    /// Keeps only so many, if it has more.
    pub(crate) fn keep(&mut self, count: usize) {
        for held in [&mut self.of_all, &mut self.of_app] {
            let spare = held.num_permits().saturating_sub(count);
            drop(held.split(spare));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_app_holds_them_all_and_each_waits_for_its_own() {
        let places = Places::new(4, 3);
        let take = |app, count| places.take(AppKey(app), count).now_or_never().map(Result::unwrap);
        let mut first = take(1, 3).unwrap();
        assert!(take(1, 1).is_none());
        let other = take(2, 1).unwrap();
        assert!(take(2, 1).is_none(), "all are taken");
        first.keep(1);
        first.keep(2);
        assert!(take(2, 2).is_some());
        drop((first, other));
        assert!(take(1, 3).is_some() && take(1, 4).is_none());
    }
}
