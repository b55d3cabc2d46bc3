//! Filters alone: slots are copied in, the flow hook is called, decisions are read; nothing else.
//!
//! Native and WebAssembly take turns, a few milliseconds each, so that what slows the machine down
//! slows down both. A stage's decisions are not applied to the slots of the next: that is the
//! host's work, and measured with the rounds.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use millrace_abi::{Origin, Slot, limits};

use super::recipe::{CHAIN, Dish, Kind, Kitchen};
use super::workload::Workload;
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::unit::Unit;

/// Bursts that are measured.
pub const BURSTS: [usize; 6] = [1, 8, 32, 64, 128, 256];

/// From this burst on, promises hold.
pub const PROMISED_BURST: usize = 64;

/// How fast filters are.
pub const SPEED: Promise = Promise {
    aim: Some(0.85),
    ..Promise::at_least(
        "speed of WASM against native, filters alone, bursts of 64 and more",
        0.70,
        Unit::Ratio,
    )
};

/// What a filter costs more.
pub const TAX: Promise = Promise {
    aim: Some(5.0),
    ..Promise::at_most(
        "tax of WASM per filter and packet, bursts of 64 and more",
        12.0,
        Unit::Nanoseconds,
    )
};

/// Measures chains of one to five filters, and each filter alone.
///
/// # Errors
/// If a filter does not start, or fails.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let kitchen = Kitchen::new(&plan.sandbox())?;
    let mut cases = Vec::new();
    for length in 1..=CHAIN.len() {
        for burst in BURSTS {
            let chains = Kind::BOTH.map(|kind| kitchen.chain(kind, length));
            cases.push(Case::new(name_of(length), length, burst, chains)?);
        }
    }
    for recipe in &CHAIN {
        let alone = Kind::BOTH.map(|kind| kitchen.make(kind, recipe).map(|dish| vec![dish]));
        cases.push(Case::new(format!("`{}` alone", recipe.stage), 1, PROMISED_BURST, alone)?);
    }

    let packets = plan.much(32_768, 8_192);
    for case in &mut cases {
        case.warm_up()?;
    }
    for _ in 0..plan.runs(41, 15) {
        for case in &mut cases {
            case.sample(packets)?;
        }
    }
    for case in &cases {
        case.report(outcome);
    }
    outcome.charts.push(chart(&cases, "Speed of WASM against native, filters alone", SPEED, speed));
    outcome.charts.push(chart(&cases, "Tax of WASM per filter and packet", TAX, |case| case.tax()));
    outcome.notes.push(
        "Slots are copied in, the flow hook is called, decisions are read. Native filters are \
         compiled with this program's profile, and find the host's maps through a thread-local."
            .to_owned(),
    );
    Ok(())
}

/// One chain at one burst, in both kinds.
struct Case {
    chain: String,
    filters: usize,
    burst: usize,
    kinds: [Bank; 2],
}

/// A chain of one kind, the slots it is asked about, and how long that took.
pub struct Bank {
    kind: Kind,
    chain: Vec<Dish>,
    slots: Vec<Slot>,
    greetings: Vec<Slot>,
    clock_ns: u64,
    /// Nanoseconds per packet.
    samples: Vec<f64>,
}

impl Case {
    fn new(
        chain: String,
        filters: usize,
        burst: usize,
        chains: [Result<Vec<Dish>>; 2],
    ) -> Result<Self> {
        let [native, wasm] = chains;
        let kinds =
            [Bank::new(Kind::Native, native?, burst)?, Bank::new(Kind::Wasm, wasm?, burst)?];
        Ok(Self { chain, filters, burst, kinds })
    }

    fn warm_up(&mut self) -> Result<()> {
        self.kinds.iter_mut().try_for_each(Bank::warm_up)
    }

    fn sample(&mut self, packets: usize) -> Result<()> {
        self.kinds.iter_mut().try_for_each(|bank| bank.sample(packets))
    }

    fn what(&self) -> String {
        format!("{}, burst {}", self.chain, self.burst)
    }

    fn speed(&self) -> Estimate {
        let [native, wasm] = &self.kinds;
        Estimate::of_pairs(&native.samples, &wasm.samples, |native, wasm| native / wasm)
    }

    fn tax(&self) -> Estimate {
        let [native, wasm] = &self.kinds;
        let filters = self.filters as f64;
        Estimate::of_pairs(&native.samples, &wasm.samples, |native, wasm| (wasm - native) / filters)
    }

    fn report(&self, outcome: &mut Outcome) {
        let what = self.what();
        for bank in &self.kinds {
            outcome.sampled(&what, bank.kind.label(), Unit::Nanoseconds, &bank.samples);
        }
        let (speed, tax) = (format!("speed, {what}"), format!("tax, {what}"));
        if self.burst >= PROMISED_BURST && !self.chain.starts_with('`') {
            outcome.held(speed, &SPEED, self.speed());
            outcome.held(tax, &TAX, self.tax());
        } else {
            outcome.found(speed, Unit::Ratio, self.speed());
            outcome.found(tax, Unit::Nanoseconds, self.tax());
        }
    }
}

impl Bank {
    /// A chain that is asked about `burst` slots at a time.
    ///
    /// # Errors
    /// If the workload is malformed.
    pub fn new(kind: Kind, chain: Vec<Dish>, burst: usize) -> Result<Self> {
        let (workload, clock_ns) = (Workload::new(), millrace_sandbox::now_ns());
        let mut slots = Workload::slots(&workload.frames, 1, clock_ns)?;
        slots.truncate(burst);
        let greetings = Workload::slots(&workload.greetings, 2, clock_ns)?;
        Ok(Self { kind, chain, slots, greetings, clock_ns, samples: Vec::new() })
    }

    /// Lets filters learn, and caches fill.
    ///
    /// # Errors
    /// If a filter fails.
    pub fn warm_up(&mut self) -> Result<()> {
        let greetings = self.greetings.clone();
        self.ask(&greetings)?;
        for _ in 0..limits::MAX_BATCH.div_ceil(self.slots.len()) * 4 {
            self.burst()?;
        }
        Ok(())
    }

    /// Takes a sample over some packets.
    ///
    /// # Errors
    /// If a filter fails.
    pub fn sample(&mut self, packets: usize) -> Result<()> {
        let bursts = packets / self.slots.len();
        let start = Instant::now();
        self.timed_bursts(bursts)?;
        let elapsed = start.elapsed().as_nanos() as f64;
        self.samples.push(elapsed / (bursts * self.slots.len()) as f64);
        Ok(())
    }

    #[inline(never)]
    fn timed_bursts(&mut self, bursts: usize) -> Result<()> {
        (0..bursts).try_for_each(|_| self.burst())
    }

    fn burst(&mut self) -> Result<()> {
        self.clock_ns += NS_PER_PACKET * self.slots.len() as u64;
        let slots = std::mem::take(&mut self.slots);
        let asked = self.ask(&slots);
        self.slots = slots;
        asked
    }

    #[inline]
    fn ask(&mut self, slots: &[Slot]) -> Result<()> {
        for dish in &mut self.chain {
            for (place, slot) in dish.guest.slots(slots.len()).iter_mut().zip(slots) {
                *place = *slot;
                place.now_ns = self.clock_ns;
            }
            let decisions = dish.guest.flow(slots.len(), Origin::New, self.clock_ns)?;
            for decision in decisions {
                black_box((decision.control, decision.fields, decision.egress));
            }
        }
        Ok(())
    }
}

fn name_of(length: usize) -> String {
    if length == 1 { "1 filter".to_owned() } else { format!("{length} filters") }
}

fn speed(case: &Case) -> Estimate {
    case.speed()
}

fn chart(
    cases: &[Case],
    title: &str,
    promise: Promise,
    estimate: impl Fn(&Case) -> Estimate,
) -> Chart {
    let line = |length| {
        let name = name_of(length);
        let points = cases.iter().filter(|case| case.chain == name).map(&estimate).collect();
        Line { name, points }
    };
    Chart {
        title: title.to_owned(),
        across: "burst".to_owned(),
        cases: BURSTS.iter().map(ToString::to_string).collect(),
        style: Style::Joined,
        unit: promise.unit,
        bound: Some(promise.bound.value()),
        lines: (1..=CHAIN.len()).map(line).collect(),
    }
}

/// How much the clock moves for each packet: what a busy worker takes for one.
const NS_PER_PACKET: u64 = 500;
