//! The demo's host: this program as `millrace run`, with an admin socket of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_netns::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::api::client::Client;
use crate::demo::PATIENCE;
use crate::demo::narrator::Narrator;

/// A host that runs, until it is stopped or dropped.
pub(super) struct Host {
    /// `None` once it is stopped.
    process: Mutex<Option<Child>>,
    socket: PathBuf,
    log: PathBuf,
    /// Open for as long as the host may want to print.
    stdout: BufReader<ChildStdout>,
}

impl Host {
    /// Starts a host in `node` and waits until it forwards.
    pub(super) fn start(
        node: &Namespace,
        folder: &Path,
        ports: &[&str],
        narrator: &mut Narrator,
    ) -> anyhow::Result<Self> {
        narrator.act(
            "A host",
            "It takes the node's ends of the veth pairs over AF_XDP, and forwards between them as \
             its filters say. So far there is one: bridge, in WebAssembly like all of them.",
        );
        let mut words = vec!["run"];
        ports.iter().for_each(|port| words.extend(["--port", port]));
        words.extend(["--filter", "bridge"]);
        narrator.command(NODE, &[&["millrace"], &*words].concat());

        let (socket, log) = (folder.join("millrace.sock"), folder.join("log"));
        // a demo that is killed takes its host along
        let mut command = node.command("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program()?);
        command.args(&words).env(SOCKET, &socket).env("MILLRACE_LOG", "warn");
        // modules that are loaded again are not compiled again
        command.arg("--module-cache").arg(folder.join("modules"));
        // Ctrl-C is not for the host: whoever clears the lab ends it
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let start = Instant::now();
        let child = command.spawn();
        let mut child = child.context("starting `setpriv` (Debian has it in util-linux)")?;
        let stdout = child.stdout.take().context("its standard output")?;
        let process = Mutex::new(Some(child));
        let mut host = Self { process, socket, log, stdout: BufReader::new(stdout) };

        let mut words = String::new();
        host.stdout.read_line(&mut words).context("listening to `millrace run`")?;
        if words.is_empty() {
            bail!("`millrace run` has ended at once:\n{}", host.log());
        }
        narrator.output(&words.replace("; ", "\n"));
        let seen = format!("after {:.1} s", start.elapsed().as_secs_f64());
        narrator.claim(true, "the host forwards", seen);
        Ok(host)
    }

    /// Where it can be asked.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who asks it.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.socket)
    }

    /// Asks it one thing.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.client()?.get(path)
    }

    /// Has a command of `millrace` ask it, which is shown, and returns what that prints.
    pub(super) fn command(&self, narrator: &Narrator, words: &[&str]) -> anyhow::Result<String> {
        narrator.command(NODE, &[&["millrace"], words].concat());
        let output = Command::new(program()?).args(words).env(SOCKET, &self.socket).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`millrace {}` fails: {}", words.join(" "), said.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it had to complain about.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it, in order if that works, and waits until it is gone.
    pub(super) fn stop(&self) -> std::io::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = process.take() else { return Ok(()) };
        // one that is gone already is not signalled: its number is kept until it is waited for
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let patience = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > patience {
                child.kill()?;
                child.wait()?;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // nobody is left to tell
        let _ = self.stop();
    }
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("where this program is")
}

/// Where hosts are started and asked.
pub(super) const NODE: &str = "node";
/// What tells commands where the host is.
const SOCKET: &str = "MILLRACE_SOCKET";
