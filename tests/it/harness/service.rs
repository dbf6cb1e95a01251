//! The service inside the test's own process.

use std::ops::Deref;

use sluicegate::app::App;
use tokio::runtime::Handle;

use super::{Client, Settings};

/// A running service; it is its own client.
pub(crate) struct Service {
    app: App,
    client: Client,
    settings: Settings,
}

impl Service {
    pub(crate) async fn start(settings: Settings) -> Self {
        let app = App::start(settings.config(), None, Handle::current()).await.unwrap();
        let client = Client::new(app.address);
        Self { app, client, settings }
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.app.address)
    }

    /// The address for operators, where there is one apart.
    pub(crate) fn operators(&self) -> Client {
        Client::new(self.app.admin_address.unwrap())
    }

    /// Where a file of this name stands beside the database.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.settings.file(name)
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> Settings {
        self.app.stop().await;
        self.settings
    }

    /// Ends it in order and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        Self::start(self.stop().await).await
    }
}

impl Deref for Service {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
