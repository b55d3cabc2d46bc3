//! The cluster changes: how soon do a node's filters know, and what does it take to hold it all?
//!
//! A change has been read when the clock starts. When it stops, the chain of every worker answers by
//! it, and the kernel's cache has what belongs to Services' addresses come in.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use millrace_control::World;
use millrace_control::compile::Compiler;
use millrace_control::source::News;
use millrace_dataplane::control::{CacheSettings, Dataplane};

use crate::cluster::{ENDPOINTS, HERE, Kinds, Size, world};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::pods::peer::{Workers, dataplane};
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::traffic::Places;
use crate::unit::Unit;
use crate::veth::ground::Ground;
use crate::veth::peer::built_in;

/// One of many.
pub const ONE: Promise = Promise::at_most(
    "one change among 10,000 Services and 10,000 policies, to effect",
    5.0,
    Unit::Milliseconds,
);

/// All at once.
pub const ALL: Promise = Promise::at_most(
    "10,000 Services with 30,000 endpoints and 10,000 policies, from nothing to effect",
    2000.0,
    Unit::Milliseconds,
);

/// To hold.
pub const MEMORY: Promise = Promise::at_most(
    "memory of a filter's instance per Service with 3 endpoints",
    2048.0,
    Unit::Bytes,
);

/// Measures clusters of each size.
///
/// # Errors
/// If the dataplane cannot be had, or filters refuse what they are told.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(None)?;
    let places = Places::available()?;
    let cache = CacheSettings::default();
    let plane = dataplane(&ground, &plan.cache, Workers::Everywhere, places, cache)?;
    for name in [SERVICES, POLICIES] {
        plane.load(built_in(name)?)?;
    }
    let mut before = memory(&plane)?;
    let mut held = 0;
    for count in COUNTS {
        let size = Size(count);
        let is_largest = count == COUNTS[COUNTS.len() - 1];
        let among = format!("{count} Services and policies");

        let world = world(size);
        let mut node = Node { compiler: Compiler::new(HERE), plane: &plane };
        let mut loads = Vec::new();
        for _ in 0..plan.runs(7, 3) {
            node.forget()?;
            let all = Box::new(world.clone());
            loads.push(node.hear(News::World(all))?);
        }
        let what = format!("{among}, from nothing");
        outcome.sampled(&what, "millrace", Unit::Milliseconds, &loads);
        if is_largest {
            outcome.held(what, &ALL, Estimate::of(&loads));
            let now = memory(&plane)?;
            let each = (now - before) / f64::from(count - held);
            outcome.held("service-lb, per Service", &MEMORY, Estimate::exact(each));
        } else {
            (before, held) = (memory(&plane)?, count);
        }

        let turns = plan.runs(40, 8) as u32;
        let mut took = vec![Vec::new(); Kinds::ALL.len()];
        for turn in 0..turns {
            for (kind, took) in Kinds::ALL.into_iter().zip(&mut took) {
                took.push(node.hear(News::Changes(kind.change(size, turn)))?);
            }
        }
        node.forget()?;
        for (kind, took) in Kinds::ALL.into_iter().zip(&took) {
            let what = format!("{}, among {among}", kind.label());
            outcome.sampled(&what, "millrace", Unit::Milliseconds, took);
            if is_largest {
                outcome.held(what, &ONE, Estimate::of(took));
            }
        }
    }
    outcome.notes.push(format!(
        "{ENDPOINTS} endpoints behind each Service, on neighbouring nodes of 300, and a policy for \
         them. Full loads begin with filters that know nothing."
    ));
    Ok(())
}

/// Who follows the cluster.
struct Node<'p> {
    compiler: Compiler,
    plane: &'p Dataplane,
}

impl Node<'_> {
    /// Milliseconds from news to their effect.
    fn hear(&mut self, news: News) -> Result<f64> {
        let start = Instant::now();
        self.compiler.hear(news);
        tell(&mut self.compiler, self.plane)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// Has filters know nothing any more.
    fn forget(&mut self) -> Result<()> {
        if *self.compiler.world() != World::default() {
            self.hear(News::World(Box::default()))?;
        }
        self.compiler = Compiler::new(HERE);
        Ok(())
    }
}

/// Has filters, and the cache, know what a node has heard.
pub(crate) fn tell(compiler: &mut Compiler, plane: &Dataplane) -> Result<()> {
    let publication = compiler.compile();
    ensure!(!publication.delta.is_empty(), "nothing has changed");
    plane.publish(&publication.delta, publication.generation, &publication.tags)?;
    let (gone, new) = (&publication.gone, &publication.places);
    plane.change_claims(gone.iter().copied(), new.iter().copied())?;
    compiler.adopt();
    Ok(())
}

/// Bytes of an instance of the filter that knows of Services.
fn memory(plane: &Dataplane) -> Result<f64> {
    let stages = plane.stages()?;
    let stage = stages.iter().find(|stage| stage.name == SERVICES).context("it is loaded")?;
    let instances = 2 * plane.workers()?.len();
    Ok(stage.counters.memory as f64 / instances as f64)
}

const SERVICES: &str = "service-lb";
const POLICIES: &str = "policy";
const COUNTS: [u32; 3] = [10, 1_000, 10_000];
