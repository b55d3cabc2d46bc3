//! `millrace sysdump`: all that a host says of itself, for who is asked for help.
//!
//! Owns that one answer that cannot be had does not keep the others. Packets are no part of it; names and
//! addresses of pods are, and what filters are configured with.

use std::fs;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::api::client::{Client, segment};
use crate::output::{Host, Output, print};

/// Print all that a host says of itself, as one JSON object: for a report of what goes wrong.
///
/// It has names and addresses of pods, policies, and what filters are configured with; no packets.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace sysdump > east.json
  kubectl exec --namespace kube-system POD -- millrace sysdump > east.json")]
pub(crate) struct SysdumpArgs {
    #[command(flatten)]
    host: Host,
    /// What it is printed as; there is no table of it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Whole,
    /// Connections at most.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    flows: usize,
}

/// What has room for all of it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Whole {
    /// For programs.
    #[default]
    Json,
}

impl SysdumpArgs {
    /// How it is printed.
    pub(crate) fn output(&self) -> Output {
        match self.output {
            Whole::Json => Output::Json,
        }
    }
}

/// Asks and prints.
pub(crate) fn run(args: &SysdumpArgs) -> anyhow::Result<()> {
    let client = args.host.client()?;
    // whoever does not answer this does not answer at all
    let status: Value = client.get("/v1/status")?;
    let mut answers = Map::new();
    let flows = format!("flows?limit={}", args.flows);
    for what in WHAT.into_iter().chain([&*flows]) {
        let name = what.split('?').next().unwrap_or(what);
        answers.insert(name.to_owned(), asked(&client, what));
    }
    let stages = status["filters"].as_array().into_iter().flatten();
    let logs = stages.filter_map(|stage| stage["name"].as_str()).map(|name| {
        let path = format!("filters/{}/logs", segment(name));
        (name.to_owned(), asked(&client, &path))
    });
    let logs: Map<String, Value> = logs.collect();
    let kernel = KERNEL.map(|file| {
        let text = fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
        (file.to_owned(), Value::from(text.trim_end()))
    });
    let dump = json!({
        "status": status,
        "answers": answers,
        "logs": logs,
        "kernel": Map::from_iter(kernel),
    });
    print(&serde_json::to_string_pretty(&dump)?)
}

/// An answer; or why there is none.
fn asked(client: &Client, what: &str) -> Value {
    let answer: anyhow::Result<Value> = client.get(&format!("/v1/{what}"));
    answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
}

/// What is asked for, beside the status.
const WHAT: [&str; 9] = [
    "stats",
    "fates",
    "fates/rules",
    "workers",
    "pauses",
    "ports",
    "attachments",
    "services",
    "policies",
];
/// What the kernel says of itself that matters here.
const KERNEL: [&str; 6] = [
    "/proc/version",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_local_reserved_ports",
];
