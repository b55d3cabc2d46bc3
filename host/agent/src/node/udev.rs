//! Tells those who manage links that they are to leave this node's alone: NetworkManager would take
//! pods' links down or give them addresses, systemd-networkd remove routes.
//!
//! Owns one file of rules for udev, whose properties both heed. It is written where udev runs, and
//! before the first link is made.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context;

use crate::node::link::{HOST_LINK, POD_PORTS};
use crate::replace::{TEXT, replace};

/// Writes the rules, if there is anybody to read them.
pub(crate) fn declare() -> anyhow::Result<()> {
    let Some(path) = rules() else { return Ok(()) };
    write(&path).with_context(|| format!("rules for udev, {}", path.display()))
}

/// The file of rules, if there is anybody to read it.
pub(crate) fn rules() -> Option<PathBuf> {
    let udev = Path::new(UDEV);
    is_watched(udev).then(|| udev.join("rules.d/70-millrace.rules"))
}

/// Whether udev runs, and sees this namespace's links: those of the machine, or of the container that
/// is one, whose first process has the same.
fn is_watched(udev: &Path) -> bool {
    let namespace = |process| fs::metadata(format!("/proc/{process}/ns/net")).map(|it| it.ino());
    let is_first = namespace("1").and_then(|first| Ok(first == namespace("self")?));
    udev.join("control").exists() && is_first.unwrap_or(false)
}

fn write(path: &Path) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text()) {
        return Ok(());
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    replace(path, text().as_bytes(), TEXT)
}

fn text() -> String {
    format!(
        "# written by millrace node: these links are the dataplane's\n\
         SUBSYSTEM==\"net\", KERNEL==\"{POD_PORTS}[0-9a-f]*|{HOST_LINK}|{HOST_LINK}-*\", \
         ENV{{NM_UNMANAGED}}=\"1\", ENV{{ID_NET_MANAGED_BY}}=\"millrace.dev\"\n"
    )
}

/// Where udev has what lasts until the machine is started again.
const UDEV: &str = "/run/udev";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_the_links_and_whom_they_are_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.d/70-millrace.rules");
        for _ in 0..2 {
            write(&path).unwrap();
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
        let rules = fs::read_to_string(&path).unwrap();
        let [_, rule] = rules.lines().collect::<Vec<_>>()[..] else { panic!("{rules}") };
        for part in
            ["\"mp[0-9a-f]*|millrace|millrace-*\"", "NM_UNMANAGED}=\"1\"", "ID_NET_MANAGED_BY"]
        {
            assert!(rule.contains(part), "{rule}");
        }
        assert!(!is_watched(folder.path()), "no udev runs there");
    }
}
