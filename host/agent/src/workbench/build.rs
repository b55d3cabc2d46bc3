//! `millrace filter build`: a project's module, checked as a host will check it.
//!
//! What cargo has built is kept for all projects together, in the user's cache: where the standard
//! library has to be compiled along, it is compiled once.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use millrace_guest_build::{Build, DebugInfo, Toolchain};

use super::inspect;
use super::subject::Subject;
use crate::output::{count, print};
use crate::replace::{TEXT, replace};

/// Compile a filter, and check the module.
///
/// It uses the Rust that is there: one with the target wasm32-unknown-unknown, or Debian's
/// packages rustc-web, cargo-web and rust-web-src.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter build
  millrace filter build --path ../quiet-ports --out quiet-ports.wasm --debug-info")]
pub(crate) struct BuildArgs {
    /// The project's folder.
    #[arg(long = "path", value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Where to put the module; DIR/NAME.wasm unless said, with the filter's own name.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep files and lines in the module, so that a fault says where it happened. It gets several
    /// times as large; the names of functions stay in any case.
    #[arg(long)]
    debug_info: bool,
}

/// Builds, and says what was built.
pub(super) fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let BuildArgs { project, out, debug_info } = args;
    if !project.join("Cargo.toml").is_file() {
        bail!(
            "{} is no filter's project: it has no Cargo.toml; go into one, or make one with \
             `millrace filter new NAME`",
            project.display()
        );
    }
    eprintln!("using {}", Toolchain::find()?.describe());
    let build = Build {
        crate_folder: project.clone(),
        target_folder: cache().unwrap_or_else(|| project.join("target")).join("filters"),
        debug_info: if *debug_info { DebugInfo::Lines } else { DebugInfo::Names },
        verbose: true,
    };
    let built = build.run()?;

    let subject = Subject::at(&built)?;
    let manifest = subject.module.manifest();
    let out = out.clone().unwrap_or_else(|| project.join(format!("{}.wasm", manifest.name)));
    // a host may read it at any moment
    replace(&out, &subject.bytes, TEXT).with_context(|| out.display().to_string())?;
    print(&format!(
        "{}: {} bytes, sha256 {}\n{}: {}",
        out.display(),
        count(subject.module.size() as u64),
        subject.module.digest(),
        subject.label(),
        inspect::in_short(manifest)
    ))
}

/// This program's folder for what can be made again (XDG Base Directory Specification).
fn cache() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(user.join("millrace"))
}
