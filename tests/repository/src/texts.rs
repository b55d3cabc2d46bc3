//! What no file contains, and how long one gets.

use std::path::Path;

use crate::{Complaint, Package, TextFile};

/// Paths that exist on somebody's machine.
pub fn machine_paths(files: &[TextFile]) -> Vec<Complaint> {
    // the middle of a longer path, or of an address, is no such path
    let starts_path =
        |text: &str| !text.ends_with(|end: char| end.is_alphanumeric() || "._-~})$/".contains(end));
    let mut complaints = Vec::new();
    for (file, number, line) in lines(files) {
        for path in MACHINE_PATHS {
            if line.match_indices(path).any(|(at, _)| starts_path(&line[..at])) {
                let message = format!("`{path}` is a path of one machine; say it relative");
                complaints.push(Complaint::at(&file.path, number, message));
            }
        }
    }
    complaints
}

/// Hosts of package registries: which one is used is the reader's configuration.
pub fn registry_hosts(files: &[TextFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (file, number, line) in lines(files).filter(|(file, ..)| !is_lock(file)) {
        for host in REGISTRY_HOSTS.iter().filter(|host| line.contains(**host)) {
            let message = format!("`{host}` is a package registry; whoever builds chooses theirs");
            complaints.push(Complaint::at(&file.path, number, message));
        }
    }
    complaints
}

/// Reminders without the number of an issue, `(#12)`, that has the rest.
pub fn loose_ends(files: &[TextFile]) -> Vec<Complaint> {
    let has_issue = |text: &str| {
        let number = text.strip_prefix("(#").and_then(|text| text.split_once(')'));
        number.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let mut complaints = Vec::new();
    for (file, number, line) in lines(files) {
        for word in REMINDERS {
            if line.match_indices(word).any(|(at, _)| !has_issue(&line[at + word.len()..])) {
                let message = format!("`{word}` needs an issue, `{word}(#12)`, or to be done now");
                complaints.push(Complaint::at(&file.path, number, message));
            }
        }
    }
    complaints
}

/// Rust files that are too long to be read; tests in a file of their own may be longer.
pub fn long_files(packages: &[Package], files: &[TextFile]) -> Vec<Complaint> {
    let length = |file: &TextFile| file.text.lines().count();
    files
        .iter()
        .filter(|file| file.is_rust() && length(file) > MOST_LINES)
        .filter(|file| !file.is_test_code(packages))
        .map(|file| {
            let message = format!(
                "{} lines, {MOST_LINES} are the most: find the second purpose, or move the tests \
                 to a file of their own",
                length(file)
            );
            Complaint::about(&file.path, message)
        })
        .collect()
}

fn lines(files: &[TextFile]) -> impl Iterator<Item = (&TextFile, usize, &str)> {
    files.iter().flat_map(|file| file.lines().map(move |(number, line)| (file, number, line)))
}

/// Whether cargo or another tool has written down where packages came from.
fn is_lock(file: &TextFile) -> bool {
    ["Cargo.lock", "go.sum"].iter().any(|name| file.path.ends_with(Path::new(name)))
}

const MOST_LINES: usize = 600;

// In two halves, for this file obeys its own rules.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];
const REGISTRY_HOSTS: [&str; 6] = [
    concat!("crates", ".io"),
    concat!("proxy", ".golang.org"),
    concat!("sum", ".golang.org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("pypi", ".org"),
];
const REMINDERS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: String) -> [TextFile; 1] {
        [TextFile { path: path.into(), text }]
    }

    #[test]
    fn a_path_of_a_machine_is_seen_at_its_start_only() {
        for path in MACHINE_PATHS {
            for text in [format!("cd {path}x"), format!("\"{path}x\""), format!("{path}x")] {
                let complaints = machine_paths(&file("a.md", text.clone()));
                assert_eq!(complaints.len(), 1, "{text}");
            }
            for text in [format!("net{path}x"), format!("${{DIR}}{path}x"), format!("..{path}x")] {
                assert_eq!(machine_paths(&file("a.md", text.clone())), [], "{text}");
            }
        }
    }

    #[test]
    fn a_registry_is_seen_anywhere_but_in_a_lock_file() {
        for host in REGISTRY_HOSTS {
            let text = format!("url = \"https://x.{host}/y\"");
            assert_eq!(registry_hosts(&file("a/config.toml", text.clone())).len(), 1, "{host}");
            assert_eq!(registry_hosts(&file("a/Cargo.lock", text)), [], "{host}");
        }
    }

    #[test]
    fn a_reminder_has_the_number_of_an_issue() {
        for word in REMINDERS {
            assert_eq!(loose_ends(&file("a.rs", format!("// {word}(#12): later"))), []);
            for text in [format!("// {word}: later"), format!("// {word}(me)"), word.to_owned()] {
                assert_eq!(loose_ends(&file("a.rs", text.clone())).len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn a_file_is_too_long_unless_it_is_tests() {
        let long = |path, lines| long_files(&[], &file(path, "\n".repeat(lines))).len();
        assert_eq!(long("a/src/b.rs", MOST_LINES), 0);
        assert_eq!(long("a/src/b.rs", MOST_LINES + 1), 1);
        assert_eq!(long("a/src/b/tests.rs", MOST_LINES + 1), 0);
        assert_eq!(long("a.md", MOST_LINES + 1), 0);
    }
}
