//! Namespaces with a name: made, listed, deleted, and cleaned up after a crash.
//!
//! Owns the life of a name. The creator of a namespace holds a lock on its inode (`flock(2)`),
//! which the kernel lets go when the creator is gone, however it went; a name whose lock is free
//! is stale. Unlike a process id in the name, that cannot be taken for a later process and holds
//! across containers that share `/run/netns`.
//!
//! A reader must not break this: the lock is taken before the name is mounted, so that nobody
//! ever sees a young namespace unlocked.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::mountpoint::{self, Mountpoint};
use crate::ns::{self, Namespace, NamespaceError};

impl Namespace {
    /// Makes a namespace named `name` under `/run/netns`, its loopback up.
    ///
    /// It is deleted again when the value is dropped; see [`keep`](Namespace::keep).
    ///
    /// # Errors
    /// [`NamespaceError::Exists`] if the name is taken; nothing is left behind by a failure.
    pub fn create(name: &str) -> Result<Self, NamespaceError> {
        let path = mountpoint::path_of(name)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => NamespaceError::Exists { name: name.to_owned() },
            _ => NamespaceError::from_io(format!("creating namespace `{name}`"), error),
        };

        let file = ns::unshared().map_err(failed)?;
        file.try_lock().map_err(|error| failed(error.into()))?;
        let mountpoint = Mountpoint::reserve(path.clone()).map_err(failed)?;
        mountpoint.bind(&file).map_err(failed)?;

        let namespace = Self {
            mountpoint: Some(mountpoint),
            file: Arc::new(file),
            name: name.to_owned(),
            path,
        };
        namespace.netlink().and_then(|netlink| netlink.set_up("lo")).map_err(|error| {
            NamespaceError::Loopback { name: name.to_owned(), source: error.into() }
        })?;
        Ok(namespace)
    }

    /// Makes a namespace without a name, its loopback up. Nobody else finds it, and the kernel takes
    /// it away with this process, however that ends; `called` stands for it in messages.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create_nameless(called: &str) -> Result<Self, NamespaceError> {
        let file = ns::unshared().map_err(|error| {
            NamespaceError::from_io(format!("creating namespace `{called}`"), error)
        })?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        let name = called.to_owned();
        let namespace = Self { mountpoint: None, file: Arc::new(file), name, path };
        namespace.netlink().and_then(|netlink| netlink.set_up("lo")).map_err(|error| {
            NamespaceError::Loopback { name: called.to_owned(), source: error.into() }
        })?;
        Ok(namespace)
    }

    /// Makes a namespace named by [`unique_name`].
    pub fn create_unique(tag: &str) -> Result<Self, NamespaceError> {
        Self::create(&unique_name(tag))
    }

    /// Deletes a name, whoever made it. The namespace itself ends with its last process.
    ///
    /// # Errors
    /// [`NamespaceError::NoSuchNamespace`] if there is no such name.
    pub fn delete(name: &str) -> Result<(), NamespaceError> {
        let path = mountpoint::path_of(name)?;
        mountpoint::remove(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                NamespaceError::NoSuchNamespace { name: name.to_owned(), existing: Self::list() }
            }
            _ => NamespaceError::from_io(format!("deleting namespace `{name}`"), error),
        })
    }

    /// The names of the namespaces under `/run/netns`, sorted.
    pub fn list() -> Vec<String> {
        let mut names = mountpoint::names();
        names.retain(|name| mountpoint::path_of(name).is_ok_and(|path| ns::is_namespace(&path)));
        names
    }

    /// The namespaces whose names start with `prefix` and whose creator is gone.
    ///
    /// A namespace that another tool made counts as stale, and so does a
    /// [kept](Namespace::keep) one after its creator's end: choose a prefix of your own.
    ///
    /// # Errors
    /// [`NamespaceError::BadName`] for an empty prefix, which would match everybody's.
    pub fn stale(prefix: &str) -> Result<Vec<String>, NamespaceError> {
        Ok(abandoned(prefix)?.into_iter().map(|(name, _)| name).collect())
    }

    /// Deletes what [`stale`](Namespace::stale) finds and returns the names.
    pub fn remove_stale(prefix: &str) -> Result<Vec<String>, NamespaceError> {
        let mut removed = Vec::new();
        for (name, _lock) in abandoned(prefix)? {
            Self::delete(&name)?;
            removed.push(name);
        }
        Ok(removed)
    }
}

/// `mr-<tag>-<hex>` with 32 random bits, so that tests and labs can run side by side.
pub fn unique_name(tag: &str) -> String {
    // Every `RandomState` has keys of its own; a hash of nothing is a random number.
    let random = RandomState::new().build_hasher().finish();
    format!("mr-{tag}-{:08x}", random as u32)
}

/// Stale names, each with the lock that keeps a second cleaner off it.
fn abandoned(prefix: &str) -> Result<Vec<(String, File)>, NamespaceError> {
    if prefix.is_empty() {
        return Err(NamespaceError::BadName { name: String::new(), fault: "a prefix is needed" });
    }
    let lock = |name: String| {
        // One that vanishes meanwhile was deleted by its owner.
        let file = File::open(mountpoint::path_of(&name).ok()?).ok()?;
        file.try_lock().ok()?;
        Some((name, file))
    };
    Ok(Namespace::list()
        .into_iter()
        .filter(|name| name.starts_with(prefix))
        .filter_map(lock)
        .collect())
}
