//! The command line as a person or a script meets it: the real binary, its output and its exit codes.

mod on_a_service;
mod on_postgres;
mod retrying;
mod running_tables;
mod what_is_wrong;

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::PATIENCE;

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
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
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let reading = async {
        loop {
            match lines.next_line().await.unwrap() {
                Some(line) if line.contains(text) => return,
                Some(_) => {}
                None => panic!("it ended without saying {text:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    // The rest is read too, or a full pipe would stop it.
    let mut rest = lines.into_inner();
    tokio::spawn(async move { rest.read_to_end(&mut Vec::new()).await });
}

pub(crate) fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
