//! Names of namespaces: files under `/run/netns` with a namespace mounted on each.
//!
//! Owns the layout that `ip netns` uses too (iproute2, `ip/ipnetns.c`): the directory is a shared
//! mount, so that names appear and vanish in every mount namespace. Never enters a namespace.
//!
//! A reader must not break this: a [`Mountpoint`] removes its file on drop, mounted or not, until
//! [`Mountpoint::keep`] disarms it. It is the rollback of a creation as well as its opposite.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::{io, mem};

use rustix::io::Errno;
use rustix::mount::{self, MountPropagationFlags, UnmountFlags};

use crate::NamespaceError;

/// A name under `/run/netns`, removed on drop.
#[derive(Debug)]
pub(crate) struct Mountpoint {
    /// Empty once disarmed.
    path: PathBuf,
}

impl Mountpoint {
    /// Takes a name: a file that nothing is mounted on yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken.
    pub(crate) fn reserve(path: PathBuf) -> io::Result<Self> {
        prepare_directory()?;
        File::create_new(&path)?;
        Ok(Self { path })
    }

    /// Mounts the open namespace on the name.
    pub(crate) fn bind(&self, namespace: &File) -> io::Result<()> {
        let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        mount::mount_bind(source, &self.path).map_err(io::Error::from)
    }

    /// Leaves the name in place.
    pub(crate) fn keep(mut self) {
        drop(mem::take(&mut self.path));
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nobody is left to tell; a name that stays is found by `Namespace::stale`.
            let _ = remove(&self.path);
        }
    }
}

/// The file for `name`.
pub(crate) fn path_of(name: &str) -> Result<PathBuf, NamespaceError> {
    let fault = match name {
        "" => "it is empty",
        "." | ".." => "it is a directory",
        _ if name.contains('/') => "it contains `/`; use a name, not a path",
        _ => return Ok(Path::new(DIRECTORY).join(name)),
    };
    Err(NamespaceError::BadName { name: name.to_owned(), fault })
}

/// Every file name in the directory, namespace or not, sorted.
pub(crate) fn names() -> Vec<String> {
    // Before the first namespace there is no directory.
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Unmounts and removes a name; the namespace lives on for those who have it open.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match mount::unmount(path, UnmountFlags::DETACH) {
        // Reserved, but not mounted on.
        Ok(()) | Err(Errno::INVAL) => fs::remove_file(path),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the directory a shared mount, once.
fn prepare_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;

    // two first creators at once would mount the directory on itself twice
    let directory = File::open(DIRECTORY)?;
    directory.lock()?;

    let share = || {
        mount::mount_change(DIRECTORY, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
    };
    match share() {
        // Only a mountpoint can be shared.
        Err(Errno::INVAL) => {
            mount::mount_bind_recursive(DIRECTORY, DIRECTORY)?;
            share()?;
        }
        outcome => outcome?,
    }
    Ok(())
}

const DIRECTORY: &str = "/run/netns";
