//! The programs and their maps.
//!
//! Owns the loaded programs, their links and maps; when it is dropped, so are they, and packets
//! are the host's again, unless all is pinned. Never decides about a flow.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, IterableMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError};
use rustix::time::{ClockId, clock_gettime};

use crate::frontends::Frontends;
use crate::kernel::{Entries, Punted, SlotMemory};
use crate::layout::{
    EVENT_GENERATION, EVENT_SEEN, EVENT_SIZE, RawAddress, RawEcho, RawEgress, RawFilter, RawLimit,
    RawPunt, RawShare, RawUplink,
};
use crate::numbers::Numbers;
use crate::pins::Pins;
use crate::ports::Links;
use crate::processes::StandIns;
use crate::records::Records;
use crate::refused::Refusers;
use crate::{Acks, CaptureRing, Carried, Closing, Counter, Features, Generation, Key, object};

/// The flow cache of one set of ports.
pub struct FlowCache {
    // links go before the programs they are of
    pub(crate) links: Links,
    pub(crate) pins: Option<Pins>,
    pub(crate) ebpf: Ebpf,
    pub(crate) features: Features,
    pub(crate) flows4: Entries<4>,
    pub(crate) flows6: Entries<16>,
    pub(crate) punted4: Punted<4>,
    pub(crate) punted6: Punted<16>,
    pub(crate) ports: HashMap<MapData, u32, u32>,
    pub(crate) egresses: Array<MapData, RawEgress>,
    pub(crate) owners: LpmTrie<MapData, RawAddress, u32>,
    pub(crate) uplinks: HashMap<MapData, u32, RawUplink>,
    pub(crate) reserved: Array<MapData, u32>,
    pub(crate) echoes: HashMap<MapData, RawEcho, u32>,
    pub(crate) frontends: Frontends,
    pub(crate) stand_ins: StandIns,
    pub(crate) filters: HashMap<MapData, u32, RawFilter>,
    pub(crate) limits: Array<MapData, RawLimit>,
    pub(crate) shares: Array<MapData, RawShare>,
    pub(crate) punt: Array<MapData, RawPunt>,
    pub(crate) records: Records,
    pub(crate) numbers: Numbers,
    pub(crate) refusers: Refusers,
    /// What entries have carried that are gone.
    pub(crate) gone: Carried,
    acks: Acks,
    capture: Option<CaptureRing>,
    counters: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
}

/// How a cache is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Room for entries.
    pub capacity: Capacity,
    /// What of the kernel may be used.
    pub features: Features,
}

/// Entries per family, at most; memory for them and what belongs to them, about 500 bytes each, is
/// taken at once.
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

impl FlowCache {
    /// Loads the programs, with no ports, no entries and no punt pair. All of it goes with this
    /// process.
    ///
    /// # Errors
    /// If the kernel does not take them, or the caller may not.
    pub fn load(settings: Settings) -> Result<Self, LoadError> {
        Self::open(settings, None)
    }

    /// Loads the programs on the maps under this folder of a BPF file system, which are pinned
    /// there if they are not yet: entries are found as they were left. A link that a predecessor
    /// left stays a port as it was, and has this cache's program once it is
    /// [attached](Self::attach); what nobody attaches again can be [let go](Self::let_go_others).
    ///
    /// Only one process may change entries at a time. [`remove_pins`](crate::remove_pins) ends it.
    ///
    /// # Errors
    /// If there are maps of another version, or the kernel does not take it.
    pub fn load_pinned(settings: Settings, folder: &Path) -> Result<Self, LoadError> {
        let pins = Pins::new(folder)
            .map_err(|cause| LoadError::Folder { folder: folder.to_owned(), cause })?;
        Self::open(settings, Some(pins))
    }

    fn open(settings: Settings, pins: Option<Pins>) -> Result<Self, LoadError> {
        let (mut ebpf, features) = object::load(settings, pins.as_ref())?;
        let mut take = |name| ebpf.take_map(name).expect("the object, compiled here, has the map");
        let Map::Array(slots) = take("slots") else { unreachable!("the object says so") };
        let memory = SlotMemory::map(&slots).map_err(fault("mmap"))?;
        let mut punt: Array<_, RawPunt> = open(Array::try_from(take("punt_target")))?;
        if open(punt.get(&0, 0))?.until == 0 {
            let nobody = RawPunt { until: u64::MAX, ..RawPunt::default() };
            punt.set(0, nobody, 0).map_err(MapFault)?;
        }
        Ok(Self {
            links: Links::default(),
            pins,
            features,
            flows4: open(HashMap::try_from(take("flows4")))?,
            flows6: open(HashMap::try_from(take("flows6")))?,
            punted4: open(HashMap::try_from(take("punted4")))?,
            punted6: open(HashMap::try_from(take("punted6")))?,
            ports: open(HashMap::try_from(take("ports")))?,
            egresses: open(Array::try_from(take("egresses")))?,
            owners: open(LpmTrie::try_from(take("owners")))?,
            uplinks: open(HashMap::try_from(take("uplinks")))?,
            reserved: open(Array::try_from(take("reserved")))?,
            echoes: open(HashMap::try_from(take("echoes")))?,
            frontends: Frontends::of(open(HashMap::try_from(take("frontends")))?)?,
            stand_ins: StandIns::of(take("stand_ins"), take("stood_for"))?,
            filters: open(HashMap::try_from(take("filters")))?,
            limits: open(Array::try_from(take("limits")))?,
            shares: open(Array::try_from(take("shares")))?,
            punt,
            records: open(HashMap::try_from(take("records")))?,
            numbers: Numbers::new(open(Array::try_from(take("numbers")))?),
            refusers: Refusers::new(
                open(HashMap::try_from(take("refusers")))?,
                open(PerCpuArray::try_from(take("refused")))?,
            ),
            gone: Carried::default(),
            counters: open(PerCpuArray::try_from(take("counters")))?,
            events: open(RingBuf::try_from(take("events")))?,
            acks: Acks::new(memory),
            capture: Some(CaptureRing::open(take("taps"), take("tapped"), take("copies"))?),
            ebpf,
        })
    }

    /// What of the kernel is used.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Room for entries: that of the maps, which may be a predecessor's.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn capacity(&self) -> Result<Capacity, MapFault> {
        let info = self.flows4.map().info().map_err(MapFault)?;
        Ok(Capacity(info.max_entries()))
    }

    /// Where user space says which packets have left it.
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// What packets are copied with that entries carry, for those who look on; nothing if it was
    /// taken before.
    pub fn take_capture_ring(&mut self) -> Option<CaptureRing> {
        self.capture.take()
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

    /// The clock of [`Usage::last_seen`](crate::Usage::last_seen).
    pub fn now() -> Duration {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        Duration::try_from(now).expect("the clock counts from the machine's start")
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
    /// The folder cannot be made.
    #[error("`{folder}` cannot be made ({cause}); it has to be in a BPF file system")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// A map that is pinned there is of another version.
    #[error("the pinned map `{0}` is of another version of the flow cache")]
    OtherLayout(&'static str),
    /// A map is not what it should be.
    #[error(transparent)]
    Map(#[from] MapFault),
}

/// The kernel refused to read or change a map.
#[derive(Debug, thiserror::Error)]
#[error("a map of the flow cache: {0}")]
pub struct MapFault(pub(crate) MapError);

/// One of the object's programs.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = ebpf.program_mut(name);
    let program = program.expect("the object, compiled with this crate, has the program");
    program.try_into().expect("it is a tc program")
}

pub(crate) fn fault(call: &'static str) -> impl Fn(std::io::Error) -> MapFault {
    move |io_error| MapFault(MapError::SyscallError(aya::sys::SyscallError { call, io_error }))
}

fn open<T>(map: Result<T, MapError>) -> Result<T, MapFault> {
    map.map_err(MapFault)
}

/// The program on the ports.
pub(crate) const ON_PORTS: &str = "flow_cache";
/// The program on the link of all tunnels.
pub(crate) const ON_TUNNEL: &str = "from_tunnel";
/// The program on uplinks.
pub(crate) const ON_UPLINK: &str = "from_uplink";
/// The program on the near end of the punt pair.
pub(crate) const ON_PUNT: &str = "from_user";
/// The program that writes entries anew.
pub(crate) const ON_CHANGE: &str = "change_entries";
