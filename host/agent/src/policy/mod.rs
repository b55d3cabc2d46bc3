//! `millrace policy`: what NetworkPolicies and ClusterNetworkPolicies say, before a cluster has them.

mod test;

use std::process::ExitCode;

use clap::Subcommand;

/// Try NetworkPolicies and ClusterNetworkPolicies out, without a cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    Test(test::TestArgs),
}

/// Does what is asked.
pub(crate) fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Test(args) => test::run(args),
    }
}
