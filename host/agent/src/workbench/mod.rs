//! What the author of a filter works with, from nothing to a filter among packets. No command
//! here asks a running host, and only the playground needs root.
//!
//! - [`new`]: a project that builds anywhere
//! - [`build`]: its module; [`inspect`]: what a module is
//! - [`replay`]: a capture through it, compared with what is expected (`filter test`)
//! - [`bench`](mod@bench): what it costs
//! - [`push`]: it goes where clusters have it from
//! - [`playground`]: two namespaces with a host between them
//! - `subject`: the module that a command is about

mod bench;
mod build;
mod inspect;
mod new;
pub(crate) mod playground;
mod push;
mod replay;
mod subject;

use clap::Subcommand;

pub(crate) use replay::summary::summary;

/// The filter author's tools.
#[derive(Subcommand, Debug)]
pub(crate) enum FilterTool {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Test(Box<replay::TestArgs>),
    Bench(bench::BenchArgs),
    Push(push::PushArgs),
}

/// Does what the tool is for.
pub(crate) fn run(tool: FilterTool) -> anyhow::Result<()> {
    match tool {
        FilterTool::New(args) => new::run(&args),
        FilterTool::Build(args) => build::run(&args),
        FilterTool::Inspect(args) => inspect::run(&args),
        FilterTool::Test(args) => replay::run(&args),
        FilterTool::Bench(args) => bench::run(&args),
        FilterTool::Push(args) => push::run(args),
    }
}
