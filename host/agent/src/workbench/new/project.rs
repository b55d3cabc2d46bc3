//! The files of a project: the template, with the filter's name in it, and the SDK. All or
//! nothing: what cannot be finished is taken away again.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::example;

// `TEMPLATE` and `SDK`: texts, each with its path
include!(concat!(env!("OUT_DIR"), "/project.rs"));

/// Writes the project of the filter `name` to `folder`.
///
/// # Errors
/// If the folder is there already, or cannot be written to.
pub(super) fn write(name: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow!(
            "{} is there already; choose another name, or another folder with `--path`",
            folder.display()
        ),
        io::ErrorKind::NotFound => {
            anyhow!("the folder that {} should be in is not there; make it first", folder.display())
        }
        _ => anyhow!("{}: {error}", folder.display()),
    })?;
    fill(name, folder).inspect_err(|_| {
        // the error says more than what becomes of the rest
        let _ = fs::remove_dir_all(folder);
    })
}

fn fill(name: &str, folder: &Path) -> anyhow::Result<()> {
    for (path, text) in TEMPLATE {
        put(folder, path_in_project(path), text.replace(PLACEHOLDER, name).as_bytes())?;
    }
    for (path, text) in SDK {
        put(&folder.join("sdk"), path, text.as_bytes())?;
    }
    put(folder, "captures/example.pcap", &example::capture())
}

/// In this repository, manifests and rules of the template are not to be taken for its own.
fn path_in_project(path: &str) -> &str {
    match path {
        "gitignore" => ".gitignore",
        path => path.trim_end_matches(".in"),
    }
}

fn put(folder: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let file = folder.join(path);
    let parent = file.parent().expect("a file in a folder has a parent");
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, bytes))
        .with_context(|| file.display().to_string())
}

/// Stands for the filter's name.
const PLACEHOLDER: &str = "{{name}}";
