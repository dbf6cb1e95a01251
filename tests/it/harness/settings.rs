//! The configuration of a service under test: a usual one, with a test's own keys laid over it.

use std::io;
use std::path::{Path, PathBuf};

use sluicegate::config::{Config, Environment, Sources};
use sluicegate::demo::upstream::Running;
use tempfile::TempDir;
use toml::{Table, Value};

/// A configuration and the folder that its data lives in. Clones share the folder.
#[derive(Clone)]
pub(crate) struct Settings {
    table: Table,
    folder: std::sync::Arc<TempDir>,
    name: String,
}

impl Settings {
    /// One provider named `up`, without a key, whose failures are retried quickly.
    pub(crate) fn new(upstream: &Running) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let text = format!(
            r#"
            server = {{ listen = "127.0.0.1:0", drain_timeout = "10s" }}
            store = {{ url = "sqlite:{}", min_free = "1MiB" }}
            retry = {{ min_delay = "5ms", max_delay = "20ms" }}
            log = {{ format = "json", level = "info" }}
            [providers.up]
            kind = "openai"
            base_url = "{}"
            auth = "none"
            "#,
            store.display(),
            upstream.base_url()
        );
        Self { table: text.parse().unwrap(), folder: folder.into(), name: "sluicegate.toml".to_owned() }
    }

    /// Lays further keys over it.
    pub(crate) fn with(mut self, more: &str) -> Self {
        lay_over(&mut self.table, more.parse().unwrap());
        self
    }

    /// With the store where a file beside the database says, which holds this URL.
    pub(crate) fn with_url_in_file(mut self, url: &str, schema: &str) -> Self {
        let file = self.file("store.url");
        std::fs::write(&file, url).unwrap();
        self.table.remove("store");
        let store = format!("store = {{ url_file = \"{}\", schema = \"{schema}\" }}", file.display());
        self.with(&store)
    }

    /// Written to a file of this name: a process takes over what another's settings put in the place of its own.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Where a file of this name stands beside the database.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files beside the database, and itself, that hold the text.
    pub(crate) fn files_with(&self, text: &str) -> Vec<String> {
        files_with(self.folder.path(), text)
    }

    /// The configuration read from it alone: nothing of the machine that the tests run on.
    pub(crate) fn config(&self) -> Config {
        let text = self.table.to_string();
        let read_file = |path: &Path| {
            if path == Path::new("test.toml") { Ok(text.clone()) } else { std::fs::read_to_string(path) }
        };
        let environment = Environment::default();
        let file = Some("test.toml".into());
        let sources = Sources { file, environment, overrides: Vec::new(), read_file: &read_file };
        Config::load(&sources).unwrap()
    }

    /// Puts it in the place of the file that a process reads, whole: written beside it and renamed.
    pub(crate) fn replace(&self) {
        let beside = self.file(&format!("{}.new", self.name));
        std::fs::write(&beside, self.table.to_string()).unwrap();
        std::fs::rename(&beside, self.file(&self.name)).unwrap();
    }

    /// Writes it to a file, for a process to read.
    pub(crate) fn write(&self) -> io::Result<PathBuf> {
        let path = self.file(&self.name);
        std::fs::write(&path, self.table.to_string())?;
        Ok(path)
    }
}

fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Every file below a folder that holds the text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let content = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if memchr::memmem::find(&content, text.as_bytes()).is_some() {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}
