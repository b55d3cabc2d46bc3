//! A stage and its versions, as the control side knows them: what guests are built from.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_abi::{Capability, CapabilitySet, ClassSet};
use millrace_sandbox::{Fault, FilterLog, Grant, Hook, Metric, MetricValue, Module};
use parking_lot::Mutex;

use super::StageError;
use super::tables::Published;
use crate::answer::Rights;
use crate::control::request::StageTerms;
use crate::control::status::StageState;
use crate::guest::Guest;
use crate::stage::{Abilities, Crew, Selector, StageCounters, StageSpec, Twin, Version};
use crate::verdict::Decider;

/// A stage, as the control side knows it.
pub(in crate::control) struct StageRecord {
    pub(in crate::control) number: Decider,
    pub(in crate::control) name: Arc<str>,
    pub(in crate::control) terms: StageTerms,
    /// The numbers of the ports in `terms` that are there.
    pub(super) ports: Vec<u16>,
    pub(in crate::control) log: Arc<FilterLog>,
    /// What the filters of all stages are told.
    pub(super) published: Arc<Mutex<Published>>,
    /// How many versions there have been.
    pub(super) versions: u64,
    pub(in crate::control) current: VersionRecord,
    pub(in crate::control) previous: Option<VersionRecord>,
    pub(in crate::control) canary: Option<(u8, VersionRecord)>,
    /// By worker.
    pub(in crate::control) counters: Vec<Arc<StageCounters>>,
    /// What guests had counted that are no more.
    pub(in crate::control) retired: BTreeMap<String, MetricValue>,
    pub(in crate::control) state: StageState,
    /// Faults that count towards the limit: of which version, and when.
    pub(super) recent_faults: Vec<(u64, u64)>,
    pub(in crate::control) last_fault: Option<FaultRecord>,
}

/// A fault that happened.
pub(in crate::control) struct FaultRecord {
    /// When, on the clock of filters.
    pub(in crate::control) time_ns: u64,
    pub(in crate::control) worker: usize,
    /// The version it happened to.
    pub(in crate::control) version: u64,
    pub(in crate::control) fault: Fault,
}

/// A version of a filter, as the control side knows it.
#[derive(Clone)]
pub(in crate::control) struct VersionRecord {
    pub(in crate::control) number: u64,
    pub(in crate::control) module: Arc<Module>,
    pub(in crate::control) config: String,
    /// The places of its twins, by worker; none while it is not in the chain.
    pub(super) twins: Vec<Twin>,
}

impl VersionRecord {
    pub(super) fn new(number: u64, module: Arc<Module>, config: &str) -> Result<Self, StageError> {
        Ok(Self { number, module, config: compact(config)?, twins: Vec::new() })
    }
}

impl StageRecord {
    pub(super) fn spec(&self) -> Arc<StageSpec> {
        let everywhere = self.terms.ports.is_empty() && self.terms.kinds.is_empty();
        Arc::new(StageSpec {
            number: self.number,
            name: Arc::clone(&self.name),
            selector: match everywhere {
                true => Selector::All,
                false => {
                    Selector::Ports { ports: self.ports.clone(), kinds: self.terms.kinds.clone() }
                }
            },
            on_fault: self.terms.on_fault,
            mode: self.terms.mode,
        })
    }

    /// Guests and twins of the current version, for each worker.
    pub(super) fn staff(&mut self, workers: usize) -> Result<Vec<Version>, StageError> {
        let mut current = self.current.clone();
        let crew = self.staff_with(&mut current, workers)?;
        self.current = current;
        Ok(crew)
    }

    /// Guests and twins of a version, for each worker.
    pub(super) fn staff_with(
        &self,
        version: &mut VersionRecord,
        workers: usize,
    ) -> Result<Vec<Version>, StageError> {
        let mut crew = Vec::with_capacity(workers);
        for _ in 0..workers {
            let (guest, twin) = (self.guest(version)?, self.guest(version)?);
            crew.push(Version {
                number: version.number,
                abilities: self.abilities(&version.module),
                guest: Some(guest),
                twin: Arc::new(Mutex::new(Some(twin))),
            });
        }
        version.twins = crew.iter().map(|version| Arc::clone(&version.twin)).collect();
        Ok(crew)
    }

    /// A guest that has taken its configuration, and all there is of its tables.
    pub(super) fn guest(&self, version: &VersionRecord) -> Result<Box<dyn Guest>, StageError> {
        let grant = Grant {
            stage: Arc::clone(&self.name),
            capabilities: self.granted_to(&version.module),
            memory: self.terms.memory,
            deadline: self.terms.deadline,
            log: Arc::clone(&self.log),
        };
        let mut guest = version.module.instantiate(&grant, &version.config)?;
        for update in self.published.lock().whole(version.module.manifest()) {
            guest.update(&update)?;
        }
        Ok(Box::new(guest))
    }

    /// Gives a guest the configuration of a version, and with it all there is of its tables.
    pub(super) fn reconfigure(
        &self,
        guest: &mut dyn Guest,
        version: &VersionRecord,
    ) -> Result<(), String> {
        guest.configure(&version.config)?;
        let whole = self.published.lock().whole(version.module.manifest());
        whole.iter().try_for_each(|update| guest.update(update))
    }

    pub(super) fn abilities(&self, module: &Module) -> Abilities {
        let (manifest, capabilities) = (module.manifest(), self.granted_to(module));
        Abilities {
            decides: manifest.has(Hook::Flow),
            // who may not see packets does not see those of a class either
            classes: match capabilities.contains(Capability::Inspect) {
                true => manifest.classes(),
                false => ClassSet::EMPTY,
            },
            rights: Rights { capabilities, sees_packets: manifest.has(Hook::Packet) },
        }
    }

    /// What the filter in force may do.
    pub(in crate::control) fn granted(&self) -> CapabilitySet {
        self.granted_to(&self.current.module)
    }

    /// What a module wants and the operator grants.
    fn granted_to(&self, module: &Module) -> CapabilitySet {
        let wanted = module.manifest().capabilities();
        wanted.minus(wanted.minus(self.terms.capabilities))
    }

    /// A guest for each worker that has taken the configuration of `next`: its twin, or a new one
    /// if the twin is in service or its place is empty.
    pub(super) fn reconfigured_twins(
        &mut self,
        next: &VersionRecord,
    ) -> Result<Vec<Box<dyn Guest>>, StageError> {
        let mut ready = Vec::new();
        for twin in &self.current.twins {
            let taken = twin.lock().take();
            let guest = match taken {
                None => self.guest(next),
                Some(mut guest) => match self.reconfigure(&mut *guest, next) {
                    Ok(()) => Ok(guest),
                    Err(refusal) => Err(StageError::Configure(refusal)),
                },
            };
            match guest {
                Ok(guest) => ready.push(guest),
                Err(error) => {
                    // those that have taken it are of no use now
                    self.mend_twins();
                    return Err(error);
                }
            }
        }
        Ok(ready)
    }

    /// Builds the twins that are missing.
    pub(super) fn mend_twins(&mut self) {
        let canary = self.canary.as_ref().map(|(_, version)| version);
        for version in std::iter::once(&self.current).chain(canary) {
            for twin in &version.twins {
                if twin.lock().is_some() {
                    continue;
                }
                match self.guest(version) {
                    Ok(guest) => *twin.lock() = Some(guest),
                    Err(error) => tracing::error!(stage = %self.name, %error, "there is no twin"),
                }
            }
        }
    }

    /// Keeps what a guest counted that will count no more.
    pub(super) fn retire(&mut self, guest: &dyn Guest) {
        let counted = guest.metrics().into_iter();
        // a gauge of the past says nothing
        let kept = counted.filter(|metric| !matches!(metric.value, MetricValue::Gauge(_)));
        merge(&mut self.retired, kept);
    }

    pub(super) fn retire_version(&mut self, version: &Version) {
        if let Some(guest) = &version.guest {
            self.retire(&**guest);
        }
    }
}

impl Crew {
    /// What its guests count, and bytes of memory of guests and twins.
    pub(super) fn measure(&self) -> (Vec<Metric>, u64) {
        let canary = self.canary.as_ref().map(|canary| &canary.version);
        let (mut metrics, mut memory) = (Vec::new(), 0);
        for version in std::iter::once(&self.main).chain(canary) {
            let Some(guest) = &version.guest else { continue };
            metrics.extend(guest.metrics());
            memory += 2 * guest.memory_size() as u64;
        }
        (metrics, memory)
    }
}

pub(super) fn merge(
    totals: &mut BTreeMap<String, MetricValue>,
    metrics: impl IntoIterator<Item = Metric>,
) {
    for metric in metrics {
        match totals.get_mut(&metric.name) {
            Some(total) => total.merge(&metric.value),
            None => drop(totals.insert(metric.name, metric.value)),
        }
    }
}

/// The configuration without blanks; none at all is an empty object.
pub(super) fn compact(config: &str) -> Result<String, StageError> {
    if config.trim().is_empty() {
        return Ok("{}".to_owned());
    }
    let value: serde_json::Value = serde_json::from_str(config)?;
    Ok(value.to_string())
}
