//! The host of a playground: `millrace run`, as a process of its own.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ground::{Ground, PORTS};

/// A running host, which ends when this is dropped.
pub(super) struct Host {
    process: Child,
    log: PathBuf,
}

impl Host {
    /// Starts a host between the two sides, and waits until it forwards.
    ///
    /// # Errors
    /// What it says if it does not.
    pub(super) fn start(
        ground: &Ground,
        folder: &Path,
        filters: &[String],
    ) -> anyhow::Result<Self> {
        let log = folder.join("host.log");
        let mut command = ground.host.command(env::current_exe()?);
        command.arg("run").arg("--socket").arg(socket(folder));
        for port in PORTS {
            command.args(["--port", port]);
        }
        for filter in filters {
            command.args(["--filter", filter]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            // Ctrl-C is not for the host
            .process_group(0);
        let mut host = Self { process: command.spawn().context("the host")?, log };

        let words = host.process.stdout.as_mut().expect("it was piped");
        let mut line = String::new();
        BufReader::new(words).read_line(&mut line).context("the host")?;
        if line.is_empty() {
            host.process.wait().context("the host")?;
            bail!("the host does not start:\n{}", host.said());
        }
        Ok(host)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If it has ended, with what it said last.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait().context("the host")? {
            None => Ok(()),
            Some(status) => bail!("the host has ended ({status}):\n{}", self.said()),
        }
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // it may have ended since
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

/// The admin socket of the host of the playground in `folder`.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("millrace.sock")
}

/// Lines of its log that are shown if it fails.
const LINES: usize = 10;
