//! Walk `packet` 5/7: chain → **sandbox** → rewrite.
//!
//! One running copy of a module, owned by one thread at a time.
//!
//! The caller writes slots into the guest's memory through [`Instance::slots_mut`],
//! calls the hook, and reads the decisions where the guest left them: one copy in,
//! none out. Once a call has ended in a [`Fault`] the instance is dead, and must
//! be dropped: the guest's stack pointer and heap are wherever the fault left them.

use std::sync::Arc;
use std::time::Duration;

use millrace_abi::names::export;
use millrace_abi::{Decision, Origin, PacketRecord, Slot, limits};
use wasmtime::{InstancePre, Memory, Store, TypedFunc, WasmParams, WasmResults};

use crate::clock::{Clock, ticks};
use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::imports::{Host, Phase};
use crate::manifest::{Hook, Manifest};
use crate::maps::MapRegistry;
use crate::memory;
use crate::metrics::Metric;
use crate::module::{Grant, InstanceError};

/// One running copy of a module.
pub struct Instance {
    store: Store<Host>,
    memory: Memory,
    configure: TypedFunc<(u32, u32), i32>,
    alloc: TypedFunc<u32, u32>,
    flow: Option<SharedHook<(u32, u32, u32)>>,
    packet: Option<SharedHook<(u32, u32, u32)>>,
    tick: Option<SharedHook<u64>>,
    update: Option<TypedFunc<(u32, u32), i32>>,
    buffers: Buffers,
    /// Packets in the batch for the packet hook.
    pushed: usize,
    deadline: Duration,
    /// The metrics' bytes from before a dry call.
    saved: Vec<u8>,
}

/// A hook that a call shares, which needs the rest of the instance for itself: a copy costs as much as
/// the call.
type SharedHook<P> = Arc<TypedFunc<P, i32>>;

/// Where in the guest's memory the host may write. Each lies inside the memory,
/// aligned, and apart from the others: checked when it was allocated, and true
/// ever after, for a memory does not shrink.
#[derive(Clone, Copy, Debug, Default)]
struct Buffers {
    slots: u32,
    decisions: u32,
    records: u32,
    frames: u32,
    /// Bytes at `frames` for each packet of a batch.
    stride: u32,
}

impl Instance {
    pub(crate) fn start(
        prepared: &InstancePre<Host>,
        manifest: &Manifest,
        grant: &Grant,
        maps: &Arc<MapRegistry>,
        clock: &Arc<Clock>,
        config: &str,
    ) -> Result<Self, InstanceError> {
        let host = Host::new(
            Arc::clone(&grant.stage),
            grant.capabilities,
            grant.memory,
            Arc::clone(maps),
            Arc::clone(clock),
            Arc::clone(&grant.log),
        );
        let mut store = Store::new(prepared.module().engine(), host);
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().late()));
        begin(&mut store, SETUP);

        let instance = prepared
            .instantiate(&mut store)
            .map_err(|error| InstanceError::Start(fault(&mut store, &error)))?;
        let memory = instance
            .get_memory(&mut store, export::MEMORY)
            .expect("validation has seen that there is one");
        store.data_mut().memory = Some(memory);

        let mut this = Self {
            memory,
            configure: function(&instance, &mut store, export::CONFIGURE),
            alloc: function(&instance, &mut store, export::ALLOC),
            flow: manifest
                .has(Hook::Flow)
                .then(|| Arc::new(function(&instance, &mut store, export::FLOW))),
            packet: manifest
                .has(Hook::Packet)
                .then(|| Arc::new(function(&instance, &mut store, export::PACKET))),
            tick: manifest
                .has(Hook::Tick)
                .then(|| Arc::new(function(&instance, &mut store, export::TICK))),
            update: manifest
                .has(Hook::Update)
                .then(|| function(&instance, &mut store, export::UPDATE)),
            store,
            buffers: Buffers::default(),
            pushed: 0,
            deadline: grant.deadline,
            saved: Vec::new(),
        };
        this.buffers = this.allocate(manifest)?;
        this.configure(config)?;
        Ok(this)
    }

    /// Gives the guest a configuration (JSON). On success it is in force from the next call on.
    ///
    /// # Errors
    /// If the guest refuses it or fails; the instance is dead then.
    pub fn configure(&mut self, config: &str) -> Result<(), InstanceError> {
        if config.len() > limits::MAX_CONFIG {
            return Err(InstanceError::ConfigTooLong(config.len()));
        }
        self.store.data_mut().begin_setup();
        let (at, len) = self.give(config.as_bytes())?;
        let configure = self.configure.clone();
        let outcome = self.invoke(&configure, (at, len), SETUP);
        self.store.data_mut().phase = Phase::Live;
        outcome.map_err(InstanceError::Configure)
    }

    /// Tells the guest what has changed of its tables. Until the last update of those that hold
    /// together it must not be asked anything.
    ///
    /// # Errors
    /// If the guest refuses it or fails; the instance is dead then.
    ///
    /// # Panics
    /// If the module has no update hook.
    pub fn update(&mut self, changes: &[u8]) -> Result<(), InstanceError> {
        let hook = self.update.clone().expect("the caller tells only modules that subscribe");
        if changes.len() > limits::MAX_UPDATE {
            return Err(InstanceError::UpdateTooLong(changes.len()));
        }
        self.store.data_mut().phase = Phase::Update;
        let (at, len) = self.give(changes)?;
        let outcome = self.invoke(&hook, (at, len), SETUP);
        self.store.data_mut().phase = Phase::Live;
        outcome.map_err(InstanceError::Update)
    }

    /// The guest's slots, `n` of them, to be written before [`Instance::flow`].
    ///
    /// # Panics
    /// If `n` is more than [`limits::MAX_BATCH`].
    #[inline]
    pub fn slots_mut(&mut self, n: usize) -> &mut [Slot] {
        assert!(n <= limits::MAX_BATCH, "a batch has at most {} slots", limits::MAX_BATCH);
        memory::view_mut(self.memory.data_mut(&mut self.store), self.buffers.slots, n)
            .expect(INSIDE)
    }

    /// Asks about the first `n` slots, all of one origin. The decisions are what the guest wrote:
    /// nothing in them is to be trusted.
    ///
    /// # Errors
    /// The fault; the instance is dead then.
    ///
    /// # Panics
    /// If the module has no flow hook, or as [`Instance::slots_mut`].
    pub fn flow(&mut self, n: usize, origin: Origin, now_ns: u64) -> Result<&[Decision], Fault> {
        let hook = self.flow.clone().expect("the caller asks only modules that have the hook");
        let decisions: &mut [Decision] =
            memory::view_mut(self.memory.data_mut(&mut self.store), self.buffers.decisions, n)
                .expect(INSIDE);
        for decision in decisions {
            // the part that counts without a bit in `fields`; the contract says so
            decision.control = 0;
            decision.tag_count = 0;
            decision.fields = 0;
            decision.reason = 0;
            decision.rule = 0;
        }

        let arguments = (self.buffers.slots, self.buffers.decisions, n as u32);
        self.answer(&hook, arguments, origin, now_ns)?;
        Ok(memory::view(self.memory.data(&self.store), self.buffers.decisions, n).expect(INSIDE))
    }

    /// Adds a packet to the batch that [`Instance::show_packets`] will show; false if the batch is
    /// full.
    ///
    /// # Panics
    /// If the module has no packet hook.
    pub fn push_packet(&mut self, slot: &Slot, frame: &[u8]) -> bool {
        let (buffers, at) = (self.buffers, self.pushed);
        let stride = buffers.stride as usize;
        assert!(stride > 0, "the caller shows packets only to modules that look");
        if at == (FRAMES as usize / stride).clamp(1, limits::MAX_BATCH) {
            return false;
        }

        let memory = self.memory.data_mut(&mut self.store);
        let data = buffers.frames + (at * stride) as u32;
        let seen = frame.len().min(stride);
        memory::bytes_mut(memory, data, seen).expect(INSIDE).copy_from_slice(&frame[..seen]);
        memory::view_mut(memory, buffers.slots, limits::MAX_BATCH).expect(INSIDE)[at] = *slot;
        memory::view_mut(memory, buffers.records, limits::MAX_BATCH).expect(INSIDE)[at] =
            PacketRecord {
                data,
                len: seen as u32,
                wire_len: frame.len() as u32,
                capacity: buffers.stride,
                slot: at as u32,
                ..PacketRecord::ZERO
            };
        self.pushed += 1;
        true
    }

    /// Shows the batch to the guest, and hands each answer with the bytes the guest left for it
    /// to `take`, in order. The answers are what the guest wrote: nothing in them is to be trusted,
    /// but the bytes are those the record's `data` was given for. The next batch begins empty.
    ///
    /// # Errors
    /// The fault; the instance is dead then, and `take` was not called.
    ///
    /// # Panics
    /// If the module has no packet hook.
    pub fn show_packets(
        &mut self,
        origin: Origin,
        now_ns: u64,
        take: &mut dyn FnMut(usize, &PacketRecord, &[u8]),
    ) -> Result<(), Fault> {
        let hook = self.packet.clone().expect("the caller shows packets only to modules that look");
        let (buffers, count) = (self.buffers, std::mem::take(&mut self.pushed));
        self.answer(&hook, (buffers.slots, buffers.records, count as u32), origin, now_ns)?;

        let memory = self.memory.data(&self.store);
        let records: &[PacketRecord] = memory::view(memory, buffers.records, count).expect(INSIDE);
        for (index, record) in records.iter().enumerate() {
            let data = buffers.frames + index as u32 * buffers.stride;
            let bytes = memory::bytes(memory, data, buffers.stride as usize).expect(INSIDE);
            take(index, record, bytes);
        }
        Ok(())
    }

    /// Calls the tick hook, if there is one.
    ///
    /// # Errors
    /// The fault; the instance is dead then.
    pub fn tick(&mut self, now_ns: u64) -> Result<(), Fault> {
        match self.tick.clone() {
            Some(hook) => self.answer(&hook, now_ns, Origin::New, now_ns),
            None => Ok(()),
        }
    }

    /// Hands every frame the guest sent since the last time to `take`, with its port.
    #[inline]
    pub fn take_emitted(&mut self, take: impl FnMut(u16, &[u8])) {
        self.store.data_mut().emitted.drain(take);
    }

    /// What the filter counts, as of now.
    pub fn metrics(&self) -> Vec<Metric> {
        let memory = self.memory.data(&self.store);
        self.store.data().metrics.iter().map(|metric| metric.read(memory)).collect()
    }

    /// Has the filter count from zero again, gauges aside: what it has counted is kept elsewhere.
    pub fn recount(&mut self) {
        let (memory, host) = self.memory.data_and_store_mut(&mut self.store);
        host.metrics.iter().for_each(|metric| metric.recount(memory));
    }

    /// Bytes of linear memory in use.
    pub fn memory_size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Calls a hook; a dry call leaves metrics as they were.
    fn answer<P: WasmParams>(
        &mut self,
        hook: &TypedFunc<P, i32>,
        arguments: P,
        origin: Origin,
        now_ns: u64,
    ) -> Result<(), Fault> {
        self.store.data_mut().batch_ns = now_ns;
        if origin == Origin::New {
            return self.invoke(hook, arguments, self.deadline);
        }

        self.store.data_mut().phase = Phase::Dry;
        self.saved.clear();
        let (memory, host) = self.memory.data_and_store_mut(&mut self.store);
        for metric in &host.metrics {
            self.saved.extend_from_slice(metric.bytes(memory));
        }
        let outcome = self.invoke(hook, arguments, self.deadline);
        let (memory, host) = self.memory.data_and_store_mut(&mut self.store);
        let mut saved = self.saved.as_slice();
        for metric in &host.metrics {
            let bytes = metric.bytes_mut(memory);
            let (value, rest) = saved.split_at(bytes.len());
            bytes.copy_from_slice(value);
            saved = rest;
        }
        host.phase = Phase::Live;
        outcome
    }

    #[inline]
    fn invoke<P: WasmParams>(
        &mut self,
        function: &TypedFunc<P, i32>,
        arguments: P,
        deadline: Duration,
    ) -> Result<(), Fault> {
        begin(&mut self.store, deadline);
        // what an earlier call said, or was refused, explains nothing of this one
        let host = self.store.data_mut();
        (host.said, host.limiter.denied) = (None, false);
        match function.call(&mut self.store, arguments) {
            Ok(0) => Ok(()),
            Ok(code) => Err(Fault::refused(code, self.store.data_mut().said.take())),
            Err(error) => Err(fault(&mut self.store, &error)),
        }
    }

    /// Writes bytes to memory that is the guest's from then on.
    fn give(&mut self, bytes: &[u8]) -> Result<(u32, u32), InstanceError> {
        let len = bytes.len() as u32;
        let at = self.reserve(len.max(1), &mut Vec::new())?;
        memory::bytes_mut(self.memory.data_mut(&mut self.store), at, bytes.len())
            .expect("`reserve` returns only ranges inside the memory")
            .copy_from_slice(bytes);
        Ok((at, len))
    }

    fn allocate(&mut self, manifest: &Manifest) -> Result<Buffers, InstanceError> {
        let mut taken = Vec::new();
        let mut buffers = Buffers::default();
        let batch = limits::MAX_BATCH;
        if manifest.has(Hook::Flow) || manifest.has(Hook::Packet) {
            buffers.slots = self.reserve((batch * size_of::<Slot>()) as u32, &mut taken)?;
        }
        if manifest.has(Hook::Flow) {
            buffers.decisions = self.reserve((batch * size_of::<Decision>()) as u32, &mut taken)?;
        }
        if manifest.has(Hook::Packet) {
            buffers.records =
                self.reserve((batch * size_of::<PacketRecord>()) as u32, &mut taken)?;
            buffers.stride = manifest.snap.next_multiple_of(limits::ALIGNMENT);
            buffers.frames = self.reserve(FRAMES.max(buffers.stride), &mut taken)?;
        }
        Ok(buffers)
    }

    /// Asks the guest for memory and checks what it gives. `taken` are the ranges given before.
    fn reserve(&mut self, len: u32, taken: &mut Vec<(u32, u32)>) -> Result<u32, InstanceError> {
        begin(&mut self.store, SETUP);
        let at = self
            .alloc
            .call(&mut self.store, len)
            .map_err(|error| InstanceError::Start(fault(&mut self.store, &error)))?;
        let end = u64::from(at) + u64::from(len);
        let problem = if at == 0 {
            Some("says that there is no memory")
        } else if at % limits::ALIGNMENT != 0 {
            Some("is not aligned to 16")
        } else if end > self.memory.data_size(&self.store) as u64 {
            Some("lies outside its memory")
        } else if taken.iter().any(|&(a, b)| u64::from(a) < end && at < b) {
            Some("it gave before")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(InstanceError::Alloc { at, len, problem }),
            None => {
                // `end` fits: it is not beyond the end of a 32-bit memory
                taken.push((at, end.min(u32::MAX.into()) as u32));
                Ok(at)
            }
        }
    }
}

/// The exported function `name`; validation has seen that it is there, with this signature.
fn function<P: WasmParams, R: WasmResults>(
    instance: &wasmtime::Instance,
    store: &mut Store<Host>,
    name: &str,
) -> TypedFunc<P, R> {
    instance.get_typed_func(store, name).expect("validation has seen this export")
}

/// Gives the next call its time.
#[inline]
fn begin(store: &mut Store<Host>, allowed: Duration) {
    store.set_epoch_deadline(ticks(allowed));
    let host = store.data_mut();
    host.deadline = Deadline::new(allowed);
    host.clock.need(ticks(allowed));
}

fn fault(store: &mut Store<Host>, error: &wasmtime::Error) -> Fault {
    let host = store.data_mut();
    let denied = std::mem::take(&mut host.limiter.denied);
    Fault::from_trap(error, host.said.take(), denied)
}

/// Why a view of a buffer cannot fail.
const INSIDE: &str = "the buffers lie inside the memory";

/// How long starting or taking a configuration may take.
const SETUP: Duration = Duration::from_secs(1);

/// Bytes of packets in one call of the packet hook, unless a single one is larger.
const FRAMES: u32 = 128 << 10;
