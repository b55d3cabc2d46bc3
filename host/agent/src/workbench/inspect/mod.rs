//! `millrace filter inspect`: what a module is and wants, read from the module itself.
//!
//! - `outline`: its imports, exports and memory
//! - `schema`: its configuration, key by key

mod outline;
mod schema;

use std::fmt::Write;

use clap::Args;
use millrace_abi::limits;
use millrace_sandbox::{Hook, Manifest, Origin};
use serde::Serialize;

use self::outline::Outline;
use super::subject::Subject;
use crate::config::ModuleSource;
use crate::output::{Heading, Output, Table, count, print};

/// Show what a module is: its manifest, limits, imports, exports and configuration.
///
/// The module is checked and compiled as a host would, and nothing of it runs. A warning says when
/// its hooks keep flows out of the fast path.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter inspect ./quiet-ports.wasm
  millrace filter inspect bridge -o json | jq .manifest.capabilities")]
pub(crate) struct InspectArgs {
    /// The name of a built-in filter, or the path of a module (which has a `/` in it or ends in
    /// `.wasm`).
    module: ModuleSource,
    /// Print it for people, or as JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// All there is to say about a module.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'m> {
    manifest: &'m Manifest,
    module: &'m str,
    bytes: usize,
    sha256: String,
    /// Milliseconds that compiling took.
    compiled_ms: u128,
    #[serde(flatten)]
    outline: Outline,
    warnings: Vec<String>,
}

/// Reads, checks and prints.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let subject = Subject::read(&args.module)?;
    let (Origin::Compiled(time) | Origin::Cached(time)) = subject.module.origin();
    let report = Report {
        manifest: subject.module.manifest(),
        module: &subject.title,
        bytes: subject.module.size(),
        sha256: subject.module.digest().to_string(),
        compiled_ms: time.as_millis(),
        outline: Outline::read(&subject.bytes)?,
        warnings: warnings(subject.module.manifest()),
    };
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&report)?),
        Output::Table => print(&text(&report, &subject.label())),
    }
}

/// Hooks and capabilities, in one line.
pub(super) fn in_short(manifest: &Manifest) -> String {
    let wants: Vec<_> = manifest.capabilities().iter().map(|wanted| wanted.label()).collect();
    let wants = if wants.is_empty() { "nothing".to_owned() } else { wants.join(", ") };
    format!("hooks {}; wants {wants}", hooks(manifest))
}

fn hooks(manifest: &Manifest) -> String {
    manifest.hooks.iter().map(|hook| hook.label()).collect::<Vec<_>>().join(", ")
}

/// What an operator should know before loading it.
fn warnings(manifest: &Manifest) -> Vec<String> {
    // only a decision about a flow can ask for its packets
    let inspects = manifest.has(Hook::Flow) && manifest.has(Hook::Packet);
    let slow = "it may look into the packets of flows (hooks flow and packet): a flow whose packets \
                it asks for is kept out of the fast path for as long as it wants to see them";
    inspects.then(|| slow.to_owned()).into_iter().collect()
}

fn text(report: &Report<'_>, label: &str) -> String {
    let (manifest, outline) = (report.manifest, &report.outline);
    let classes: Vec<_> = manifest.classes().iter().map(|class| class.label()).collect();
    let mut facts = vec![
        ("module", report.module.to_owned()),
        (
            "size",
            format!("{} bytes, compiled in {} ms", count(report.bytes as u64), report.compiled_ms),
        ),
        ("sha256", report.sha256.clone()),
        ("abi", manifest.abi.to_string()),
        ("hooks", hooks(manifest)),
    ];
    if !classes.is_empty() {
        facts.push(("sees all", classes.join(", ")));
    }
    let tables: Vec<_> = manifest.tables().iter().map(|table| table.label()).collect();
    if !tables.is_empty() {
        facts.push(("is told", tables.join(", ")));
    }
    if manifest.has(Hook::Packet) {
        facts.push(("sees", format!("{} bytes of a packet", count(manifest.snap.into()))));
    }
    let wants: Vec<_> = manifest.capabilities().iter().map(|wanted| wanted.label()).collect();
    facts.push(("wants", if wants.is_empty() { "nothing".to_owned() } else { wants.join(", ") }));
    facts.push((
        "memory",
        format!(
            "starts with {} bytes; gets {} at most unless said otherwise",
            count(outline.memory),
            count(limits::DEFAULT_MEMORY as u64)
        ),
    ));
    facts.push(("imports", list(&outline.imports)));
    facts.push(("exports", list(&outline.exports)));

    let mut text = match &*manifest.description {
        "" => format!("{label}\n"),
        description => format!("{label}: {description}\n"),
    };
    for (name, fact) in facts {
        writeln!(text, "  {name:<9} {fact}").expect(TAKES_EVERYTHING);
    }
    for (heading, table) in [
        ("configuration", manifest.config.as_ref().and_then(schema::table)),
        ("rules", rules(manifest)),
        ("host maps", maps(manifest)),
    ] {
        if let Some(table) = table {
            write!(text, "\n{heading}:\n{}\n", indented(&table)).expect(TAKES_EVERYTHING);
        }
    }
    for warning in &report.warnings {
        write!(text, "\nwarning: {warning}\n").expect(TAKES_EVERYTHING);
    }
    text
}

fn rules(manifest: &Manifest) -> Option<String> {
    let mut table =
        Table::new([Heading::number("number"), Heading::text("name"), Heading::text("meaning")]);
    for rule in &manifest.rules {
        table.row([rule.id.to_string(), rule.name.clone(), rule.help.clone()]);
    }
    (!manifest.rules.is_empty()).then(|| table.text())
}

fn maps(manifest: &Manifest) -> Option<String> {
    let mut table =
        Table::new([Heading::text("name"), Heading::text("key"), Heading::text("value")]);
    for map in &manifest.maps {
        let fields = |fields: &[millrace_sandbox::MapField]| {
            let field =
                |field: &millrace_sandbox::MapField| format!("{}: {}", field.name, field.kind);
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        };
        table.row([map.name.clone(), fields(&map.key), fields(&map.value)]);
    }
    (!manifest.maps.is_empty()).then(|| table.text())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

const TAKES_EVERYTHING: &str = "a String takes everything";
