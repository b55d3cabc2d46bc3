//! The program on the ports, and its entries.
//!
//! Owns the loaded program, its links and its maps; when it is dropped, so are they, and packets
//! are the host's again. Never decides about a flow.
//!
//! A reader must not break this: an entry that is there is never inserted again. The kernel would
//! put a new element in its place, and what was counted and seen of the flow would be lost.

use std::collections::HashMap as StdHashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, IterableMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use rustix::time::{ClockId, clock_gettime};

use crate::kernel::{Batch, EntryKey, lookup_batch, remove_batch};
use crate::key::Raw;
use crate::layout::{EVENT_GENERATION, EVENT_SEEN, EVENT_SIZE, Key4, Key6, RawEntry, RawPunt};
use crate::{Closing, Counter, Features, Generation, Key, PortId, Usage, Verdict};

/// The flow cache of one set of ports.
pub struct FlowCache {
    // links go before the program they are of
    links: StdHashMap<u32, SchedClassifierLink>,
    ebpf: Ebpf,
    features: Features,
    flows4: HashMap<MapData, Key4, RawEntry>,
    flows6: HashMap<MapData, Key6, RawEntry>,
    ports: HashMap<MapData, u32, u32>,
    punt: Array<MapData, RawPunt>,
    counters: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    generation: u32,
}

/// How a cache is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Room for entries.
    pub capacity: Capacity,
    /// What of the kernel may be used.
    pub features: Features,
}

/// Entries per family, at most; memory for them, about 180 bytes each, is taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity(pub u32);

impl Default for Settings {
    /// Room for 128 Ki entries, and all that the kernel has.
    fn default() -> Self {
        Self { capacity: Capacity(128 * 1024), features: Features::of_kernel() }
    }
}

/// A TCP direction began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The direction.
    pub key: Key,
    /// Of the entry; another one by now if the flow was removed and came back.
    pub generation: Generation,
    /// How it closes.
    pub closing: Closing,
}

/// A place in the walk through all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    family: Family,
    bucket: Option<u32>,
}

/// Some entries, and where the walk goes on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// At most [`FlowCache::SLICE`]; may be none before the end.
    pub entries: Vec<(Key, Usage)>,
    /// Nothing at the end of the walk.
    pub next: Option<Cursor>,
}

impl FlowCache {
    /// Entries in a slice, at most.
    pub const SLICE: usize = 4096;

    /// Loads the program, with no ports, no entries and no punt pair.
    ///
    /// # Errors
    /// If the kernel does not take it, or the caller may not.
    pub fn load(settings: Settings) -> Result<Self, LoadError> {
        let set_packet_type = u8::from(!settings.features.peer_marks_packets);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("flows4", settings.capacity.0)
            .map_max_entries("flows6", settings.capacity.0)
            .override_global("set_packet_type", &set_packet_type, true)
            .load(OBJECT)?;
        program(&mut ebpf).load()?;
        let mut take = |name| ebpf.take_map(name).expect("the object, compiled here, has the map");
        Ok(Self {
            links: StdHashMap::new(),
            features: settings.features,
            flows4: open(HashMap::try_from(take("flows4")))?,
            flows6: open(HashMap::try_from(take("flows6")))?,
            ports: open(HashMap::try_from(take("ports")))?,
            punt: open(Array::try_from(take("punt_target")))?,
            counters: open(PerCpuArray::try_from(take("counters")))?,
            events: open(RingBuf::try_from(take("events")))?,
            generation: 0,
            ebpf,
        })
    }

    /// What of the kernel is used.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Makes the link with this index a port: what it receives is the cache's, and no longer the
    /// host's. Programs of others on the same hook stay.
    ///
    /// Works in the network namespace of the calling thread. Without
    /// [`tcx`](Features::tcx) the link keeps an empty `clsact` qdisc, which others may use.
    ///
    /// # Errors
    /// If it is a port already, or the kernel refuses.
    pub fn attach(&mut self, link: u32, port: PortId) -> Result<(), AttachError> {
        if self.links.contains_key(&link) {
            return Err(AttachError::IsPort(link));
        }
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .map_err(|cause| AttachError::NoSuchLink { link, cause })?;
        let name = netdevice::index_to_name(socket, link)
            .map_err(|cause| AttachError::NoSuchLink { link, cause })?;
        let options = if self.features.tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            make_clsact(&name)?;
            TcAttachOptions::Netlink(NlOptions::default())
        };

        // the program drops what comes by an interface it does not know
        self.ports.insert(link, u32::from(port.number()), 0).map_err(MapFault)?;
        let program = program(&mut self.ebpf);
        let attached = program
            .attach_with_options(&name, TcAttachType::Ingress, options)
            .and_then(|id| program.take_link(id));
        match attached {
            Ok(attached) => {
                self.links.insert(link, attached);
                Ok(())
            }
            Err(cause) => {
                self.ports.remove(&link).map_err(MapFault)?;
                Err(AttachError::Refused { name, cause: Box::new(cause) })
            }
        }
    }

    /// Ends what [`attach`](Self::attach) began; says whether the link was a port. Its entries
    /// stay: remove them before an address or the port's id is given to another.
    ///
    /// Works in the network namespace of the calling thread, as dropping the cache does. A link
    /// that was deleted meanwhile is forgotten all the same.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn detach(&mut self, link: u32) -> Result<bool, MapFault> {
        let Some(attached) = self.links.remove(&link) else { return Ok(false) };
        drop(attached);
        self.ports.remove(&link).map_err(MapFault)?;
        Ok(true)
    }

    /// Sends misses to the punt pair whose near end is the link with this index, and that has so
    /// many queues. Before this, misses are dropped.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn punt_to(&mut self, link: u32, queues: u32) -> Result<(), MapFault> {
        self.punt.set(0, RawPunt { ifindex: link, queues }, 0).map_err(MapFault)
    }

    /// Installs an entry; packets take it from now on.
    ///
    /// # Errors
    /// If there is one with this key, or no room.
    pub fn insert(&mut self, key: &Key, verdict: &Verdict) -> Result<Generation, InsertError> {
        let generation = Generation(self.generation.checked_add(1).unwrap_or(1));
        let entry = verdict.entry(generation, Self::now());
        match key.0 {
            Raw::V4(key) => self.flows4.insert(key, entry, NO_EXIST),
            Raw::V6(key) => self.flows6.insert(key, entry, NO_EXIST),
        }
        .map_err(|error| match errno(&error) {
            Some(libc::EEXIST) => InsertError::Exists,
            Some(libc::E2BIG) => InsertError::Full,
            _ => InsertError::Refused(MapFault(error)),
        })?;
        self.generation = generation.0;
        Ok(generation)
    }

    /// Removes entries, and says how many there were.
    ///
    /// # Errors
    /// If the kernel refuses; some may be removed.
    pub fn remove(&mut self, keys: &[Key]) -> Result<usize, MapFault> {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for key in keys {
            match key.0 {
                Raw::V4(key) => four.push(key),
                Raw::V6(key) => six.push(key),
            }
        }
        Ok(remove_all(self.map4(), &four)? + remove_all(self.map6(), &six)?)
    }

    /// What was seen of an entry's packets, if it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn usage(&self, key: &Key) -> Result<Option<Usage>, MapFault> {
        let entry = match key.0 {
            Raw::V4(key) => self.flows4.get(&key, 0),
            Raw::V6(key) => self.flows6.get(&key, 0),
        };
        match entry {
            Ok(entry) => Ok(Some(Usage::from(&entry))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(MapFault(error)),
        }
    }

    /// Copies some entries, from [`Cursor::default`] or where the last slice ended. Entries that
    /// are there all through a walk are seen in it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn slice(&self, from: Cursor) -> Result<Slice, MapFault> {
        match from.family {
            Family::V4 => {
                let (entries, next) = lookup(self.map4(), from.bucket)?;
                let next = Some(match next {
                    Some(bucket) => Cursor { bucket: Some(bucket), ..from },
                    None => Cursor { family: Family::V6, bucket: None },
                });
                Ok(Slice { entries: read(entries, Raw::V4), next })
            }
            Family::V6 => {
                let (entries, next) = lookup(self.map6(), from.bucket)?;
                let next = next.map(|bucket| Cursor { bucket: Some(bucket), ..from });
                Ok(Slice { entries: read(entries, Raw::V6), next })
            }
        }
    }

    /// The next event, if there is one; wait for more on [`events`](Self::events).
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.next()?;
        debug_assert_eq!(event.len(), EVENT_SIZE);
        let generation = *event.get(EVENT_GENERATION..)?.first_chunk()?;
        Some(Event {
            key: Key::of_event(&event)?,
            generation: Generation(u32::from_ne_bytes(generation)),
            closing: Closing::of(u32::from(*event.get(EVENT_SEEN)?))?,
        })
    }

    /// Readable when there are events.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// How many packets met this fate, on all CPUs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn count(&self, counter: Counter) -> Result<u64, MapFault> {
        let values = self.counters.get(&(counter as u32), 0).map_err(MapFault)?;
        Ok(values.iter().sum())
    }

    /// The clock of [`Usage::last_seen`].
    pub fn now() -> Duration {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        Duration::try_from(now).expect("the clock counts from the machine's start")
    }

    fn map4(&self) -> BorrowedFd<'_> {
        self.flows4.map().fd().as_fd()
    }

    fn map6(&self) -> BorrowedFd<'_> {
        self.flows6.map().fd().as_fd()
    }
}

/// Why the program is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel does not take the object.
    #[error("the kernel does not load the flow cache: {0}; it needs CAP_BPF and CAP_NET_ADMIN")]
    Load(#[from] EbpfError),
    /// The kernel does not take the program.
    #[error("the kernel does not load the flow cache: {0}; it needs CAP_BPF and CAP_NET_ADMIN")]
    Verify(#[from] ProgramError),
    /// A map is not what it should be.
    #[error(transparent)]
    Map(#[from] MapFault),
}

/// Why a link is no port.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is one already.
    #[error("link {0} is a port already")]
    IsPort(u32),
    /// There is no such link in the caller's namespace.
    #[error("there is no link {link} here: {cause}")]
    NoSuchLink {
        /// Its index.
        link: u32,
        /// What the kernel said.
        cause: rustix::io::Errno,
    },
    /// It cannot be entered among the ports.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The kernel does not take a `clsact` qdisc.
    #[error("link `{name}` takes no clsact qdisc: {cause}")]
    Qdisc {
        /// The link.
        name: String,
        /// What the kernel said.
        cause: TcError,
    },
    /// The kernel does not take the program there.
    #[error("the flow cache cannot be attached to `{name}`: {cause}")]
    Refused {
        /// The link.
        name: String,
        /// What the kernel said.
        cause: Box<ProgramError>,
    },
}

/// Why an entry is not there.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There is one with the same key.
    #[error("the flow has an entry: remove it first")]
    Exists,
    /// There is no room.
    #[error("the flow cache is full")]
    Full,
    /// The kernel refused for another reason.
    #[error(transparent)]
    Refused(MapFault),
}

/// The kernel refused to read or change a map.
#[derive(Debug, thiserror::Error)]
#[error("a map of the flow cache: {0}")]
pub struct MapFault(MapError);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    #[default]
    V4,
    V6,
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("flow_cache");
    let program = program.expect("the object, compiled with this crate, has the program");
    program.try_into().expect("it is a tc program")
}

fn open<T>(map: Result<T, MapError>) -> Result<T, MapFault> {
    map.map_err(MapFault)
}

/// Another owner's qdisc is as good.
fn make_clsact(name: &str) -> Result<(), AttachError> {
    match qdisc_add_clsact(name) {
        Ok(()) => Ok(()),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(cause) => Err(AttachError::Qdisc { name: name.to_owned(), cause }),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

fn fault(call: &'static str) -> impl Fn(std::io::Error) -> MapFault {
    move |io_error| MapFault(MapError::SyscallError(aya::sys::SyscallError { call, io_error }))
}

/// A batch ends at an entry that is not there: the rest follows in another.
fn remove_all<K: EntryKey>(map: BorrowedFd<'_>, mut keys: &[K]) -> Result<usize, MapFault> {
    let mut removed = 0;
    while !keys.is_empty() {
        let done = remove_batch(map, keys).map_err(fault("bpf_map_delete_batch"))?;
        removed += done;
        keys = keys.get(done + 1..).unwrap_or_default();
    }
    Ok(removed)
}

fn lookup<K: EntryKey>(map: BorrowedFd<'_>, from: Option<u32>) -> Result<Batch<K>, MapFault> {
    lookup_batch(map, from, FlowCache::SLICE).map_err(fault("bpf_map_lookup_batch"))
}

fn read<K>(entries: Vec<(K, RawEntry)>, family: fn(K) -> Raw) -> Vec<(Key, Usage)> {
    entries.into_iter().map(|(key, entry)| (Key(family(key)), Usage::from(&entry))).collect()
}

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow_cache.bpf.o"));
