//! The chain, as it is on every worker.
//!
//! Guests are built and configured here, two for each worker and version, while packets
//! flow; the change itself is a few pointers that each worker moves between two bursts.
//! A change is prepared for all workers before the first of them makes it, so that what
//! a filter refuses leaves everything as it was.

mod maps;
mod mend;
mod record;
mod tables;
mod terms;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_abi::limits;
use millrace_sandbox::{
    FilterLog, InstanceError, LoadError, Manifest, Metric, MetricValue, Sandbox,
};

pub(super) use self::record::{FaultRecord, StageRecord, VersionRecord};
use self::record::{compact, merge};
use self::tables::Published;
use crate::control::names::present;
use crate::control::redecide::{Desk, Refusal, Which};
use crate::control::request::{Load, Position};
use crate::control::status::StageState;
use crate::io::Io;
use crate::mailbox::{NoAnswer, Postman};
use crate::stage::{Canary, Crew, Mode, OnRefused, Stage};
use crate::verdict::{Decider, MAX_STAGES};
use crate::worker::Worker;
use millrace_tables::Table;
use parking_lot::Mutex;

/// The chain of all workers.
pub struct Stages<I: Io> {
    sandbox: Arc<Sandbox>,
    workers: Vec<Arc<Postman<Worker<I>>>>,
    pub(super) records: Vec<StageRecord>,
    /// What filters are told of the cluster.
    published: Arc<Mutex<Published>>,
    /// Which stage each number is or was.
    names: BTreeMap<Decider, Arc<str>>,
    /// Who decides anew about what was decided by the chain before a change.
    desk: Arc<Desk>,
    /// What is done about live connections that rules refuse of which tables say.
    refused_by: Arc<BTreeMap<u32, OnRefused>>,
}

/// Why the chain is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The name is no name.
    #[error(
        "`{0}` is no name for a stage: it has 1 to {limit} letters, digits, `-`, `_` or `.`",
        limit = limits::MAX_NAME
    )]
    Name(String),
    /// The name is taken.
    #[error("there is a stage `{0}` already; swap its filter, or choose another name")]
    Taken(String),
    /// There is no such stage.
    #[error("there is no stage `{name}`; {present}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are, and which one may be meant.
        present: String,
    },
    /// The chain is as long as it may be.
    #[error("a chain has at most {MAX_STAGES} stages")]
    Full,
    /// The module is refused.
    #[error("the module is refused: {0}")]
    Load(#[from] LoadError),
    /// The filter does not start.
    #[error("the filter does not start: {0}")]
    Start(#[from] InstanceError),
    /// The configuration is no JSON.
    #[error("the configuration is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The filter does not take its configuration.
    #[error("{0}; the configuration before stays in force")]
    Configure(String),
    /// A filter does not take changes of tables.
    #[error(
        "stage `{stage}` does not take the tables of generation {generation}: {reason}; those \
             before stay in force, for every filter"
    )]
    Update {
        /// The stage.
        stage: String,
        /// What it was to take.
        generation: u64,
        /// What it says.
        reason: String,
    },
    /// There is nothing to go back to.
    #[error("stage `{0}` has no version before this one")]
    NoPrevious(String),
    /// There is no canary.
    #[error("stage `{0}` tries no other version")]
    NoCanary(String),
    /// A share that is none.
    #[error("a canary is tried on 1 to 99 of a hundred flows, not on {0}")]
    Percent(u8),
    /// A worker is gone.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// What the guests of a stage count and use, over all workers.
pub struct Measured {
    /// What they count, by name; what guests counted that are no more is included.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Bytes of memory.
    pub memory: u64,
}

impl<I: Io + 'static> Stages<I> {
    /// The chain of these workers, which has no stages yet.
    pub fn new(sandbox: Arc<Sandbox>, workers: Vec<Arc<Postman<Worker<I>>>>) -> Self {
        let (records, names) = (Vec::new(), BTreeMap::new());
        let (published, desk, refused_by) = (Arc::default(), Arc::default(), Arc::default());
        Self { sandbox, workers, records, published, names, desk, refused_by }
    }

    /// Where live connections are asked for to be decided anew.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// What each stage does about live connections that it refuses.
    pub(super) fn refusals(&self) -> BTreeMap<Decider, Refusal> {
        let knows_rules = |record: &StageRecord| {
            record.current.module.manifest().tables().contains(&Table::Policies)
        };
        let refusal = |record: &StageRecord| Refusal {
            stage: Arc::clone(&record.name),
            on_refused: record.terms.on_refused,
            by_rule: knows_rules(record).then(|| Arc::clone(&self.refused_by)),
            is_ejected: record.state == StageState::Ejected,
        };
        self.records.iter().map(|record| (record.number, refusal(record))).collect()
    }

    /// What is done about live connections that these rules refuse; nothing if that is the stage's.
    pub(super) fn refuse_by(&mut self, rules: impl IntoIterator<Item = (u32, Option<OnRefused>)>) {
        for (rule, on_refused) in rules {
            let known = self.refused_by.get(&rule).copied();
            if known != on_refused {
                let refused_by = Arc::make_mut(&mut self.refused_by);
                match on_refused {
                    Some(on_refused) => drop(refused_by.insert(rule, on_refused)),
                    None => drop(refused_by.remove(&rule)),
                }
            }
        }
    }

    /// Puts a filter into the chain. `ports` knows the numbers of ports by name.
    ///
    /// # Errors
    /// If it is refused, does not start, or has no place. As with every change, everything stays
    /// as it was then.
    pub fn load(
        &mut self,
        load: Load,
        ports: &dyn Fn(&str) -> Option<u16>,
    ) -> Result<(), StageError> {
        check_name(&load.name)?;
        if self.records.iter().any(|stage| *stage.name == *load.name) {
            return Err(StageError::Taken(load.name));
        }
        if self.records.len() == MAX_STAGES {
            return Err(StageError::Full);
        }
        let at = self.place(&load.position)?;
        let module = self.sandbox.load(&load.module, load.terms.memory)?;
        let name: Arc<str> = load.name.into();
        let mut record = StageRecord {
            number: self.free_number(),
            log: Arc::new(FilterLog::new(Arc::clone(&name))),
            name,
            published: Arc::clone(&self.published),
            ports: load.terms.ports.iter().filter_map(|port| ports(port)).collect(),
            versions: 1,
            current: VersionRecord::new(1, module, &load.config)?,
            terms: load.terms,
            previous: None,
            canary: None,
            counters: self.workers.iter().map(|_| Arc::default()).collect(),
            retired: BTreeMap::new(),
            state: StageState::Running,
            recent_faults: Vec::new(),
            last_fault: None,
        };

        let (crew, counters) = (record.staff(self.workers.len())?, record.counters.clone());
        let spec = record.spec();
        let stages = crew.into_iter().zip(counters).map(|(main, counters)| Stage {
            spec: Arc::clone(&spec),
            crew: Crew { main, canary: None },
            counters,
        });
        self.on_each(stages, move |chain, stage| chain.insert(at, stage))?;
        self.names.insert(record.number, Arc::clone(&record.name));
        self.records.insert(at, record);
        Ok(())
    }

    /// Puts another module into a stage, with another configuration or the one that is in force.
    ///
    /// # Errors
    /// As [`Stages::load`].
    pub fn swap(
        &mut self,
        name: &str,
        module: &[u8],
        config: Option<&str>,
    ) -> Result<(), StageError> {
        let at = self.find(name)?;
        let record = &self.records[at];
        let module = self.sandbox.load(module, record.terms.memory)?;
        let config = config.unwrap_or(&record.current.config);
        let next = VersionRecord::new(record.versions + 1, module, config)?;
        let before = self.put_in_force(at, next)?;
        self.records[at].previous = Some(before);
        Ok(())
    }

    /// Gives a stage another configuration: its twins take it, and change places with the guests.
    ///
    /// # Errors
    /// If the filter refuses it, or as [`Stages::load`].
    pub fn configure(&mut self, name: &str, config: &str) -> Result<(), StageError> {
        let at = self.find(name)?;
        let record = &mut self.records[at];
        let before = VersionRecord { twins: Vec::new(), ..record.current.clone() };
        let next = VersionRecord {
            number: record.versions + 1,
            config: compact(config)?,
            ..record.current.clone()
        };
        if record.state == StageState::Ejected {
            // there are no guests to reconfigure
            self.put_in_force(at, VersionRecord { twins: Vec::new(), ..next })?;
            self.records[at].previous = Some(before);
            return Ok(());
        }

        let ready = record.reconfigured_twins(&next)?;
        record.versions = next.number;
        let number = next.number;
        let relieved = self.on_each(ready, move |chain, guest| {
            let version = &mut chain[at].crew.main;
            version.number = number;
            version.guest.replace(guest)
        })?;

        // those relieved catch up, and are the twins now
        let record = &mut self.records[at];
        for (relieved, twin) in relieved.into_iter().zip(next.twins.clone()) {
            let Some(mut guest) = relieved else { continue };
            record.retire(&*guest);
            match record.reconfigure(&mut *guest, &next) {
                Ok(()) => *twin.lock() = Some(guest),
                Err(error) => tracing::warn!(stage = %record.name, error, "a twin is built anew"),
            }
        }
        record.current = next;
        record.previous = Some(before);
        record.state = StageState::Running;
        record.mend_twins();
        Ok(())
    }

    /// Puts the version before into force again.
    ///
    /// # Errors
    /// If there is none, or as [`Stages::load`].
    pub fn roll_back(&mut self, name: &str) -> Result<(), StageError> {
        let at = self.find(name)?;
        let previous = self.records[at].previous.clone();
        let previous = previous.ok_or_else(|| StageError::NoPrevious(name.to_owned()))?;
        self.put_in_force(at, previous)?;
        self.records[at].previous = None;
        Ok(())
    }

    /// Tries another module, with another configuration or the one in force, on `percent` of a
    /// hundred flows.
    ///
    /// # Errors
    /// As [`Stages::load`].
    pub fn try_on(
        &mut self,
        name: &str,
        percent: u8,
        module: &[u8],
        config: Option<&str>,
    ) -> Result<(), StageError> {
        if !(1..=99).contains(&percent) {
            return Err(StageError::Percent(percent));
        }
        let at = self.find(name)?;
        let workers = self.workers.len();
        let record = &mut self.records[at];
        let module = self.sandbox.load(module, record.terms.memory)?;
        let config = config.unwrap_or(&record.current.config);
        let mut tried = VersionRecord::new(record.versions + 1, module, config)?;
        let crew = record.staff_with(&mut tried, workers)?;
        record.versions = tried.number;
        let canaries = crew.into_iter().map(|version| Canary { percent, version });
        let relieved =
            self.on_each(canaries, move |chain, canary| chain[at].crew.canary.replace(canary))?;
        let record = &mut self.records[at];
        relieved.iter().flatten().for_each(|canary| record.retire_version(&canary.version));
        record.canary = Some((percent, tried));
        Ok(())
    }

    /// Ends the trial of another version: it is put into force, or taken away.
    ///
    /// # Errors
    /// If there is none, or as [`Stages::load`].
    pub fn end_trial(&mut self, name: &str, promote: bool) -> Result<(), StageError> {
        let at = self.find(name)?;
        let canary = self.records[at].canary.clone();
        let (_, tried) = canary.ok_or_else(|| StageError::NoCanary(name.to_owned()))?;
        if promote {
            let before = self.put_in_force(at, VersionRecord { twins: Vec::new(), ..tried })?;
            self.records[at].previous = Some(before);
        }
        self.dismiss_canary(at)?;
        Ok(())
    }

    /// Makes a stage's answers count, or not.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn set_mode(&mut self, name: &str, mode: Mode) -> Result<(), StageError> {
        let at = self.find(name)?;
        self.records[at].terms.mode = mode;
        self.publish_spec(at)
    }

    /// Moves a stage to another place.
    ///
    /// # Errors
    /// If one of the stages does not exist.
    pub fn move_to(&mut self, name: &str, position: &Position) -> Result<(), StageError> {
        let from = self.find(name)?;
        let record = self.records.remove(from);
        let to = self.place(position);
        let at = *to.as_ref().unwrap_or(&from);
        self.records.insert(at, record);
        to?;
        self.on_all(move |chain| {
            let stage = chain.remove(from);
            chain.insert(at, stage);
        })?;
        Ok(())
    }

    /// Takes a stage out of the chain, with all it remembers.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn remove(&mut self, name: &str) -> Result<(), StageError> {
        let at = self.find(name)?;
        self.on_all(move |chain| chain.remove(at))?;
        let record = self.records.remove(at);
        self.sandbox.maps().forget(&record.name);
        Ok(())
    }

    /// Looks up again which ports stages are asked about.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn resolve_ports(&mut self, ports: &dyn Fn(&str) -> Option<u16>) -> Result<(), StageError> {
        for at in 0..self.records.len() {
            let record = &mut self.records[at];
            let found: Vec<u16> =
                record.terms.ports.iter().filter_map(|port| ports(port)).collect();
            if found != record.ports {
                record.ports = found;
                self.publish_spec(at)?;
            }
        }
        Ok(())
    }

    /// What the filter in force says of itself.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn manifest(&self, name: &str) -> Result<&Manifest, StageError> {
        Ok(self.records[self.find(name)?].current.module.manifest())
    }

    /// The names of the stages, in order.
    pub fn order(&self) -> Vec<Arc<str>> {
        self.records.iter().map(|record| Arc::clone(&record.name)).collect()
    }

    /// The stages that failed too often, what each is now, and what its last fault was.
    pub fn given_up(&self) -> Vec<(Arc<str>, StageState, String)> {
        let given_up = self.records.iter().filter(|record| record.state != StageState::Running);
        let said = given_up.map(|record| {
            let detail = record.last_fault.as_ref().map(|last| last.fault.detail.clone());
            (Arc::clone(&record.name), record.state, detail.unwrap_or_default())
        });
        said.collect()
    }

    /// The stage that a number stands for; `None` for the host.
    pub fn name_of(&self, by: Decider) -> Option<&str> {
        self.names.get(&by).map(|name| &**name)
    }

    /// The stages that numbers stand for.
    pub(super) fn names(&self) -> BTreeMap<Decider, Arc<str>> {
        self.names.clone()
    }

    /// What the guests of each stage count and use, by asking every worker.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn measure(&self) -> Result<Vec<Measured>, NoAnswer> {
        let retired =
            |record: &StageRecord| Measured { metrics: record.retired.clone(), memory: 0 };
        let mut totals: Vec<_> = self.records.iter().map(retired).collect();
        let measured = |chain: &mut Vec<Stage>| -> Vec<(Vec<Metric>, u64)> {
            chain.iter_mut().map(|stage| stage.crew.measure()).collect()
        };
        for worker in self.on_all_quietly(measured)? {
            for (total, (metrics, memory)) in totals.iter_mut().zip(worker) {
                merge(&mut total.metrics, metrics);
                total.memory += memory;
            }
        }
        Ok(totals)
    }

    fn dismiss_canary(&mut self, at: usize) -> Result<(), StageError> {
        let dismissed = self.on_all(move |chain| chain[at].crew.canary.take())?;
        let record = &mut self.records[at];
        record.canary = None;
        for canary in dismissed.into_iter().flatten() {
            record.retire_version(&canary.version);
        }
        Ok(())
    }

    /// Staffs a version and puts it into force; returns the one it relieved.
    fn put_in_force(
        &mut self,
        at: usize,
        mut next: VersionRecord,
    ) -> Result<VersionRecord, StageError> {
        let workers = self.workers.len();
        let record = &mut self.records[at];
        let crew = record.staff_with(&mut next, workers)?;
        let relieved =
            self.on_each(crew, move |chain, v| std::mem::replace(&mut chain[at].crew.main, v))?;

        let record = &mut self.records[at];
        relieved.iter().for_each(|version| record.retire_version(version));
        record.versions = record.versions.max(next.number);
        record.state = StageState::Running;
        record.recent_faults.clear();
        let before = std::mem::replace(&mut record.current, next);
        Ok(VersionRecord { twins: Vec::new(), ..before })
    }

    fn publish_spec(&mut self, at: usize) -> Result<(), StageError> {
        let spec = self.records[at].spec();
        self.on_all(move |chain| chain[at].spec = Arc::clone(&spec))?;
        Ok(())
    }

    /// Has every worker change its chain, and forget what the old one decided.
    fn on_all<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Vec<Stage>) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, NoAnswer> {
        self.on_each(self.workers.iter().map(|_| ()), |chain, ()| change(chain))
    }

    /// Has every worker change its chain with something of its own, and forget what the old one
    /// decided; live connections are decided anew.
    fn on_each<A: Send + 'static, T: Send + 'static>(
        &self,
        own: impl IntoIterator<Item = A>,
        change: impl FnOnce(&mut Vec<Stage>, A) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, NoAnswer> {
        self.on_each_for(&Which::All, own, change)
    }

    /// The same for a change that concerns these live connections alone.
    fn on_each_for<A: Send + 'static, T: Send + 'static>(
        &self,
        concerned: &Which,
        own: impl IntoIterator<Item = A>,
        change: impl FnOnce(&mut Vec<Stage>, A) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, NoAnswer> {
        let ask = |(postman, own): (&Arc<Postman<Worker<I>>>, A)| {
            let change = change.clone();
            postman.ask(move |worker| {
                worker.flows.forget_all();
                change(&mut worker.chain.stages, own)
            })
        };
        let outcome = self.workers.iter().zip(own).map(ask).collect();
        // what the old chain decided for a packet is in the table by now
        self.desk.post(concerned);
        outcome
    }

    /// Has every worker look at its chain.
    fn on_all_quietly<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Vec<Stage>) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, NoAnswer> {
        let ask = |postman: &Arc<Postman<Worker<I>>>| {
            let look = look.clone();
            postman.ask(move |worker| look(&mut worker.chain.stages))
        };
        self.workers.iter().map(ask).collect()
    }

    pub(super) fn find(&self, name: &str) -> Result<usize, StageError> {
        self.records.iter().position(|record| *record.name == *name).ok_or_else(|| {
            let present = present(name, self.records.iter().map(|record| &*record.name));
            StageError::Unknown { name: name.to_owned(), present }
        })
    }

    fn place(&self, position: &Position) -> Result<usize, StageError> {
        match position {
            Position::First => Ok(0),
            Position::Last => Ok(self.records.len()),
            Position::Before(name) => self.find(name),
            Position::After(name) => self.find(name).map(|at| at + 1),
        }
    }

    /// A number that no stage has; one that none ever had, as long as there are such.
    fn free_number(&self) -> Decider {
        let taken = |by: &Decider| self.records.iter().any(|record| record.number == *by);
        let mut numbers = (1..=u8::MAX).map(Decider::stage);
        let fresh = numbers.clone().find(|by| !self.names.contains_key(by));
        fresh.or_else(|| numbers.find(|by| !taken(by))).expect("a chain has fewer stages")
    }
}

fn check_name(name: &str) -> Result<(), StageError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let fits = (1..=limits::MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
    if fits { Ok(()) } else { Err(StageError::Name(name.to_owned())) }
}
