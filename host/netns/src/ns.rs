//! A network namespace as a value, and the two ways to act inside it.
//!
//! Owns entering: a throw-away thread enters and then ends ([`Namespace::run`]), a child process
//! enters between fork and exec ([`Namespace::command`]). Never switches a thread back, so that
//! no panic can strand one in the wrong namespace, and never touches `/sys` or the mount table
//! of a child, unlike `ip netns exec`.
//!
//! A reader must not break this: [`enter`] is called on a thread that [`Namespace::run`]
//! started, or in a child that has not reached exec, and nowhere else.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{fmt, io, panic, thread};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::NetlinkError;
use crate::mountpoint::{self, Mountpoint};

/// A network namespace, held open.
///
/// The kernel keeps a namespace for as long as a process, a mount or an open file refers to it;
/// this value is such a file. One made by [`create`](Namespace::create) takes its name along
/// when it is dropped, unless [`keep`](Namespace::keep) was called.
#[derive(Debug)]
pub struct Namespace {
    /// `Some` while the name is this value's to remove.
    pub(crate) mountpoint: Option<Mountpoint>,
    /// Open on the namespace's inode; shared with the commands that are to enter it.
    pub(crate) file: Arc<File>,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Namespace {
    /// Opens the namespace with this name under `/run/netns`.
    ///
    /// # Errors
    /// [`NamespaceError::NoSuchNamespace`] lists the names there are.
    pub fn open(name: &str) -> Result<Self, NamespaceError> {
        Self::open_at(mountpoint::path_of(name)?, name)
    }

    /// Opens a namespace by any path to it, such as `/proc/<pid>/ns/net` or what `CNI_NETNS`
    /// says.
    pub fn open_path(path: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        Self::open_at(path.to_owned(), &path.to_string_lossy())
    }

    /// Opens the namespace of the calling thread.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open_path(CURRENT)
    }

    /// The name under `/run/netns`, or the path it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was opened; for a named one, what `CNI_NETNS` would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to hand to calls that take a namespace's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Lets the name outlive this value. Without effect on a namespace that was opened.
    pub fn keep(mut self) -> Self {
        if let Some(mountpoint) = self.mountpoint.take() {
            mountpoint.keep();
        }
        self
    }

    /// Runs `work` on a thread of its own inside the namespace and returns its value.
    ///
    /// Sockets stay in the namespace they were made in, so one that `work` returns can be used
    /// from anywhere. A caller that is in the namespace already needs no privilege.
    ///
    /// # Panics
    /// With the panic of `work`; the calling thread is where it was before.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let visit = || -> io::Result<T> {
            if !self.is_current()? {
                enter(&self.file)?;
            }
            Ok(work())
        };
        thread::scope(|scope| {
            let visitor = thread::Builder::new().name("netns-visitor".into());
            match visitor.spawn_scoped(scope, visit)?.join() {
                Ok(outcome) => outcome,
                Err(panic) => panic::resume_unwind(panic),
            }
        })
        .map_err(|error| NamespaceError::from_io(format!("entering {self}"), error))
    }

    /// A command whose child runs inside the namespace.
    ///
    /// Only the network differs for the child: it sees the caller's `/sys` and `/etc`. Without
    /// the privilege to enter, spawning fails with [`io::ErrorKind::PermissionDenied`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = Arc::clone(&self.file);
        let mut command = Command::new(program);
        // SAFETY: holds because code between fork and exec may only make async-signal-safe
        // calls, and the closure makes one system call without allocating or locking;
        // established at `enter`, below.
        unsafe { command.pre_exec(move || enter(&file)) };
        command
    }

    fn open_at(path: PathBuf, name: &str) -> Result<Self, NamespaceError> {
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                NamespaceError::NoSuchNamespace { name: name.to_owned(), existing: Self::list() }
            }
            _ => NamespaceError::from_io(format!("opening namespace `{name}`"), error),
        })?;
        if !is_namespace(&path) {
            return Err(NamespaceError::NotANamespace { path });
        }
        Ok(Self { mountpoint: None, file: Arc::new(file), name: name.to_owned(), path })
    }

    /// Whether the calling thread is in this namespace.
    fn is_current(&self) -> io::Result<bool> {
        let (ours, theirs) = (self.file.metadata()?, fs::metadata(CURRENT)?);
        Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespace `{}`", self.name)
    }
}

/// Why a namespace could not be made, opened, entered or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name cannot be a file name under `/run/netns`.
    #[error("`{name}` is no namespace name: {fault}")]
    BadName {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The name is taken.
    #[error(
        "creating namespace `{name}`: the name is taken; choose another or run \
         `ip netns delete {name}`"
    )]
    Exists {
        /// The name that was given.
        name: String,
    },
    /// Nothing is there.
    #[error("no namespace `{name}`; under /run/netns there is {}", enumerate(existing))]
    NoSuchNamespace {
        /// The name or path that was given.
        name: String,
        /// The names under `/run/netns`.
        existing: Vec<String>,
    },
    /// A file is there, but nothing is mounted on it.
    #[error("{} is a file but no namespace; if it is left over, remove it", path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// The caller lacks a privilege.
    #[error("{action}: permission denied: needs CAP_SYS_ADMIN; run as root")]
    Denied {
        /// What was being done.
        action: String,
    },
    /// The namespace was made, but its loopback did not come up.
    #[error("creating namespace `{name}`: {source}")]
    Loopback {
        /// The name of the namespace, which is gone again.
        name: String,
        /// What went wrong.
        source: Box<NetlinkError>,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was being done.
        action: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl NamespaceError {
    pub(crate) fn from_io(action: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { action },
            _ => Self::System { action, source },
        }
    }
}

/// Makes a nameless namespace, on a thread that ends with the call.
pub(crate) fn unshared() -> io::Result<File> {
    let unshare = || {
        // SAFETY: holds because the contract concerns only `UnshareFlags::FILES`, which could
        // take descriptors from under other threads; established by the flags here.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        File::open(CURRENT)
    };
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, unshare)?.join() {
        Ok(outcome) => outcome,
        Err(panic) => panic::resume_unwind(panic),
    })
}

/// Whether a namespace is mounted at `path`, or the path leads into `/proc/<pid>/ns`.
pub(crate) fn is_namespace(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    // Every namespace is an inode of the one nsfs.
    matches!((device(path), device(Path::new(CURRENT))), (Ok(a), Ok(b)) if a == b)
}

/// "`a`, `b`", or "nothing", for error messages.
pub(crate) fn enumerate(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Moves the calling thread for good; one system call, no allocation.
fn enter(namespace: &File) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(io::Error::from)
}

/// The namespace of whichever thread looks.
const CURRENT: &str = "/proc/thread-self/ns/net";
