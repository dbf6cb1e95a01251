//! The arguments, as clap reads them; their doc comments are the help texts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::administration::{Apps, KeysCommand};
use super::batches::{List, Named, Results};
use super::error::CliError;
use super::job::JobArguments;
use super::manual::{Completions, Man};
use super::store_arguments::{Backup, StoreCheck, StorePrune};
use super::table::Format;
use super::watch::{Submit, Watch};
use crate::config::Override;

/// One gate for an organisation's LLM budget: batches of requests over REST, run exactly within the limits.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluicegate", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The configuration file, instead of `$SLUICEGATE_CONFIG`, `./sluicegate.toml` or
    /// `/etc/sluicegate/sluicegate.toml`
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets a key of the configuration, such as `limits.requests=500/min`; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// The service to speak to, instead of `$SLUICEGATE_URL`
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// A file with the key for that service, instead of `$SLUICEGATE_API_KEY`
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Answers in JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Says nothing that was not asked for
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Shows no progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the service until it is told to end
    Serve(Serve),
    /// Shows the service at work on this machine, with a scripted provider: no key, no network
    Demo(Demo),
    /// Asks a model about every row of a table, or runs a file of requests, and goes on where it stopped if started
    /// again. Needs no service; with --url or `$SLUICEGATE_URL` it runs on one
    Run(Box<Run>),
    /// Makes a batch on a service and prints its id
    Submit(Box<Submit>),
    /// Follows a batch on a service to its end; the exit code tells how it ended
    Watch(Watch),
    /// Downloads the results of a batch on a service
    Results(Results),
    /// Ends a batch early; what was answered stays
    Cancel(Named),
    /// Runs what did not succeed of a batch again, as a new batch, and prints its id
    Retry(Named),
    /// Lists a service's batches, the newest first
    List(List),
    /// Lists, makes and revokes a service's keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Shows who uses a service, and how much
    Apps(Apps),
    /// Shows a service's limits and what is used of them
    Budget,
    /// Looks for what keeps requests from being answered: configuration, keys, providers, disk, clock; with --url, a
    /// running service. Says what to do; the exit code is that of the first thing that fails
    Doctor,
    /// Prints completions for a shell
    Completions(Completions),
    /// Prints a page of the manual: `sluicegate man run | man -l -`
    Man(Man),
    /// Checks, shows or explains the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Brings the store's database up to date and ends. A service does so itself when it starts; this is for a step
    /// before the services of a new version
    Migrate,
    /// Takes a backup of the store into a file, whether a service runs on it or not
    Backup(Backup),
    /// Moves, checks and prunes what the service keeps
    #[command(subcommand)]
    Store(StoreCommand),
    /// Runs the scripted provider that the demo and the tests speak to
    #[command(hide = true)]
    Upstream(Upstream),
}

/// Runs the service.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Where the API is served: `server.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

/// Shows the service at work.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Leaves the service running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Runs requests from a file to a file.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// What is asked.
    #[command(flatten)]
    pub job: JobArguments,
    /// Where results go; written beside and renamed when complete
    #[arg(long, short, value_name = "FILE", help_heading = "Results")]
    pub output: Option<PathBuf>,
    /// How they look; else as the output's extension says, or like the input
    #[arg(long, value_name = "FORMAT", help_heading = "Results")]
    pub format: Option<Format>,
    /// Replaces an output that exists
    #[arg(long, help_heading = "Results")]
    pub force: bool,
    /// Says what would be sent and how long that takes under the limits, and sends nothing
    #[arg(long, help_heading = "What is sent")]
    pub dry_run: bool,
    /// Runs anew what was run before
    #[arg(long, help_heading = "What is sent")]
    pub again: bool,
    /// Tries again what did not succeed when this was run before, and only that; the output is replaced
    #[arg(long, conflicts_with_all = ["again", "dry_run"], help_heading = "What is sent")]
    pub retry_failed: bool,
}

/// Checks, shows or explains the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says everything that is wrong with the configuration
    Check,
    /// Shows the configuration in force and where each value came from, secrets masked
    Show,
    /// Prints every key with its kind, its default, when a new value holds and what it means, in Markdown
    Reference,
}

/// Moves, checks and prunes what the service keeps.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Copies everything from an SQLite file into a schema of a PostgreSQL database, checks the copy, and goes on where
    /// it stopped if started again. No service may run on either meanwhile; nothing is changed in the file
    Copy(StoreCopy),
    /// Checks that the store is whole, and says what is wrong, a line each: the database file, what its rows say of each
    /// other, everything in it that is compressed. A service may run on it meanwhile; a backup can be checked too
    Check(StoreCheck),
    /// Erases now what retention no longer keeps, which a service does by itself once a minute
    Prune(StorePrune),
}

/// Copies everything from an `SQLite` file into a `PostgreSQL` database.
#[derive(Clone, Debug, Args)]
pub struct StoreCopy {
    /// The file that is copied
    #[arg(long, value_name = "sqlite:PATH", value_parser = sqlite_path)]
    pub from: PathBuf,
    /// The database that it is copied to, as in `store.url`, instead of the one that the configuration names
    #[arg(long, value_name = "postgres://…")]
    pub to: Option<String>,
    /// A file that holds the URL, instead of `--to`: for one with a password
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub to_file: Option<PathBuf>,
    /// The schema there: `store.schema`
    #[arg(long, value_name = "NAME")]
    pub schema: Option<String>,
}

/// Runs the scripted provider.
#[derive(Clone, Debug, Args)]
pub struct Upstream {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Its script, a TOML file
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

impl Global {
    /// What `--set` sets.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let set = |(key, value): &(String, String)| Override {
            flag: "--set".to_owned(),
            key: key.clone(),
            value: value.clone(),
        };
        self.set.iter().map(set).collect()
    }
}

impl Serve {
    /// What its own flags set.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let listen = |value: &String| Override {
            flag: "--listen".to_owned(),
            key: "server.listen".to_owned(),
            value: value.clone(),
        };
        self.listen.iter().map(listen).collect()
    }
}

impl StoreCopy {
    /// What its own flags set.
    ///
    /// # Errors
    /// If the file that holds the URL can't be read.
    pub(super) fn overrides(&self) -> Result<Vec<Override>, CliError> {
        let set = |flag: &str, key: &str, value: &str| Override {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let mut overrides = vec![set("store copy", "log.level", "warn")];
        if let Some(url) = &self.to {
            overrides.push(set("--to", "store.url", url));
        }
        if let Some(path) = &self.to_file {
            // Not by `store.url_file`: a configuration that still names the old store has `store.url`, and may have
            // only one of the two.
            let url = std::fs::read_to_string(path)
                .map_err(|error| CliError::Local { path: path.clone(), error })?;
            overrides.push(set("--to-file", "store.url", url.trim()));
        }
        if let Some(schema) = &self.schema {
            overrides.push(set("--schema", "store.schema", schema));
        }
        Ok(overrides)
    }
}

fn sqlite_path(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Err("expected sqlite:PATH, such as sqlite:./sluicegate-data/store.db".to_owned()),
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected SECTION.KEY=VALUE, such as limits.requests=500/min".to_owned()),
    }
}
