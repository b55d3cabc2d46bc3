//! Where and when a run took place: all that could make its numbers differ from another's.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The machine, the software and the moment. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// When it began (UTC).
    pub date: String,
    /// The commit that was checked out, `+` if files differ from it.
    pub commit: String,
    /// The kernel.
    pub kernel: String,
    /// The processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// What governs the frequency of the cores.
    pub governor: String,
    /// Whether this is a virtual machine.
    pub virtual_machine: bool,
    /// How busy the machine was before, over one minute.
    pub load: String,
    /// Versions of what it was built with.
    pub versions: Vec<(String, String)>,
}

impl Environment {
    /// Looks around.
    pub fn look() -> Self {
        let uname = rustix::system::uname();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor =
            cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let governor = line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit(),
            kernel: uname.release().to_string_lossy().into_owned(),
            processor: processor.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            governor,
            virtual_machine: cpu.contains(" hypervisor"),
            load: line_of("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions: versions(),
        }
    }

    /// Whether somebody else used the machine when it began.
    pub fn was_busy(&self) -> bool {
        self.load.parse().is_ok_and(|load: f64| load > 0.5)
    }

    /// What it says, as rows of a table.
    pub fn rows(&self) -> Vec<(String, String)> {
        let known = |value: &str| if value.is_empty() { "unknown" } else { value }.to_owned();
        let machine = if self.virtual_machine { ", virtual" } else { "" };
        let mut rows = vec![
            ("date".to_owned(), known(&self.date)),
            ("commit".to_owned(), known(&self.commit)),
            ("kernel".to_owned(), known(&self.kernel)),
            (
                "processor".to_owned(),
                format!("{} × {}{machine}", self.cores, known(&self.processor)),
            ),
            ("governor".to_owned(), known(&self.governor)),
            ("load before".to_owned(), known(&self.load)),
        ];
        rows.extend(self.versions.iter().cloned());
        rows
    }
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let output = git.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    commit + if changed.is_some_and(|files| !files.is_empty()) { "+" } else { "" }
}

/// The compiler, and the crates that the numbers depend on most.
fn versions() -> Vec<(String, String)> {
    let lock = include_str!("../../Cargo.lock");
    let mut versions = vec![("rustc".to_owned(), env!("MILLRACE_RUSTC").to_owned())];
    for wanted in ["wasmtime", "aya", "xsk-rs"] {
        let entry = format!("name = \"{wanted}\"\nversion = \"");
        let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
        if let Some((version, _)) = version {
            versions.push((wanted.to_owned(), version.to_owned()));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_others_use_is_known_by_its_load() {
        for (load, busy) in [("0.12", false), ("3.40", true), ("", false)] {
            let environment = Environment { load: load.to_owned(), ..Environment::default() };
            assert_eq!(environment.was_busy(), busy, "{load}");
        }
    }

    #[test]
    fn what_the_numbers_depend_on_is_known() {
        let environment = Environment::look();
        let names: Vec<_> = environment.versions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["rustc", "wasmtime", "aya", "xsk-rs"]);
        assert!(environment.versions.iter().all(|(_, version)| !version.is_empty()));
        assert!(!environment.kernel.is_empty() && !environment.processor.is_empty());
        assert!(environment.cores > 0 && environment.date.ends_with('Z'));
    }
}
