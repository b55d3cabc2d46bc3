//! What the API server said, on disk: what an agent begins with while the server is away.
//!
//! Owns one file for each object, as JSON without what nobody here reads: a pod's environment, its
//! commands and its volumes are not there. A file is replaced as a whole; if one cannot be read, none
//! counts. Written by a thread of its own, some at a time: whoever follows the server never waits for
//! a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kube::core::DynamicObject;
use millrace_control::manifest::Kind;
use serde_json::Value;

/// Has objects be kept. Without a folder, nothing is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeper(Option<Sender<Said>>);

/// What the server said.
#[derive(Debug)]
enum Said {
    /// There is this object.
    Put(Kind, String, Vec<u8>),
    /// There is none of this name any more.
    Remove(Kind, String),
    /// Of a kind there are these, and no others.
    All(Kind, BTreeMap<String, Vec<u8>>),
    /// It has told of every kind.
    Whole,
}

/// What is to be written next, by kind and file; nothing for a file that is to go.
#[derive(Default)]
struct Pending {
    files: BTreeMap<(Kind, String), Option<Vec<u8>>>,
    /// Kinds whose other files are to go.
    whole: BTreeSet<Kind>,
    /// Whether every kind has been told of.
    is_whole: bool,
}

/// An object as it is kept.
#[derive(Debug)]
pub(crate) struct Lean {
    file: String,
    content: Vec<u8>,
}

impl Keeper {
    /// Keeps objects in this folder. If that cannot be, it is logged, and nothing is kept.
    pub(crate) fn open(folder: &Path) -> Self {
        let folder = folder.join(VERSION);
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "what the API server says is not kept for later");
            return Self(None);
        }
        let (said, to_write) = mpsc::channel();
        let write = move || write(&folder, &to_write);
        match thread::Builder::new().name(THREAD.to_owned()).spawn(write) {
            Ok(_) => Self(Some(said)),
            Err(error) => {
                tracing::warn!(%error, "what the API server says is not kept for later");
                Self(None)
            }
        }
    }

    /// As what an object is kept, if any is.
    pub(crate) fn lean(&self, kind: Kind, object: &DynamicObject) -> Option<Lean> {
        self.0.as_ref()?;
        let mut value = serde_json::to_value(object).ok()?;
        strip(kind, &mut value);
        Some(Lean { file: file(object), content: serde_json::to_vec(&value).ok()? })
    }

    /// There is this object.
    pub(crate) fn put(&self, kind: Kind, object: &DynamicObject) {
        if let Some(Lean { file, content }) = self.lean(kind, object) {
            self.say(Said::Put(kind, file, content));
        }
    }

    /// There is none of this name any more.
    pub(crate) fn remove(&self, kind: Kind, object: &DynamicObject) {
        self.say(Said::Remove(kind, file(object)));
    }

    /// Of a kind there are these, and no others.
    pub(crate) fn all(&self, kind: Kind, objects: impl IntoIterator<Item = Lean>) {
        let files = objects.into_iter().map(|it| (it.file, it.content)).collect();
        self.say(Said::All(kind, files));
    }

    /// Every kind has been told of, so that what is kept can be begun with.
    pub(crate) fn whole(&self) {
        self.say(Said::Whole);
    }

    fn say(&self, said: Said) {
        if let Some(sender) = &self.0 {
            // the thread ends with its last sender, or with the process
            let _ = sender.send(said);
        }
    }
}

/// All objects that are kept, by kind; none if not every kind was told of before.
///
/// # Errors
/// If one cannot be read: it may be the policy that keeps others out.
pub(crate) fn read(folder: &Path) -> io::Result<Vec<(Kind, Vec<serde_norway::Value>)>> {
    let folder = folder.join(VERSION);
    if !folder.join(WHOLE).try_exists()? {
        return Ok(Vec::new());
    }
    Kind::ALL.into_iter().map(|kind| Ok((kind, of_kind(&place(&folder, kind))?))).collect()
}

fn of_kind(folder: &Path) -> io::Result<Vec<serde_norway::Value>> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut objects = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|it| it == EXTENSION) {
            let object = serde_json::from_slice(&fs::read(&path)?);
            objects.push(object.map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?);
        }
    }
    Ok(objects)
}

/// Removes what is kept in a folder, and the folder if nothing else is there; whether anything was.
///
/// # Errors
/// If something cannot be removed.
pub fn forget(folder: &Path) -> io::Result<bool> {
    match fs::remove_dir_all(folder.join(VERSION)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(true),
    }
}

fn write(folder: &Path, said: &Receiver<Said>) {
    let mut is_refused = false;
    while let Ok(first) = said.recv() {
        let mut pending = Pending::default();
        pending.hear(first);
        // much is said of one object, and the last counts
        let end = Instant::now() + PACE;
        let is_over = loop {
            match said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(next) => pending.hear(next),
                Err(error) => break error == RecvTimeoutError::Disconnected,
            }
        };
        match pending.write(folder) {
            Ok(()) => is_refused = false,
            Err(error) if is_refused => tracing::debug!(%error, "objects are not kept"),
            Err(error) => {
                is_refused = true;
                let folder = folder.display();
                tracing::warn!(%folder, %error, "not all that the API server says is kept");
            }
        }
        if is_over {
            return;
        }
    }
}

impl Pending {
    fn hear(&mut self, said: Said) {
        match said {
            Said::Put(kind, file, content) => {
                self.files.insert((kind, file), Some(content));
            }
            Said::Remove(kind, file) => {
                self.files.insert((kind, file), None);
            }
            Said::All(kind, files) => {
                self.files.retain(|(of, _), _| *of != kind);
                self.whole.insert(kind);
                let files = files.into_iter().map(|(file, it)| ((kind, file), Some(it)));
                self.files.extend(files);
            }
            Said::Whole => self.is_whole = true,
        }
    }

    /// Writes all, as far as that goes; says what was refused first.
    fn write(self, folder: &Path) -> io::Result<()> {
        let mut outcome = Ok(());
        for kind in &self.whole {
            outcome = outcome.and(self.sweep(&place(folder, *kind), *kind));
        }
        for ((kind, file), content) in self.files {
            let folder = place(folder, kind);
            let done = match content {
                Some(content) => replace(&folder, &file, &content),
                None => match fs::remove_file(folder.join(file)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                },
            };
            outcome = outcome.and(done);
        }
        match &outcome {
            Ok(()) if self.is_whole => replace(folder, WHOLE, b""),
            Ok(()) => Ok(()),
            // what is there is not what was said
            Err(_) => {
                let _ = fs::remove_file(folder.join(WHOLE));
                outcome
            }
        }
    }

    /// Removes what is not among those that there are of a kind.
    fn sweep(&self, folder: &Path, kind: Kind) -> io::Result<()> {
        let files = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files?,
        };
        for file in files {
            let name = file?.file_name();
            let known = name.to_str().map(|name| (kind, name.to_owned()));
            if known.is_none_or(|known| !self.files.contains_key(&known)) {
                fs::remove_file(folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// Has a file have this content, or the one that it had.
fn replace(folder: &Path, file: &str, content: &[u8]) -> io::Result<()> {
    if fs::read(folder.join(file)).is_ok_and(|present| present == content) {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let next = folder.join(NEXT);
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    opened.write_all(content)?;
    fs::rename(next, folder.join(file))
}

/// Where objects of a kind are.
fn place(folder: &Path, kind: Kind) -> PathBuf {
    folder.join(kind.name())
}

/// The file of an object: no name has an underscore.
fn file(object: &DynamicObject) -> String {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    format!("{namespace}_{name}.{EXTENSION}")
}

/// Leaves out what nobody here reads: it may be secret, or large.
fn strip(kind: Kind, object: &mut Value) {
    let lose = |value: Option<&mut Value>, fields: &[&str]| {
        if let Some(map) = value.and_then(Value::as_object_mut) {
            map.retain(|field, _| !fields.contains(&&**field));
        }
    };
    lose(object.pointer_mut("/metadata"), &["managedFields"]);
    lose(object.pointer_mut("/metadata/annotations"), &[LAST_APPLIED]);
    match kind {
        Kind::Node => lose(object.pointer_mut("/status"), &["images"]),
        Kind::Pod => {
            lose(object.pointer_mut("/spec"), &["volumes", "imagePullSecrets"]);
            lose(object.pointer_mut("/status"), &["containerStatuses", "initContainerStatuses"]);
            for list in ["/spec/containers", "/spec/initContainers"] {
                let containers = object.pointer_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    lose(Some(container), &PRIVATE);
                }
            }
        }
        _ => {}
    }
}

/// What of a container is its own business.
const PRIVATE: [&str; 10] = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "volumeMounts",
];
/// What `kubectl apply` leaves: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The folder's folder; another one for other kinds. Whatever else is beside it is another version's.
const VERSION: &str = "v1";
/// A file that is there once every kind was told of: before that, policies may be missing.
const WHOLE: &str = "whole";
const EXTENSION: &str = "json";
/// A file that is being written.
const NEXT: &str = ".next";
/// The name of the thread that writes.
const THREAD: &str = "millrace-keep";
/// For how long what is said is gathered before it is written.
const PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(namespace: Option<&str>, name: &str, spec: Value) -> DynamicObject {
        let metadata = json!({"name": name, "namespace": namespace, "managedFields": [{}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn objects(folder: &Path, kind: Kind) -> Vec<serde_norway::Value> {
        let all = read(folder).unwrap().into_iter();
        all.filter(|(of, _)| *of == kind).flat_map(|(_, objects)| objects).collect()
    }

    fn names(folder: &Path, kind: Kind) -> Vec<String> {
        let name = |it: &serde_norway::Value| it["metadata"]["name"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = objects(folder, kind).iter().map(name).collect();
        names.sort();
        names
    }

    /// Keeps what is said.
    fn keep(folder: &Path, say: impl FnOnce(&Keeper)) {
        let (said, to_write) = mpsc::channel();
        let keeper = Keeper(Some(said));
        say(&keeper);
        keeper.whole();
        drop(keeper);
        write(&folder.join(VERSION), &to_write);
    }

    #[test]
    fn what_is_said_of_each_object_last_is_kept_and_nothing_private() {
        let folder = tempfile::tempdir().unwrap();
        let container = json!({"name": "c", "env": [{"name": "PASSWORD"}], "ports": [{}]});
        let pod = |name| object(Some("shop"), name, json!({"containers": [container]}));
        keep(folder.path(), |keeper| {
            keeper.put(Kind::Node, &object(None, "a", json!({"podCIDR": "10.1.0.0/24"})));
            keeper.put(Kind::Node, &object(None, "b", json!({})));
            keeper.remove(Kind::Node, &object(None, "b", json!({})));
            ["web", "db"].iter().for_each(|name| keeper.put(Kind::Pod, &pod(name)));
        });
        assert_eq!(names(folder.path(), Kind::Node), ["a"]);
        assert_eq!(names(folder.path(), Kind::Pod), ["db", "web"]);
        let text = serde_norway::to_string(&objects(folder.path(), Kind::Pod)).unwrap();
        assert!(text.contains("ports") && !text.contains("PASSWORD"), "{text}");
        assert!(!text.contains("managedFields"), "{text}");

        keep(folder.path(), |keeper| {
            let lean = |name| keeper.lean(Kind::Pod, &pod(name)).unwrap();
            keeper.put(Kind::Pod, &pod("gone"));
            keeper.all(Kind::Pod, [lean("web"), lean("next")]);
            keeper.put(Kind::Pod, &pod("last"));
        });
        assert_eq!(names(folder.path(), Kind::Pod), ["last", "next", "web"]);
        assert_eq!(names(folder.path(), Kind::Node), ["a"]);
    }

    #[test]
    fn if_one_cannot_be_read_none_counts() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), |keeper| {
            let node = |name: &&str| keeper.put(Kind::Node, &object(None, name, json!({})));
            ["a", "b"].iter().for_each(node);
        });
        let kept = folder.path().join(VERSION).join("Node");
        fs::write(kept.join(NEXT), "{").unwrap();
        assert_eq!(names(folder.path(), Kind::Node), ["a", "b"]);
        fs::write(kept.join("_b.json"), "{\"metadata\": ").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("_b.json"));
        assert_eq!(names(&folder.path().join("elsewhere"), Kind::Node), [""; 0]);
        assert!(forget(folder.path()).unwrap() && !folder.path().exists());
        assert!(!forget(folder.path()).unwrap());
    }

    #[test]
    fn what_was_not_told_of_every_kind_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), |keeper| keeper.put(Kind::Node, &object(None, "a", json!({}))));
        assert_eq!(names(folder.path(), Kind::Node), ["a"]);
        fs::remove_file(folder.path().join(VERSION).join(WHOLE)).unwrap();
        assert!(read(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nobody_minds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let keeper = Keeper::open(&file);
        keeper.put(Kind::Node, &object(None, "a", json!({})));
        assert!(read(&file).is_err());
    }
}
