//! Containers that went while no agent was there: the next agent finds them in a folder.
//!
//! Owns the folder, beside the agent's socket: an empty file for each, whose name is all that there
//! is to say. Whoever writes one has the folder's lock and has seen that no agent listens; an agent
//! listens before it takes the lock to read them. So none is written that no agent reads.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::AttachmentId;

/// The folder.
#[derive(Clone, Debug)]
pub struct Departures {
    folder: PathBuf,
}

/// What became of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The next agent will read it.
    Left,
    /// There is an agent to be told.
    AgentIsThere,
}

/// A departure is not noted, or not read.
#[derive(Debug, thiserror::Error)]
pub enum DeparturesError {
    /// The folder cannot be used.
    #[error("{}: {source}", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are too many.
    #[error("{} has {MOST} departures, the most: start the agent, which reads them", .folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
    },
}

impl Departures {
    /// Those for the agent behind `socket`.
    pub fn beside(socket: &Path) -> Self {
        Self { folder: socket.with_file_name(FOLDER) }
    }

    /// Notes a departure, unless an agent is there.
    ///
    /// # Errors
    /// If it cannot be written, or there are too many.
    pub fn note(
        &self,
        id: &AttachmentId,
        agent_is_there: impl Fn() -> bool,
    ) -> Result<Noted, DeparturesError> {
        let parent = self.folder.parent();
        if parent.is_some_and(|parent| !parent.exists()) {
            // no agent was here since the machine started, and nothing is attached
            return Ok(Noted::Left);
        }
        let noted = self.locked(|| {
            if agent_is_there() {
                return Ok(Some(Noted::AgentIsThere));
            }
            if fs::read_dir(&self.folder)?.count() >= MOST {
                return Ok(None);
            }
            File::create(self.folder.join(id.to_string()))?;
            Ok(Some(Noted::Left))
        })?;
        noted.ok_or_else(|| DeparturesError::Full { folder: self.folder.clone() })
    }

    /// Reads all departures. Each is forgotten if `done` says so.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn read(&self, mut done: impl FnMut(&AttachmentId) -> bool) -> Result<(), DeparturesError> {
        if !self.folder.exists() {
            return Ok(());
        }
        self.locked(|| {
            for file in fs::read_dir(&self.folder)? {
                let file = file?;
                let id = file.file_name().to_str().and_then(|name| name.parse().ok());
                if id.is_none_or(|id| done(&id)) {
                    fs::remove_file(file.path())?;
                }
            }
            Ok(())
        })
    }

    /// Forgets all departures, and removes the folder.
    ///
    /// # Errors
    /// If it stays.
    pub fn forget(&self) -> Result<(), DeparturesError> {
        match fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DeparturesError::Io { folder: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Does something while nobody else does, with the folder there.
    fn locked<T>(&self, work: impl FnOnce() -> io::Result<T>) -> Result<T, DeparturesError> {
        let locked = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let lock = File::open(&self.folder)?;
            lock.lock()?;
            work()
        };
        locked().map_err(|source| DeparturesError::Io { folder: self.folder.clone(), source })
    }
}

const FOLDER: &str = "departures";
/// Ten times the pods of a large node.
const MOST: usize = 2560;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(container: &str) -> AttachmentId {
        AttachmentId { container: container.into(), interface: "eth0".into() }
    }

    fn read(departures: &Departures, done: bool) -> Vec<String> {
        let mut read = Vec::new();
        departures
            .read(|id| {
                read.push(id.container.clone());
                done
            })
            .unwrap();
        read.sort();
        read
    }

    #[test]
    fn the_next_agent_reads_each_departure_once() {
        let folder = tempfile::tempdir().unwrap();
        let departures = Departures::beside(&folder.path().join("m.sock"));
        for container in ["a", "b", "a"] {
            assert_eq!(departures.note(&id(container), || false).unwrap(), Noted::Left);
        }
        assert_eq!(read(&departures, false), ["a", "b"], "to be tried again");
        assert_eq!(read(&departures, true), ["a", "b"]);
        assert_eq!(read(&departures, true), [""; 0]);
        departures.note(&id("c"), || false).unwrap();
        departures.forget().unwrap();
        departures.forget().unwrap();
        assert_eq!(read(&departures, true), [""; 0]);
    }

    #[test]
    fn nothing_is_noted_where_an_agent_listens_or_none_ever_was() {
        let folder = tempfile::tempdir().unwrap();
        let departures = Departures::beside(&folder.path().join("m.sock"));
        assert_eq!(departures.note(&id("a"), || true).unwrap(), Noted::AgentIsThere);
        assert_eq!(read(&departures, true), [""; 0]);
        let never = Departures::beside(&folder.path().join("none/m.sock"));
        assert_eq!(never.note(&id("a"), || false).unwrap(), Noted::Left);
        assert_eq!(read(&never, true), [""; 0]);
    }

    #[test]
    fn departures_are_bounded_and_the_remedy_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let departures = Departures::beside(&folder.path().join("m.sock"));
        for number in 0..MOST {
            departures.note(&id(&format!("c{number}")), || false).unwrap();
        }
        let error = departures.note(&id("one-more"), || false).unwrap_err().to_string();
        assert!(error.contains("start the agent"), "{error}");
    }
}
