//! What every crate has: a place in the workspace, the workspace's lints, and documentation.

use std::path::Path;

use toml::Table;

use crate::{Complaint, Package, TextFile};

/// Crates on disk that the workspace does not list, neither among its members nor as excluded.
pub fn outside_the_workspace(packages: &[Package], files: &[TextFile]) -> Vec<Complaint> {
    let workspace = manifest(files, Path::new("Cargo.toml"));
    let excluded: Vec<_> = workspace["workspace"]
        .get("exclude")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect();
    files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
        .filter(|file| parse(file).contains_key("package"))
        .filter(|file| !packages.iter().any(|package| package.manifest == file.path))
        .filter(|file| !excluded.iter().any(|folder| file.path.starts_with(folder)))
        .map(|file| Complaint::about(&file.path, "add the crate to `members` of the workspace"))
        .collect()
}

/// Crates that do not take the workspace's lints.
pub fn without_lints(packages: &[Package], files: &[TextFile]) -> Vec<Complaint> {
    let inherits = |package: &&Package| {
        let lints = manifest(files, &package.manifest).remove("lints");
        lints.is_some_and(|lints| lints.get("workspace") == Some(&toml::Value::Boolean(true)))
    };
    packages
        .iter()
        .filter(|package| !inherits(package))
        .map(|package| Complaint::about(&package.manifest, "add `[lints]` with `workspace = true`"))
        .collect()
}

/// Libraries, binaries, tests and so on whose root does not open with documentation.
pub fn without_documentation(packages: &[Package], files: &[TextFile]) -> Vec<Complaint> {
    packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| !text(files, &target.root).starts_with("//!"))
        .map(|target| Complaint::about(&target.root, "open with `//!`: what it is, in a sentence"))
        .collect()
}

fn manifest(files: &[TextFile], path: &Path) -> Table {
    files.iter().find(|file| file.path == path).map(parse).unwrap_or_default()
}

fn parse(file: &TextFile) -> Table {
    let path = file.path.display();
    file.text.parse().unwrap_or_else(|error| panic!("{path} is no manifest: {error}"))
}

fn text<'a>(files: &'a [TextFile], path: &Path) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| &file.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.into(), text: text.into() }
    }

    fn package(root: &str) -> Package {
        Package {
            name: "millrace-new".into(),
            manifest: "new/Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: vec![Target { root: root.into() }],
        }
    }

    #[test]
    fn a_crate_is_a_member_or_excluded() {
        let new = file("new/Cargo.toml", "[package]\nname = \"millrace-new\"");
        let workspace = |text| [file("Cargo.toml", text), new.clone()];
        let plain = workspace("[workspace]");
        assert_eq!(outside_the_workspace(&[], &plain).len(), 1);
        assert_eq!(outside_the_workspace(&[package("new/src/lib.rs")], &plain), []);
        assert_eq!(outside_the_workspace(&[], &workspace("workspace.exclude = ['new']")), []);
    }

    #[test]
    fn lints_come_from_the_workspace_in_either_spelling() {
        let complaints = |text| without_lints(&[package("")], &[file("new/Cargo.toml", text)]);
        assert_eq!(complaints("[lints]\nworkspace = true"), []);
        assert_eq!(complaints("lints.workspace = true"), []);
        assert_eq!(complaints("[lints]\nrust.missing_docs = 'warn'").len(), 1);
        assert_eq!(complaints("").len(), 1);
    }

    #[test]
    fn a_root_opens_with_its_documentation() {
        let complaints = |text| {
            without_documentation(&[package("new/src/lib.rs")], &[file("new/src/lib.rs", text)])
        };
        assert_eq!(complaints("//! The new.\n"), []);
        assert_eq!(complaints("#![no_std]\n//! The new.\n").len(), 1);
    }
}
