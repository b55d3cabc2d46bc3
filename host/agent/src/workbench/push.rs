//! `millrace filter push`: a module in a registry, and what a Filter is to say to have it from there.

use anyhow::Context;
use clap::Args;
use millrace_control::filter::ModuleDigest;
use millrace_control::image::{ImageName, PinnedImage};
use serde::Serialize;

use super::subject::Subject;
use crate::config::ModuleSource;
use crate::output::{Output, count, print};
use crate::registry::RegistryArgs;

/// Push a module to a registry, as an image that Filters can name.
///
/// The module is checked and compiled as a host would. What is printed is the image with its digest, which
/// is what `source.oci.image` of a Filter takes.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter push ./quiet-ports.wasm registry.example/team/quiet-ports:1.2 \\
      --registry-credentials ~/.docker/config.json
  image=$(millrace filter push ./quiet-ports.wasm 127.0.0.1:5000/quiet-ports:1.2)")]
pub(crate) struct PushArgs {
    /// The name of a built-in filter, or the path of a module (which has a `/` in it or ends in
    /// `.wasm`).
    module: ModuleSource,
    /// What it is called in its registry: `registry.example/team/quiet-ports:1.2`.
    name: ImageName,
    #[command(flatten)]
    registries: RegistryArgs,
    /// Print it for people, or as JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// What was pushed.
#[derive(Debug, Serialize)]
struct Pushed {
    image: PinnedImage,
    /// What a Filter's `digest` would be.
    module: ModuleDigest,
    bytes: usize,
}

/// Checks, pushes, and says what is there then.
pub(super) fn run(args: PushArgs) -> anyhow::Result<()> {
    let subject = Subject::read(&args.module)?;
    let title = format!("{}.wasm", subject.module.manifest().name);
    let (module, bytes) = (ModuleDigest::of(&subject.bytes), subject.bytes.len());
    let image = args.registries.registries().push(&args.name, &title, subject.bytes);
    let image = image.with_context(|| args.name.to_string())?;
    let pushed = Pushed { image, module, bytes };
    // a script takes the one line that is printed
    eprintln!("pushed {} bytes, {module}", count(bytes as u64));
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&pushed)?),
        Output::Table => print(&pushed.image.to_string()),
    }
}
