//! The file that has container runtimes call the CNI plugin.
//!
//! It is written as a whole, and last: a runtime that finds it may attach containers at once.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::replace::{TEXT, replace};

/// The file.
#[derive(Debug)]
pub(crate) struct Conflist<'a> {
    path: &'a Path,
}

impl<'a> Conflist<'a> {
    /// At this path.
    pub(crate) fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// Writes it, for an agent behind `socket`.
    pub(crate) fn write(&self, socket: &Path) -> anyhow::Result<()> {
        let text = format!("{:#}\n", text(socket));
        replace(self.path, text.as_bytes(), TEXT)
            .with_context(|| format!("the configuration of CNI, {}", self.path.display()))
    }
}

fn text(socket: &Path) -> Value {
    json!({
        "name": "millrace",
        // who does not know the list takes the one
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "plugins": [{
            "type": "millrace-cni",
            "socket": socket,
            "capabilities": { "bandwidth": true, "ips": true, "mac": true, "portMappings": true },
        }],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn c2_the_file_is_there_whole_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("05-millrace.conflist");
        let conflist = Conflist::at(&path);
        for socket in ["/run/a.sock", "/run/b.sock"] {
            conflist.write(Path::new(socket)).unwrap();
            let names = fs::read_dir(folder.path()).unwrap();
            let names: Vec<_> = names.map(|file| file.unwrap().file_name()).collect();
            assert_eq!(names, ["05-millrace.conflist"]);
            let written = fs::read(folder.path().join(&names[0])).unwrap();
            let written: Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(written["plugins"][0]["socket"], socket);
        }
        let nowhere = folder.path().join("none/05-millrace.conflist");
        let error = Conflist::at(&nowhere).write(Path::new("/run/a.sock")).unwrap_err();
        assert!(format!("{error:#}").contains("none/05-millrace.conflist"), "{error:#}");
    }
}
