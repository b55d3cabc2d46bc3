//! `millrace playground`: two namespaces, a host between them, and a shell in one of them.
//!
//! - `ground`: the namespaces and their wires
//!
//! A reader must not break this: everything that is made belongs to a value that takes it down
//! when it is dropped, and nothing here ends the process before that.

mod ground;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::str::FromStr;
use std::{env, io, thread};

use anyhow::Context;
use clap::Args;
use millrace_abi::Capability;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use self::ground::{Ground, HERE, PORTS, THERE, clear};
use super::subject::Subject;
use crate::child::ChildHost;
use crate::config::FilterSpec;
use crate::run::privileges;

/// Try filters on real traffic: two namespaces, a host between them, a shell in one of them.
///
/// The host is `millrace run` with these filters, and a bridge behind them if none of them says
/// where packets go. In the shell, `millrace` asks this host, and `there COMMAND` runs a command on
/// the other side. Nothing of the machine's own network is touched, and everything is taken away
/// when the shell ends. It needs root.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace playground
  millrace playground --filter quiet-ports=./quiet-ports.wasm:config.json
  millrace playground --filter bridge -- ping -c 3 10.77.0.2

Its exit code is that of the shell or command, or 1 if there was no playground for it.")]
pub(crate) struct PlaygroundArgs {
    /// A filter of the chain (repeat it, in the order in which they are asked), as in `millrace
    /// run --help`.
    #[arg(long = "filter", value_name = "[NAME=]MODULE[:CONFIG]")]
    filters: Vec<FilterFlag>,
    /// A command to run instead of the shell.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A filter, as it was written and as it was understood.
#[derive(Clone, Debug)]
struct FilterFlag {
    text: String,
    spec: FilterSpec,
}

impl FromStr for FilterFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), spec: text.parse()? })
    }
}

/// Makes the playground, lets people play, and takes it away.
pub(crate) fn run(args: &PlaygroundArgs) -> anyhow::Result<ExitCode> {
    privileges::check()?;
    let filters = chain(&args.filters)?;
    // from here on, Ctrl-C ends what runs in the playground, and not the cleaning up
    let signals = Signals::listen()?;
    let folder = Folder::create()?;
    let ground = Ground::create()?;
    folder.fill(&ground)?;
    let mut host = ChildHost::command(&ground.host)?;
    host.args(PORTS.iter().flat_map(|port| ["--port", port]));
    host.args(filters.iter().flat_map(|filter| ["--filter", filter]));
    let host = ChildHost::start(host, &folder.path)?;

    let mut player = match args.command.split_first() {
        Some((program, rest)) => {
            let mut command = ground.here.command(program);
            command.args(rest);
            command
        }
        None => {
            eprintln!("{}", banner(&args.filters, &filters));
            ground.here.command(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()))
        }
    };
    folder.equip(&mut player)?;
    host.introduce(&mut player);
    let program = player.get_program().to_string_lossy().into_owned();
    let player = player.spawn().with_context(|| format!("`{program}` cannot be run"))?;
    let status = signals.attend(player)?;
    host.check()?;
    clear(&[&ground.here, &ground.there]);
    Ok(code(status))
}

/// The filters as flags of `millrace run`: somebody has to say where packets go.
fn chain(filters: &[FilterFlag]) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut directed = false;
    for FilterFlag { text, spec } in filters {
        let subject = Subject::read(&spec.module)?;
        directed |= subject.module.manifest().capabilities().contains(Capability::Redirect);
        texts.push(text.clone());
    }
    if !directed {
        texts.push("bridge".to_owned());
    }
    Ok(texts)
}

/// What there is to try.
fn banner(filters: &[FilterFlag], texts: &[String]) -> String {
    let names = filters.iter().map(|filter| filter.spec.name.clone());
    let bridge = texts[filters.len()..].iter().cloned();
    let chain: Vec<String> = names.chain(bridge).collect();
    let change = match filters.first() {
        Some(FilterFlag { spec, .. }) => format!("swap {} {}", spec.name, spec.module),
        None => {
            format!("load deny deny-list --config '{}' --first", r#"{"rules": [{"port": 8080}]}"#)
        }
    };
    let (here, there) = (HERE.v4, THERE.v4);
    format!(
        "\
You are at {here} and {here6}. {there} and {there6} is there, behind a host with
the filters {}. Try:
  ping -c 3 {there}
  there nc -l -p 8080 &                 a command on the other side
  echo hello | nc -w 1 {there} 8080
  millrace filter {change}
  millrace drops                        what was dropped, and by whom
  millrace top                          packets as they pass; q ends it
  exit                                  and everything is gone
",
        chain.join(" ▸ "),
        here6 = HERE.v6,
        there6 = THERE.v6,
    )
}

/// What the shell or command ended with; ended by a signal, as shells say it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A folder of this playground: the socket and log of the host, and commands for the shell.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(millrace_netns::unique_name("playground"));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    /// Adds the commands.
    fn fill(&self, ground: &Ground) -> anyhow::Result<()> {
        let fill = || {
            let commands = self.commands();
            fs::create_dir(&commands)?;
            symlink(env::current_exe()?, commands.join("millrace"))?;
            let there = commands.join("there");
            let path = ground.there.path().display();
            fs::write(&there, format!("#!/bin/sh\nexec nsenter --net={path} -- \"$@\"\n"))?;
            fs::set_permissions(&there, fs::Permissions::from_mode(0o700))
        };
        fill().with_context(|| self.path.display().to_string())
    }

    /// Lets a command find the commands.
    fn equip(&self, command: &mut Command) -> anyhow::Result<()> {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(self.commands()).chain(env::split_paths(&path)));
        command.env("PATH", path?);
        Ok(())
    }

    fn commands(&self) -> PathBuf {
        self.path.join("bin")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("millrace: {} stays behind: {error}", Path::display(&self.path));
        }
    }
}

/// Signals that would end this process, and with it the cleaning up.
struct Signals {
    runtime: tokio::runtime::Runtime,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("an I/O runtime")?;
        let entered = runtime.enter();
        let listen = |kind| signal(kind).context("signals");
        let interrupt = listen(SignalKind::interrupt())?;
        let terminate = listen(SignalKind::terminate())?;
        let hangup = listen(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, interrupt, terminate, hangup })
    }

    /// Waits for the player. An interrupt it has got from the terminal itself; other signals are
    /// passed on as the one that shells end by.
    fn attend(self, mut player: Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(&player);
        let Self { runtime, mut interrupt, mut terminate, mut hangup } = self;
        let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
        let attendant = thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = &mut end => return,
                        _ = interrupt.recv() => continue,
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    // it may have ended meanwhile
                    let _ = kill_process(pid, Signal::HUP);
                }
            });
        });
        let status = player.wait();
        drop(ended);
        attendant.join().expect("it does nothing that panics");
        status
    }
}
