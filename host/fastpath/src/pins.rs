//! Maps and links that outlive the process, under one folder of a BPF file system.
//!
//! A successor loads its own programs on the maps that are there, and puts them in the place of its
//! predecessor's on each link, one system call a link: no packet finds a port without a program.
//!
//! A reader must not break this: what is pinned is only used if its sizes are those of this object;
//! there is one writer of entries at a time.

use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData};
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachType, TcHandle};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::layout::{
    RawAddress, RawEcho, RawEgress, RawEntry, RawFilter, RawFrontend, RawKey, RawLimit, RawPunt,
    RawRefuser, RawShare, RawSlot, RawUplink,
};
use crate::records::{Name, Record};

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Pins(PathBuf);

/// What holds a program at a link.
pub(crate) struct Held {
    link: Option<SchedClassifierLink>,
    stays: Stays,
}

/// Whether the program stays when this process ends.
enum Stays {
    No,
    /// The link is pinned.
    Pin(PathBuf),
    /// A filter of a qdisc stays by itself.
    Filter,
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

    /// The links where one of these programs is.
    pub(crate) fn links<'a>(&self, programs: [&'a str; 4]) -> io::Result<Vec<(&'a str, u32)>> {
        let mut links = Vec::new();
        for file in std::fs::read_dir(&self.0)? {
            let file = file?.file_name();
            for program in programs {
                let number = file.to_str().and_then(|name| name.strip_prefix(program));
                let number = number.and_then(|rest| rest.strip_prefix('-'));
                links.extend(number.and_then(|it| it.parse().ok()).map(|link| (program, link)));
            }
        }
        Ok(links)
    }
}

impl Held {
    pub(crate) fn until_the_end(link: SchedClassifierLink) -> Self {
        Self { link: Some(link), stays: Stays::No }
    }

    /// A filter that stays.
    pub(crate) fn filter(link: SchedClassifierLink) -> Self {
        Self { link: Some(link), stays: Stays::Filter }
    }

    /// A link that is pinned already.
    pub(crate) fn pinned(link: SchedClassifierLink, path: PathBuf) -> Self {
        Self { link: Some(link), stays: Stays::Pin(path) }
    }

    /// Pins a link.
    pub(crate) fn pin(link: SchedClassifierLink, path: PathBuf) -> Result<Self, HoldError> {
        let pinned = FdLink::try_from(link)?.pin(&path)?;
        Ok(Self::pinned(FdLink::from(pinned).try_into()?, path))
    }

    /// Takes the program off the link.
    pub(crate) fn release(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.stays, Stays::No) {
            Stays::Pin(path) => std::fs::remove_file(path),
            Stays::No | Stays::Filter => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Stays::Filter = self.stays {
            // its own drop would remove the filter
            std::mem::forget(self.link.take());
        }
    }
}

/// A link that a predecessor pinned.
pub(crate) fn pinned_link(path: &Path) -> Result<SchedClassifierLink, LinkError> {
    FdLink::from(PinnedLink::from_pin(path)?).try_into()
}

/// A filter that a predecessor left.
pub(crate) fn left_filter(name: &str, filter: RawFilter) -> io::Result<SchedClassifierLink> {
    let handle = TcHandle::from(filter.handle);
    SchedClassifierLink::attached(name, TcAttachType::Ingress, filter.priority, handle, None)
}

/// Removes what is pinned under a folder: the programs leave their links, entries and counters
/// are gone, and packets are the host's again. What is not there is no error.
///
/// Works in the network namespace of the calling thread.
///
/// # Errors
/// If a file or the folder cannot be removed.
pub fn remove_pins(folder: &Path) -> io::Result<()> {
    let files = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    remove_filters(&folder.join("filters"))?;
    for file in files {
        std::fs::remove_file(file?.path())?;
    }
    std::fs::remove_dir(folder)
}

fn remove_filters(map: &Path) -> io::Result<()> {
    // no map: there is nothing to find them by
    let Ok(map) = MapData::from_pin(map) else { return Ok(()) };
    let map = Map::from_map_data(map).map_err(io::Error::other)?;
    let filters: HashMap<_, u32, RawFilter> = map.try_into().map_err(io::Error::other)?;
    for filter in filters.iter() {
        let (link, filter) = filter.map_err(io::Error::other)?;
        // with its link, a filter is gone
        if let Ok(name) = name_of(link) {
            drop(left_filter(&name, filter)?);
        }
    }
    Ok(())
}

/// The name of a link of this thread's network namespace.
pub(crate) fn name_of(link: u32) -> Result<String, Errno> {
    netdevice::index_to_name(socket(AddressFamily::INET, SocketType::DGRAM, None)?, link)
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
        | Map::LpmTrie(data)
        | Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => data,
        _ => return false,
    };
    let size = |data: &MapData| data.info().map(|info| (info.key_size(), info.value_size()));
    size(data).is_ok_and(|(k, v)| (k as usize, v as usize) == (key, value))
}

/// The maps that outlive the process, and the sizes of their keys and values.
pub(crate) const MAPS: [(&str, usize, usize); 28] = [
    ("flows4", size_of::<RawKey<4>>(), size_of::<RawEntry<4>>()),
    ("flows6", size_of::<RawKey<16>>(), size_of::<RawEntry<16>>()),
    ("changing4", 4, size_of::<RawEntry<4>>()),
    ("changing6", 4, size_of::<RawEntry<16>>()),
    ("punted4", size_of::<RawKey<4>>(), 8),
    ("punted6", size_of::<RawKey<16>>(), 8),
    ("slots", 4, size_of::<RawSlot>()),
    ("ports", 4, 4),
    ("punt_target", 4, size_of::<RawPunt>()),
    ("egresses", 4, size_of::<RawEgress>()),
    ("owners", 4 + size_of::<RawAddress>(), 4),
    ("uplinks", 4, size_of::<RawUplink>()),
    ("reserved", 4, 4),
    ("echoes", size_of::<RawEcho>(), 4),
    ("frontends", size_of::<RawFrontend>(), 4),
    ("datagrams", 40, 4),
    ("stand_ins", 16, 16),
    ("stood_for", 16, 16),
    ("filters", 4, size_of::<RawFilter>()),
    ("limits", 4, size_of::<RawLimit>()),
    ("shares", 4, size_of::<RawShare>()),
    ("spent", 4, 8),
    ("records", size_of::<Name>(), size_of::<Record>()),
    ("numbers", 4, 4),
    ("counters", 4, 8),
    ("refused", 4, 8),
    ("refusers", 4, size_of::<RawRefuser>()),
    ("events", 0, 0),
];
