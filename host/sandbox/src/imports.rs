//! What a guest may call, and what the host keeps for it meanwhile.
//!
//! Every argument comes from the guest. Ranges are checked against its memory;
//! one that lies outside traps the guest. Nothing here waits.

use std::sync::Arc;
use std::time::Duration;

use millrace_abi::names::{emit_status, import, map_flag, map_status};
use millrace_abi::{Capability, CapabilitySet, MapShape, NO_PORT, limits};
use wasmtime::{Caller, Linker, Memory, ResourceLimiter, Trap, UpdateDeadline};

use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::log::{FilterLog, Level, clean};
use crate::maps::{HostMap, MapName, MapRegistry, Outcome, Shape};
use crate::memory;
use crate::metrics::Declaration;
use crate::now_ns;

/// The host's side of one instance.
pub(crate) struct Host {
    pub(crate) phase: Phase,
    pub(crate) limiter: Limiter,
    pub(crate) deadline: Deadline,
    pub(crate) clock: Arc<Clock>,
    /// When the batch in hand was received; the time of host map operations.
    pub(crate) batch_ns: u64,
    /// What the guest last said with `fail`.
    pub(crate) said: Option<String>,
    pub(crate) metrics: Vec<Declaration>,
    pub(crate) emitted: Emitted,
    /// The guest's memory, once there is an instance.
    pub(crate) memory: Option<Memory>,
    stage: Arc<str>,
    capabilities: CapabilitySet,
    maps: Vec<Arc<HostMap>>,
    /// The keys of a call that reads many entries.
    asked: Vec<u8>,
    registry: Arc<MapRegistry>,
    log: Arc<FilterLog>,
}

/// What a guest may do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is taking its configuration: it may declare metrics and open maps.
    Setup,
    /// It is answering for packets at hand.
    Live,
    /// It is taking changes of tables, and waits for its turn: nobody would send its frames.
    Update,
    /// It is answering for comparison or for live flows: what it writes is ignored.
    Dry,
}

/// Keeps a guest within its memory, and remembers if it wanted more.
pub(crate) struct Limiter {
    memory: usize,
    pub(crate) denied: bool,
}

/// Frames that a guest wants to send.
#[derive(Default)]
pub(crate) struct Emitted {
    bytes: Vec<u8>,
    /// Port and end of each frame in `bytes`.
    frames: Vec<(u16, usize)>,
}

impl Host {
    pub(crate) fn new(
        stage: Arc<str>,
        capabilities: CapabilitySet,
        memory: usize,
        registry: Arc<MapRegistry>,
        clock: Arc<Clock>,
        log: Arc<FilterLog>,
    ) -> Self {
        Self {
            phase: Phase::Setup,
            limiter: Limiter { memory, denied: false },
            deadline: Deadline::new(Duration::ZERO),
            clock,
            batch_ns: now_ns(),
            said: None,
            metrics: Vec::new(),
            emitted: Emitted::default(),
            memory: None,
            stage,
            capabilities,
            maps: Vec::new(),
            asked: Vec::new(),
            registry,
            log,
        }
    }

    /// Decides about a call that is late on the wall clock.
    pub(crate) fn late(&mut self) -> UpdateDeadline {
        let update = self.deadline.late();
        if let UpdateDeadline::Continue(ticks) = update {
            self.clock.need(ticks);
        }
        update
    }

    /// Forgets what an earlier configuration declared.
    pub(crate) fn begin_setup(&mut self) {
        self.phase = Phase::Setup;
        self.batch_ns = now_ns();
        self.metrics.clear();
        self.maps.clear();
    }

    fn declare_metric(&mut self, kind: u32, name: String, at: u32, memory: &[u8]) -> i32 {
        if self.phase != Phase::Setup
            || self.metrics.len() == limits::MAX_METRICS
            || self.metrics.iter().any(|metric| metric.name == name)
        {
            return map_status::REFUSED;
        }
        match Declaration::new(kind, name, at, memory) {
            Some(declaration) => {
                self.metrics.push(declaration);
                map_status::OK
            }
            None => map_status::REFUSED,
        }
    }

    /// The new map's handle, or why there is none.
    fn open_map(&mut self, name: String, stated: &MapShape) -> Result<i32, String> {
        if self.phase != Phase::Setup {
            return Err("maps are opened while configuring".to_owned());
        }
        if self.maps.len() == limits::MAX_MAPS {
            return Err(format!("a filter has at most {} maps", limits::MAX_MAPS));
        }
        let shared = stated.flags & map_flag::SHARED != 0;
        if shared && !self.capabilities.contains(Capability::Share) {
            return Err("a shared map needs the capability `share`".to_owned());
        }
        if stated.flags & map_flag::CONNECTIONS != 0 {
            self.maps.push(self.registry.open_connections(stated)?);
            return Ok(self.maps.len() as i32 - 1);
        }
        let shape = Shape::new(stated)?;
        let owner = (!shared).then(|| Arc::clone(&self.stage));
        let map = self
            .registry
            .open(MapName { owner, name }, shape)
            .map_err(|present| format!("it exists as {present}; give the new one another name"))?;
        self.maps.push(map);
        Ok(self.maps.len() as i32 - 1)
    }

    fn map(&self, handle: i32) -> Option<&HostMap> {
        find(&self.maps, handle)
    }

    /// A map that the guest may write.
    fn writable(&self, handle: i32) -> Option<&HostMap> {
        self.map(handle).filter(|map| !map.is_own())
    }

    fn writes(&self) -> bool {
        self.phase.writes()
    }
}

impl Phase {
    fn writes(self) -> bool {
        self != Self::Dry
    }
}

impl Emitted {
    fn push(&mut self, port: u16, frame: &[u8]) -> bool {
        let fits =
            self.frames.len() < MAX_EMITTED && self.bytes.len() + frame.len() <= MAX_EMITTED_BYTES;
        if fits {
            self.bytes.extend_from_slice(frame);
            self.frames.push((port, self.bytes.len()));
        }
        fits
    }

    /// Hands every frame to `take`, and is empty afterwards.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(u16, &[u8])) {
        let mut start = 0;
        for (port, end) in self.frames.drain(..) {
            take(port, &self.bytes[start..end]);
            start = end;
        }
        self.bytes.clear();
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory;
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}

/// Defines every import of the contract.
///
/// # Errors
/// None in practice: each name is defined once.
pub(crate) fn define(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let module = import::MODULE;

    linker.func_wrap(
        module,
        import::LOG,
        |mut caller: Caller<'_, Host>, level: u32, text: u32, len: u32| {
            let (memory, host) = split(&mut caller)?;
            let text = range(memory, text, len)?;
            if host.writes() {
                host.log.write(Level::from_number(level), text, now_ns());
            }
            Ok(())
        },
    )?;

    linker.func_wrap(
        module,
        import::FAIL,
        |mut caller: Caller<'_, Host>, text: u32, len: u32| {
            let (memory, host) = split(&mut caller)?;
            host.said = Some(clean(range(memory, text, len)?));
            Ok(())
        },
    )?;

    linker.func_wrap(module, import::NOW, || now_ns() as i64)?;

    linker.func_wrap(
        module,
        import::METRIC,
        |mut caller: Caller<'_, Host>, kind: u32, name: u32, len: u32, value: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(name) = declared_name(range(memory, name, len)?) else {
                return Ok(map_status::REFUSED);
            };
            Ok(host.declare_metric(kind, name, value, memory))
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_OPEN,
        |mut caller: Caller<'_, Host>, name: u32, len: u32, shape: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(name) = declared_name(range(memory, name, len)?) else {
                return Ok(map_status::REFUSED);
            };
            let shape: &[MapShape] =
                memory::view(memory, shape, 1).ok_or(Trap::MemoryOutOfBounds)?;
            let shape = shape[0];
            let complaint = format!("host map `{name}`");
            Ok(host.open_map(name, &shape).unwrap_or_else(|why| {
                host.said = Some(format!("{complaint}: {why}"));
                map_status::REFUSED
            }))
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_GET,
        |mut caller: Caller<'_, Host>, map: i32, key: u32, value: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.map(map) else { return Ok(map_status::REFUSED) };
            let (key_len, value_len) = (map.shape().key_len(), map.shape().value_len());
            let mut own = [0; limits::MAX_KEY];
            let own = &mut own[..key_len];
            own.copy_from_slice(range(memory, key, key_len as u32)?);
            let value = range_mut(memory, value, value_len as u32)?;
            let found = match host.writes() {
                true => map.get(own, value, host.batch_ns),
                false => map.peek(own, value, host.batch_ns),
            };
            Ok(if found { map_status::OK } else { map_status::ABSENT })
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_SET,
        |mut caller: Caller<'_, Host>, map: i32, key: u32, value: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.writable(map) else { return Ok(map_status::REFUSED) };
            let key = range(memory, key, map.shape().key_len() as u32)?;
            let value = range(memory, value, map.shape().value_len() as u32)?;
            if !host.writes() {
                return Ok(map_status::OK);
            }
            Ok(status(map.set(key, value, host.batch_ns)))
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_REMOVE,
        |mut caller: Caller<'_, Host>, map: i32, key: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.writable(map) else { return Ok(map_status::REFUSED) };
            let key = range(memory, key, map.shape().key_len() as u32)?;
            if !host.writes() {
                return Ok(map_status::OK);
            }
            Ok(status(map.remove(key, host.batch_ns)))
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_ADD,
        |mut caller: Caller<'_, Host>, map: i32, key: u32, delta: i64, out: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.writable(map) else { return Ok(map_status::REFUSED) };
            let key = range(memory, key, map.shape().key_len() as u32)?;
            // before the map changes: a trap leaves no half of it done
            range(memory, out, 8)?;
            let sum = match host.writes() {
                true => map.add(key, delta, host.batch_ns),
                false => would_be(map, key, delta, host.batch_ns),
            };
            match sum {
                Ok(sum) => {
                    range_mut(memory, out, 8)?.copy_from_slice(&sum.to_le_bytes());
                    Ok(map_status::OK)
                }
                Err(outcome) => Ok(status(outcome)),
            }
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_EXCHANGE,
        |mut caller: Caller<'_, Host>, map: i32, key: u32, expected: u32, value: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.writable(map) else { return Ok(map_status::REFUSED) };
            let value_len = map.shape().value_len() as u32;
            let key = range(memory, key, map.shape().key_len() as u32)?;
            let value = range(memory, value, value_len)?;
            let expected = match expected {
                0 => None,
                at => Some(range(memory, at, value_len)?),
            };
            if !host.writes() {
                return Ok(map_status::OK);
            }
            Ok(status(map.exchange(key, expected, value, host.batch_ns)))
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_GET_ALL,
        |mut caller: Caller<'_, Host>, map: i32, n: u32, keys: u32, values: u32, found: u32| {
            let (memory, host) = split(&mut caller)?;
            let Host { maps, asked, phase, batch_ns, .. } = host;
            let Some(map) = find(maps, map).filter(|_| n as usize <= limits::MAX_AT_ONCE) else {
                return Ok(map_status::REFUSED);
            };
            let (count, shape) = (n as usize, map.shape());
            // a call that ends in a fault has renewed nothing
            row(memory, found, count, 1)?;
            // the guest may have keys and values overlap
            asked.clear();
            asked.extend_from_slice(row(memory, keys, count, shape.key_len())?);
            let values = row_mut(memory, values, count, shape.value_len())?;
            let entries = asked.chunks(shape.key_len()).zip(values.chunks_mut(shape.value_len()));
            let mut present = [0; limits::MAX_AT_ONCE];
            for ((key, value), present) in entries.zip(&mut present) {
                *present = match phase.writes() {
                    true => map.get(key, value, *batch_ns),
                    false => map.peek(key, value, *batch_ns),
                }
                .into();
            }
            row_mut(memory, found, count, 1)?.copy_from_slice(&present[..count]);
            Ok(map_status::OK)
        },
    )?;

    linker.func_wrap(
        module,
        import::MAP_EXCHANGE_ALL,
        |mut caller: Caller<'_, Host>,
         map: i32,
         n: u32,
         keys: u32,
         found: u32,
         expected: u32,
         values: u32,
         done: u32| {
            let (memory, host) = split(&mut caller)?;
            let Some(map) = host.writable(map).filter(|_| n as usize <= limits::MAX_AT_ONCE) else {
                return Ok(map_status::REFUSED);
            };
            let (count, shape) = (n as usize, map.shape());
            // a call that ends in a fault has changed nothing
            row(memory, done, count, 1)?;
            let keys = row(memory, keys, count, shape.key_len())?.chunks(shape.key_len());
            let values = row(memory, values, count, shape.value_len())?.chunks(shape.value_len());
            let expected =
                row(memory, expected, count, shape.value_len())?.chunks(shape.value_len());
            let expected = expected.zip(row(memory, found, count, 1)?);
            let mut outcomes = [0; limits::MAX_AT_ONCE];
            for (((key, value), (expected, &found)), outcome) in
                keys.zip(values).zip(expected).zip(&mut outcomes)
            {
                let expected = (found != 0).then_some(expected);
                *outcome = match host.writes() {
                    true => status(map.exchange(key, expected, value, host.batch_ns)),
                    false => status(Outcome::Done),
                } as u8;
            }
            row_mut(memory, done, count, 1)?.copy_from_slice(&outcomes[..count]);
            Ok(map_status::OK)
        },
    )?;

    linker.func_wrap(
        module,
        import::EMIT,
        |mut caller: Caller<'_, Host>, port: u32, frame: u32, len: u32| {
            let (memory, host) = split(&mut caller)?;
            let frame = range(memory, frame, len)?;
            let port = u16::try_from(port).unwrap_or(NO_PORT);
            let allowed = host.capabilities.contains(Capability::Emit)
                && (1..=limits::MAX_PORT).contains(&port)
                && (ETHERNET_HEADER..=limits::MAX_FRAME).contains(&frame.len());
            let sent = match host.phase {
                Phase::Live => allowed && host.emitted.push(port, frame),
                Phase::Dry => allowed,
                Phase::Setup | Phase::Update => false,
            };
            Ok(if sent { emit_status::OK } else { emit_status::REFUSED })
        },
    )?;
    Ok(())
}

fn find(maps: &[Arc<HostMap>], handle: i32) -> Option<&HostMap> {
    maps.get(usize::try_from(handle).ok()?).map(Arc::as_ref)
}

/// The guest's memory, and what the host keeps for it.
fn split<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<(&'a mut [u8], &'a mut Host)> {
    // a guest's start function runs before its memory is known to the host
    let memory = caller.data().memory.ok_or(Trap::UnreachableCodeReached)?;
    Ok(memory.data_and_store_mut(caller))
}

fn range(memory: &[u8], at: u32, len: u32) -> wasmtime::Result<&[u8]> {
    Ok(memory::bytes(memory, at, len as usize).ok_or(Trap::MemoryOutOfBounds)?)
}

fn range_mut(memory: &mut [u8], at: u32, len: u32) -> wasmtime::Result<&mut [u8]> {
    Ok(memory::bytes_mut(memory, at, len as usize).ok_or(Trap::MemoryOutOfBounds)?)
}

/// `count` pieces of `len` bytes, one behind the other; none if `count` is 0, wherever that is.
fn row(memory: &[u8], at: u32, count: usize, len: usize) -> wasmtime::Result<&[u8]> {
    Ok(memory::bytes(memory, at, count * len).ok_or(Trap::MemoryOutOfBounds)?)
}

fn row_mut(memory: &mut [u8], at: u32, count: usize, len: usize) -> wasmtime::Result<&mut [u8]> {
    Ok(memory::bytes_mut(memory, at, count * len).ok_or(Trap::MemoryOutOfBounds)?)
}

/// A name as metrics and maps have: short, printable, made to be a label.
fn declared_name(bytes: &[u8]) -> Option<String> {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let fits = (1..=limits::MAX_NAME).contains(&bytes.len()) && bytes.iter().all(plain);
    fits.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// What [`HostMap::add`] would return, were there room; nothing is written.
fn would_be(map: &HostMap, key: &[u8], delta: i64, now_ns: u64) -> Result<u64, Outcome> {
    let mut value = [0; limits::MAX_VALUE];
    let value = &mut value[..map.shape().value_len()];
    map.peek(key, value, now_ns);
    let head = value.first_chunk::<8>().ok_or(Outcome::Absent)?;
    Ok(u64::from_le_bytes(*head).wrapping_add_signed(delta))
}

fn status(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Done => map_status::OK,
        Outcome::Absent => map_status::ABSENT,
        Outcome::Full => map_status::FULL,
    }
}

/// Frames of one call, at most.
const MAX_EMITTED: usize = 64;
/// Their bytes, at most.
const MAX_EMITTED_BYTES: usize = 128 << 10;
/// Elements of a guest's function table, at most.
const MAX_TABLE: usize = 100_000;
const ETHERNET_HEADER: usize = 14;
