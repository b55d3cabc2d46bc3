//! Runs `cargo` for a filter crate.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::toolchain::{DEBIAN_CARGO, DEBIAN_RUSTC};
use crate::{TARGET, Toolchain, ToolchainError};

/// A filter crate to be compiled.
#[derive(Clone, Debug)]
pub struct Build {
    /// The folder with the crate's `Cargo.toml`.
    pub crate_folder: PathBuf,
    /// Where `cargo` keeps what it compiles; shared between crates, it saves time.
    pub target_folder: PathBuf,
    /// What of the debug information stays.
    pub debug_info: DebugInfo,
    /// Whether `cargo` shows its progress.
    pub verbose: bool,
}

/// What of the debug information stays in a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugInfo {
    /// The names of functions.
    Names,
    /// Files and lines too: faults say where they happened.
    Lines,
}

/// Why a filter is not compiled.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no toolchain.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// A program cannot be run.
    #[error("`{program}` cannot be run: {cause}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        cause: io::Error,
    },
    /// The compiler does not take the source.
    #[error("{what} does not compile{output}")]
    Compile {
        /// The crate or source file.
        what: String,
        /// What the compiler said, unless it said so directly.
        output: String,
    },
    /// The crate's manifest does not make a module.
    #[error(
        "{0} makes no WebAssembly module; its Cargo.toml needs `[lib]` with \
         `crate-type = [\"cdylib\", \"rlib\"]`"
    )]
    NoModule(String),
}

impl Build {
    /// Compiles the crate, and returns where the module is.
    ///
    /// # Errors
    /// If there is no toolchain, or the crate does not compile to a module.
    pub fn run(&self) -> Result<PathBuf, BuildError> {
        let toolchain = Toolchain::find()?;
        let mut cargo = self.command(&toolchain);
        let program = cargo.get_program().to_string_lossy().into_owned();
        let output = cargo.output().map_err(|cause| BuildError::Run { program, cause })?;
        let what = self.crate_folder.display().to_string();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let output = if said.is_empty() { String::new() } else { format!(":\n{said}") };
            return Err(BuildError::Compile { what, output });
        }
        module_of(&output.stdout, &self.crate_folder).ok_or(BuildError::NoModule(what))
    }

    fn command(&self, toolchain: &Toolchain) -> Command {
        let mut flags = FLAGS.map(str::to_owned).to_vec();
        let mut cargo;
        match toolchain {
            Toolchain::Installed { cargo: program, rustc } => {
                cargo = Command::new(program);
                forget_surroundings(&mut cargo);
                cargo.env("RUSTC", rustc).arg("build");
            }
            Toolchain::DebianSource { linker } => {
                cargo = Command::new(DEBIAN_CARGO);
                forget_surroundings(&mut cargo);
                flags.push(format!("-Clinker={}", linker.display()));
                // building the standard library is not stable, and works
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo.args(["build", "-Zbuild-std=std,panic_abort"]);
            }
        }
        let debug = match self.debug_info {
            DebugInfo::Names => ["profile.release.debug=0", "profile.release.strip='debuginfo'"],
            DebugInfo::Lines => {
                ["profile.release.debug='line-tables-only'", "profile.release.strip='none'"]
            }
        };
        cargo
            .args([
                "--release",
                "--lib",
                "--target",
                TARGET,
                "--message-format=json-render-diagnostics",
            ])
            .arg("--target-dir")
            .arg(&self.target_folder);
        for setting in PROFILE.iter().chain(&debug) {
            cargo.args(["--config", setting]);
        }
        if !self.verbose {
            cargo.arg("--quiet");
        }
        cargo
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .current_dir(&self.crate_folder)
            .stdin(Stdio::null())
            .stderr(if self.verbose { Stdio::inherit() } else { Stdio::piped() });
        cargo
    }
}

/// What an outer `cargo` or `rustup` put into the environment is not for this one.
fn forget_surroundings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let foreign = name.starts_with("CARGO")
            && !matches!(&*name, "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_BUILD_JOBS")
            || matches!(
                &*name,
                "RUSTFLAGS"
                    | "RUSTC"
                    | "RUSTC_WRAPPER"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "RUSTDOC"
                    | "TARGET"
                    | "HOST"
                    | "OUT_DIR"
                    | "PROFILE"
                    | "OPT_LEVEL"
                    | "DEBUG"
            );
        if foreign {
            command.env_remove(&*name);
        }
    }
}

/// The `.wasm` file that cargo reports for the crate.
fn module_of(messages: &[u8], crate_folder: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    }
    let manifest = crate_folder.canonicalize().ok()?.join("Cargo.toml");
    // messages of other kinds have other fields
    let artifacts = messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    artifacts
        .filter(|artifact| artifact.manifest_path == manifest)
        .flat_map(|artifact| artifact.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// What the host has beyond the first version of WebAssembly. A call costs more there than natively,
/// for the host looks at deadline and stack: the hook of a slot shall be part of the loop over slots.
const FLAGS: [&str; 2] =
    ["-Ctarget-feature=+simd128,+bulk-memory", "-Cllvm-args=-inline-threshold=1000"];

/// Small, fast, and a panic is a trap.
const PROFILE: [&str; 4] = [
    "profile.release.opt-level=3",
    "profile.release.lto='fat'",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
];
