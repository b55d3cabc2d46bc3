//! Network sysctls of a namespace, through `/proc/sys/net`, which shows each thread its own
//! namespace's.
//!
//! Owns the translation of a key to a file. Never touches a sysctl outside `net`, since no other
//! belongs to a network namespace.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use crate::{Namespace, NamespaceError};

impl Namespace {
    /// Reads a sysctl, without the line's end.
    ///
    /// Keys are written as sysctl(8) takes them, `net.ipv4.ip_forward` or `net/ipv4/ip_forward`.
    /// A link's name may contain dots: between `net.*.conf.` or `net.*.neigh.` and the last dot
    /// everything is the name.
    ///
    /// # Errors
    /// [`SysctlError::Unknown`] for a key, or a link in it, that is not there.
    pub fn sysctl(&self, key: &str) -> Result<String, SysctlError> {
        let path = path_of(key)?;
        let value = self
            .run(|| fs::read_to_string(path))?
            .map_err(|error| SysctlError::from_io("reading", key, self, error))?;
        Ok(value.trim_end().to_owned())
    }

    /// Writes a sysctl; keys as for [`sysctl`](Namespace::sysctl).
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        let path = path_of(key)?;
        self.run(|| fs::write(path, value))?
            .map_err(|error| SysctlError::from_io("writing", key, self, error))
    }
}

/// Has this process find sysctls in another folder than `/proc/sys`, which most containers see
/// read-only: one where the machine's is mounted. Counts once, and from then on.
pub fn sysctls_at(folder: PathBuf) {
    let _ = FOLDER.set(folder);
}

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Why a sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The key does not belong to a network namespace.
    #[error("`{key}` is no network sysctl; it has to start with `net.`")]
    Foreign {
        /// The key that was given.
        key: String,
    },
    /// There is no such sysctl.
    #[error("no sysctl `{key}` in {namespace}; check its spelling and that of the link in it")]
    Unknown {
        /// The key that was given.
        key: String,
        /// The namespace.
        namespace: String,
    },
    /// The caller lacks a privilege, or `/proc/sys` is mounted read-only.
    #[error(
        "{action} sysctl `{key}` in {namespace}: permission denied: needs root, and in a \
         container a writable /proc/sys"
    )]
    Denied {
        /// What was being done.
        action: &'static str,
        /// The key that was given.
        key: String,
        /// The namespace.
        namespace: String,
    },
    /// The kernel refused for another reason, most often the value.
    #[error("{action} sysctl `{key}` in {namespace}: {source}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// The key that was given.
        key: String,
        /// The namespace.
        namespace: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl SysctlError {
    fn from_io(action: &'static str, key: &str, namespace: &Namespace, source: io::Error) -> Self {
        let (key, namespace) = (key.to_owned(), namespace.to_string());
        match source.kind() {
            io::ErrorKind::NotFound => Self::Unknown { key, namespace },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, key, namespace }
            }
            _ => Self::Refused { action, key, namespace, source },
        }
    }
}

/// The file of a key. As for sysctl(8), the first separator decides: after a slash the key is a
/// path as it is; otherwise dots separate, and a slash stands for a dot in a name.
fn path_of(key: &str) -> Result<PathBuf, SysctlError> {
    let separator = key.find(['.', '/']).map_or('.', |at| char::from(key.as_bytes()[at]));
    let mut parts: Vec<String> = match separator {
        '/' => key.split('/').map(str::to_owned).collect(),
        _ => key.split('.').map(|part| part.replace('/', ".")).collect(),
    };
    if separator == '.' && matches!(parts.get(2).map(String::as_str), Some("conf" | "neigh")) {
        join_link_name(&mut parts);
    }
    let foreign = parts.first().is_none_or(|part| part != "net")
        || parts.iter().any(|part| matches!(part.as_str(), "" | "." | ".."));
    if foreign {
        return Err(SysctlError::Foreign { key: key.to_owned() });
    }
    let folder = FOLDER.get().map_or(Path::new("/proc/sys"), PathBuf::as_path);
    Ok(folder.join(parts.join("/")))
}

/// Puts a link's name together again: `net`, family, `conf`, *name*, setting.
fn join_link_name(parts: &mut Vec<String>) {
    const BEFORE: usize = 3;
    let after = parts.len() - 1;
    if after > BEFORE + 1 {
        let name = parts[BEFORE..after].join(".");
        parts.splice(BEFORE..after, [name]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> String {
        path_of(key).unwrap().display().to_string()
    }

    #[test]
    fn dots_and_slashes_both_separate() {
        assert_eq!(path("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.all.rp_filter"), "/proc/sys/net/ipv4/conf/all/rp_filter");
    }

    #[test]
    fn a_dotted_link_name_is_found_in_each_way_of_writing_it() {
        let file = "/proc/sys/net/ipv6/conf/eth0.100/disable_ipv6";
        assert_eq!(path("net.ipv6.conf.eth0.100.disable_ipv6"), file);
        assert_eq!(path("net.ipv6.conf.eth0/100.disable_ipv6"), file);
        assert_eq!(path("net/ipv6/conf/eth0.100/disable_ipv6"), file);
    }

    #[test]
    fn a_key_outside_the_network_is_refused() {
        for key in ["kernel.hostname", "", "net/../kernel/hostname", "net..ipv4", "/etc/passwd"] {
            assert!(matches!(path_of(key), Err(SysctlError::Foreign { .. })), "{key}");
        }
    }
}
