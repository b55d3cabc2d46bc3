//! Maps and links that outlive the process, under one folder of a BPF file system.
//!
//! A successor loads its own programs on the maps that are there, and puts them in the place of its
//! predecessor's on each link, one system call a link: no packet finds a port without a program.
//!
//! A reader must not break this: what is pinned is only used if its sizes are those of this object;
//! there is one writer of entries at a time.

use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData};
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::SchedClassifierLink;

use crate::layout::{RawEgress, RawEntry, RawKey, RawLimit, RawPunt, RawSlot};

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Pins(PathBuf);

/// What holds a program at a link.
pub(crate) struct Held {
    link: SchedClassifierLink,
    pin: Option<PathBuf>,
}

impl Pins {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn link(&self, program: &str, link: u32) -> PathBuf {
        self.0.join(format!("{program}-{link}"))
    }

    /// The links where a program is, by its name.
    pub(crate) fn links(&self, program: &str) -> io::Result<Vec<u32>> {
        let mut links = Vec::new();
        for file in std::fs::read_dir(&self.0)? {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(program));
            let number = number.and_then(|rest| rest.strip_prefix('-'));
            links.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        Ok(links)
    }
}

impl Held {
    /// Goes with this process.
    pub(crate) fn owned(link: SchedClassifierLink) -> Self {
        Self { link, pin: None }
    }

    /// Stays when this process ends.
    pub(crate) fn pinned(link: SchedClassifierLink, path: PathBuf) -> Result<Self, HoldError> {
        let pinned = FdLink::try_from(link)?.pin(&path)?;
        Ok(Self { link: FdLink::from(pinned).try_into()?, pin: Some(path) })
    }

    /// What a predecessor left, to put another program in its place.
    pub(crate) fn left(path: &Path) -> Result<SchedClassifierLink, LinkError> {
        FdLink::from(PinnedLink::from_pin(path)?).try_into()
    }

    /// A link that a predecessor left, with another program in its place.
    pub(crate) fn adopted(link: SchedClassifierLink, path: PathBuf) -> Self {
        Self { link, pin: Some(path) }
    }

    /// Takes the program off the link, pinned or not.
    pub(crate) fn release(self) -> io::Result<()> {
        let outcome = self.pin.map_or(Ok(()), std::fs::remove_file);
        drop(self.link);
        outcome
    }
}

/// Removes what is pinned under a folder: the programs leave their links, entries and counters
/// are gone, and packets are the host's again. What is not there is no error.
///
/// # Errors
/// If a file or the folder cannot be removed.
pub fn remove_pins(folder: &Path) -> io::Result<()> {
    let files = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        std::fs::remove_file(file?.path())?;
    }
    std::fs::remove_dir(folder)
}

/// Why a program is not held at a link for longer than this process.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It is no link that can be pinned.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It cannot be pinned there.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// Whether a map that was there already is what this object takes it for.
pub(crate) fn fits(map: &Map, key: usize, value: usize) -> bool {
    let data = match map {
        Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => data,
        _ => return false,
    };
    let size = |data: &MapData| data.info().map(|info| (info.key_size(), info.value_size()));
    size(data).is_ok_and(|(k, v)| (k as usize, v as usize) == (key, value))
}

/// The maps that outlive the process, and the sizes of their keys and values.
pub(crate) const MAPS: [(&str, usize, usize); 12] = [
    ("flows4", size_of::<RawKey<4>>(), size_of::<RawEntry<4>>()),
    ("flows6", size_of::<RawKey<16>>(), size_of::<RawEntry<16>>()),
    ("punted4", size_of::<RawKey<4>>(), 4),
    ("punted6", size_of::<RawKey<16>>(), 4),
    ("slots", 4, size_of::<RawSlot>()),
    ("ports", 4, 4),
    ("punt_target", 4, size_of::<RawPunt>()),
    ("egresses", 4, size_of::<RawEgress>()),
    ("limits", 4, size_of::<RawLimit>()),
    ("numbers", 4, 4),
    ("counters", 4, 8),
    ("events", 0, 0),
];
