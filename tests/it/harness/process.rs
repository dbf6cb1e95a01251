//! The service as a process: what signals and crashes need.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Client, PATIENCE, Settings};

/// A running process; it is its own client. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    client: Client,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts one and waits until it listens.
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::listening(spawn(settings))
    }

    /// Starts one with variables in its environment.
    #[cfg(feature = "otel")]
    pub(crate) fn start_with_environment(settings: &Settings, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments(settings)).env_clear().envs(variables.iter().copied());
        Self::listening(run(command, settings))
    }

    /// Starts one whose data folder is a file system of this size that goes with it; tells where that is to be
    /// found from here. `None` where this user may not mount one.
    pub(crate) fn start_on_small_disk(settings: &Settings, size: &str) -> Option<(Self, PathBuf)> {
        const NAMESPACE: [&str; 3] = ["--user", "--map-root-user", "--mount"];
        let data = settings.file("data");
        std::fs::create_dir(&data).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} tmpfs {}", data.display());
        let allowed = Command::new("unshare").args(NAMESPACE).args(["sh", "-c", &mount]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            return None;
        }
        let url = format!("store = {{ url = \"sqlite:{}\" }}", data.join("store.db").display());
        let settings = settings.clone().with(&url);
        let mut command = Command::new("unshare");
        command.args(NAMESPACE).args(["sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
        command.arg(PROGRAM).args(arguments(&settings));
        let process = Self::listening(run(command, &settings));
        let inside = data.strip_prefix("/").unwrap();
        let data = PathBuf::from(format!("/proc/{}/root", process.child.id())).join(inside);
        Some((process, data))
    }

    /// Starts one from a shell whose soft limit of open files is this.
    pub(crate) fn start_with_open_files(settings: &Settings, soft: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -S -n {soft} && exec \"$@\""), "sh"]);
        command.arg(PROGRAM).args(arguments(settings));
        Self::listening(run(command, settings))
    }

    /// Its soft and hard limit of open files.
    pub(crate) fn open_files(&self) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut words = line.split_whitespace().skip(3).map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    /// The most memory that was resident so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn listening(mut child: Child) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let listening = follow(child.stderr.take().unwrap(), Arc::clone(&log));
        let Ok(address) = listening.recv_timeout(PATIENCE) else {
            panic!("it does not listen: {}", log.lock().unwrap());
        };
        Self { child, client: Client::new(address), log }
    }

    /// Runs one that is expected to end by itself; its exit code and what it said.
    pub(crate) fn run_to_end(settings: &Settings) -> (Option<i32>, String) {
        let output = spawn(settings).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `kill -HUP`: it reads its configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until it ended by itself. Asked again and again: waiting on the child blocks and needs it by value, while a
    /// test must still be able to kill one that never ends; a descriptor of the process that a runtime could wait for
    /// takes unsafe code to register. How often it is asked changes no outcome.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(tokio::time::Instant::now() < until, "it does not end: {}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Deref for Process {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");

fn arguments(settings: &Settings) -> [OsString; 3] {
    ["serve".into(), "--config".into(), settings.write().unwrap().into()]
}

fn spawn(settings: &Settings) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments(settings)).env_clear();
    run(command, settings)
}

fn run(mut command: Command, settings: &Settings) -> Child {
    command.current_dir(settings.file("."));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Keeps what is logged, and tells where the process listens.
fn follow(stderr: ChildStderr, log: Arc<Mutex<String>>) -> Receiver<SocketAddr> {
    let (tell, listening): (Sender<SocketAddr>, _) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            if said["message"] == "listening" {
                // Nobody waits for a second one.
                let _ = tell.send(said["address"].as_str().unwrap().parse().unwrap());
            }
        }
    });
    listening
}
