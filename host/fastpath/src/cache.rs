//! The programs and their maps.
//!
//! Owns the loaded programs, their links and maps; when it is dropped, so are they, and packets
//! are the host's again. Never decides about a flow.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use rustix::time::{ClockId, clock_gettime};

use crate::kernel::{Entries, Punted, SlotMemory};
use crate::layout::{EVENT_GENERATION, EVENT_SEEN, EVENT_SIZE, RawEgress, RawPunt};
use crate::ports::Links;
use crate::{Acks, Closing, Counter, Features, Generation, Key};

/// The flow cache of one set of ports.
pub struct FlowCache {
    // links go before the programs they are of
    pub(crate) links: Links,
    pub(crate) ebpf: Ebpf,
    pub(crate) features: Features,
    pub(crate) flows4: Entries<4>,
    pub(crate) flows6: Entries<16>,
    pub(crate) punted4: Punted<4>,
    pub(crate) punted6: Punted<16>,
    pub(crate) ports: HashMap<MapData, u32, u32>,
    pub(crate) egresses: Array<MapData, RawEgress>,
    pub(crate) punt: Array<MapData, RawPunt>,
    pub(crate) generation: u32,
    acks: Acks,
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

impl FlowCache {
    /// Loads the programs, with no ports, no entries and no punt pair.
    ///
    /// # Errors
    /// If the kernel does not take it, or the caller may not.
    pub fn load(settings: Settings) -> Result<Self, LoadError> {
        let set_packet_type = u8::from(!settings.features.peer_marks_packets);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("flows4", settings.capacity.0)
            .map_max_entries("flows6", settings.capacity.0)
            .map_max_entries("punted4", settings.capacity.0)
            .map_max_entries("punted6", settings.capacity.0)
            // one for each entry, and the one that stands for none
            .map_max_entries("slots", settings.capacity.0.saturating_mul(2).saturating_add(1))
            .override_global("set_packet_type", &set_packet_type, true)
            .load(OBJECT)?;
        for name in [ON_PORTS, ON_PUNT, ON_CHANGE] {
            program(&mut ebpf, name).load()?;
        }
        let mut take = |name| ebpf.take_map(name).expect("the object, compiled here, has the map");
        let Map::Array(slots) = take("slots") else { unreachable!("the object says so") };
        let memory = SlotMemory::map(&slots).map_err(fault("mmap"))?;
        Ok(Self {
            links: Links::default(),
            features: settings.features,
            flows4: open(HashMap::try_from(take("flows4")))?,
            flows6: open(HashMap::try_from(take("flows6")))?,
            punted4: open(HashMap::try_from(take("punted4")))?,
            punted6: open(HashMap::try_from(take("punted6")))?,
            ports: open(HashMap::try_from(take("ports")))?,
            egresses: open(Array::try_from(take("egresses")))?,
            punt: open(Array::try_from(take("punt_target")))?,
            counters: open(PerCpuArray::try_from(take("counters")))?,
            events: open(RingBuf::try_from(take("events")))?,
            acks: Acks::new(memory),
            generation: 0,
            ebpf,
        })
    }

    /// What of the kernel is used.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Where user space says which packets have left it.
    pub fn acks(&self) -> &Acks {
        &self.acks
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
/// The program on the near end of the punt pair.
pub(crate) const ON_PUNT: &str = "from_user";
/// The program that writes entries anew.
pub(crate) const ON_CHANGE: &str = "change_entry";

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow_cache.bpf.o"));
