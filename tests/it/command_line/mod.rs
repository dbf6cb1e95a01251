//! The command line as a person or a script meets it: the real binary, its output and its exit codes.

mod explaining;
mod on_a_service;
mod on_a_terminal;
mod on_postgres;
mod retrying;
mod running_tables;
mod what_is_wrong;

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::harness::{PATIENCE, Terminal};

/// Asks about each row of a table with the columns `id` and `name`, whose cells may hold markers.
pub(crate) const RUN: [&str; 8] = [
    "run",
    "products.csv",
    "--prompt",
    "[[id={{id}}]]{{name}}",
    "--model",
    "demo-small",
    "-o",
    "answers.csv",
];

/// A command in a folder of its own, with nothing of the environment that the tests run in.
pub(crate) struct Shell {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new(environment: &[(&str, &str)]) -> Self {
        let usual = [("SLUICEGATE__STORE__MIN_FREE", "1MiB"), ("SLUICEGATE__RETRY__MIN_DELAY", "5ms")];
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = usual.iter().chain(environment).map(pair).collect();
        Self { folder: tempfile::tempdir().unwrap(), environment }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        Path::exists(&self.path(name))
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts a command on a terminal.
    pub(crate) fn spawn_on(&self, terminal: &Terminal, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.env("TERM", "xterm-256color").stdout(terminal.writer()).stderr(terminal.writer());
        command.spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        command.current_dir(self.folder.path()).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.spawn(arguments)).await
    }

    /// What a command that must succeed prints.
    pub(crate) fn prints(&self, arguments: &[&str]) -> impl Future<Output = String> {
        let (running, arguments) = (self.run(arguments), arguments.join(" "));
        async move {
            let ended = running.await;
            assert_eq!(ended.code, Some(0), "{arguments}: {ended:?}");
            ended.out
        }
    }
}

pub(crate) async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Reads what a command says until a line holds this text.
pub(crate) async fn says(child: &mut Child, text: &str) {
    // Byte by byte, so that the rest is there for whoever reads next.
    let said = child.stderr.as_mut().unwrap();
    let reading = async {
        let mut line = Vec::new();
        loop {
            match said.read_u8().await {
                Ok(b'\n') if String::from_utf8_lossy(&line).contains(text) => return,
                Ok(b'\n') => line.clear(),
                Ok(byte) => line.push(byte),
                Err(_) => panic!("it ended without saying {text:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
}

pub(crate) fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
