//! `millrace filter new`: a project to start from.
//!
//! - `project`: its files
//! - `example`: the capture among them

mod example;
mod project;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use millrace_abi::limits;

use crate::output::print;

/// Make a project for a new filter.
///
/// The project is a crate with a small filter that works, with its tests and a capture to replay,
/// and the SDK's sources beside it: it needs this program, Rust, and nothing else of millrace.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter new quiet-ports
  cd quiet-ports && cargo test")]
pub(crate) struct NewArgs {
    /// The filter's name: lower-case letters, digits and dashes.
    name: String,
    /// The folder to make, which must not be there yet; NAME unless said.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// Makes the project, and says how to go on.
pub(super) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let NewArgs { name, path } = args;
    check(name)?;
    let folder = path.clone().unwrap_or_else(|| name.into());
    project::write(name, &folder)?;
    print(&format!(
        "{name} is in {folder}. Next:
  cd {folder} && cargo test
  millrace filter build
  millrace filter test ./{name}.wasm --config config.json \\
      --pcap captures/example.pcap --expect captures/example.expected
README.md there goes on from these.",
        folder = folder.display()
    ))
}

/// A filter's name is a crate's too.
fn check(name: &str) -> anyhow::Result<()> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || !name.bytes().all(plain) || name.len() > limits::MAX_NAME {
        bail!(
            "`{name}` is no name for a filter: it has at most {} lower-case letters, digits and \
             dashes, and starts with a letter, as `quiet-ports` does",
            limits::MAX_NAME
        );
    }
    if TAKEN.contains(&name) || name.starts_with("millrace-") {
        bail!("`{name}` is the name of a crate that every filter is built with; choose another");
    }
    Ok(())
}

/// Crates that a filter's own would be mistaken for.
const TAKEN: [&str; 6] = ["alloc", "core", "proc-macro", "proptest", "std", "test"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_serves_a_filter_and_a_crate() {
        for name in ["a", "quiet-ports", "nat64"] {
            check(name).unwrap();
        }
        for name in ["", "-a", "4to6", "Quiet", "quiet_ports", "a b", "a/b", &"x".repeat(65)] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}` is no name")), "{error}");
        }
        for name in ["core", "millrace-wire"] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains("choose another"), "{error}");
        }
    }
}
