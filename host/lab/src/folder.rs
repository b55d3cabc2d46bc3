//! A lab's folder: there for as long as anything of the lab may be.
//!
//! A reader must not break this: who holds a [`Folder`] holds its lock (flock(2)), which the kernel
//! lets go when the holder is gone, however it went. So a lab is made or taken down by one at a
//! time, and what a killed maker has left can be taken down at once.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::name::FOLDER;
use crate::{LabError, LabName};

/// A folder, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Open for as long as the lock is to be held.
    _lock: File,
}

impl Folder {
    /// Makes the folder of a lab that is not there.
    pub(crate) fn make(lab: &LabName) -> Result<Self, LabError> {
        let path = lab.folder();
        fs::create_dir_all(FOLDER).map_err(LabError::file(FOLDER))?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Self::lock(lab, path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(LabError::UpAlready { lab: lab.clone() })
            }
            Err(error) => Err(LabError::file(path)(error)),
        }
    }

    /// Opens the folder of a lab.
    pub(crate) fn open(lab: &LabName) -> Result<Self, LabError> {
        let path = lab.folder();
        if !path.exists() {
            return Err(LabError::NotUp { lab: lab.clone(), existing: names() });
        }
        Self::lock(lab, path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(self) -> Result<(), LabError> {
        fs::remove_dir_all(&self.path).map_err(LabError::file(self.path))
    }

    fn lock(lab: &LabName, path: PathBuf) -> Result<Self, LabError> {
        let busy = || LabError::Busy { lab: lab.clone() };
        let lock = File::open(&path).map_err(LabError::file(&path))?;
        // a child of the holder's holds it, too, until it is a program of its own
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(busy()),
                Err(TryLockError::Error(error)) => return Err(LabError::file(path)(error)),
            }
        }
        // the one before may have removed what was opened
        let id = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|it| (it.dev(), it.ino()));
        if id(lock.metadata()) != id(fs::metadata(&path)) {
            return Err(busy());
        }
        Ok(Self { path, _lock: lock })
    }
}

/// The labs that have a folder, sorted.
pub(crate) fn names() -> Vec<LabName> {
    // before the first lab there is no folder
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut names: Vec<LabName> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

/// How long a lock may be held by somebody who is about to let it go.
const PATIENCE: Duration = Duration::from_secs(2);
