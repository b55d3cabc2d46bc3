//! `millrace cluster`: what the agents of all nodes say, asked through the API server.
//!
//! Owns nothing of what is asked: each agent's own `millrace` answers, inside its pod, to whoever may
//! run commands there (`pods/exec`). So no agent listens for this, and nobody gets rights by it that
//! they had not. One that does not answer does not keep the others, and is named.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Parser};
use millrace_kube::{Executed, Right};
use serde::Serialize;
use serde_json::Value;

use crate::check::{AGENTS, ServerArgs};
use crate::output::{Output, print_last, quoted_names};
use crate::show::{drops, flows, policies, ports, service, services, stats, status, sysdump};

/// Ask the agents of all nodes of a cluster at once, through the API server.
///
/// The command is one of those that show something of a host, with its own flags. What each node says
/// comes under the node's name; with `-o json` all of it is one object. It takes the rights to list nodes, to
/// list pods in the agents' namespace, and to run commands there.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace cluster status
  millrace cluster --node east flows --proto tcp --state established
  millrace cluster --kubeconfig admin.conf drops -o json | jq .nodes.east
  millrace cluster sysdump > cluster.json

Exit codes:
  0  all have answered
  1  some have not; standard error names them, and says why")]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Ask the agents of these nodes alone.
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// What is asked: `status`, `flows`, `drops`, `ports`, `services`, `service`, `policies`, `stats` or
    /// `sysdump`, with flags.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

/// The commands that may be asked, to see that they are right before anybody is.
#[derive(Parser, Debug)]
#[command(name = "millrace cluster", no_binary_name = true)]
enum Asked {
    Status(status::StatusArgs),
    Ports(ports::PortsArgs),
    Flows(flows::FlowsArgs),
    Services(services::ServicesArgs),
    #[command(subcommand)]
    Service(service::ServiceCommand),
    Policies(policies::PoliciesArgs),
    Stats(stats::StatsArgs),
    Drops(drops::DropsArgs),
    Sysdump(sysdump::SysdumpArgs),
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answers {
    /// By the names of nodes.
    nodes: BTreeMap<String, Value>,
    /// Why others have not answered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<String, String>,
}

impl Asked {
    /// Whether an answer is for programs.
    fn output(&self) -> Output {
        match self {
            Self::Status(args) => args.asking.output(),
            Self::Ports(args) => args.asking.output(),
            Self::Flows(args) => args.asking.output(),
            Self::Services(args) => args.asking.output(),
            Self::Service(service::ServiceCommand::Show(args)) => args.asking.output(),
            Self::Policies(args) => args.asking.output(),
            Self::Stats(args) => args.asking.output(),
            Self::Drops(args) => args.asking.output(),
            Self::Sysdump(args) => args.output(),
        }
    }
}

/// Asks and prints.
pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let asked = Asked::try_parse_from(&args.command).unwrap_or_else(|error| error.exit());
    if let Asked::Drops(drops) = &asked
        && drops.watch
    {
        bail!("`--watch` is for one host: run it there, by `kubectl exec`");
    }
    let session = args.server.session()?;
    let namespace = args.server.namespace();
    for verb in ["get", "create"] {
        let right = Right { verb, group: "", resource: "pods/exec", namespace };
        if !session.may(right)? {
            bail!("it may not {right}: have somebody grant this, or ask as somebody else");
        }
    }
    let agents = agents(&session.list(&format!("/api/v1/namespaces/{namespace}/pods"), AGENTS)?);
    let nodes = session.list("/api/v1/nodes", "")?;
    let nodes = nodes.iter().filter_map(|node| node["metadata"]["name"].as_str());
    let mut nodes: Vec<_> = nodes.map(str::to_owned).collect();
    if let Some(name) = args.nodes.iter().find(|name| !nodes.contains(name)) {
        bail!("there is no node `{name}`; there are: {}", quoted_names(nodes.iter()));
    }
    nodes.retain(|node| args.nodes.is_empty() || args.nodes.contains(node));

    let mut answers = Answers::default();
    let (there, without): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| agents.contains_key(node));
    let missing = without.into_iter().map(|node| (node, "no agent runs there".to_owned()));
    answers.failed.extend(missing);
    let pods: Vec<_> = there.iter().map(|node| &*agents[node]).collect();
    let command: Vec<_> =
        [PROGRAM.to_owned()].into_iter().chain(args.command.iter().cloned()).collect();
    let executed = session.execute(namespace, &pods, CONTAINER, &command);
    for (node, executed) in there.into_iter().zip(executed) {
        match executed.map_err(|error| error.to_string()).and_then(|it| said(it, asked.output())) {
            Ok(answer) => drop(answers.nodes.insert(node, answer)),
            Err(why) => drop(answers.failed.insert(node, why)),
        }
    }
    for (node, why) in &answers.failed {
        eprintln!("millrace: node {node}: {why}");
    }
    match asked.output() {
        Output::Json => print_last(&serde_json::to_string_pretty(&answers)?)?,
        Output::Table => print_last(&text(&answers.nodes))?,
    }
    Ok(if answers.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The pods of agents that run, by their nodes; while one follows another, the one that came last.
fn agents(pods: &[Value]) -> BTreeMap<String, String> {
    let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
    let mut pods: Vec<_> = pods.iter().filter(runs).collect();
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str());
    let agent = |pod: &Value| {
        let node = pod["spec"]["nodeName"].as_str()?.to_owned();
        Some((node, pod["metadata"]["name"].as_str()?.to_owned()))
    };
    pods.into_iter().filter_map(agent).collect()
}

/// What an agent has said, or why it has not.
fn said(executed: Executed, output: Output) -> Result<Value, String> {
    if !executed.is_success {
        // it says whose message this is, and so is said already
        let why = executed.error.trim();
        return Err(why.strip_prefix("millrace: ").unwrap_or(why).to_owned());
    }
    match output {
        Output::Table => Ok(executed.output.into()),
        Output::Json => serde_json::from_str(&executed.output).map_err(|error| error.to_string()),
    }
}

/// Each under its node's name.
fn text(nodes: &BTreeMap<String, Value>) -> String {
    let section = |(node, text): (&String, &Value)| {
        let lines = text.as_str().unwrap_or_default().trim_end().lines();
        let lines: String = lines.map(|line| format!("  {line}\n")).collect();
        format!("{node}:\n{lines}")
    };
    nodes.iter().map(section).collect::<Vec<_>>().join("\n")
}

/// What an agent's container is called.
const CONTAINER: &str = "agent";
const PROGRAM: &str = "millrace";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_two_agents_on_a_node_the_one_that_came_last_is_asked_once_it_runs() {
        let pod = |name: &str, node: &str, phase: &str, made: &str| {
            json!({
                "metadata": {"name": name, "creationTimestamp": made},
                "spec": {"nodeName": node},
                "status": {"phase": phase},
            })
        };
        let pods = [
            pod("b", "east", "Running", "2026-01-02T00:00:00Z"),
            pod("a", "east", "Running", "2026-01-01T00:00:00Z"),
            pod("d", "west", "Pending", "2026-01-02T00:00:00Z"),
            pod("c", "west", "Running", "2026-01-01T00:00:00Z"),
        ];
        let expected = [("east", "b"), ("west", "c")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(agents(&pods), expected.into());
    }

    #[test]
    fn what_a_node_says_is_under_its_name_and_why_it_does_not_is_said_without_ours() {
        let executed = |is_success, output: &str, error: &str| Executed {
            is_success,
            output: output.to_owned(),
            error: error.to_owned(),
        };
        let east = said(executed(true, "PORT\na\n", ""), Output::Table).unwrap();
        let nodes = BTreeMap::from([("east".to_owned(), east)]);
        assert_eq!(text(&nodes), "east:\n  PORT\n  a\n");
        let answer = said(executed(true, "[1]", ""), Output::Json);
        assert_eq!(answer, Ok(json!([1])));
        let why = said(executed(false, "", "millrace: no host answers\n"), Output::Json);
        assert_eq!(why, Err("no host answers".to_owned()));
    }

    #[test]
    fn what_changes_a_host_is_not_asked_of_all() {
        for (words, is_right) in [
            (&["flows", "--proto", "tcp"][..], true),
            (&["service", "show", "web"], true),
            (&["filter", "unload", "policy"], false),
            (&["run"], false),
        ] {
            assert_eq!(Asked::try_parse_from(words).is_ok(), is_right, "{words:?}");
        }
    }
}
