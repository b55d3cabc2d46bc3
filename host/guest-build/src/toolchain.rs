//! Which toolchain compiles filters.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::TARGET;

/// A toolchain that can compile filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// A `cargo` whose `rustc` has the target's standard library.
    Installed {
        /// The `cargo`.
        cargo: PathBuf,
        /// The `rustc`.
        rustc: PathBuf,
    },
    /// Debian's `cargo-web`, `rustc-web` and `rust-web-src`, which build the standard library
    /// along, with a linker of LLVM's.
    DebianSource {
        /// `wasm-ld`, or `rust-lld` of another toolchain.
        linker: PathBuf,
    },
}

/// There is no toolchain.
#[derive(Debug, thiserror::Error)]
#[error(
    "no Rust toolchain here compiles for {TARGET}: run `rustup target add {TARGET}` or, on Debian, \
     `apt-get install rustc-web cargo-web rust-web-src lld`{forced}"
)]
pub struct ToolchainError {
    /// What the environment asked for, if it did.
    forced: String,
}

impl Toolchain {
    /// Finds a toolchain: an installed target first, Debian's sources else.
    /// `MILLRACE_GUEST_TOOLCHAIN`, `installed` or `debian`, restricts the choice.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, ToolchainError> {
        let forced = env::var("MILLRACE_GUEST_TOOLCHAIN").unwrap_or_default();
        let installed = || matches!(&*forced, "" | "installed").then(Self::installed).flatten();
        let debian = || matches!(&*forced, "" | "debian").then(Self::debian).flatten();
        installed().or_else(debian).ok_or_else(|| ToolchainError {
            forced: match &*forced {
                "" => String::new(),
                forced => format!(" (MILLRACE_GUEST_TOOLCHAIN is `{forced}`)"),
            },
        })
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Installed { rustc, .. } => format!("{} with {TARGET}", rustc.display()),
            Self::DebianSource { .. } => format!("{DEBIAN_RUSTC} with its own standard library"),
        }
    }

    fn installed() -> Option<Self> {
        let tool = |variable, name| env::var_os(variable).unwrap_or_else(|| OsString::from(name));
        let (cargo, rustc) = (tool("CARGO", "cargo"), tool("RUSTC", "rustc"));
        let mut query = Command::new(&rustc);
        let output = query.args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
        let libraries = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        let complete = output.status.success() && contains_library(&libraries, "libstd-");
        complete.then(|| Self::Installed { cargo: cargo.into(), rustc: rustc.into() })
    }

    fn debian() -> Option<Self> {
        let complete =
            [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_SOURCE].iter().all(|p| Path::new(p).exists());
        complete.then(find_linker).flatten().map(|linker| Self::DebianSource { linker })
    }
}

fn contains_library(folder: &Path, prefix: &str) -> bool {
    let named = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(named))
}

/// `wasm-ld` on the path, under whatever version Debian gives it, or a Rust toolchain's own.
fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let on_path = env::split_paths(&path).flat_map(|folder| {
        let versions = (13..30).rev().map(|version| format!("wasm-ld-{version}"));
        std::iter::once("wasm-ld".to_owned()).chain(versions).map(move |name| folder.join(name))
    });
    let mut candidates = on_path.chain(rust_lld());
    candidates.find(|candidate| candidate.is_file())
}

fn rust_lld() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "target-libdir"]).output().ok()?;
    let libraries = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    Some(libraries.parent()?.join("bin/rust-lld"))
}

pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub(crate) const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";
