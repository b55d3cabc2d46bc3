//! Where a filter's module is found on this node.
//!
//! Files are read when they change, and looked at often: whoever builds a filter has it run at once. What
//! registries have comes when they give it, see `images`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millrace_abi::limits;
use millrace_control::compile::{PlannedFilter, PlannedModule};
use millrace_control::filter::ModuleBytes;

use crate::api::types::not_built_in;
use crate::config::read_at_most;
use crate::node::filters::images::Images;

/// The modules in files and images.
#[derive(Debug)]
pub(super) struct Modules {
    files: BTreeMap<PathBuf, Read>,
    images: Images,
}

/// A file as it was read.
#[derive(Debug)]
struct Read {
    stamp: Option<Stamp>,
    module: Result<ModuleBytes, String>,
}

/// What tells whether a file has changed: device, inode, length, and when it was changed.
type Stamp = (u64, u64, u64, i64, i64);

impl Modules {
    /// None is looked at yet.
    pub(super) fn new(images: Images) -> Self {
        Self { files: BTreeMap::new(), images }
    }

    /// These are the filters whose files and images are looked at.
    pub(super) fn keep<'p>(&mut self, planned: impl Iterator<Item = &'p Box<PlannedFilter>>) {
        let mut paths = BTreeSet::new();
        let mut images = BTreeSet::new();
        for planned in planned {
            match &planned.module {
                PlannedModule::File(path) => paths.insert(path.clone()),
                PlannedModule::Image(image) => images.insert(image),
                _ => continue,
            };
        }
        self.images.keep(images);
        let mut before = std::mem::take(&mut self.files);
        for path in paths {
            let stamp = stamp(&path);
            let read = match before.remove(&path) {
                Some(read) if read.stamp == stamp => read,
                _ => Read { stamp, module: read(&path) },
            };
            self.files.insert(path, read);
        }
    }

    /// Whether any of the files is another than was read, or a registry has answered.
    pub(super) fn have_changed(&mut self) -> bool {
        self.images.look() || self.files.iter().any(|(path, read)| read.stamp != stamp(path))
    }

    /// A filter's module; or why it cannot be had.
    pub(super) fn find(&self, planned: &PlannedFilter) -> Result<ModuleBytes, String> {
        let module = match &planned.module {
            PlannedModule::Bytes(module) => module.clone(),
            PlannedModule::Nowhere(reason) => return Err(reason.clone()),
            PlannedModule::File(path) => self.files[path].module.clone()?,
            PlannedModule::Image(image) => self.images.find(image)?,
            PlannedModule::BuiltIn(name) => match millrace_builtin::find(name) {
                Some(module) => ModuleBytes::from(module.bytes.to_vec()),
                None => return Err(format!("no built-in filter is called {}", not_built_in(name))),
            },
        };
        match planned.filter.digest {
            Some(digest) if digest != module.digest() => {
                Err(format!("the module is another one: it has {}, not {digest}", module.digest()))
            }
            _ => Ok(module),
        }
    }

    /// Whether a filter's module is not here because it is on its way.
    pub(super) fn is_fetching(&self, planned: &PlannedFilter) -> bool {
        matches!(&planned.module, PlannedModule::Image(image) if self.images.is_fetching(image))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
}

fn read(path: &Path) -> Result<ModuleBytes, String> {
    let said = |error: String| format!("{}: {error}", path.display());
    let is_file = fs::metadata(path).map_err(|error| said(error.to_string()))?.is_file();
    if !is_file {
        return Err(said("it is no file".to_owned()));
    }
    let bytes = read_at_most(path, limits::MAX_MODULE);
    bytes.map(ModuleBytes::from).map_err(|error| said(error.to_string()))
}

#[cfg(test)]
mod tests {
    use millrace_control::compile::chain;
    use millrace_control::source::Manifests;

    use super::*;

    /// A filter whose module is in a file of this folder.
    fn planned(folder: &Path, more: &str) -> Box<PlannedFilter> {
        let file = folder.join("a.wasm");
        let text = format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: a}}}}
---
{{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {{name: f}},
  spec: {{source: {{file: {}}}{more}}}}}
---
{{apiVersion: millrace.dev/v1alpha1, kind: FilterChain, metadata: {{name: c}},
  spec: {{stages: [{{filter: f, after: policy}}]}}}}",
            file.display()
        );
        fs::write(folder.join("all.yaml"), text).unwrap();
        let (world, complaints) = Manifests::open(folder).unwrap().read().unwrap();
        assert_eq!(complaints, []);
        chain(&world, "a", &<_>::default()).stages.remove(0).filter.unwrap()
    }

    fn modules(folder: &Path) -> Modules {
        Modules::new(Images::new(<_>::default(), folder.join("images")))
    }

    #[test]
    fn a_file_is_read_again_once_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let planned = planned(folder.path(), "");
        let mut modules = modules(folder.path());
        modules.keep([&planned].into_iter());
        assert!(modules.find(&planned).unwrap_err().contains("a.wasm: No such file"));
        assert!(!modules.have_changed());

        fs::write(folder.path().join("a.wasm"), "one").unwrap();
        assert!(modules.have_changed());
        modules.keep([&planned].into_iter());
        assert_eq!(modules.find(&planned).unwrap().bytes(), b"one");
        assert!(!modules.have_changed());
        // as builders do it
        fs::write(folder.path().join("b"), "two").unwrap();
        fs::rename(folder.path().join("b"), folder.path().join("a.wasm")).unwrap();
        assert!(modules.have_changed());
        modules.keep([&planned].into_iter());
        assert_eq!(modules.find(&planned).unwrap().bytes(), b"two");
    }

    #[test]
    fn a_module_of_another_digest_is_refused_with_the_one_it_has() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.wasm"), "one").unwrap();
        let digest = ModuleBytes::from(b"one".to_vec()).digest();
        for (digest, is_right) in [
            (digest.to_string(), true),
            (ModuleBytes::from(b"two".to_vec()).digest().to_string(), false),
        ] {
            let planned = planned(folder.path(), &format!(", digest: '{digest}'"));
            let mut modules = modules(folder.path());
            modules.keep([&planned].into_iter());
            let found = modules.find(&planned);
            assert_eq!(found.is_ok(), is_right, "{found:?}");
            if let Err(error) = found {
                assert!(error.contains("not sha256:") && error.contains(&digest), "{error}");
            }
        }
    }
}
