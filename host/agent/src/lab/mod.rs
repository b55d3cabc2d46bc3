//! `millrace lab`: a cluster out of network namespaces, from ordinary manifests.
//!
//! Owns what is printed, and which program is a node's agent: this one, as `millrace node`. All
//! else is the lab's own.

pub(crate) mod probe;
mod settle;

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use millrace_control::source::Manifests;
use millrace_control::{PodName, World};
use millrace_lab::{
    AgentCommand, Former, Lab, LabName, NodePlace, Role, Settings, State, Topology, client, server,
};
use serde_json::json;

use crate::node::TunnelArgs;
use crate::output::{Heading, Output, Table, print};
use crate::registry::RegistryArgs;
use crate::run::privileges;
use crate::text::Span;
use probe::ProbeArgs;
use settle::settle;

/// Make a cluster out of network namespaces on this machine, and look around in it.
#[derive(Subcommand, Debug)]
pub(crate) enum LabCommand {
    Up(UpArgs),
    Apply(ApplyArgs),
    Delete(DeleteArgs),
    Down(DownArgs),
    Status(StatusArgs),
    Exec(ExecArgs),
    Shell(ShellArgs),
    Probe(ProbeArgs),
    Restart(RestartArgs),
    #[command(hide = true)]
    Serve(ServeArgs),
    #[command(hide = true)]
    Ask(AskArgs),
}

/// Which lab is meant.
#[derive(Args, Clone, Debug)]
struct Which {
    /// The lab: several can be up at once.
    #[arg(long = "name", value_name = "NAME", env = "MILLRACE_LAB", default_value = "lab")]
    name: LabName,
}

/// Make a lab of the nodes and pods that a directory's manifests describe.
///
/// Each Node (with `spec.podCIDRs`) and each Pod becomes a network namespace; each node gets an
/// agent, which attaches its pods. Pods without a node are spread. A container runs its
/// command, a program of this machine, or else a small server: echo over TCP and UDP at port 7,
/// HTTP at 8080. It needs root.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab up ./manifests
  millrace lab exec web -- ping -c 1 10.1.1.2
  millrace lab down")]
pub(crate) struct UpArgs {
    /// The directory: `*.yaml`, `*.yml` and `*.json`.
    directory: PathBuf,
    #[command(flatten)]
    which: Which,
    /// How nodes are wired.
    #[arg(long, value_enum, default_value_t)]
    underlay: Underlay,
    /// Bytes of the largest IP packet between nodes.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u32,
    #[command(flatten)]
    tunnel: TunnelArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// How nodes are wired.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Underlay {
    /// One segment for all.
    #[default]
    Flat,
    /// Two subnets with a router between them.
    Routed,
}

/// Tell the agents of a lab what manifests say now, and wait until it is in force on every node.
///
/// Services, EndpointSlices and ServiceCIDRs become what the directory says, and pods get the labels
/// and ports they have there, at once and without a restart. Nodes and pods themselves stay as
/// `millrace lab up` has made them.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab apply ./manifests")]
pub(crate) struct ApplyArgs {
    /// The directory: `*.yaml`, `*.yml` and `*.json`.
    directory: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Have the agents of a lab forget what manifests name, and wait until they have on every node.
///
/// Nodes and pods stay, as do Services, policies and filters that the directory does not name.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab delete ./examples/policies")]
pub(crate) struct DeleteArgs {
    /// The directory: `*.yaml`, `*.yml` and `*.json`.
    directory: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Remove a lab, or what is left of one.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab down")]
pub(crate) struct DownArgs {
    #[command(flatten)]
    which: Which,
}

/// Show the nodes and pods of a lab, and what runs in them.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab status")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// Print tables for people, or JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Run a command in a pod; its exit code is this command's.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab exec shop/web -- curl http://10.1.0.3:8080/
  millrace lab exec node:worker-1 -- millrace flows")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    which: Which,
    /// The pod, as NAMESPACE/NAME, or NAME in `default`; `node:NAME` for a node, where `millrace`
    /// asks its agent; `outside` for the host outside the cluster.
    place: String,
    /// The command.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Open a shell in a pod.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab shell shop/web")]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    which: Which,
    /// The pod, or what else `millrace lab exec` takes.
    place: String,
}

/// Start the agent of a node again; its pods go on meanwhile.
///
/// The next agent takes over from the one that runs, so that nothing is lost. With `--kill`, that
/// is killed first: known flows go on without an agent, new ones wait for the next.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab restart worker-1
  millrace lab restart worker-1 --kill")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    which: Which,
    /// The node.
    node: String,
    /// Kill the agent that runs.
    #[arg(long)]
    kill: bool,
}

/// Be the server of a pod.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab serve shop/web echo:7 udp:7 http:8080")]
pub(crate) struct ServeArgs {
    #[arg(num_args = 1..)]
    words: Vec<String>,
}

/// Be a client in a pod, which says what has become of each question.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace lab ask '{\"connection\": {\"to\": \"192.0.2.1:443\"}}'")]
pub(crate) struct AskArgs {
    /// How long an answer that is not the right one is asked for again.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    patience: Span,
    #[arg(num_args = 1..)]
    questions: Vec<String>,
}

/// Carries a command out.
pub(crate) fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    if !matches!(command, LabCommand::Serve(_) | LabCommand::Ask(_)) {
        privileges::check()?;
    }
    match command {
        LabCommand::Up(args) => up(&args),
        LabCommand::Apply(args) => apply(&args),
        LabCommand::Delete(args) => delete(&args),
        LabCommand::Down(args) => Ok(Lab::down(&args.which.name)?),
        LabCommand::Status(args) => status(&args),
        LabCommand::Exec(args) => return exec(&args.which, &args.place, args.command),
        LabCommand::Shell(args) => {
            let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            return exec(&args.which, &args.place, vec![shell]);
        }
        LabCommand::Probe(args) => return probe::run(&args),
        LabCommand::Restart(args) => {
            let former = if args.kill { Former::Killed } else { Former::TakenOver };
            Lab::restart(&args.which.name, &args.node, former).map(drop).map_err(Into::into)
        }
        LabCommand::Serve(args) => server::run(args.words).map_err(anyhow::Error::msg),
        LabCommand::Ask(args) => {
            let patience = args.patience.duration();
            client::run(&args.questions, patience, io::stdout()).context("asking")
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn up(args: &UpArgs) -> anyhow::Result<()> {
    let world = read(&args.directory)?;
    let this = env::current_exe().context("the path of this program")?;
    let settings = Settings {
        name: args.which.name.clone(),
        topology: match args.underlay {
            Underlay::Flat => Topology::Flat,
            Underlay::Routed => Topology::Routed,
        },
        mtu: args.mtu,
        server: vec![this.clone().into(), "lab".into(), "serve".into()],
    };
    let agent = |place: &NodePlace| AgentCommand {
        command: vec![
            this.clone().into(),
            "node".into(),
            "--name".into(),
            place.node.name.clone().into(),
            "--manifests".into(),
            place.manifests.clone().into(),
            "--socket".into(),
            place.socket.clone().into(),
            // there may be one that is to be replaced
            "--take-over".into(),
            "--pins".into(),
            place.pins.clone().into(),
            // a filter that is swapped for itself is not compiled again
            "--module-cache".into(),
            place.folder.join("modules").into(),
            "--mtu".into(),
            args.mtu.to_string().into(),
        ]
        .into_iter()
        .chain(args.tunnel.words().map(OsString::from))
        .chain(args.registries.words())
        .collect(),
        environment: Vec::new(),
    };
    let lab = Lab::up(world, &settings, Some(&agent))?;
    settle(&lab)?;
    print(&table(lab.state()))
}

fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let world = read(&args.directory)?;
    for pod in Lab::apply(&args.which.name, world)? {
        eprintln!("millrace: pod {pod} is not as the manifests say: pods come and go with the lab");
    }
    settle(&Lab::open(&args.which.name)?)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<()> {
    Lab::delete(&args.which.name, &read(&args.directory)?)?;
    settle(&Lab::open(&args.which.name)?)
}

/// What a directory says; what of it does not count is printed.
fn read(directory: &Path) -> anyhow::Result<World> {
    let (world, complaints) = Manifests::open(directory)?.read()?;
    for complaint in &complaints {
        eprintln!("millrace: {complaint}");
    }
    Ok(world)
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let lab = Lab::open(&args.which.name)?;
    match args.output {
        Output::Table => print(&table(lab.state())),
        Output::Json => print(&serde_json::to_string_pretty(&json!(lab.state()))?),
    }
}

fn table(state: &State) -> String {
    let addresses = |addresses: &[std::net::IpAddr]| {
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let runs = |role: &dyn Fn(&Role) -> bool| {
        let mut of = state.programs.iter().filter(|program| role(&program.role)).peekable();
        match (of.peek().is_some(), of.all(|program| program.process.is_running())) {
            (false, _) => "-",
            (true, true) => "running",
            (true, false) => "ended",
        }
    };
    let mut nodes = Table::new(["node", "agent", "addresses", "socket"].map(Heading::text));
    for node in &state.nodes {
        let is = |role: &Role| matches!(role, Role::Agent { node: of } if *of == node.name);
        let socket = node.socket.as_ref().map_or_else(|| "-".into(), |it| it.display().to_string());
        nodes.row([node.name.clone(), runs(&is).into(), addresses(&node.addresses), socket]);
    }
    let mut pods = Table::new(["pod", "node", "containers", "addresses"].map(Heading::text));
    for pod in &state.pods {
        let is = |role: &Role| matches!(role, Role::Container { pod: of, .. } if *of == pod.name);
        let cells =
            [pod.name.to_string(), pod.node.clone(), runs(&is).into(), addresses(&pod.addresses)];
        pods.row(cells);
    }
    let mut text = nodes.text();
    let _ = write!(text, "\n\n{}", pods.text());
    text
}

/// Becomes the command, in the network of a place.
fn exec(which: &Which, place: &str, command: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let lab = Lab::open(&which.name)?;
    let mut words = command.into_iter();
    let program = words.next().context("the command is empty")?;
    let mut command: Command = match (place, place.strip_prefix("node:")) {
        ("outside", _) => lab.in_outside(&program)?,
        (_, Some(node)) => {
            let mut command = lab.in_node(node, &program)?;
            let state = lab.state().nodes.iter().find(|it| it.name == node);
            // so that commands of this program ask its agent
            command.envs(state.and_then(|it| it.socket.as_ref()).map(|socket| (SOCKET, socket)));
            command
        }
        (pod, None) => {
            let pod: PodName = pod.parse().map_err(|error| anyhow::anyhow!("`{pod}`: {error}"))?;
            lab.in_pod(&pod, &program)?
        }
    };
    let error = command.args(words).exec();
    Err(error).with_context(|| format!("running `{}`", program.display()))
}

/// What tells commands of this program which host is meant.
const SOCKET: &str = "MILLRACE_SOCKET";
