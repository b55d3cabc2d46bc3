//! Walk `control` 4/4: follow → **tables**.
//!
//! Tables of the cluster, as filters are told them.
//!
//! What is published is in force on a worker for all stages at once, or nowhere: the twins of
//! every stage take it first, while packets flow; then all change places between two bursts, and
//! those relieved catch up. A filter that does not take it keeps everything as it was.

use std::sync::Arc;

use millrace_abi::{Tag, limits};
use millrace_sandbox::{Fault, FaultClass, Manifest, now_ns};
use millrace_tables::{Delta, Tables};

use super::{FaultRecord, StageError, StageRecord, Stages, VersionRecord};
use crate::control::redecide::Which;
use crate::control::status::StageState;
use crate::guest::Guest;
use crate::io::Io;

/// What filters are told: the tables in force.
#[derive(Debug, Default)]
pub(in crate::control) struct Published {
    tables: Tables,
    generation: u64,
}

/// Of which of a stage's versions guests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Main,
    Canary,
}

/// Where in the chain guests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    role: Role,
}

/// Guests that have taken an update, one for each worker, and where they are to be.
struct Ready {
    place: Place,
    guests: Vec<Box<dyn Guest>>,
}

/// What a worker is to put where.
type Turns = Vec<(Place, Box<dyn Guest>)>;

/// Who has not taken an update, and why.
struct Refused {
    at: usize,
    worker: usize,
    reason: String,
}

impl Published {
    /// All there is of the tables that a filter subscribes to.
    pub(super) fn whole(&self, manifest: &Manifest) -> Vec<Vec<u8>> {
        match manifest.tables().as_slice() {
            [] => Vec::new(),
            tables => self.tables.whole(tables, self.generation, PAGE),
        }
    }
}

impl<I: Io + 'static> Stages<I> {
    /// Has filters know what has changed of tables, and decide anew about live connections that
    /// depend on any of `tags`. A canary that does not take it is dismissed.
    ///
    /// # Errors
    /// If a filter in force does not take it; the tables before stay in force everywhere then.
    pub fn publish(
        &mut self,
        delta: &Delta,
        generation: u64,
        tags: &[Tag],
    ) -> Result<(), StageError> {
        let published = Arc::clone(&self.published);
        let (undo, before) = {
            let mut published = published.lock();
            let undo = published.tables.apply(delta);
            (undo, std::mem::replace(&mut published.generation, generation))
        };
        let ready = match self.prepare(delta, generation) {
            Ok(ready) => ready,
            Err(refused) => {
                let mut published = published.lock();
                published.tables.apply(&undo);
                published.generation = before;
                drop(published);
                return Err(self.refuse(refused, generation));
            }
        };
        let places: Vec<Place> = ready.iter().map(|ready| ready.place).collect();
        let mut each: Vec<Turns> = self.workers.iter().map(|_| Vec::new()).collect();
        for Ready { place, guests } in ready {
            for (own, guest) in each.iter_mut().zip(guests) {
                own.push((place, guest));
            }
        }
        let relieved = self.on_each_for(&Which::Tags(tags.to_vec()), each, |chain, own| {
            let mut relieved = Vec::with_capacity(own.len());
            for (Place { at, role }, guest) in own {
                let crew = &mut chain[at].crew;
                let version = match (role, &mut crew.canary) {
                    (Role::Canary, Some(canary)) => &mut canary.version,
                    _ => &mut crew.main,
                };
                relieved.push(version.guest.replace(guest));
            }
            relieved
        })?;

        // those relieved catch up, and are the twins now
        for (worker, relieved) in relieved.into_iter().enumerate() {
            for (Place { at, role }, guest) in places.iter().zip(relieved) {
                let record = &mut self.records[*at];
                let Some(mut guest) = guest else { continue };
                record.retire(&*guest);
                guest.recount();
                let version = record.version(*role);
                match tell(&mut *guest, version, delta, generation) {
                    Ok(()) => *version.twins[worker].lock() = Some(guest),
                    Err(error) => {
                        tracing::warn!(stage = %record.name, error, "a twin is built anew");
                    }
                }
            }
        }
        places.iter().for_each(|place| self.records[place.at].mend_twins());
        Ok(())
    }

    /// The generation of the tables in force; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.published.lock().generation
    }

    /// Guests of every version that is concerned, with the update.
    fn prepare(&mut self, delta: &Delta, generation: u64) -> Result<Vec<Ready>, Refused> {
        let mut all = Vec::new();
        for at in 0..self.records.len() {
            let record = &self.records[at];
            if record.state == StageState::Ejected {
                continue;
            }
            if concerns(delta, &record.current) {
                all.push(record.ready(at, Role::Main, delta, generation)?);
            }
            let canary = record.canary.as_ref().filter(|(_, canary)| concerns(delta, canary));
            if canary.is_none() {
                continue;
            }
            match record.ready(at, Role::Canary, delta, generation) {
                Ok(ready) => all.push(ready),
                Err(refused) => {
                    let (stage, reason) = (&record.name, refused.reason);
                    tracing::error!(%stage, reason, "the canary does not take tables: dismissed");
                    if let Err(error) = self.dismiss_canary(at) {
                        tracing::error!(%error, "the canary is still there");
                    }
                }
            }
        }
        Ok(all)
    }

    /// Takes note of who has refused; twins that are ahead of their guests are built anew.
    fn refuse(&mut self, refused: Refused, generation: u64) -> StageError {
        let Refused { at, worker, reason } = refused;
        self.records.iter_mut().for_each(StageRecord::mend_twins);
        let record = &mut self.records[at];
        let fault = Fault { class: FaultClass::Refused, detail: reason.clone() };
        let version = record.current.number;
        record.last_fault = Some(FaultRecord { time_ns: now_ns(), worker, version, fault });
        StageError::Update { stage: record.name.to_string(), generation, reason }
    }
}

impl StageRecord {
    /// A guest for each worker that has taken an update: its twin, or a new one.
    fn ready(
        &self,
        at: usize,
        role: Role,
        delta: &Delta,
        generation: u64,
    ) -> Result<Ready, Refused> {
        let version = self.version(role);
        let mut guests = Vec::with_capacity(version.twins.len());
        for (worker, twin) in version.twins.iter().enumerate() {
            let taken = twin.lock().take();
            let outcome = match taken {
                // a new one is told all there is, the update included
                None => self.guest(version).map_err(|error| error.to_string()),
                Some(mut guest) => tell(&mut *guest, version, delta, generation).map(|()| guest),
            };
            guests.push(outcome.map_err(|reason| Refused { at, worker, reason })?);
        }
        Ok(Ready { place: Place { at, role }, guests })
    }

    fn version(&self, role: Role) -> &VersionRecord {
        match (role, &self.canary) {
            (Role::Canary, Some((_, canary))) => canary,
            _ => &self.current,
        }
    }
}

/// Whether a version's filter subscribes to anything that changes.
fn concerns(delta: &Delta, version: &VersionRecord) -> bool {
    version.module.manifest().tables().into_iter().any(|table| delta.touches(table))
}

/// Tells a guest what has changed of its tables.
fn tell(
    guest: &mut dyn Guest,
    version: &VersionRecord,
    delta: &Delta,
    generation: u64,
) -> Result<(), String> {
    let updates = delta.updates(&version.module.manifest().tables(), generation, PAGE);
    updates.iter().try_for_each(|update| guest.update(update))
}

/// Bytes of an update, unless a row alone has more.
const PAGE: usize = limits::MAX_UPDATE / 4;
