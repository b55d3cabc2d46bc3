//! A dataplane on real interfaces: the one handle to all of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use millrace_abi::{Slot, Tag, TagKind};
use millrace_fastpath::{AttendError, Cgroup};
use millrace_netns::{Namespace, NetlinkError};
use millrace_sandbox::{Manifest, Sandbox, now_ns};
use millrace_tables::{Delta, Frontend};
use millrace_xsk::{Xsk, XskSettings};
use parking_lot::Mutex;

use crate::control::flows::{FlowQuery, FlowStatus, Names};
use crate::control::ports::{Hand, PortError, Ports};
use crate::control::punt::PuntError;
use crate::control::redecide::{Desk, Redecided, Which};
use crate::control::request::{AddPort, Load, Position, StageTerms};
use crate::control::settings::{Settings, StartError};
use crate::control::stages::{StageError, Stages};
use crate::control::status::{
    CacheStatus, FateStatus, LogLine, PortStatus, RuleDrops, StageState, StageStatus, WorkerStatus,
};
use crate::control::succession::live;
use crate::control::threads::{cores, go_first, pin, spawn};
use crate::control::trace::RuleStatus;
use crate::counters::RuleKey;
use crate::mailbox::{NoAnswer, Postman, mailbox};
use crate::pauses::PauseCounts;
use crate::stage::{FaultDesk, Mode, OnRefused};
use crate::worker::{Worker, WorkerCounters};
use crate::xsk_io::XskIo;

/// A running dataplane. It ends when this is dropped.
pub struct Dataplane {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) stages: Mutex<Stages<XskIo>>,
    pub(super) ports: Mutex<Ports>,
    /// Where connections are asked for to be decided anew.
    pub(super) redecisions: Arc<Desk>,
    /// Whether there can be any.
    redecides: bool,
    pub(super) ended: AtomicBool,
    /// How many look on.
    pub(super) onlookers: Arc<AtomicUsize>,
}

pub(super) struct WorkerHandle {
    pub(super) postman: Arc<Postman<Worker<XskIo>>>,
    counters: Arc<WorkerCounters>,
    core: Option<usize>,
}

impl Dataplane {
    /// Starts the workers, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If a setting is out of range, or the kernel refuses something.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        settings.check()?;
        let sandbox = millrace_sandbox::Settings { cache: settings.cache.clone() };
        let sandbox =
            Sandbox::new(&sandbox).map_err(|error| StartError::Sandbox(format!("{error:#}")))?;
        let sandbox = Arc::new(sandbox);
        let cores = cores(settings)?;
        let (reports, desk) = sync_channel(DESK);

        let (mut workers, mut hands, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..settings.workers {
            let io = XskIo::new(settings.umem, settings.zero_copy)?;
            let (umem, waker) = (io.umem().clone(), io.waker());
            let desk = FaultDesk { worker: number, reports: reports.clone() };
            let mut worker = Worker::new(io, settings.worker, desk);
            let counters = worker.counters();
            let (postman, mailbox) = mailbox(waker);
            let postman = Arc::new(postman);
            let core = cores.get(number).copied();
            let shares_core = settings.flow_cache.is_some();
            threads.push(spawn(format!("millrace-{number}"), move || {
                if let Some(core) = core {
                    pin(core);
                }
                if shares_core {
                    go_first();
                }
                worker.run(&mailbox);
            })?);
            hands.push(Hand { postman: Arc::clone(&postman), umem });
            workers.push(WorkerHandle { postman, counters, core });
        }

        let postmen = workers.iter().map(|worker| Arc::clone(&worker.postman)).collect();
        let sockets = XskSettings { zero_copy: settings.zero_copy, ..settings.sockets };
        let ports = Ports::new(hands, sockets, settings.attach, settings.flow_cache.clone())?;
        let stages = Stages::new(Arc::clone(&sandbox), postmen);
        let redecisions = stages.desk();
        let redecider = ports.redecider(Arc::clone(&redecisions));
        let shared = Arc::new(Shared {
            stages: Mutex::new(stages),
            ports: Mutex::new(ports),
            redecisions,
            redecides: redecider.is_some(),
            sandbox,
            workers,
            ended: AtomicBool::new(false),
            onlookers: Arc::default(),
        });
        let mut this = Self { shared, threads };
        let links = Namespace::current().map_err(NetlinkError::from)?.watch_links()?;
        let shared = Arc::clone(&this.shared);
        this.threads.push(spawn("millrace-mend".to_owned(), move || shared.mend(&desk))?);
        let upkeep = this.shared.ports.lock().upkeep();
        if let Some(upkeep) = upkeep {
            let sampler = this.shared.ports.lock().sampler().expect("it comes with the upkeep");
            let shared = Arc::clone(&this.shared);
            let keep_up = move || shared.keep_up(&upkeep, &sampler);
            this.threads.push(spawn("millrace-flows".to_owned(), keep_up)?);
        }
        if let Some(redecider) = redecider {
            let shared = Arc::clone(&this.shared);
            let run = move || redecider.run(|| shared.stages.lock().refusals());
            this.threads.push(spawn("millrace-anew".to_owned(), run)?);
        }
        let succession = this.shared.ports.lock().succession();
        if let Some(succession) = succession {
            let shared = Arc::clone(&this.shared);
            let live = move || live(&succession, &shared.ended);
            this.threads.push(spawn("millrace-alive".to_owned(), live)?);
        }
        let shared = Arc::clone(&this.shared);
        this.threads.push(spawn("millrace-links".to_owned(), move || shared.follow(links))?);
        Ok(this)
    }

    /// Whether the drivers of all these interfaces can do without copying.
    pub fn can_do_without_copying(interfaces: &[&str]) -> bool {
        interfaces.iter().all(|interface| Xsk::probe_zero_copy(interface))
    }

    /// Adds a port.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn add_port(&self, request: AddPort) -> Result<(), PortError> {
        self.shared.ports.lock().add(request)?;
        self.resolve_ports();
        Ok(())
    }

    /// Takes a port away, and what host maps say of it.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn remove_port(&self, name: &str) -> Result<(), PortError> {
        let port = self.shared.ports.lock().remove(name)?;
        self.resolve_ports();
        self.shared.stages.lock().forget_port(port);
        // what leads there may lead elsewhere now
        self.redecide(&Which::Tags(vec![Tag::new(TagKind::Port, port.number().into())]));
        self.shared.ports.lock().forget_connections(port)
    }

    /// Decides anew about live connections of cached ports, and says what became of them, and of
    /// others for which somebody asked at the same time.
    pub fn redecide(&self, which: &Which) -> Redecided {
        if self.shared.redecides {
            self.shared.redecisions.ask(which)
        } else {
            Redecided::default()
        }
    }

    /// Puts a filter into the chain.
    ///
    /// # Errors
    /// If it is refused; as with every change, everything stays as it was then.
    pub fn load(&self, load: Load) -> Result<(), StageError> {
        let ports = self.numbers();
        self.shared.stages.lock().load(load, &|name| ports.get(name).copied())
    }

    /// Puts another module into a stage; see [`Stages::swap`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn swap(&self, name: &str, module: &[u8], config: Option<&str>) -> Result<(), StageError> {
        self.shared.stages.lock().swap(name, module, config)
    }

    /// Puts a module into a stage on other terms; see [`Stages::renew`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn renew(
        &self,
        name: &str,
        module: &[u8],
        config: &str,
        terms: StageTerms,
    ) -> Result<(), StageError> {
        let ports = self.numbers();
        let number = |name: &str| ports.get(name).copied();
        self.shared.stages.lock().renew(name, module, config, terms, &number)
    }

    /// Gives a stage another configuration; see [`Stages::configure`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn configure(&self, name: &str, config: &str) -> Result<(), StageError> {
        self.shared.stages.lock().configure(name, config)
    }

    /// Puts the version before into force again; see [`Stages::roll_back`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn roll_back(&self, name: &str) -> Result<(), StageError> {
        self.shared.stages.lock().roll_back(name)
    }

    /// Tries another module on some flows; see [`Stages::try_on`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn try_on(
        &self,
        name: &str,
        percent: u8,
        module: &[u8],
        config: Option<&str>,
    ) -> Result<(), StageError> {
        self.shared.stages.lock().try_on(name, percent, module, config)
    }

    /// Ends the trial of another version; see [`Stages::end_trial`].
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn end_trial(&self, name: &str, promote: bool) -> Result<(), StageError> {
        self.shared.stages.lock().end_trial(name, promote)
    }

    /// Has filters know what has changed of tables; see [`Stages::publish`].
    ///
    /// # Errors
    /// If a filter does not take it, or as [`Dataplane::load`].
    pub fn publish(&self, delta: &Delta, generation: u64, tags: &[Tag]) -> Result<(), StageError> {
        self.shared.stages.lock().publish(delta, generation, tags)
    }

    /// Has packets to these be for the chain that come in by uplinks, whoever has the address, in
    /// place of those before.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn claim(&self, frontends: impl IntoIterator<Item = Frontend>) -> Result<(), PortError> {
        self.shared.ports.lock().claim(frontends)
    }

    /// Has packets to some of these be for the chain no longer, and those to others as well.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn change_claims(
        &self,
        gone: impl IntoIterator<Item = Frontend>,
        new: impl IntoIterator<Item = Frontend>,
    ) -> Result<(), PortError> {
        self.shared.ports.lock().change_claims(gone, new)
    }

    /// Attends the processes of a cgroup that are in the dataplane's own network namespace: they
    /// reach what [stands in](Self::stand_in) for the node's addresses, with or without this process
    /// if the flow cache is pinned.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attend(&self, cgroup: &Cgroup) -> Result<(), AttendError> {
        self.shared.ports.lock().attend(cgroup)
    }

    /// Has these addresses stand in for the node's own, each of which is the key of one, in place of
    /// those before: at ports where they are [claimed](Self::claim), attended processes that mean the
    /// node itself are sent there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stand_in(&self, own: BTreeMap<IpAddr, IpAddr>) -> Result<(), PortError> {
        self.shared.ports.lock().stand_in(own)
    }

    /// Makes a stage's answers count, or not.
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn set_mode(&self, name: &str, mode: Mode) -> Result<(), StageError> {
        self.shared.stages.lock().set_mode(name, mode)
    }

    /// Moves a stage to another place.
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn move_to(&self, name: &str, position: &Position) -> Result<(), StageError> {
        self.shared.stages.lock().move_to(name, position)
    }

    /// Takes a stage out of the chain.
    ///
    /// # Errors
    /// As [`Dataplane::load`].
    pub fn remove(&self, name: &str) -> Result<(), StageError> {
        self.shared.stages.lock().remove(name)
    }

    /// The stages, in order.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn stages(&self) -> Result<Vec<StageStatus>, NoAnswer> {
        self.shared.stages.lock().status()
    }

    /// The names of the stages, in order.
    pub fn order(&self) -> Vec<Arc<str>> {
        self.shared.stages.lock().order()
    }

    /// The stages that failed too often, what each is now, and what its last fault was.
    pub fn given_up(&self) -> Vec<(Arc<str>, StageState, String)> {
        self.shared.stages.lock().given_up()
    }

    /// One stage.
    ///
    /// # Errors
    /// If there is no such stage, or a worker is gone.
    pub fn stage(&self, name: &str) -> Result<StageStatus, StageError> {
        self.shared.stages.lock().status_of(name)
    }

    /// What the filter of a stage says of itself.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn manifest(&self, name: &str) -> Result<Manifest, StageError> {
        self.shared.stages.lock().manifest(name).cloned()
    }

    /// The lines of a stage's log behind number `after`.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn log(&self, name: &str, after: u64) -> Result<Vec<LogLine>, StageError> {
        self.shared.stages.lock().log(name, after)
    }

    /// The ports.
    ///
    /// # Errors
    /// If a worker is gone, or the kernel does not say.
    pub fn ports(&self) -> Result<Vec<PortStatus>, PortError> {
        self.shared.ports.lock().status()
    }

    /// The kernel's flow cache, if there is one.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn cache(&self) -> Result<Option<CacheStatus>, PortError> {
        let cache = self.shared.ports.lock().cache()?;
        let redecided = self.shared.redecisions.total();
        Ok(cache.map(|cache| CacheStatus { redecided, ..cache }))
    }

    /// The connections of cached ports, in no order; none without a flow cache.
    ///
    /// # Errors
    /// If the kernel does not say what it has of them.
    pub fn flows(&self, query: FlowQuery) -> Result<Vec<FlowStatus>, PortError> {
        Ok(self.read_flows(&query)?.into_iter().map(|(flow, _)| flow).collect())
    }

    /// The same, each with the rule by which a stage would decide about it now; 0 where it names
    /// none, or does not answer.
    ///
    /// # Errors
    /// As [`Dataplane::flows`].
    pub fn flows_ruled_by(
        &self,
        query: FlowQuery,
        stage: &str,
    ) -> Result<Vec<(FlowStatus, u32)>, PortError> {
        let (flows, openings): (Vec<_>, Vec<_>) = self.read_flows(&query)?.into_iter().unzip();
        let rules = self.shared.stages.lock().rules_for(stage, &openings, now_ns());
        Ok(flows.into_iter().zip(rules).collect())
    }

    /// Each with the slot of the packet that has opened it.
    fn read_flows(&self, query: &FlowQuery) -> Result<Vec<(FlowStatus, Slot)>, PortError> {
        // what is locked here is let go before the walk, which can be a long one
        let (reader, numbers) = {
            let ports = self.shared.ports.lock();
            (ports.flows(), ports.numbers())
        };
        let Some(reader) = reader else { return Ok(Vec::new()) };
        let ports: BTreeMap<u16, String> =
            numbers.into_iter().map(|(name, number)| (number, name)).collect();
        let names = Names {
            port: &|number| ports.get(&number).cloned(),
            stage: &|by| self.shared.stages.lock().name_of(by).map(str::to_owned),
        };
        Ok(reader.read(query, &names, now_ns()).map_err(PuntError::from)?)
    }

    /// What became of packets.
    pub fn fates(&self) -> Vec<FateStatus> {
        let (stages, ports) = (self.shared.stages.lock(), self.shared.ports.lock());
        let mut totals = BTreeMap::new();
        for worker in &self.shared.workers {
            for (key, packets) in worker.counters.fates.read() {
                *totals.entry(key).or_insert(0) += packets;
            }
        }
        let status = |(key, packets): (crate::counters::Key, u64)| FateStatus {
            port: ports.name(key.port).map_or_else(|| key.port.number().to_string(), str::to_owned),
            stage: stages.name_of(key.by).map(str::to_owned),
            fate: key.fate.label().into(),
            reason: key.fate.reason().map(|reason| reason.label().into()),
            packets,
        };
        totals.into_iter().map(status).collect()
    }

    /// By which rules packets went no further that workers have seen. Those for which there was no
    /// place are in [`Dataplane::fates`] alone, as those are that the kernel has dropped.
    pub fn drops_by_rule(&self) -> Vec<RuleDrops> {
        let (stages, ports) = (self.shared.stages.lock(), self.shared.ports.lock());
        let mut totals = BTreeMap::new();
        for worker in &self.shared.workers {
            for (key, packets) in worker.counters.rules.read() {
                *totals.entry(key).or_insert(0) += packets;
            }
        }
        let status = |(key, packets): (RuleKey, u64)| {
            let unnamed = || RuleStatus { id: key.rule, name: None, help: None };
            Some(RuleDrops {
                port: ports
                    .name(key.port)
                    .map_or_else(|| key.port.number().to_string(), str::to_owned),
                stage: stages.name_of(key.by)?.to_owned(),
                reason: key.reason.label().into(),
                rule: stages.rule(key.by, key.rule).unwrap_or_else(unnamed),
                packets,
            })
        };
        totals.into_iter().filter_map(status).collect()
    }

    /// Has live connections that one of these rules refuses be treated so, whatever the stage says
    /// that names it, or by nothing but what that says. Rules are those that tables have.
    pub fn refuse_by(&self, rules: impl IntoIterator<Item = (u32, Option<OnRefused>)>) {
        self.shared.stages.lock().refuse_by(rules);
    }

    /// The workers.
    ///
    /// # Errors
    /// If one is gone.
    pub fn workers(&self) -> Result<Vec<WorkerStatus>, NoAnswer> {
        let status = |(number, handle): (usize, &WorkerHandle)| {
            let counters = &handle.counters;
            Ok(WorkerStatus {
                worker: number,
                core: handle.core,
                bursts: counters.bursts.load(Ordering::Relaxed),
                hits: counters.hits.load(Ordering::Relaxed),
                misses: counters.misses.load(Ordering::Relaxed),
                flows: counters.flows.load(Ordering::Relaxed),
                sleeps: counters.sleeps.load(Ordering::Relaxed),
                free_frames: handle.postman.ask(|worker| worker.io.free() as u64)?,
                uncounted: counters.fates.overflow.load(Ordering::Relaxed),
            })
        };
        self.shared.workers.iter().enumerate().map(status).collect()
    }

    /// How often workers were held up by changes, and for how long.
    pub fn pauses(&self) -> PauseCounts {
        let mut total = PauseCounts::default();
        self.shared.workers.iter().for_each(|worker| total.add(&worker.postman.pauses().read()));
        total
    }

    /// The host maps of the node, and what compiles filters.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.shared.sandbox
    }

    /// The numbers of all ports, by name.
    pub fn numbers(&self) -> BTreeMap<String, u16> {
        self.shared.ports.lock().numbers()
    }

    fn resolve_ports(&self) {
        let ports = self.numbers();
        let outcome = self.shared.stages.lock().resolve_ports(&|name| ports.get(name).copied());
        if let Err(error) = outcome {
            tracing::error!(%error, "stages do not know the new ports");
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.redecisions.close();
        for worker in &self.shared.workers {
            worker.postman.close();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the dataplane has panicked");
            }
        }
    }
}

/// Fault reports that may wait.
const DESK: usize = 256;
