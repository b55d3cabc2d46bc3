//! `millrace demo`: pods, a node and a host on this machine, explained as they run.
//!
//! - [`acts`]: what is shown, one file each
//! - [`lab`]: the namespaces, `millrace run` in one of them, and all that has to go again;
//!   [`cluster`]: two nodes, by `millrace lab`
//! - [`narrator`]: what is said, and what was claimed; [`ink`]: how it looks
//!
//! The host is this program, started as anybody would start it, and what is shown is asked of it
//! by the commands that stand there.
//!
//! A reader must not break this: the acts have a thread of their own, and the main one waits for
//! their end or for a signal. Either way it is the one that clears the lab.

mod acts;
mod cluster;
mod ink;
mod lab;
mod narrator;

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::demo::acts::Extent;
use crate::demo::lab::{Cleared, Lab};
use crate::demo::narrator::Narrator;
use crate::run::privileges;

/// Show what this is: pods, filters that change under load, nodes, and nothing lost.
///
/// Makes network namespaces and a host between them, moves traffic, and removes all of it again,
/// also when it is interrupted. It needs root, and succeeds if everything held.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace demo
  millrace demo --keep")]
pub(crate) struct DemoArgs {
    /// Less of everything, for a first impression.
    #[arg(long)]
    quick: bool,
    /// Leave everything running at the end, until interrupted, for a look around.
    #[arg(long)]
    keep: bool,
}

/// Shows everything, and clears it away.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    privileges::check()?;
    let start = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().build().context("an I/O runtime")?;
    // a signal that comes while the lab is being made waits until it can be cleared
    let mut signals = runtime.block_on(async { Signals::listen() }).context("signals")?;

    let mut narrator = Narrator::new();
    narrator.open();
    let lab = Arc::new(Lab::make(&mut narrator)?);
    let (end, ended) = oneshot::channel();
    let (stage, extent) = (Arc::clone(&lab), Extent::of(args.quick));
    let acts = thread::Builder::new().name("acts".into()).spawn(move || {
        let played = acts::play(&stage, extent, &mut narrator);
        // nobody listens any more after a signal
        let _ = end.send(played.map(|()| narrator));
    });
    acts.context("a thread")?;
    let played = runtime.block_on(async {
        tokio::select! {
            played = ended => played.unwrap_or_else(|_| Err(anyhow!("an act has panicked"))),
            name = signals.next() => Err(anyhow!("ended by {name}")),
        }
    });
    let elapsed = start.elapsed();
    if let Ok(narrator) = &played
        && args.keep
    {
        narrator.invite(&lab.invitation());
        runtime.block_on(signals.next());
    }

    let log = lab.host.log();
    // an act that was broken off has nothing more to say
    let _quiet = played.is_err().then(|| io::stdout().lock());
    let cleared = lab.clear();
    conclude(played, cleared, elapsed, &log)
}

/// Says how it ended. Only what held to the last is a success.
fn conclude(
    played: anyhow::Result<Narrator>,
    cleared: anyhow::Result<Cleared>,
    elapsed: Duration,
    log: &str,
) -> anyhow::Result<()> {
    let outcome = match played {
        Ok(mut narrator) => {
            narrator.close(&cleared, elapsed);
            match narrator.failures() {
                0 => Ok(()),
                failures => Err(anyhow!("{failures} of the claims did not hold")),
            }
        }
        Err(error) => Err(match cleared {
            Ok(_) => error.context("the demo was broken off; all of it is cleared away"),
            Err(left) => error.context(format!("the demo was broken off, not cleared: {left:#}")),
        }),
    };
    if outcome.is_err() && !log.is_empty() {
        eprintln!("what the host said:\n{log}");
    }
    outcome
}

/// The signals that end a demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is gone.
    hangup: Signal,
}

impl Signals {
    /// From now on signals wait to be taken, and end nothing by themselves.
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// How long anything here may take that should be there at once.
const PATIENCE: Duration = Duration::from_secs(5);
