//! Commands that change the chain. Each prints how the stage is then.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use crate::api::client::Client;
use crate::api::types::{
    FilterStatus, LoadFilter, Mode, Position, Stage, StageState, StageStatus, StartCanary,
    SwapFilter, Terms,
};
use crate::config::{ConfigSource, ModuleSource};
use crate::filter::about;
use crate::output::{Asking, Heading, Table};

/// Show the chain.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter list
  millrace filter list -o json | jq '.[].filter.digest'")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Put a filter into the chain.
///
/// It is checked, compiled, started and configured before any packet meets it; if it is refused,
/// everything stays as it was.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter load deny deny-list --config '{\"rules\": [{\"port\": 22}]}' --before bridge
  millrace filter load mine ./mine.wasm --config mine.json --port veth1 --mode shadow")]
pub(crate) struct LoadArgs {
    /// What the stage is called from now on.
    name: String,
    #[command(flatten)]
    module: ModuleArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    asking: Asking,
}

/// Put another module into a stage, between two packets.
///
/// Host maps, and so what the filter has learned, stay. The version before is kept for `millrace
/// filter rollback`.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter swap deny ./deny-list-2.wasm
  millrace filter swap deny ./deny-list-2.wasm --config '{\"rules\": []}'")]
pub(crate) struct SwapArgs {
    /// The stage.
    name: String,
    #[command(flatten)]
    module: ModuleArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Give a stage another configuration, between two packets.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter configure deny '{\"rules\": [{\"port\": 23}]}'
  millrace filter configure deny @deny.json")]
pub(crate) struct ConfigureArgs {
    /// The stage.
    name: String,
    /// JSON, or the path of a JSON file.
    config: ConfigSource,
    #[command(flatten)]
    asking: Asking,
}

/// Move a stage to another place in the chain.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter move deny --before bridge
  millrace filter move deny --last")]
pub(crate) struct MoveArgs {
    /// The stage.
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Make a stage's answers count, or only be compared with what the others decide.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter mode deny shadow
  millrace filter mode deny enforce")]
pub(crate) struct ModeArgs {
    /// The stage.
    name: String,
    /// `enforce` or `shadow`.
    mode: Mode,
    #[command(flatten)]
    asking: Asking,
}

/// Put the version before a swap or a new configuration into force again.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter rollback deny")]
pub(crate) struct NameArgs {
    /// The stage.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

/// Try another module on some of the flows.
#[derive(Subcommand, Debug)]
pub(crate) enum CanaryCommand {
    Start(CanaryArgs),
    /// Put the module that is tried into force.
    #[command(after_help = "Example:\n  millrace filter canary promote deny")]
    Promote(NameArgs),
    /// Take the module that is tried away.
    #[command(after_help = "Example:\n  millrace filter canary abandon deny")]
    Abandon(NameArgs),
}

/// Try another module on some of the flows, always the same ones.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter canary start deny 10 ./deny-list-2.wasm
  millrace filter list
  millrace filter canary promote deny")]
pub(crate) struct CanaryArgs {
    /// The stage.
    name: String,
    /// How many of a hundred flows.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=99))]
    percent: u8,
    #[command(flatten)]
    module: ModuleArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Take a stage out of the chain, with all that it remembers.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter remove deny")]
pub(crate) struct RemoveArgs {
    /// The stage.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
struct ModuleArgs {
    /// The name of a built-in filter, or the path of a module (which has a `/` in it or ends in
    /// `.wasm`).
    module: ModuleSource,
    /// Its configuration: JSON, or the path of a JSON file.
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<ConfigSource>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct PlaceArgs {
    /// Before all others.
    #[arg(long)]
    first: bool,
    /// Behind all others; so it is unless said otherwise.
    #[arg(long)]
    last: bool,
    /// Before this stage.
    #[arg(long, value_name = "STAGE")]
    before: Option<String>,
    /// Behind this stage.
    #[arg(long, value_name = "STAGE")]
    after: Option<String>,
}

impl PlaceArgs {
    fn position(&self) -> Position {
        match (&self.before, &self.after) {
            (Some(stage), _) => Position::Before(stage.clone()),
            (_, Some(stage)) => Position::After(stage.clone()),
            _ if self.first => Position::First,
            _ => Position::Last,
        }
    }
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<()> {
    let stages: Vec<Stage> = args.asking.client()?.get("/v1/filters")?;
    args.asking.print(&stages, |stages| text(stages))
}

pub(super) fn load(args: &LoadArgs) -> anyhow::Result<()> {
    let config = args.module.config.clone().unwrap_or_default();
    let load = LoadFilter {
        name: args.name.clone(),
        module: args.module.module.read()?,
        config: config.read()?,
        position: args.place.position(),
        terms: args.terms.clone(),
    };
    show(&args.asking, |client| client.send(Method::POST, "/v1/filters", &load))
}

pub(super) fn swap(args: &SwapArgs) -> anyhow::Result<()> {
    let config = args.module.config.as_ref().map(ConfigSource::read).transpose()?;
    let swap = SwapFilter { module: args.module.module.read()?, config };
    show(&args.asking, |client| client.send(Method::PUT, &about(&args.name, "/module"), &swap))
}

pub(super) fn configure(args: &ConfigureArgs) -> anyhow::Result<()> {
    let config = args.config.read()?;
    show(&args.asking, |client| client.send(Method::PUT, &about(&args.name, "/config"), &config))
}

pub(super) fn move_to(args: &MoveArgs) -> anyhow::Result<()> {
    let to = args.place.position();
    show(&args.asking, |client| client.send(Method::PUT, &about(&args.name, "/position"), &to))
}

pub(super) fn set_mode(args: &ModeArgs) -> anyhow::Result<()> {
    show(&args.asking, |client| client.send(Method::PUT, &about(&args.name, "/mode"), &args.mode))
}

pub(super) fn roll_back(args: &NameArgs) -> anyhow::Result<()> {
    show(&args.asking, |client| client.call(Method::POST, &about(&args.name, "/rollback")))
}

pub(super) fn canary(command: &CanaryCommand) -> anyhow::Result<()> {
    match command {
        CanaryCommand::Start(args) => {
            let config = args.module.config.as_ref().map(ConfigSource::read).transpose()?;
            let module = args.module.module.read()?;
            let canary = StartCanary { percent: args.percent, module, config };
            let path = about(&args.name, "/canary");
            show(&args.asking, |client| client.send(Method::PUT, &path, &canary))
        }
        CanaryCommand::Promote(args) => {
            let path = about(&args.name, "/canary/promote");
            show(&args.asking, |client| client.call(Method::POST, &path))
        }
        CanaryCommand::Abandon(args) => {
            let path = about(&args.name, "/canary");
            show(&args.asking, |client| client.call(Method::DELETE, &path))
        }
    }
}

pub(super) fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let name = &args.name;
    args.asking.client()?.delete(&about(name, ""))?;
    args.asking.print(&json!({ "removed": name }), |_| format!("filter {name} is removed"))
}

/// Changes a stage, and prints it.
fn show(
    asking: &Asking,
    change: impl FnOnce(&Client) -> anyhow::Result<StageStatus>,
) -> anyhow::Result<()> {
    let stage = change(&asking.client()?)?;
    asking.print(&stage, |stage| text(&[Stage { status: stage.clone(), chain: None }]))
}

/// Stages as a table.
fn text(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return "the chain has no filters; load one with `millrace filter load`".to_owned();
    }
    let mut table = Table::new([
        Heading::number("place"),
        Heading::text("name"),
        Heading::text("filter"),
        Heading::number("version"),
        Heading::text("module"),
        Heading::text("mode"),
        Heading::text("on fault"),
        Heading::text("on refused"),
        Heading::text("state"),
        Heading::text("asked about"),
        Heading::text("may"),
        Heading::text("before"),
        Heading::text("canary"),
        Heading::text("chain"),
    ]);
    for Stage { status: stage, chain } in stages {
        let kinds = stage.kinds.iter().map(ToString::to_string);
        let asked: Vec<_> = stage.ports.iter().cloned().chain(kinds).collect();
        let may: Vec<_> = stage.capabilities.iter().map(|label| &**label).collect();
        let canary = stage.canary.as_ref();
        table.row([
            (stage.position + 1).to_string(),
            stage.name.clone(),
            format!("{} {}", stage.filter.filter, stage.filter.version),
            stage.filter.number.to_string(),
            digest(&stage.filter),
            stage.mode.clone(),
            stage.on_fault.clone(),
            stage.on_refused.clone(),
            word(stage.state).to_owned(),
            if asked.is_empty() { "all".to_owned() } else { asked.join(",") },
            if may.is_empty() { "-".to_owned() } else { may.join(",") },
            stage.previous.as_ref().map_or("-".to_owned(), |v| v.number.to_string()),
            canary.map_or("-".to_owned(), |c| format!("{} % {}", c.percent, digest(&c.filter))),
            chain.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.text()
}

/// Enough of a digest to tell modules apart.
fn digest(filter: &FilterStatus) -> String {
    filter.digest.chars().take(12).collect()
}

fn word(state: StageState) -> &'static str {
    match state {
        StageState::Running => "running",
        StageState::RolledBack => "rolled back",
        StageState::Ejected => "ejected",
    }
}
