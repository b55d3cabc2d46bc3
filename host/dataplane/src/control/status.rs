//! What can be seen of a running dataplane: plain data, as JSON has it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millrace_netns::Link;
use millrace_sandbox::{FaultClass, Level, Line, MetricValue, now_ns};
use millrace_wire::MacAddr;
use serde::{Deserialize, Serialize};

use crate::control::carried::PortTraffic;
use crate::control::redecide::Redecided;
use crate::control::stages::{
    FaultRecord, Measured, StageError, StageRecord, Stages, VersionRecord,
};
use crate::control::trace::RuleStatus;
use crate::control::without_port::WithoutPort;
use crate::io::Io;
use crate::mailbox::NoAnswer;
use crate::port::{Hold, PortId};
use crate::stage::StageCounters;

/// A word of a fixed list. Who states it borrows it, who reads it from JSON owns it.
pub type Label = Cow<'static, str>;

/// A port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Its number.
    pub id: PortId,
    /// Its name, that of its interface.
    pub name: String,
    /// What it leads to.
    pub kind: Label,
    /// Whether packets can come and go.
    pub state: PortState,
    /// How frames reach the program: `native` or `generic`.
    pub attached: Label,
    /// How frames reach the host: `copy` or `zero-copy`.
    pub bound: Label,
    /// The largest IP packet.
    pub mtu: u32,
    /// The link-layer address of whoever is behind it, of a cached port; else of its interface.
    pub mac: Option<String>,
    /// The VLANs it carries.
    pub vlans: String,
    /// Queues.
    pub queues: u32,
    /// What is odd about it, with the remedy.
    pub notes: Vec<String>,
    /// What was counted.
    pub counters: PortTotals,
}

/// Whether packets can come and go by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// They can.
    Up,
    /// Its interface is down.
    Down,
    /// Its interface is gone, or cannot be a port as it is, which a note says; it is waited for.
    Gone,
}

/// The kernel's flow cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// Connections there are.
    pub connections: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Directions that workers gave to the kernel.
    pub installed: u64,
    /// Directions that found no room there.
    pub full: u64,
    /// Directions that the kernel refused for another reason.
    pub refused: u64,
    /// Times that the kernel did not take what a worker sent to a port of the cache.
    #[serde(default)]
    pub send_refused: u64,
    /// What became of connections that were decided anew.
    pub redecided: Redecided,
    /// Connections that would end with this process, as there was no room to keep them.
    #[serde(default)]
    pub not_kept: u64,
    /// Connections that were refused since no port was left to masquerade them with.
    #[serde(default)]
    pub without_port: WithoutPort,
    /// Packets by what became of them in the kernel.
    pub packets: BTreeMap<String, u64>,
}

/// What was counted of a port, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTotals {
    /// Packets that came in, whoever carried them.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets that left or were handed to the kernel to leave, whoever carried them.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Of the packets that came in, those that the kernel's flow cache carried.
    pub rx_kernel_packets: u64,
    /// Their bytes.
    pub rx_kernel_bytes: u64,
    /// Of the packets that left, those that the kernel's flow cache carried.
    pub tx_kernel_packets: u64,
    /// Their bytes.
    pub tx_kernel_bytes: u64,
    /// How often the kernel dropped some of what it was handed.
    pub tx_refused: u64,
    /// Packets the kernel dropped: too large for a frame, or without one, or for other reasons.
    pub rx_dropped: u64,
    /// Of these, packets that there was no frame to receive into.
    pub rx_no_frame: u64,
    /// Others, dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Descriptors that the kernel did not take.
    pub invalid: u64,
    /// Packets that the kernel dropped because workers would have had to see them, and too many of
    /// the port's were that already.
    #[serde(default)]
    pub misses_refused: u64,
    /// Connections from it that were dropped to make room for others, before both sides took part.
    #[serde(default)]
    pub evicted: u64,
    /// Connections from it that left the kernel's flow cache to make room there, and go on by way of
    /// workers.
    #[serde(default)]
    pub crowded_out: u64,
}

/// A stage of the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Its place in the chain, from 0.
    pub position: usize,
    /// The filter in it.
    pub filter: FilterStatus,
    /// The version before, to which it can be rolled back.
    pub previous: Option<FilterStatus>,
    /// The version that is tried on some flows.
    pub canary: Option<CanaryStatus>,
    /// Its mode: `enforce` or `shadow`.
    pub mode: String,
    /// What happens when it fails: `open` or `closed`.
    pub on_fault: String,
    /// `keep`, `drop` or `reset`.
    pub on_refused: String,
    /// The ports it is asked about; all, if there are none.
    pub ports: Vec<String>,
    /// The kinds of ports it is asked about, likewise.
    pub kinds: Vec<Label>,
    /// What it may do.
    pub capabilities: Vec<Label>,
    /// Whether it works.
    pub state: StageState,
    /// The last fault.
    pub last_fault: Option<FaultStatus>,
    /// What was counted.
    pub counters: StageTotals,
}

/// Whether a stage works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// It does.
    Running,
    /// It failed too often, and was rolled back to the version before.
    RolledBack,
    /// It failed too often, and is not asked any more.
    Ejected,
}

/// A version of a filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterStatus {
    /// Counts versions of the stage from 1.
    pub number: u64,
    /// The filter's name, as its manifest says.
    pub filter: String,
    /// Its version, likewise.
    pub version: String,
    /// SHA-256 of the module.
    pub digest: String,
    /// Its configuration.
    pub config: serde_json::Value,
}

/// A version that is tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// The version.
    #[serde(flatten)]
    pub filter: FilterStatus,
    /// How many of a hundred flows.
    pub percent: u8,
}

/// A fault that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultStatus {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// The worker it happened on.
    pub worker: usize,
    /// The version it happened to.
    pub version: u64,
    /// What kind of fault.
    pub class: Label,
    /// What happened.
    pub detail: String,
}

/// What was counted of a stage, over all workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTotals {
    /// Calls of the flow hook.
    pub calls: u64,
    /// Slots it was asked about.
    pub asked: u64,
    /// Of these, asked of the canary.
    pub asked_canary: u64,
    /// Decisions that ended a packet's way.
    pub dropped: u64,
    /// Of these, the canary's.
    pub dropped_canary: u64,
    /// Nanoseconds in its hooks.
    pub busy_ns: u64,
    /// Packets shown to the packet hook.
    pub shown: u64,
    /// Of these, dropped.
    pub shown_dropped: u64,
    /// Of these, answered.
    pub shown_answered: u64,
    /// Of these, changed.
    pub shown_rewritten: u64,
    /// Frames that it sent of its own accord.
    pub emitted: u64,
    /// Faults by class.
    pub faults: BTreeMap<Label, u64>,
    /// Packets that met no working guest.
    pub absent: u64,
    /// Shadow: the same outcome as the chain's.
    pub shadow_same: u64,
    /// Shadow: it would have dropped what went on.
    pub shadow_stricter: u64,
    /// Shadow: it would have let go on what was dropped.
    pub shadow_looser: u64,
    /// Bytes of memory of its instances.
    pub memory: u64,
    /// What the filter itself counts.
    pub metrics: BTreeMap<String, MetricStatus>,
}

/// What a filter counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricStatus {
    /// A counter.
    Counter(u64),
    /// A gauge.
    Gauge(i64),
    /// A histogram: how many values were below each power of two.
    Histogram {
        /// By the power; the last one has all others.
        buckets: Vec<u64>,
        /// The sum of the values.
        sum: u64,
    },
}

/// What became of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FateStatus {
    /// The port they came in by.
    pub port: String,
    /// The stage that decided; the host itself, if there is none.
    pub stage: Option<String>,
    /// What became of them.
    pub fate: Label,
    /// Why they went no further.
    pub reason: Option<Label>,
    /// How many.
    pub packets: u64,
}

/// Packets that went no further by a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleDrops {
    /// The port they came in by.
    pub port: String,
    /// The stage that decided.
    pub stage: String,
    /// Why they went no further.
    pub reason: Label,
    /// The stage's rule.
    pub rule: RuleStatus,
    /// How many.
    pub packets: u64,
}

/// A worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its number.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Bursts that had packets.
    pub bursts: u64,
    /// Packets whose verdict was remembered.
    pub hits: u64,
    /// Packets that the chain was asked about.
    pub misses: u64,
    /// Flows remembered.
    pub flows: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Frames in its pool.
    pub free_frames: u64,
    /// Packets whose fate was not counted: there were more combinations than places.
    pub uncounted: u64,
}

/// A line of a filter's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Counts the filter's lines.
    pub sequence: u64,
    /// How long ago it was written, in milliseconds.
    pub age_ms: u64,
    /// How bad it is.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl<I: Io + 'static> Stages<I> {
    /// The stages, in order.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn status(&self) -> Result<Vec<StageStatus>, NoAnswer> {
        let measured = self.measure()?;
        let records = self.records.iter().zip(measured).enumerate();
        Ok(records.map(|(at, (record, measured))| record.status(at, measured)).collect())
    }

    /// One stage.
    ///
    /// # Errors
    /// If there is no such stage, or a worker is gone.
    pub fn status_of(&self, name: &str) -> Result<StageStatus, StageError> {
        let at = self.find(name)?;
        Ok(self.status()?.swap_remove(at))
    }

    /// The lines of a stage's log behind number `after`.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn log(&self, name: &str, after: u64) -> Result<Vec<LogLine>, StageError> {
        let now = now_ns();
        let line = |line: Line| LogLine {
            sequence: line.sequence,
            age_ms: now.saturating_sub(line.time_ns) / 1_000_000,
            level: line.level,
            text: line.text,
        };
        let record = &self.records[self.find(name)?];
        Ok(record.log.since(after).into_iter().map(line).collect())
    }
}

impl StageRecord {
    fn status(&self, position: usize, measured: Measured) -> StageStatus {
        let Measured { metrics, memory } = measured;
        let mut counters = StageTotals { memory, ..StageTotals::default() };
        self.counters.iter().for_each(|counted| counters.add(counted));
        counters.metrics =
            metrics.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        StageStatus {
            name: self.name.to_string(),
            position,
            filter: self.current.status(),
            previous: self.previous.as_ref().map(VersionRecord::status),
            canary: self.canary.as_ref().map(|(percent, version)| CanaryStatus {
                filter: version.status(),
                percent: *percent,
            }),
            mode: self.terms.mode.to_string(),
            on_fault: self.terms.on_fault.to_string(),
            on_refused: self.terms.on_refused.to_string(),
            ports: self.terms.ports.iter().cloned().collect(),
            kinds: self.terms.kinds.iter().map(|kind| kind.label().into()).collect(),
            capabilities: self.granted().iter().map(|granted| granted.label().into()).collect(),
            state: self.state,
            last_fault: self.last_fault.as_ref().map(|fault| fault.status(now_ns())),
            counters,
        }
    }
}

impl FaultRecord {
    fn status(&self, now_ns: u64) -> FaultStatus {
        FaultStatus {
            age_ms: now_ns.saturating_sub(self.time_ns) / 1_000_000,
            worker: self.worker,
            version: self.version,
            class: self.fault.class.label().into(),
            detail: self.fault.detail.clone(),
        }
    }
}

impl VersionRecord {
    fn status(&self) -> FilterStatus {
        let manifest = self.module.manifest();
        FilterStatus {
            number: self.number,
            filter: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: self.module.digest().to_string(),
            config: serde_json::from_str(&self.config).unwrap_or_default(),
        }
    }
}

/// The link-layer address of whoever is behind a port, if that is known; else its interface's.
pub(super) fn mac(hold: Hold, link: Option<&Link>) -> Option<String> {
    let mac = match hold {
        Hold::Cached(station) => Some(station.mac),
        Hold::Direct => link.and_then(|link| link.mac),
    };
    mac.map(|mac| MacAddr(mac).to_string())
}

impl PortTotals {
    /// Adds what the kernel carried.
    pub(super) fn carried(&mut self, PortTraffic { came, left }: PortTraffic) {
        self.rx_packets += came.packets;
        self.rx_bytes += came.bytes;
        self.tx_packets += left.packets;
        self.tx_bytes += left.bytes;
        self.rx_kernel_packets = came.packets;
        self.rx_kernel_bytes = came.bytes;
        self.tx_kernel_packets = left.packets;
        self.tx_kernel_bytes = left.bytes;
    }
}

impl StageTotals {
    fn add(&mut self, counted: &StageCounters) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        self.calls += read(&counted.calls);
        self.asked += read(&counted.asked);
        self.asked_canary += read(&counted.asked_canary);
        self.dropped += read(&counted.dropped);
        self.dropped_canary += read(&counted.dropped_canary);
        self.busy_ns += read(&counted.busy_ns);
        self.shown += read(&counted.shown);
        self.shown_dropped += read(&counted.shown_dropped);
        self.shown_answered += read(&counted.shown_answered);
        self.shown_rewritten += read(&counted.shown_rewritten);
        self.emitted += read(&counted.emitted);
        self.absent += read(&counted.absent);
        self.shadow_same += read(&counted.shadow_same);
        self.shadow_stricter += read(&counted.shadow_stricter);
        self.shadow_looser += read(&counted.shadow_looser);
        for (class, faults) in FaultClass::ALL.iter().zip(&counted.faults) {
            *self.faults.entry(class.label().into()).or_default() += read(faults);
        }
    }
}

impl From<&MetricValue> for MetricStatus {
    fn from(value: &MetricValue) -> Self {
        match value {
            MetricValue::Counter(n) => Self::Counter(*n),
            MetricValue::Gauge(n) => Self::Gauge(*n),
            MetricValue::Histogram { buckets, sum } => {
                Self::Histogram { buckets: buckets.to_vec(), sum: *sum }
            }
        }
    }
}
