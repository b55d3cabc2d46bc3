//! Instructions per packet, counted by callgrind: the one number that a busy machine does not
//! change.
//!
//! This program is run again under valgrind, where it does a fixed loop ([`run_loop`]) of which
//! only the functions that the benches time are counted. Valgrind knows fewer instructions than
//! the processor, so code is compiled for it anew, and counts are of that code.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::filters::Bank;
use super::recipe::{CHAIN, Kind, Kitchen};
use super::rounds::{LAP, Memory, Track, queues};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::statistics::Estimate;
use crate::unit::Unit;

/// What a loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Loop {
    /// Filters alone.
    Filters,
    /// Rounds that ask the chain about every packet.
    Chain,
    /// Rounds that remember every flow.
    Remembered,
    /// Rounds in which every packet opens a flow.
    New,
}

/// A loop, with all that determines how many instructions it takes.
#[derive(Clone, Debug, clap::Args)]
pub struct LoopOptions {
    /// What it does.
    #[arg(value_enum)]
    pub what: Loop,
    /// How filters are compiled.
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// Filters in the chain.
    #[arg(long)]
    pub filters: usize,
    /// Packets in a burst.
    #[arg(long)]
    pub burst: usize,
    /// Packets of a flow, one behind the other.
    #[arg(long, default_value_t = 1)]
    pub in_a_row: usize,
    /// Where compiled filters are kept.
    #[arg(long)]
    pub cache: std::path::PathBuf,
}

/// Counts the instructions of chains of one to five filters at a burst of 64.
///
/// # Errors
/// If valgrind cannot be run, or a loop fails.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    for what in [Loop::Filters, Loop::Chain, Loop::Remembered, Loop::New] {
        for filters in 1..=CHAIN.len() {
            let counted = Kind::BOTH.map(|kind| count(plan, what, kind, filters));
            let [native, wasm] = counted;
            let (native, wasm) = (native?, wasm?);
            let case = format!("{}, {filters} filters, burst {BURST}", what.label());
            for (kind, count) in Kind::BOTH.into_iter().zip([native, wasm]) {
                outcome.sampled(&case, kind.label(), Unit::Instructions, &[count]);
                let what = format!("{case}, {}", kind.label());
                outcome.found(what, Unit::Instructions, Estimate::exact(count));
            }
            let tax = (wasm - native) / filters as f64;
            let finding = format!("tax per filter and packet, {case}");
            outcome.found(finding, Unit::Instructions, Estimate::exact(tax));
        }
    }
    Ok(())
}

/// The loop that runs under valgrind.
///
/// # Errors
/// If a filter does not start, or a packet goes astray.
pub fn run_loop(options: &LoopOptions) -> Result<()> {
    let settings = millrace_sandbox::Settings { cache: Some(options.cache.clone()) };
    let chain = Kitchen::new(&settings)?.chain(options.kind, options.filters)?;
    let memory = match options.what {
        Loop::Filters => {
            let mut bank = Bank::new(options.kind, chain, options.burst)?;
            bank.warm_up()?;
            return bank.sample(PACKETS);
        }
        Loop::Chain => Memory::Nothing,
        Loop::Remembered => Memory::Every,
        Loop::New => Memory::NoneOfThem,
    };
    let mut io = queues();
    let mut track = Track::new(chain, memory, options.burst, &mut io)?;
    track.in_a_row = options.in_a_row.max(1);
    track.lap(&mut io).map(|_| ())
}

impl Loop {
    const fn label(self) -> &'static str {
        match self {
            Self::Filters => "filters alone",
            Self::Chain => Memory::Nothing.label(),
            Self::Remembered => Memory::Every.label(),
            Self::New => Memory::NoneOfThem.label(),
        }
    }

    /// The word on the command line.
    fn argument(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("no loop is skipped");
        value.get_name().to_owned()
    }
}

/// Instructions per packet.
fn count(plan: &Plan, what: Loop, kind: Kind, filters: usize) -> Result<f64> {
    let program = std::env::current_exe().context("this program does not know where it is")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{COUNTED}*"))
        .arg(program)
        .arg("loop")
        .arg(what.argument())
        .args(["--kind", kind.label()])
        .args(["--filters", &filters.to_string(), "--burst", &BURST.to_string()])
        .arg("--cache")
        .arg(&plan.cache)
        .output()
        .context("valgrind cannot be run; install it, or leave this bench out")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(instructions) if output.status.success() => {
            let instructions: f64 = instructions;
            Ok(instructions / PACKETS as f64)
        }
        _ => bail!("a loop failed under valgrind:\n{said}"),
    }
}

/// Packets in the part of a loop that is counted.
const PACKETS: usize = LAP;
const BURST: usize = 64;
/// In the names of the functions that are counted, and in no others.
const COUNTED: &str = "::timed_";
