//! With parse, flow map and dispatch: whole rounds of a worker, whose ports are in memory.
//!
//! Only rounds are timed: packets are put into the queues before, and taken out behind. A sample
//! counts only if every packet has left where it should; anything else is an error. All workers
//! use one set of queues in turn, so that none has better memory than the others.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use millrace_abi::PortKind;
use millrace_dataplane::memory_io::MemoryIo;
use millrace_dataplane::port::{HeldPort, Hold, Port, PortId, Vlans};
use millrace_dataplane::stage::{FaultDesk, FaultReport};
use millrace_dataplane::worker::{Worker, WorkerSettings};

use super::filters::{BURSTS, PROMISED_BURST};
use super::recipe::{CHAIN, Dish, Kind, Kitchen, stages};
use super::workload::{FLOWS, STATIONS, Workload, make_new};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::unit::Unit;

/// How fast the whole path is.
pub const SPEED: Promise = Promise::at_least(
    "speed of WASM against native, with parse, flow map and dispatch, bursts of 64 and more",
    0.85,
    Unit::Ratio,
);

/// What the worker remembers of the packets it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: the chain is asked about every packet.
    Nothing,
    /// Every flow: the chain is hardly asked.
    Every,
    /// None of them, although it would: each packet opens a flow.
    NoneOfThem,
}

impl Memory {
    /// All cases.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Every, Self::NoneOfThem];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nothing => "chain on every packet",
            Self::Every => "flows remembered",
            Self::NoneOfThem => "new flows",
        }
    }

    /// Whether there is a flow map at all.
    fn has_map(self) -> bool {
        self != Self::Nothing
    }

    /// Bursts that are measured: fewer where each worker needs a large map.
    fn bursts(self) -> &'static [usize] {
        if self == Self::NoneOfThem { &[1, PROMISED_BURST, 256] } else { &BURSTS }
    }

    /// Flows that a worker has room for.
    fn room(self) -> usize {
        if self == Self::NoneOfThem { WorkerSettings::default().flows } else { 16 * FLOWS }
    }
}

/// Measures rounds with chains of one to five filters.
///
/// # Errors
/// If a filter does not start, or a packet goes astray.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let kitchen = Kitchen::new(&plan.sandbox())?;
    let mut io = queues();
    let mut cases = Vec::new();
    for memory in Memory::ALL {
        for length in 1..=CHAIN.len() {
            for &burst in memory.bursts() {
                let mut kinds = Vec::new();
                for kind in Kind::BOTH {
                    let chain = kitchen.chain(kind, length)?;
                    let track = Track::new(chain, memory, burst, &mut io)?;
                    kinds.push((kind, track, Vec::new()));
                }
                cases.push(Case { memory, length, burst, kinds });
            }
        }
    }

    let laps = plan.much(8, 2);
    for _ in 0..plan.runs(41, 15) {
        for case in &mut cases {
            for (_, track, samples) in &mut case.kinds {
                samples.push(track.sample(laps, &mut io)?);
            }
        }
    }
    for case in &cases {
        case.report(outcome);
    }
    for memory in Memory::ALL {
        outcome.charts.push(chart(&cases, memory));
    }
    outcome.notes.push(
        "`new flows`: every packet opens a flow that is remembered, in place of another. With the \
         chain on every packet there is no flow map, and no promise: the tax of its filters is \
         what `filters` bounds."
            .to_owned(),
    );
    Ok(())
}

struct Case {
    memory: Memory,
    length: usize,
    burst: usize,
    kinds: Vec<(Kind, Track, Vec<f64>)>,
}

impl Case {
    fn speed(&self) -> Estimate {
        let [(_, _, native), (_, _, wasm)] = &self.kinds[..] else { unreachable!("both kinds") };
        Estimate::of_pairs(native, wasm, |native, wasm| native / wasm)
    }

    fn report(&self, outcome: &mut Outcome) {
        let filters = if self.length == 1 { "filter" } else { "filters" };
        let memory = self.memory.label();
        let what = format!("{memory}, {} {filters}, burst {}", self.length, self.burst);
        for (kind, _, samples) in &self.kinds {
            outcome.sampled(&what, kind.label(), Unit::Nanoseconds, samples);
        }
        let finding = format!("speed, {what}");
        if self.burst >= PROMISED_BURST && self.memory.has_map() {
            outcome.held(finding, &SPEED, self.speed());
        } else {
            outcome.found(finding, Unit::Ratio, self.speed());
        }
    }
}

/// A worker with two ports, and packets that go from one to the other.
pub struct Track {
    worker: Worker<MemoryIo>,
    workload: Workload,
    memory: Memory,
    /// Flows so far, where each packet is one.
    serial: u32,
    /// Packets of a flow, one behind the other.
    pub in_a_row: usize,
    faults: Receiver<FaultReport>,
}

impl Track {
    /// A worker with this chain, which has learned where everybody is.
    ///
    /// # Errors
    /// If it does not carry packets.
    pub fn new(chain: Vec<Dish>, memory: Memory, burst: usize, io: &mut MemoryIo) -> Result<Self> {
        let (reports, faults) = sync_channel(16);
        let cache = memory != Memory::Nothing;
        let flows = memory.room();
        let settings = WorkerSettings { burst, cache, flows, ..WorkerSettings::default() };
        let desk = FaultDesk { worker: 0, reports };
        let mut worker = Worker::new(MemoryIo::new([], 0, 0), settings, desk);
        for id in [NEAR, FAR] {
            worker.add_port(HeldPort { port: port(id), counters: Arc::default() });
        }
        worker.chain.stages = stages(chain);
        let mut this =
            Self { worker, workload: Workload::new(), memory, serial: 0, in_a_row: 1, faults };

        // the far stations speak first, as somebody always does
        for greeting in &this.workload.greetings {
            ensure!(io.feed(FAR, greeting), "the pool has a frame for each station");
        }
        this.with(io, rounds);
        io.collect(NEAR);
        this.feed(io)?;
        this.with(io, rounds);
        this.collect(io)?;
        Ok(this)
    }

    /// Nanoseconds per packet, over `laps` of [`LAP`] packets each.
    ///
    /// # Errors
    /// If a packet went astray.
    pub fn sample(&mut self, laps: usize, io: &mut MemoryIo) -> Result<f64> {
        let total: Result<u64> = (0..laps).map(|_| self.lap(io)).sum();
        Ok(total? as f64 / (laps * LAP) as f64)
    }

    /// Lets [`LAP`] packets pass. Returns the nanoseconds that the rounds took.
    ///
    /// # Errors
    /// As [`Track::sample`].
    pub fn lap(&mut self, io: &mut MemoryIo) -> Result<u64> {
        self.feed(io)?;
        let elapsed = self.with(io, |worker| {
            let start = Instant::now();
            timed_rounds(worker);
            start.elapsed().as_nanos() as u64
        });
        self.collect(io)?;
        Ok(elapsed)
    }

    fn feed(&mut self, io: &mut MemoryIo) -> Result<()> {
        let frames = self.workload.frames.len();
        for at in 0..LAP {
            let frame = &mut self.workload.frames[at / self.in_a_row % frames];
            if self.memory == Memory::NoneOfThem {
                self.serial += 1;
                make_new(frame, self.serial);
            }
            ensure!(io.feed(NEAR, frame), "the pool has a frame for each packet of a lap");
        }
        io.advance(Duration::from_nanos(NS_PER_PACKET * LAP as u64));
        Ok(())
    }

    fn collect(&mut self, io: &mut MemoryIo) -> Result<()> {
        let arrived = io.collect(FAR).len();
        if let Ok(report) = self.faults.try_recv() {
            return Err(anyhow!("a filter failed: {}", report.fault));
        }
        ensure!(arrived == LAP, "of {LAP} packets {arrived} arrived");
        Ok(())
    }

    /// Lends the worker its queues.
    fn with<T>(&mut self, io: &mut MemoryIo, work: impl FnOnce(&mut Worker<MemoryIo>) -> T) -> T {
        std::mem::swap(&mut self.worker.io, io);
        let result = work(&mut self.worker);
        std::mem::swap(&mut self.worker.io, io);
        result
    }
}

/// Queues for the two ports, with room for one lap.
pub fn queues() -> MemoryIo {
    MemoryIo::new([NEAR, FAR], LAP + STATIONS, LAP)
}

/// Rounds that count; callgrind finds them by this name.
#[inline(never)]
fn timed_rounds(worker: &mut Worker<MemoryIo>) {
    rounds(worker);
}

fn rounds(worker: &mut Worker<MemoryIo>) {
    while worker.round() > 0 {}
}

fn port(id: PortId) -> Port {
    Port {
        id,
        name: format!("port-{}", id.number()),
        kind: PortKind::Wire,
        link: 0,
        mtu: 1500,
        up: true,
        vlans: Vlans::transparent(),
        completes_checksums: false,
        shaped: false,
        hold: Hold::Direct,
    }
}

fn chart(cases: &[Case], memory: Memory) -> Chart {
    let line = |length: usize| {
        let row = cases.iter().filter(|case| case.memory == memory && case.length == length);
        let name = if length == 1 { "1 filter".to_owned() } else { format!("{length} filters") };
        Line { name, points: row.map(Case::speed).collect() }
    };
    Chart {
        title: format!("Speed of WASM against native, whole rounds, {}", memory.label()),
        across: "burst".to_owned(),
        cases: memory.bursts().iter().map(ToString::to_string).collect(),
        style: Style::Joined,
        unit: Unit::Ratio,
        bound: memory.has_map().then_some(SPEED.bound.value()),
        lines: (1..=CHAIN.len()).map(line).collect(),
    }
}

/// Packets that are in memory at a time: their headers fit into the second cache of a core.
pub const LAP: usize = 2048;
const NEAR: PortId = PortId::new(1).expect("1 is a port's number");
const FAR: PortId = PortId::new(2).expect("2 is a port's number");
/// How much the clock moves for each packet: what a busy worker takes for one.
const NS_PER_PACKET: u64 = 500;
