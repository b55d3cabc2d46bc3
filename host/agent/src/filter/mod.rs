//! `millrace filter`: the chain of a running host, and the author's tools.
//!
//! - [`manage`]: what changes it
//! - [`logs`], [`table`]: what filters say and remember

pub(crate) mod logs;
pub(crate) mod manage;
pub(crate) mod table;

use clap::Subcommand;

use crate::api::client::segment;
use crate::workbench::{self, FilterTool};

/// See and change the chain of a running host; write, test and measure filters.
#[derive(Subcommand, Debug)]
pub(crate) enum FilterCommand {
    List(manage::ListArgs),
    Load(Box<manage::LoadArgs>),
    Swap(manage::SwapArgs),
    Configure(manage::ConfigureArgs),
    Move(manage::MoveArgs),
    Mode(manage::ModeArgs),
    Rollback(manage::NameArgs),
    #[command(subcommand)]
    Canary(manage::CanaryCommand),
    Remove(manage::RemoveArgs),
    Logs(logs::LogsArgs),
    Table(table::TableArgs),
    #[command(flatten)]
    Tool(FilterTool),
}

/// Asks and prints.
pub(crate) fn run(command: FilterCommand) -> anyhow::Result<()> {
    match command {
        FilterCommand::List(args) => manage::list(&args),
        FilterCommand::Load(args) => manage::load(&args),
        FilterCommand::Swap(args) => manage::swap(&args),
        FilterCommand::Configure(args) => manage::configure(&args),
        FilterCommand::Move(args) => manage::move_to(&args),
        FilterCommand::Mode(args) => manage::set_mode(&args),
        FilterCommand::Rollback(args) => manage::roll_back(&args),
        FilterCommand::Canary(command) => manage::canary(&command),
        FilterCommand::Remove(args) => manage::remove(&args),
        FilterCommand::Logs(args) => logs::run(&args),
        FilterCommand::Table(args) => table::run(&args),
        FilterCommand::Tool(tool) => workbench::run(tool),
    }
}

/// The address of something about a stage.
fn about(name: &str, what: &str) -> String {
    format!("/v1/filters/{}{what}", segment(name))
}
