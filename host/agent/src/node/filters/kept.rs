//! The last good module of each filter, in a folder beside the admin socket: for an agent that starts
//! where the module is not to be had any more.
//!
//! A file is replaced as a whole. What cannot be kept is logged, and keeps nothing from running.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use millrace_abi::limits;
use millrace_control::filter::{ModuleBytes, ModuleDigest};

use crate::config::read_at_most;
use crate::replace::replace;

/// Where they are.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Those beside a socket.
    pub(crate) fn beside(socket: &Path) -> Self {
        Self { folder: socket.with_file_name(FOLDER) }
    }

    /// The last good module of a filter, if it is known, and the one that it may be.
    pub(super) fn find(&self, filter: &str, digest: Option<ModuleDigest>) -> Option<ModuleBytes> {
        let module = ModuleBytes::from(read_at_most(&self.path(filter), limits::MAX_MODULE).ok()?);
        digest.is_none_or(|digest| digest == module.digest()).then_some(module)
    }

    /// This one is good.
    pub(super) fn keep(&self, filter: &str, module: &ModuleBytes) {
        if self.find(filter, Some(module.digest())).is_some() {
            return;
        }
        if let Err(error) = self.write(filter, module) {
            tracing::warn!(filter, %error, "the next agent has to find the module by itself");
        }
    }

    /// A filter has none any more.
    pub(super) fn forget(&self, filter: &str) {
        match fs::remove_file(self.path(filter)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(filter, %error, "its module is still kept");
            }
            _ => {}
        }
    }

    /// Where images are kept, by their digests.
    pub(super) fn images(&self) -> PathBuf {
        self.folder.join(IMAGES)
    }

    /// None has one any more; the folder that they were in.
    pub(crate) fn clear(&self) -> io::Result<Option<&Path>> {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => Ok(Some(&self.folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, filter: &str, module: &ModuleBytes) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        replace(&self.path(filter), module.bytes(), 0o600)
    }

    fn path(&self, filter: &str) -> PathBuf {
        self.folder.join(format!("{filter}.wasm"))
    }
}

const FOLDER: &str = "modules";
const IMAGES: &str = "images";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_module_is_found_again_unless_it_has_to_be_another() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::beside(&folder.path().join("agent.sock"));
        assert_eq!(kept.find("a", None), None);
        let [one, two] = [b"one", b"two"].map(|bytes| ModuleBytes::from(bytes.to_vec()));
        for module in [&one, &two] {
            kept.keep("a", module);
            assert_eq!(kept.find("a", None).as_ref(), Some(module));
        }
        assert_eq!(kept.find("a", Some(one.digest())), None);
        assert_eq!(kept.find("a", Some(two.digest())), Some(two));
        assert_eq!(kept.find("b", None), None);
        kept.forget("a");
        kept.forget("a");
        assert_eq!(kept.find("a", None), None);

        assert_eq!(kept.clear().unwrap(), Some(&*folder.path().join("modules")));
        assert_eq!(kept.clear().unwrap(), None);
    }
}
