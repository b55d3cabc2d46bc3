//! `millrace check`: who reaches whom in a cluster, tried out with pods that come and go for it.
//!
//! - `rights`: what who asks has to be allowed; `survey`: which nodes there are, and which image
//! - `ground`: the namespace that all happens in; `objects`: what is made there
//! - `plan`: which pod asks what; `verdict`: what came of it, for people and programs
//! - `interruption`: signals, which end it with the cleaning up
//!
//! A reader must not break this: whatever happens after the namespace is made, it is removed.

mod ground;
mod interruption;
mod objects;
mod plan;
mod rights;
mod survey;
mod verdict;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use millrace_kube::{Access, Session};

use crate::output::{Output, print_last};
use crate::text::Span;
use ground::Ground;
use interruption::{Interrupted, Interruption};
pub(crate) use survey::AGENTS;
use survey::Agents;
use verdict::Verdict;

/// Try out a cluster's network: pods, nodes, Services, names and policies.
///
/// In a namespace of its own it starts pods of millrace's image on some nodes, which ask each other, a
/// Service, node ports, nodes and the cluster's DNS, once with and once without a NetworkPolicy that
/// is for them. It removes the namespace again, also when it is interrupted. Progress is written to
/// standard error.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace check
  millrace check --kubeconfig admin.conf --all-nodes --external 192.0.2.1:443
  millrace check -o json | jq '.questions[] | select(.right | not)'

Exit codes:
    0  all is as it should be
    1  something is not, or could not be tried
  130  it was interrupted")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Try these nodes; without any, the first two that are ready and have an agent.
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// Try all nodes that are ready and have an agent. Each asks each other one.
    #[arg(long, conflicts_with = "nodes")]
    all_nodes: bool,
    /// Try to connect to this address outside the cluster, from each node's pods.
    #[arg(long, value_name = "ADDRESS:PORT")]
    external: Vec<SocketAddr>,
    /// The image of the pods; else that of the agents.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How long pods may take to start.
    #[arg(long, value_name = "TIME", default_value = "2min")]
    start_within: Span,
    /// How long something may take until it is as it should be.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    patience: Span,
    /// Print tables for people, or JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Which API server is asked, as whom, and where agents are.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The kubeconfig that says where the API server is, and as whom it is asked; else what
    /// `KUBECONFIG` names, `~/.kube/config`, or the service account of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of it, other than the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that agents are in.
    #[arg(long, value_name = "NAME", default_value = "kube-system")]
    namespace: String,
}

impl ServerArgs {
    /// The namespace that agents are in.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Who asks.
    pub(crate) fn session(&self) -> anyhow::Result<Session> {
        let (file, context) = (self.kubeconfig.clone(), self.context.clone());
        Ok(Session::open(&Access::User { file, context })?)
    }
}

/// Tries it out and prints what came of it.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let session = args.server.session()?;
    rights::check(&session)?;
    let agents = Agents::of(&session, args.server.namespace())?;
    let nodes = survey::nodes(&session, &agents, &args.nodes, args.all_nodes)?;
    let image = agents.image(args.server.namespace(), args.image.as_deref())?;
    let interruption = Interruption::listen()?;
    let ground = Ground::make(&session, &interruption, image)?;
    let tried = try_out(args, &ground, nodes);
    let removed = ground.remove();
    if let Err(error) = &removed {
        eprintln!("millrace: {error:#}");
    }
    let verdict = match tried {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("millrace: {error}");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        other => other?,
    };
    match args.output {
        Output::Table => print_last(&verdict.text())?,
        Output::Json => print_last(&serde_json::to_string_pretty(&verdict)?)?,
    }
    Ok(if verdict.right && removed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn try_out(
    args: &CheckArgs,
    ground: &Ground<'_>,
    nodes: Vec<survey::Node>,
) -> anyhow::Result<Verdict> {
    let patience = args.start_within.duration();
    let names: Vec<_> = nodes.iter().map(|node| node.name.clone()).collect();
    let service = ground.publish()?;
    let servers = ground.serve(&names, patience).context("servers")?;
    let clients = plan::clients(&nodes, &servers, &service, &args.external);
    let said = ground.ask(&clients, args.patience, patience).context("clients")?;
    Ok(Verdict::of(names, &clients, &said))
}

/// As shells have it, of who is ended by SIGINT.
const INTERRUPTED: u8 = 130;
