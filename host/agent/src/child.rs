//! A host that a command of this program starts for itself: `millrace run` as a child process.
//!
//! Owns the process: it ends when this is stopped or dropped, and when who started it is killed.
//! What it keeps is in a folder of whoever starts it, which removes that.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, bail};
use millrace_netns::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::api::client::Client;

/// A host that runs, until it is stopped or dropped.
pub(crate) struct ChildHost {
    /// What it said when it began to forward.
    pub(crate) greeting: String,
    /// `None` once it is stopped.
    process: Mutex<Option<Child>>,
    socket: PathBuf,
    log: PathBuf,
    /// Open for as long as the host may want to print.
    stdout: BufReader<ChildStdout>,
}

impl ChildHost {
    /// `millrace run` in a namespace, to be given its arguments and started.
    ///
    /// # Errors
    /// If this program has no name any more.
    pub(crate) fn command(namespace: &Namespace) -> io::Result<Command> {
        // whoever is killed takes its host along
        let mut command = namespace.command("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(env::current_exe()?).arg("run");
        Ok(command)
    }

    /// Starts a host that has its socket and log in `folder`, and waits until it forwards.
    ///
    /// # Errors
    /// What it says if it does not.
    pub(crate) fn start(mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let (socket, log) = (folder.join("millrace.sock"), folder.join("log"));
        command.env(SOCKET, &socket);
        // Ctrl-C is not for the host: whoever started it ends it
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let child = command.spawn();
        let mut child = child.context("starting `setpriv` (Debian has it in util-linux)")?;
        let stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let process = Mutex::new(Some(child));
        let mut host = Self { greeting: String::new(), process, socket, log, stdout };

        host.stdout.read_line(&mut host.greeting).context("listening to the host")?;
        if host.greeting.is_empty() {
            // the last it has to say is in the log when it is gone
            host.stop().context("the host")?;
            bail!("the host does not start:\n{}", host.last_words());
        }
        Ok(host)
    }

    /// Tells a command of `millrace`, and what that starts, where the host is.
    pub(crate) fn introduce(&self, command: &mut Command) {
        command.env(SOCKET, &self.socket);
    }

    /// Where it can be asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who asks it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.socket)
    }

    /// Asks it one thing.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.client()?.get(path)
    }

    /// All it had to say.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If it has ended by itself, with what it said last.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let Some(child) = &mut *self.process()
            && let Some(status) = child.try_wait().context("the host")?
        {
            bail!("the host has ended ({status}):\n{}", self.last_words());
        }
        Ok(())
    }

    /// Ends it, in order if that works, and waits until it is gone.
    ///
    /// # Errors
    /// If the kernel does not say what became of it.
    pub(crate) fn stop(&self) -> io::Result<()> {
        let Some(mut child) = self.process().take() else { return Ok(()) };
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

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for ChildHost {
    fn drop(&mut self) {
        // nobody is left to tell
        let _ = self.stop();
    }
}

/// What tells commands where the host is.
const SOCKET: &str = "MILLRACE_SOCKET";
/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of its log that are shown if it fails.
const LINES: usize = 10;
