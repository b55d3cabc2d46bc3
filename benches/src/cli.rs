//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::compare::Comparison;
use crate::environment::Environment;
use crate::footprint::{IdleHost, be_idle};
use crate::kubernetes::containers::{self, Containers};
use crate::memory::instructions::{LoopOptions, run_loop};
use crate::outcome::{Outcome, Results, VERSION};
use crate::plan::Plan;
use crate::promise::Verdict;
use crate::registry::{self, BENCHES, Bench, Runs};
use crate::report;
use crate::veth::ground::Named;
use crate::veth::script::Script;

/// Measures millrace, and says whether its promises are kept.
#[derive(Debug, Parser)]
#[command(name = "millrace-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure; what happens without a command, too.
    Run(Run),
    /// Compare two runs, by the files `results.json` that they left.
    Compare {
        /// The earlier run.
        old: PathBuf,
        /// The later run.
        new: PathBuf,
    },
    /// What is measured, and what is promised.
    List {
        /// As rows of the specification.
        #[arg(long)]
        specification: bool,
    },
    /// A fixed loop, for callgrind to count.
    #[command(hide = true)]
    Loop(LoopOptions),
    /// Containers attached and detached in a node, for `kubernetes`.
    #[command(hide = true)]
    Containers(Containers),
    /// A host that does nothing, for `footprint` to look at.
    #[command(hide = true)]
    IdleHost(IdleHost),
}

#[derive(Debug, Args)]
struct Run {
    /// Benches to run, by the names that `list` shows; without any, all but those on request.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// A first impression, within some minutes.
    #[arg(long)]
    quick: bool,
    /// How often everything is measured; six times at least, or nothing can be concluded.
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Where results and report go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Two interfaces to carry packets between, instead of veths made for it.
    ///
    /// They are held by who is measured, and face two others, from which traffic comes and to
    /// which it goes: wire the four in two pairs. None may have addresses.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    ports: Vec<String>,
    /// What these two face, in this order; not needed for veths whose other ends are here.
    ///
    /// They move into namespaces of the benches, and come back in the end, without their
    /// settings.
    #[arg(long, value_name = "C,D", value_delimiter = ',', requires = "ports")]
    facing: Vec<String>,
    /// Measure somebody else, too: a script that is called with `up` and `down` in the namespace
    /// of the two interfaces, which it finds in PORT_A and PORT_B.
    #[arg(long = "peer", value_name = "NAME=SCRIPT")]
    peers: Vec<Script>,
    /// Count instructions per packet too, with callgrind; slow.
    #[arg(long)]
    callgrind: bool,
    /// Bring up clusters too, with millrace from this archive of its image, and without; takes Go,
    /// and some twelve minutes even with `--quick`.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked for. A promise that is not kept fails.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn execute(self) -> Result<ExitCode> {
        match self.command {
            None => measure(&self.run),
            Some(Command::Run(run)) => measure(&run),
            Some(Command::Compare { old, new }) => {
                print!("{}", Comparison::of(&load(&old)?, &load(&new)?));
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::List { specification: true }) => {
                registry::specification().iter().for_each(|row| println!("{row}"));
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::List { specification: false }) => {
                BENCHES.iter().for_each(list);
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::Loop(options)) => run_loop(&options).map(|()| ExitCode::SUCCESS),
            Some(Command::Containers(options)) => {
                containers::make(&options).map(|()| ExitCode::SUCCESS)
            }
            Some(Command::IdleHost(options)) => be_idle(&options).map(|()| ExitCode::SUCCESS),
        }
    }
}

fn list(bench: &Bench) {
    let unusual = if bench.runs == Runs::Usually { "" } else { " (on request)" };
    println!("{:<20}{}{unusual}", bench.name, bench.what);
    for promise in bench.promises {
        println!("{:<20}  {} {}", "", promise.what, promise.value());
    }
}

fn measure(run: &Run) -> Result<ExitCode> {
    let benches = chosen(run)?;
    let environment = Environment::look();
    if environment.was_busy() {
        eprintln!("{}", report::BUSY);
    }
    let folder = run
        .out
        .clone()
        .unwrap_or_else(|| Path::new("target/bench").join(environment.date.replace(':', "-")));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let cache = folder.parent().unwrap_or(&folder).join("cache");
    let plan = Plan {
        quick: run.quick,
        runs: run.runs,
        cache,
        named: named(run)?,
        peers: run.peers.clone(),
        image: run.image.clone(),
    };

    let mut results =
        Results { version: VERSION, environment, quick: run.quick, benches: Vec::new() };
    for bench in benches {
        eprintln!("{}: {}", bench.name, bench.what);
        let outcome = execute(bench, &plan);
        print!("{}", report::summary(&outcome));
        results.benches.push(outcome);
        // what was measured is kept, whatever happens to the next one
        report::write(&results, &folder)?;
    }
    println!("report: {}", folder.join("report.md").display());

    let kept = |outcome: &Outcome| {
        let verdicts = outcome.promises().into_iter().map(|held| outcome.verdict(&held.promise));
        let broken = verdicts.flatten().any(|(verdict, _)| verdict == Verdict::Fail);
        outcome.failure.is_none() && !broken
    };
    Ok(if results.benches.iter().all(kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn execute(bench: &Bench, plan: &Plan) -> Outcome {
    let mut outcome =
        Outcome { bench: bench.name.to_owned(), what: bench.what.to_owned(), ..Outcome::default() };
    let start = Instant::now();
    if let Err(error) = (bench.run)(plan, &mut outcome) {
        outcome.failure = Some(format!("{error:#}"));
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

fn chosen(run: &Run) -> Result<Vec<&'static Bench>> {
    if let Some(unknown) = run.only.iter().find(|name| registry::find(name).is_none()) {
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no bench `{unknown}`; there are: {}", names.join(", "));
    }
    let wanted = |bench: &&Bench| match run.only.is_empty() {
        true => match bench.runs {
            Runs::Usually => true,
            Runs::WithCallgrind => run.callgrind,
            Runs::WithImage => run.image.is_some(),
        },
        false => run.only.iter().any(|name| name == bench.name),
    };
    Ok(BENCHES.iter().filter(wanted).collect())
}

/// The interfaces that the user names.
fn named(run: &Run) -> Result<Option<Named>> {
    let pair = |option: &str, names: &[String]| match names {
        [] => Ok(None),
        [a, b] if a != b => Ok(Some([a.clone(), b.clone()])),
        _ => bail!("`{option}` wants two interfaces, as in `{option} eth1,eth2`"),
    };
    let facing = pair("--facing", &run.facing)?;
    Ok(pair("--ports", &run.ports)?.map(|ports| Named { ports, facing }))
}

fn load(path: &Path) -> Result<Results> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what a run leaves", path.display()))?;
    if results.version != VERSION {
        bail!("{} has form {}, and this program reads {VERSION}", path.display(), results.version);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command line says of interfaces.
    fn interfaces(line: &str) -> Result<Option<Named>> {
        named(&Cli::try_parse_from(line.split(' '))?.run)
    }

    #[test]
    fn interfaces_are_named_in_pairs() {
        let pair = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let alone = Named { ports: pair("a", "b"), facing: None };
        let both = Named { ports: pair("a", "b"), facing: Some(pair("c", "d")) };
        for (line, expected) in [
            ("bench --quick", None),
            ("bench --only veth --ports a,b", Some(alone)),
            ("bench --ports a,b --facing c,d", Some(both)),
        ] {
            assert_eq!(interfaces(line).expect("it is well-formed"), expected, "{line}");
        }
        for wrong in ["bench --ports a", "bench --ports a,a", "bench --facing c,d"] {
            assert!(interfaces(wrong).is_err(), "{wrong}");
        }
    }
}
