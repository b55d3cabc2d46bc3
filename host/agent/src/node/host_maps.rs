//! Host maps in a folder beside the admin socket: what filters know, for the agent that comes next.
//!
//! A map's file is replaced as a whole, when the map has changed, and goes when the map does. What
//! cannot be kept is logged, and keeps nothing from running. Maps of an earlier start of the machine
//! are nobody's: their clock is over.
//!
//! A reader must not break this: once a successor may read them, nothing is written any more.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millrace_sandbox::maps::{MapName, MapRegistry};
use millrace_sandbox::now_ns;

use crate::replace::replace;

/// Where they are, and what is there.
#[derive(Debug)]
pub(crate) struct KeptMaps {
    folder: PathBuf,
    /// Which start of the machine this is.
    boot: String,
    /// How often each had changed when it was written.
    written: BTreeMap<MapName, u64>,
    /// Whether a successor has them.
    over: bool,
}

impl KeptMaps {
    /// Those beside a socket.
    ///
    /// # Errors
    /// If the kernel does not tell one start of the machine from another.
    pub(crate) fn beside(socket: &Path) -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT)?;
        let (folder, written) = (socket.with_file_name(FOLDER), BTreeMap::new());
        Ok(Self { folder, boot, written, over: false })
    }

    /// Has maps go on as they were written down.
    pub(crate) fn resume(&self, maps: &MapRegistry) {
        let now_ns = now_ns();
        for (name, path) in self.files() {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "what a filter knew is lost");
                    continue;
                }
            };
            let Some(bytes) = bytes.strip_prefix(self.boot.as_bytes()) else { continue };
            if let Err(error) = maps.resume(name, bytes.to_vec(), now_ns) {
                tracing::warn!(path = %path.display(), %error, "what a filter knew is lost");
            }
        }
    }

    /// Writes down what has changed, and says how long to wait before the next time: a small part
    /// of the time goes into this, however large maps are.
    pub(crate) fn keep(&mut self, maps: &MapRegistry) -> Duration {
        let begun = Instant::now();
        if !self.over {
            self.write_all(maps);
        }
        SOON.max(begun.elapsed() * SHARE)
    }

    /// Writes down what has changed a last time: others may read it then.
    pub(crate) fn hand_over(&mut self, maps: &MapRegistry) {
        self.keep(maps);
        self.over = true;
    }

    /// Removes them; the folder that they were in, if there was one.
    pub(crate) fn clear(&self) -> io::Result<Option<&Path>> {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => Ok(Some(&self.folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_all(&mut self, maps: &MapRegistry) {
        let list = maps.list();
        for (name, map) in &list {
            // what changes meanwhile is written the next time
            let changes = map.changes();
            if self.written.get(name).is_some_and(|written| *written == changes) {
                continue;
            }
            let bytes = map.to_bytes(now_ns());
            match self.write(name, &bytes) {
                Ok(()) => drop(self.written.insert(name.clone(), changes)),
                Err(error) => {
                    tracing::warn!(map = name.name, %error, "the next agent has to learn it anew");
                }
            }
        }
        let is_there = |name: &MapName| list.iter().any(|(there, _)| there == name);
        self.written.retain(|name, _| is_there(name));
        for (name, path) in self.files() {
            if !is_there(&name)
                && !maps.is_awaited(&name)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "a map that is gone is still kept");
            }
        }
    }

    fn write(&self, name: &MapName, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let owner = name.owner.as_deref().unwrap_or_default();
        // no stage has a colon in its name, and no map
        let path = self.folder.join(format!("{owner}:{}", name.name));
        replace(&path, &[self.boot.as_bytes(), bytes].concat(), 0o600)
    }

    fn files(&self) -> Vec<(MapName, PathBuf)> {
        let Ok(files) = fs::read_dir(&self.folder) else { return Vec::new() };
        let of_file = |file: fs::DirEntry| {
            let name = file.file_name();
            let (owner, name) = name.to_str()?.split_once(':')?;
            // a map has no dot in its name: one was being written when an agent ended
            if name.contains('.') {
                return None;
            }
            let owner = (!owner.is_empty()).then(|| owner.into());
            Some((MapName { owner, name: name.to_owned() }, file.path()))
        };
        files.flatten().filter_map(of_file).collect()
    }
}

const FOLDER: &str = "maps";
/// A text that no two starts of the machine have in common.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How soon what has changed is written.
const SOON: Duration = Duration::from_secs(1);
/// How much longer than it takes is waited in between.
const SHARE: u32 = 50;

#[cfg(test)]
mod tests {
    use millrace_abi::MapShape;
    use millrace_sandbox::maps::{HostMap, Shape};

    use super::*;

    fn open(maps: &MapRegistry, owner: Option<&str>, name: &str) -> std::sync::Arc<HostMap> {
        let shape = MapShape {
            key_len: 1,
            value_len: 1,
            capacity: 10,
            ttl_ms: 60_000,
            flags: 0,
            quota: 0,
            reserved: 0,
        };
        let name = MapName { owner: owner.map(Into::into), name: name.to_owned() };
        maps.open(name, Shape::new(&shape).unwrap()).unwrap()
    }

    #[test]
    fn maps_are_there_for_the_next_agent_as_they_were_last_and_those_that_are_gone_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let mut kept = KeptMaps::beside(&socket).unwrap();
        let maps = MapRegistry::default();
        let own = open(&maps, Some("a"), "m");
        own.set(&[1], &[2], now_ns());
        open(&maps, None, "m").set(&[1], &[3], now_ns());
        open(&maps, Some("gone"), "m").set(&[1], &[4], now_ns());
        kept.keep(&maps);
        let before = fs::metadata(folder.path().join("maps/a:m")).unwrap().modified().unwrap();
        maps.forget("gone");
        kept.keep(&maps);
        let after = fs::metadata(folder.path().join("maps/a:m")).unwrap().modified().unwrap();
        assert_eq!(before, after, "it has not changed");
        own.set(&[1], &[5], now_ns());
        kept.hand_over(&maps);
        own.set(&[1], &[6], now_ns());
        kept.keep(&maps);

        let next = MapRegistry::default();
        let opened_before = open(&next, None, "m");
        let kept = KeptMaps::beside(&socket).unwrap();
        kept.resume(&next);
        let value = |map: &HostMap| map.entries(now_ns()).pop().map(|entry| entry.value);
        assert_eq!(value(&opened_before), Some(vec![3]));
        assert_eq!(value(&open(&next, Some("a"), "m")), Some(vec![5]), "as it was handed over");
        assert_eq!(value(&open(&next, Some("gone"), "m")), None);
        assert_eq!(kept.clear().unwrap(), Some(&*folder.path().join("maps")));
        assert_eq!(kept.clear().unwrap(), None);
    }

    #[test]
    fn what_was_written_before_the_machine_was_started_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let maps = MapRegistry::default();
        open(&maps, Some("a"), "m").set(&[1], &[2], now_ns());
        let mut before =
            KeptMaps { boot: "another\n".into(), ..KeptMaps::beside(&socket).unwrap() };
        before.keep(&maps);
        let next = MapRegistry::default();
        KeptMaps::beside(&socket).unwrap().resume(&next);
        assert!(open(&next, Some("a"), "m").is_empty());
    }

    #[test]
    fn what_waits_to_be_opened_is_kept_on() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        let maps = MapRegistry::default();
        open(&maps, Some("late"), "m").set(&[1], &[2], now_ns());
        KeptMaps::beside(&socket).unwrap().keep(&maps);
        for _ in 0..2 {
            let mut kept = KeptMaps::beside(&socket).unwrap();
            let next = MapRegistry::default();
            kept.resume(&next);
            kept.keep(&next);
        }
        let next = MapRegistry::default();
        KeptMaps::beside(&socket).unwrap().resume(&next);
        assert_eq!(open(&next, Some("late"), "m").len(), 1);
    }
}
