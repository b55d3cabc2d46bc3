//! The crates and the text files of this repository.
//!
//! Crates are what `cargo metadata` says, files what git keeps or would keep: built files and
//! whatever else is ignored is not looked at. All paths are relative to the repository's root.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// This repository, as it is on disk.
#[derive(Debug)]
pub struct Repository {
    /// The members of the workspace.
    pub packages: Vec<Package>,
    /// The files that are text.
    pub files: Vec<TextFile>,
}

/// A member of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// As in `[dependencies]`.
    pub name: String,
    /// Its `Cargo.toml`.
    #[serde(rename = "manifest_path")]
    pub manifest: PathBuf,
    /// What it depends on, on any platform, with any feature.
    pub dependencies: Vec<Dependency>,
    /// What it is compiled to.
    pub targets: Vec<Target>,
}

/// An entry of `[dependencies]`, or of its siblings.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// The crate.
    pub name: String,
    /// What it is needed for.
    #[serde(rename = "kind", deserialize_with = "purpose")]
    pub purpose: Purpose,
    /// Its folder, for a crate of this repository.
    pub path: Option<PathBuf>,
}

/// What a dependency is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The crate itself.
    Normal,
    /// Its build script.
    Build,
    /// Its tests, examples and benches.
    Dev,
}

/// A library, binary, test or the like.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// The file with its root module.
    #[serde(rename = "src_path")]
    pub root: PathBuf,
}

/// A file in UTF-8.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Repository {
    /// Reads this repository.
    ///
    /// # Panics
    /// If it is no git checkout, or `git` or `cargo` cannot be run.
    pub fn open() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("this crate is two folders deep");
        Self { packages: packages(root), files: files(root) }
    }
}

impl Package {
    /// The folder with its `Cargo.toml`.
    pub fn folder(&self) -> &Path {
        self.manifest.parent().expect("a manifest is in a folder")
    }
}

impl TextFile {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether the file has only tests, benches or examples, as its place says.
    pub(crate) fn is_test_code(&self, packages: &[Package]) -> bool {
        let lies_in = |folder: &str| self.path.iter().any(|part| part == folder);
        let is_example = |package: &Package| {
            self.path.strip_prefix(package.folder()).is_ok_and(|path| path.starts_with("examples"))
        };
        self.path.ends_with("tests.rs")
            || lies_in("tests")
            || lies_in("benches")
            || packages.iter().any(is_example)
    }

    /// The lines, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn packages(root: &Path) -> Vec<Package> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version=1"];
    let json = output(Command::new(cargo).args(arguments).current_dir(root));
    let mut metadata: Metadata = serde_json::from_slice(&json).expect("cargo writes its format");
    for package in &mut metadata.packages {
        relate(&mut package.manifest, root);
        package.targets.iter_mut().for_each(|target| relate(&mut target.root, root));
    }
    metadata.packages
}

fn files(root: &Path) -> Vec<TextFile> {
    // the checkout may be of another user than the one who runs the tests
    let arguments = ["-c", "safe.directory=*", "ls-files", "-z"];
    let kinds = ["--cached", "--others", "--exclude-standard"];
    let names = output(Command::new("git").args(arguments).args(kinds).current_dir(root));
    let names = String::from_utf8(names).expect("no file here has a name of odd bytes");
    let mut paths: Vec<_> = names.split_terminator('\0').map(PathBuf::from).collect();
    // a file in conflict is listed once per side
    paths.sort();
    paths.dedup();
    let read = |path: PathBuf| {
        // what is deleted and not yet committed cannot be read, what is binary is no text
        let text = fs::read_to_string(root.join(&path)).ok()?;
        Some(TextFile { path, text })
    };
    paths.into_iter().filter_map(read).collect()
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed; the rules need a git checkout:\n{said}");
    output.stdout
}

fn relate(path: &mut PathBuf, root: &Path) {
    if let Ok(relative) = path.strip_prefix(root) {
        *path = relative.to_owned();
    }
}

/// `cargo metadata` has no word for a normal dependency.
fn purpose<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Purpose, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or(Purpose::Normal))
}
