//! `millrace lab probe`: who reaches whom.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use millrace_control::PodName;
use millrace_lab::Lab;
use millrace_lab::probe::{Means, Outcome, Probe, probe};
use serde_json::{Value, json};

use super::Which;
use crate::output::{Heading, Output, Table, print};
use crate::text::Span;

/// Have every pod ask every pod, at each address, over TCP, UDP and by ping.
///
/// A cell says how many of the questions were answered by the pod that was asked. The exit code is
/// 0 if all were.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab probe
  millrace lab probe -o json")]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    which: Which,
    /// How long to wait for an answer.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    patience: Span,
    /// Print tables for people, or JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Asks and prints.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let patience: Duration = args.patience.duration();
    let probes = probe(&Lab::open(&args.which.name)?, patience)?;
    match args.output {
        Output::Table => print(&matrix(&probes))?,
        Output::Json => {
            let probes: Vec<Value> = probes.iter().map(plain).collect();
            print(&serde_json::to_string_pretty(&probes)?)?;
        }
    }
    let all = probes.iter().all(|probe| probe.outcome.is_reached());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From whom by rows, to whom by columns; what was not answered is listed below.
fn matrix(probes: &[Probe]) -> String {
    let mut cells: BTreeMap<(&PodName, &PodName), (usize, usize)> = BTreeMap::new();
    for probe in probes {
        let (answered, asked) = cells.entry((&probe.from, &probe.to)).or_default();
        *answered += usize::from(probe.outcome.is_reached());
        *asked += 1;
    }
    let mut pods: Vec<_> = cells.keys().flat_map(|(from, to)| [*from, *to]).collect();
    pods.sort_unstable();
    pods.dedup();

    let headings = pods.iter().map(|pod| Heading::text(&pod.to_string()));
    let mut table = Table::new([Heading::text("from \\ to")].into_iter().chain(headings));
    for from in &pods {
        let cell = |to: &&PodName| match cells.get(&(*from, *to)) {
            Some((answered, asked)) if answered == asked => "ok".to_owned(),
            Some((answered, asked)) => format!("{answered}/{asked}"),
            None => "-".to_owned(),
        };
        table.row([from.to_string()].into_iter().chain(pods.iter().map(cell)));
    }
    let missing = probes.iter().filter(|probe| !probe.outcome.is_reached()).map(|probe| {
        let Probe { from, to, address, by, outcome } = probe;
        format!("\n! {from} → {to} ({address}, {}): {}", word(*by), said(outcome))
    });
    table.text() + &missing.collect::<String>()
}

fn plain(probe: &Probe) -> Value {
    let seen_as = match &probe.outcome {
        Outcome::Reached { seen_as } => seen_as.map(|address| address.to_string()),
        _ => None,
    };
    json!({
        "from": probe.from,
        "to": probe.to,
        "address": probe.address,
        "by": word(probe.by),
        "reached": probe.outcome.is_reached(),
        "outcome": said(&probe.outcome),
        "seenAs": seen_as,
    })
}

fn word(means: Means) -> &'static str {
    match means {
        Means::Tcp => "tcp",
        Means::Udp => "udp",
        Means::Ping => "ping",
    }
}

/// What came of a question, for people.
pub(crate) fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reached { .. } => "reached".to_owned(),
        Outcome::Stranger { said } => format!("somebody else answered: {said}"),
        Outcome::Refused => "refused".to_owned(),
        Outcome::Unreachable => "unreachable".to_owned(),
        Outcome::Silence => "no answer".to_owned(),
        Outcome::Failed { reason } => reason.clone(),
    }
}
