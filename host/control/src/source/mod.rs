//! Walk `control` 1/4: **source** → compile.
//!
//! Sources of the world: first of all a directory of ordinary Kubernetes YAML.
//!
//! - [`Manifests`]: the directory; read as often as one likes, each time as a whole
//! - `document`: the YAML documents of a file, and on which line of it a field is
//! - `assembly`: objects become a world; what does not fit together is turned away
//! - `allocation`: what Services and Gateways get that do not state it
//! - [`Complaint`]: what was turned away, and why
//! - [`Objects`]: objects that come one by one, as from an API server; [`News`] of them
//! - [`Mark`]: what tells the manifests of one time from those of another
//! - [`Watch`]: waits until something in the directory has changed
//!
//! What is deleted from the directory is gone from the next world. Nothing is kept between two
//! readings, so a world depends only on what the files say.

mod allocation;
mod assembly;
mod complaint;
mod document;
mod mark;
mod objects;
mod watch;

pub use allocation::FromPools;
use allocation::allocate;
pub use complaint::{Complaint, Fault, Place};
pub use mark::Mark;
pub use objects::{News, Objects};
pub use watch::{Waited, Watch};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::World;
use assembly::Assembly;
use document::Document;

/// A directory whose files are manifests.
///
/// Read are `*.yaml`, `*.yml` and `*.json` in the directory itself, not in folders of it, as
/// `kubectl apply -f` does; names that begin with a dot are passed over. Symbolic links are
/// followed, so that a mounted ConfigMap works.
#[derive(Clone, Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    /// The manifests of a directory, none of which is read yet.
    ///
    /// # Errors
    /// If it is no directory, or nobody may look into it.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let manifests = Self { directory: directory.into() };
        manifests.files()?;
        Ok(manifests)
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The world that the files describe now, and what of them does not count, by file and line.
    ///
    /// # Errors
    /// If the directory is gone: that is no empty world.
    pub fn read(&self) -> io::Result<(World, Vec<Complaint>)> {
        self.read_marked().map(|(world, complaints, _)| (world, complaints))
    }

    /// The same, with the mark of the files that say so.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_marked(&self) -> io::Result<(World, Vec<Complaint>, Mark)> {
        let texts = self.texts()?;
        let mut assembly = Assembly::default();
        for (file, text) in &texts {
            match text {
                Ok(text) => Document::all(file, text).for_each(|it| assembly.add(it)),
                Err(error) => assembly.complain(Complaint {
                    place: Some(Place { file: file.clone(), line: 1 }),
                    object: None,
                    fault: Fault::Unreadable { reason: error.to_string() },
                }),
            }
        }
        let (mut world, complaints) = assembly.finish();
        // nobody else is there to do it
        allocate(&mut world);
        Ok((world, complaints, mark(&texts)))
    }

    /// The mark of the files as they are now.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn mark(&self) -> io::Result<Mark> {
        self.texts().map(|texts| mark(&texts))
    }

    /// Watches the directory from now on.
    ///
    /// # Errors
    /// If the kernel has no watches left (`fs.inotify.max_user_watches`).
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::new(&self.directory)
    }

    /// The files that count, in the order of their names.
    fn texts(&self) -> io::Result<Vec<Text>> {
        let read = |file: PathBuf| match fs::read_to_string(self.directory.join(&file)) {
            // whoever deleted it meanwhile meant it
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Some((file, text)),
        };
        Ok(self.files()?.into_iter().filter_map(read).collect())
    }

    /// The names of the files that count, sorted.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let said = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.directory.display()))
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(said)? {
            let name = PathBuf::from(entry.map_err(said)?.file_name());
            let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
            let counts = name.extension().is_some_and(|it| EXTENSIONS.iter().any(|e| it == *e));
            // reading a pipe would wait for whoever writes to it
            if counts && !hidden && self.directory.join(&name).is_file() {
                files.push(name);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// A file, and what it says if it can be read.
type Text = (PathBuf, io::Result<String>);

fn mark(texts: &[Text]) -> Mark {
    Mark::of(texts.iter().map(|(file, text)| (file.as_path(), text.as_deref().ok())))
}

/// What the names of manifests end in.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

#[cfg(test)]
mod tests;
