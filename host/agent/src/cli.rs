//! The commands, and what carries each one out.

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::capture::{self, CaptureArgs};
use crate::check::{self, CheckArgs};
use crate::cluster::{self, ClusterArgs};
use crate::demo::{self, DemoArgs};
use crate::filter::{self, FilterCommand};
use crate::lab::{self, LabCommand};
use crate::node::{self, NodeArgs, cleanup, pins};
use crate::policy::{self, PolicyCommand};
use crate::port::{self, PortCommand};
use crate::redecide::{self, RedecideArgs};
use crate::run::{self, RunArgs};
use crate::show::service::{self, ServiceCommand};
use crate::show::{drops, flows, policies, ports, services, stats, status, sysdump, top};
use crate::trace::{self, TraceArgs};
use crate::workbench::playground::{self, PlaygroundArgs};

/// A programmable dataplane: packets between interfaces, through filters in WebAssembly.
///
/// `millrace run` is a host: it holds interfaces and forwards between them, through a chain of
/// filters. The other commands see and change a host that runs, over its admin socket.
#[derive(Parser, Debug)]
#[command(version = VERSION, max_term_width = 100, after_help = "Example:
  millrace run --port veth-a --port veth-b --filter bridge &
  millrace filter load deny deny-list --config '{\"rules\": [{\"port\": 22}]}' --before bridge
  millrace drops

Exit codes:
  0  done
  1  it failed; standard error says what, why, and what to do
  2  the command line is wrong")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<RunArgs>),
    Node(Box<NodeArgs>),
    Cleanup(cleanup::CleanupArgs),
    #[command(hide = true)]
    MountBpf(pins::MountArgs),
    #[command(subcommand)]
    Lab(LabCommand),
    Check(Box<CheckArgs>),
    Cluster(ClusterArgs),
    Status(status::StatusArgs),
    Ports(ports::PortsArgs),
    Flows(flows::FlowsArgs),
    Services(services::ServicesArgs),
    #[command(subcommand)]
    Service(ServiceCommand),
    Policies(policies::PoliciesArgs),
    #[command(subcommand)]
    Policy(PolicyCommand),
    Trace(Box<TraceArgs>),
    Capture(CaptureArgs),
    #[command(subcommand)]
    Port(PortCommand),
    #[command(subcommand)]
    Filter(FilterCommand),
    Redecide(RedecideArgs),
    Stats(stats::StatsArgs),
    Drops(drops::DropsArgs),
    Top(top::TopArgs),
    Sysdump(sysdump::SysdumpArgs),
    Playground(PlaygroundArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
}

/// Print completions for a shell.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace completions bash > /etc/bash_completion.d/millrace")]
struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl Cli {
    /// Carries the command out.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let done = match self.command {
            Command::Run(args) => run::run(*args),
            Command::Node(args) => node::run(*args),
            Command::Cleanup(args) => cleanup::run(&args),
            Command::MountBpf(args) => args.run(),
            Command::Lab(command) => return lab::run(command),
            Command::Check(args) => return check::run(&args),
            Command::Cluster(args) => return cluster::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Ports(args) => ports::run(&args),
            Command::Flows(args) => flows::run(&args),
            Command::Services(args) => services::run(&args),
            Command::Service(command) => service::run(&command),
            Command::Policies(args) => policies::run(&args),
            Command::Policy(command) => return policy::run(&command),
            Command::Trace(args) => trace::run(&args),
            Command::Capture(args) => capture::run(&args),
            Command::Port(command) => port::run(&command),
            Command::Filter(command) => filter::run(command),
            Command::Redecide(args) => redecide::run(&args),
            Command::Stats(args) => stats::run(&args),
            Command::Drops(args) => drops::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Sysdump(args) => sysdump::run(&args),
            Command::Playground(args) => return playground::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Completions(CompletionsArgs { shell }) => {
                clap_complete::generate(
                    shell,
                    &mut Self::command(),
                    "millrace",
                    &mut std::io::stdout(),
                );
                Ok(())
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde::Deserialize;
    use serde_norway::Value;

    use super::*;

    #[test]
    fn the_program_takes_the_command_lines_of_the_manifests() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        let mut commands: Vec<Vec<String>> = Vec::new();
        for file in ["millrace.yaml", "cleanup.yaml"] {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            for document in serde_norway::Deserializer::from_str(&text) {
                let object = Value::deserialize(document).unwrap();
                let pod = &object["spec"]["template"]["spec"];
                for containers in [&pod["initContainers"], &pod["containers"]] {
                    for container in containers.as_sequence().into_iter().flatten() {
                        let args = container["args"].as_sequence().unwrap();
                        let args = args.iter().map(|arg| arg.as_str().unwrap().to_owned());
                        commands.push(["millrace".to_owned()].into_iter().chain(args).collect());
                    }
                }
            }
        }
        assert_eq!(commands.len(), 4, "{commands:?}");
        for mut command in commands {
            if command[1] == "node" {
                // as the environment of the pod says
                command.push("--name=here".to_owned());
            }
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{error}");
            }
        }
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let commands: Vec<_> = command.get_subcommands().collect();
            assert!(command.get_about().is_some(), "`{path}` does not say what it does");
            if commands.is_empty() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(&format!("  {path}")), "`{path}` has no example: {help}");
            }
            for command in commands {
                check(command, &format!("{path} {}", command.get_name()));
            }
        }
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command, "millrace");
    }
}
