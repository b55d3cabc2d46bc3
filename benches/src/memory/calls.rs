//! The boundary alone: a guest that does nothing, asked about nothing, about one slot, and about
//! many.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use millrace_abi::{Origin, Slot, limits};
use millrace_dataplane::guest::Guest;
use millrace_filter::{Error, Filter, Manifest, Setup};
use millrace_sandbox::Grant;

use super::recipe::{Kind, Kitchen};
use super::workload::Workload;
use crate::native::NativeGuest;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::statistics::Estimate;
use crate::unit::Unit;

/// Measures calls.
///
/// # Errors
/// If the guest does not start, or fails.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let kitchen = Kitchen::new(&plan.sandbox())?;
    let slots = Workload::slots(&Workload::new().frames, 1, millrace_sandbox::now_ns())?;
    let mut guests = [(Kind::Native, idle_native()?), (Kind::Wasm, idle_wasm(&kitchen)?)];
    // nanoseconds per call, by batch and kind
    let mut samples = vec![[Vec::new(), Vec::new()]; BATCHES.len()];
    let calls = plan.much(20_000, 4_000);
    for _ in 0..plan.runs(41, 15) {
        for (batch, samples) in BATCHES.into_iter().zip(&mut samples) {
            for ((_, guest), samples) in guests.iter_mut().zip(samples) {
                let calls = calls / batch.max(4) * 4;
                samples.push(time(&mut **guest, &slots[..batch], calls)?);
            }
        }
    }

    for (batch, samples) in BATCHES.into_iter().zip(&samples) {
        for (kind, samples) in Kind::BOTH.into_iter().zip(samples) {
            let what = format!("a call with {batch} slots");
            outcome.sampled(&what, kind.label(), Unit::Nanoseconds, samples);
            let finding = format!("{what}, {}", kind.label());
            outcome.found(finding, Unit::Nanoseconds, Estimate::of(samples));
        }
    }
    let ([none, ..], [.., many]) = (&samples[..], &samples[..]) else {
        unreachable!("there are several batches")
    };
    for (at, kind) in Kind::BOTH.into_iter().enumerate() {
        let slots = BATCHES[BATCHES.len() - 1] as f64;
        let copying = Estimate::of_pairs(&many[at], &none[at], |many, none| (many - none) / slots);
        let what = format!("a slot copied in and its decision read, {}", kind.label());
        outcome.found(what, Unit::Nanoseconds, copying);
    }
    let boundary = Estimate::of_pairs(&none[1], &none[0], |wasm, native| wasm - native);
    outcome.found("the boundary, once per call", Unit::Nanoseconds, boundary);
    Ok(())
}

/// Nanoseconds per call.
fn time(guest: &mut dyn Guest, slots: &[Slot], calls: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        for (place, slot) in guest.slots(slots.len()).iter_mut().zip(slots) {
            *place = *slot;
        }
        for decision in guest.flow(slots.len(), Origin::New, 0)? {
            black_box((decision.control, decision.fields));
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / calls as f64)
}

/// A filter that has nothing to say.
struct Idle;

impl Filter for Idle {
    const MANIFEST: Manifest = Manifest::new("idle", "0.0.0");
    type Config = ();

    fn new(_: (), _: &mut Setup) -> Result<Self, Error> {
        Ok(Self)
    }
}

fn idle_native() -> Result<Box<dyn Guest>> {
    let guest = NativeGuest::<Idle>::new(&Default::default(), &"idle".into(), "{}");
    Ok(Box::new(guest.map_err(|error| anyhow::anyhow!("{error}"))?))
}

/// The same by hand, for the compiler to add nothing.
fn idle_wasm(kitchen: &Kitchen) -> Result<Box<dyn Guest>> {
    let module = wat::parse_str(IDLE)?;
    let module = kitchen.sandbox().load(&module, limits::DEFAULT_MEMORY)?;
    Ok(Box::new(module.instantiate(&Grant::new("idle"), "{}")?))
}

const IDLE: &str = r#"(module
    (@custom "millrace" "{\"abi\":1,\"name\":\"idle\",\"hooks\":[\"flow\"]}")
    (memory (export "memory") 4)
    (global $top (mut i32) (i32.const 1024))
    (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32)
        (local.set $at (global.get $top))
        (global.set $top (i32.and (i32.const -16)
            (i32.add (i32.const 15) (i32.add (local.get $at) (local.get $len)))))
        (local.get $at))
    (func (export "millrace_configure") (param i32 i32) (result i32) (i32.const 0))
    (func (export "millrace_flow") (param i32 i32 i32) (result i32) (i32.const 0)))"#;

/// Slots in a call.
const BATCHES: [usize; 4] = [0, 1, 64, 256];
