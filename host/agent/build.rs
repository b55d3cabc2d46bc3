//! Embeds what `millrace filter new` writes: a template, and the SDK's sources as a workspace of
//! their own, so that a filter builds without this repository.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

fn main() {
    let agent = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let repository = agent.ancestors().nth(2).expect("this crate is two folders deep");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let (template, sdk) = (agent.join("template"), repository.join("guest-sdk"));
    let [workspace, lock, format, licence] =
        ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "LICENSE"].map(|name| repository.join(name));
    // as seen from here: clones may share what is built
    println!("cargo::rerun-if-changed=template");
    for name in ["guest-sdk", "Cargo.toml", "Cargo.lock", "rustfmt.toml", "LICENSE"] {
        println!("cargo::rerun-if-changed=../../{name}");
    }

    let manifest = out.join("sdk.toml");
    fs::write(&manifest, sdk_workspace(&workspace, &sdk)).expect("cargo's folder can be written");
    let mut sdk_files = files(&sdk);
    sdk_files.push(("Cargo.toml".to_owned(), manifest));
    sdk_files.push(("LICENSE".to_owned(), licence));
    sdk_files.push(("rustfmt.toml".to_owned(), format));
    let mut template_files = files(&template);
    // versions that this repository is tested with; cargo forgets those that are not used
    template_files.push(("Cargo.lock".to_owned(), lock));
    let mut source = String::new();
    embed(&mut source, "TEMPLATE", &template_files);
    embed(&mut source, "SDK", &sdk_files);
    fs::write(out.join("project.rs"), source).expect("cargo's folder can be written");
}

/// Adds the constant `name`: the files, each with its path in the project.
fn embed(source: &mut String, name: &str, files: &[(String, PathBuf)]) {
    writeln!(source, "pub(super) const {name}: &[(&str, &str)] = &[").expect(TAKES_EVERYTHING);
    for (path, file) in files {
        writeln!(source, "    ({path:?}, include_str!({file:?})),").expect(TAKES_EVERYTHING);
    }
    writeln!(source, "];").expect(TAKES_EVERYTHING);
}

/// Every file below `folder`, by its path from there; what only this repository's tests need is
/// left out.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("the folder can be read") {
            let path = entry.expect("its entries can be read").path();
            let name = path.file_name().expect("an entry has a name");
            if path.is_dir() {
                if name != "tests" && name != "examples" {
                    folders.push(path);
                }
            } else {
                let inside = path.strip_prefix(folder).expect("it lies below");
                found.push((inside.to_str().expect("names are plain").to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// This repository's workspace, as far as the SDK's crates inherit from it.
fn sdk_workspace(manifest: &Path, sdk: &Path) -> String {
    let members: Vec<String> = fs::read_dir(sdk)
        .expect("the SDK is a folder")
        .map(|entry| entry.expect("its entries can be read"))
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_str().expect("names are plain").to_owned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let inherited: BTreeSet<String> =
        members.iter().flat_map(|member| dependencies(&read(&sdk.join(member)))).collect();

    let mut workspace = table(&mut read(manifest.parent().expect("it is a file")), "workspace");
    let mut kept = table(&mut workspace, "dependencies");
    kept.retain(|name, _| inherited.contains(name));
    for (_, dependency) in &mut kept {
        if let Some(Value::String(path)) = dependency.get_mut("path") {
            *path = path.trim_start_matches("guest-sdk/").to_owned();
        }
    }
    let members = members.into_iter().map(Value::String).collect();
    workspace.insert("members".to_owned(), Value::Array(members));
    workspace.insert("dependencies".to_owned(), Value::Table(kept));
    Table::from_iter([("workspace".to_owned(), Value::Table(workspace))]).to_string()
}

/// The names of a crate's dependencies of every kind, on every platform.
fn dependencies(manifest: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in manifest {
        let Value::Table(inner) = value else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                names.extend(inner.keys().cloned());
            }
            "target" => {
                let platforms = inner.values().filter_map(Value::as_table);
                names.extend(platforms.flat_map(dependencies));
            }
            _ => {}
        }
    }
    names
}

/// The manifest of the crate or workspace in `folder`.
fn read(folder: &Path) -> Table {
    let text = fs::read_to_string(folder.join("Cargo.toml")).expect("it has a manifest");
    text.parse().expect("cargo has read it too")
}

fn table(parent: &mut Table, key: &str) -> Table {
    match parent.remove(key) {
        Some(Value::Table(table)) => table,
        _ => panic!("the workspace's manifest has no table `{key}`"),
    }
}

const TAKES_EVERYTHING: &str = "a String takes everything";
