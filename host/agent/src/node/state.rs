//! What a node's agent has to know when it is started again: a file beside its socket.
//!
//! Owns the file, which is replaced as a whole: nobody ever reads half of one. What the kernel
//! knows better, as the numbers of ports and connections, is not in there.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use millrace_cni::{Attached, AttachmentId};
use serde::{Deserialize, Serialize};

use crate::replace::replace;

/// What is remembered, and where.
#[derive(Debug)]
pub(crate) struct NodeState {
    path: PathBuf,
    kept: Kept,
}

/// What is remembered. Another version may have remembered more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// The pods that are attached.
    pub(crate) attachments: BTreeMap<AttachmentId, Attached>,
    /// The file that has container runtimes call the plugin, if one was written.
    #[serde(default)]
    pub(crate) conflist: Option<PathBuf>,
    /// The folder that plugins were put into, if there is one.
    #[serde(default)]
    pub(crate) plugins: Option<PathBuf>,
    /// The folder with what the API server said, if there is one.
    #[serde(default)]
    pub(crate) objects: Option<PathBuf>,
    /// Settings of the kernel's that were changed, and what they were before.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The routes that were made.
    pub(crate) routes: BTreeMap<IpNetwork, IpAddr>,
}

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("what the node remembers, {}: {source}", .path.display())]
pub(crate) struct StateError {
    path: PathBuf,
    source: io::Error,
}

impl NodeState {
    /// Reads the file beside a socket, if it is there.
    ///
    /// # Errors
    /// If it cannot be read, or is none of this program's.
    pub(crate) fn beside(socket: &Path) -> Result<Self, StateError> {
        let path = socket.with_file_name(FILE);
        let kept = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error),
        };
        match kept {
            Ok(kept) => Ok(Self { path, kept }),
            Err(source) => Err(StateError { path, source }),
        }
    }

    /// What is remembered.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Remembers something else.
    ///
    /// # Errors
    /// If it cannot be written; it is as before then.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Kept)) -> Result<(), StateError> {
        let mut next = self.kept.clone();
        change(&mut next);
        if next != self.kept {
            write(&self.path, &next)
                .map_err(|source| StateError { path: self.path.clone(), source })?;
            self.kept = next;
        }
        Ok(())
    }

    /// Removes the file; says which it was, if it was there.
    ///
    /// # Errors
    /// If it stays.
    pub(crate) fn remove(self) -> Result<Option<PathBuf>, StateError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(Some(self.path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError { path: self.path, source }),
        }
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    replace(path, &serde_json::to_vec_pretty(kept)?, 0o600)
}

const FILE: &str = "node.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_there_for_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/m.sock");
        let mut state = NodeState::beside(&socket).unwrap();
        assert_eq!(state.kept(), &Kept::default());
        let via = "192.0.2.1".parse().unwrap();
        state
            .change(|kept| {
                kept.sysctls.insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
                kept.routes.insert("10.2.0.0/24".parse().unwrap(), via);
            })
            .unwrap();
        let next = NodeState::beside(&socket).unwrap();
        assert_eq!(next.kept(), state.kept());
        assert_eq!(next.kept().routes.values().collect::<Vec<_>>(), [&via]);
        let names = fs::read_dir(socket.parent().unwrap()).unwrap();
        let names: Vec<_> = names.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing is left of the writing");

        assert_eq!(next.remove().unwrap(), Some(socket.with_file_name(FILE)));
        assert_eq!(state.remove().unwrap(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        fs::write(socket.with_file_name(FILE), "{\"attachments\":").unwrap();
        let error = NodeState::beside(&socket).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("EOF"), "{error}");
        assert!(socket.with_file_name(FILE).exists());
    }
}
