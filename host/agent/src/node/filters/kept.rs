//! The last good version of each filter, in a folder: for an agent that starts where the module is not to
//! be had any more, or where the next version fails.
//!
//! A version is a module, and a note of the configuration that it had. A file is replaced as a whole, and
//! a note names its module, so that one of another version is not taken for it. What cannot be kept is
//! logged, and keeps nothing from running.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use millrace_abi::limits;
use millrace_control::filter::{ModuleBytes, ModuleDigest};
use serde::{Deserialize, Serialize};

use crate::config::read_at_most;
use crate::replace::replace;

/// What a module ran with.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Whose it is.
    module: String,
    /// JSON.
    config: String,
}

/// Where they are.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Those in a folder.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Those of an agent that was told of no folder: beside its socket.
    pub(crate) fn beside(socket: &Path) -> Self {
        Self::at(socket.with_file_name(FOLDER))
    }

    /// The last good module of a filter, if it is known, and the one that it may be.
    pub(super) fn find(&self, filter: &str, digest: Option<ModuleDigest>) -> Option<ModuleBytes> {
        let module =
            ModuleBytes::from(read_at_most(&self.module(filter), limits::MAX_MODULE).ok()?);
        digest.is_none_or(|digest| digest == module.digest()).then_some(module)
    }

    /// The configuration that a module had which was found, if that is known.
    pub(super) fn config(&self, filter: &str, module: &ModuleBytes) -> Option<String> {
        let note = read_at_most(&self.note(filter), MAX_NOTE).ok()?;
        let note: Note = serde_json::from_slice(&note).ok()?;
        (note.module == module.digest().to_string()).then_some(note.config)
    }

    /// This version is good.
    pub(super) fn keep(&self, filter: &str, module: &ModuleBytes, config: &str) {
        let is_there = self.find(filter, Some(module.digest())).is_some();
        if is_there && self.config(filter, module).is_some_and(|kept| kept == config) {
            return;
        }
        if let Err(error) = self.write(filter, module, config) {
            tracing::warn!(filter, %error, "the next agent has to find the module by itself");
        }
    }

    /// A filter has none any more.
    pub(super) fn forget(&self, filter: &str) {
        for path in [self.note(filter), self.module(filter)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(filter, %error, "its last version is still kept");
                }
                _ => {}
            }
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

    fn write(&self, filter: &str, module: &ModuleBytes, config: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        replace(&self.module(filter), module.bytes(), 0o600)?;
        let note = Note { module: module.digest().to_string(), config: config.to_owned() };
        replace(&self.note(filter), &serde_json::to_vec(&note)?, 0o600)
    }

    fn module(&self, filter: &str) -> PathBuf {
        self.folder.join(format!("{filter}.wasm"))
    }

    fn note(&self, filter: &str) -> PathBuf {
        self.folder.join(format!("{filter}.json"))
    }
}

/// Bytes of a note: a configuration, as text in text.
const MAX_NOTE: usize = 2 * limits::MAX_CONFIG + 1024;
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
        for (module, config) in [(&one, "{}"), (&one, "7"), (&two, "7"), (&two, "{}")] {
            kept.keep("a", module, config);
            assert_eq!(kept.find("a", None).as_ref(), Some(module));
            assert_eq!(kept.config("a", module).as_deref(), Some(config));
        }
        assert_eq!(kept.config("a", &one), None, "that is what another module had");
        assert_eq!(kept.find("a", Some(one.digest())), None);
        assert_eq!(kept.find("a", Some(two.digest())), Some(two));
        assert_eq!(kept.find("b", None), None);
        kept.forget("a");
        kept.forget("a");
        assert_eq!(kept.find("a", None), None);
        assert_eq!(kept.config("a", &ModuleBytes::from(b"two".to_vec())), None);

        assert_eq!(kept.clear().unwrap(), Some(&*folder.path().join("modules")));
        assert_eq!(kept.clear().unwrap(), None);
    }
}
