//! The command line: what can be asked for, and which exit code answers.

mod administration;
mod arguments;
mod backup;
mod batches;
mod client;
mod config;
mod demo;
mod doctor;
mod error;
mod exit;
mod following;
mod interrupts;
mod job;
mod manual;
mod migrate;
mod open_files;
mod output;
mod progress;
mod run;
mod runtimes;
mod serve;
mod server;
mod show;
mod store_arguments;
mod store_check;
mod store_copy;
mod store_prune;
mod table;
mod upstream;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Parser as _;

pub use self::administration::{Apps, KeysCommand, KeysCreate, KeysRevoke, Scope};
pub use self::arguments::{
    Arguments, Command, ConfigCommand, Demo, Global, Run, Serve, StoreCommand, StoreCopy, Upstream,
};
pub use self::batches::{List, Named, Results};
pub use self::client::Trouble;
pub use self::error::CliError;
pub use self::exit::Exit;
pub use self::job::JobArguments;
pub use self::manual::{Completions, Man};
pub use self::store_arguments::{Backup, StoreCheck, StorePlace, StorePrune};
pub use self::table::{Format, TableError};
pub use self::watch::{Submit, Watch};

use crate::app;
use crate::config::{Config, ConfigError, Environment, Override, Sources};

/// Does what the arguments ask for and says how it went, on standard error if it went wrong.
pub fn main(arguments: impl IntoIterator<Item = OsString>, environment: Environment) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(refusal) => {
            // Help and version are "errors" too, printed on standard output. A closed pipe is no news.
            let _ = refusal.print();
            return if refusal.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    match dispatch(&arguments, environment) {
        Ok(exit) => exit,
        Err(error) if error.is_left_by_reader() => Exit::Success,
        Err(error) => {
            say(&format!("sluicegate: {error}"));
            error.exit()
        }
    }
}

fn dispatch(arguments: &Arguments, environment: Environment) -> Result<Exit, CliError> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Serve(serve) => serve::serve(global, &serve.overrides(), environment),
        Command::Demo(demo) => demo::demo(demo, global),
        Command::Run(run) => run::run(run, global, environment),
        Command::Submit(submit) => watch::submit(submit, global, environment),
        Command::Watch(watch) => watch::watch(watch, global, environment),
        Command::Results(results) => batches::results(results, global, environment),
        Command::Cancel(named) => batches::cancel(named, global, environment),
        Command::Retry(named) => batches::retry(named, global, environment),
        Command::List(list) => batches::list(list, global, environment),
        Command::Keys(command) => administration::keys(command, global, environment),
        Command::Apps(apps) => administration::apps(apps, global, environment),
        Command::Budget => administration::budget(global, environment),
        Command::Doctor => doctor::doctor(global, environment),
        Command::Completions(completions) => manual::completions(*completions),
        Command::Man(man) => manual::man(man),
        Command::Config(ConfigCommand::Check) => config::check(global, environment),
        Command::Config(ConfigCommand::Show) => config::show(global, environment),
        Command::Config(ConfigCommand::Reference) => config::reference(global),
        Command::Backup(command) => backup::backup(command, global, environment),
        Command::Migrate => migrate::migrate(global, environment),
        Command::Store(StoreCommand::Check(command)) => {
            store_check::store_check(command, global, environment)
        }
        Command::Store(StoreCommand::Prune(command)) => {
            store_prune::store_prune(command, global, environment)
        }
        Command::Store(StoreCommand::Copy(copy)) => store_copy::store_copy(copy, global, environment),
        Command::Upstream(upstream) => upstream::upstream(upstream),
    }
}

/// The configuration as the environment, the global flags and a command's own flags make it.
fn load(global: &Global, flags: &[Override], environment: Environment) -> Result<Config, CliError> {
    Ok(Config::load(&sources(global, flags, environment))?)
}

/// The same, refused if no service can run with it.
fn load_for_service(
    global: &Global,
    flags: &[Override],
    environment: Environment,
) -> Result<Config, ConfigError> {
    app::load(&sources(global, flags, environment))
}

/// The files of which the first that there is is the configuration.
fn configuration_files(global: &Global, environment: Environment) -> Vec<PathBuf> {
    sources(global, &[], environment).files()
}

fn sources(global: &Global, flags: &[Override], environment: Environment) -> Sources<'static> {
    let mut overrides = global.overrides();
    overrides.extend_from_slice(flags);
    Sources { file: global.config.clone(), environment, overrides, read_file: &read_file }
}

fn read_file(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// Says something to the person at the terminal; a closed one is no error.
fn say(text: &str) {
    // In one piece: what is typed meanwhile is shown before it or after it.
    let _ = io::stderr().write_all(format!("{}\n", show::harmless(text)).as_bytes());
}

/// Says something unless told to be quiet.
fn tell(global: &Global, text: &str) {
    if !global.quiet && !global.json {
        say(text);
    }
}

/// Puts a result on standard output.
fn print(text: &str) -> Result<(), CliError> {
    match io::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Output) {
        Err(error) if error.is_left_by_reader() => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests;
