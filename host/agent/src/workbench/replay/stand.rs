//! A filter in a dataplane in memory, and packets one by one.
//!
//! Behind the filter stands [`Rest`], which lets go what the filter has not decided about: a
//! filter that has nothing against a packet need not know where it goes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_abi::{
    Capability, CapabilitySet, ClassSet, Decision, Field, Origin, PacketRecord, Reason, Slot,
};
use millrace_dataplane::Rights;
use millrace_dataplane::control::MemoryPlane;
use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::control::status::StageStatus;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::guest::Guest;
use millrace_dataplane::port::{PortId, Vlans};
use millrace_dataplane::stage::{
    Abilities, Crew, Mode, OnFault, Selector, Stage, StageSpec, Version,
};
use millrace_dataplane::verdict::{Decider, Verdict};
use millrace_dataplane::worker::WorkerSettings;
use millrace_sandbox::{Fault, Manifest, Metric};
use serde_json::Value;

use crate::workbench::subject::{PATIENCE, Subject};

/// A filter in a dataplane in memory.
pub(super) struct Stand {
    plane: MemoryPlane,
    ports: Vec<(String, PortId)>,
    manifest: Manifest,
}

/// What became of a packet.
#[derive(Debug)]
pub(super) struct Passed {
    /// In the words of expectations.
    pub(super) verdict: String,
    /// What left, by port: the packet, and what the filter or the host sent.
    pub(super) left: Vec<(String, Vec<u8>)>,
}

impl Stand {
    /// The filter between these ports.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) fn new(subject: &Subject, config: &Value, ports: &[String]) -> anyhow::Result<Self> {
        let named: Vec<_> =
            ports.iter().map(|port| (port.as_str(), Vlans::transparent())).collect();
        let sandbox = Arc::clone(&subject.sandbox);
        let mut plane = MemoryPlane::new(sandbox, &named, WorkerSettings::default());
        let load = Load {
            name: STAGE.to_owned(),
            module: subject.bytes.clone(),
            config: config.to_string(),
            position: Position::Last,
            terms: StageTerms { deadline: PATIENCE, ..StageTerms::default() },
        };
        plane.stages.load(load, &|_| None).with_context(|| subject.title.clone())?;
        plane.run(|worker| worker.chain.stages.push(Rest::stage()));
        // filters that tick have done so before the first packet, as in a host
        plane.advance(Duration::ZERO);
        let port = |name: &String| Some((name.clone(), plane.port(name)?));
        let ports = ports.iter().filter_map(port).collect();
        Ok(Self { plane, ports, manifest: subject.module.manifest().clone() })
    }

    /// Lets time pass, and filters tick.
    pub(super) fn wait(&mut self, time: Duration) {
        // a capture with a gap of days need not take long
        let ticks = time.as_secs().min(MOST_TICKS);
        for _ in 0..ticks {
            self.plane.advance(Duration::from_secs(1));
        }
        self.plane.advance(time - Duration::from_secs(ticks));
    }

    /// Lets a packet come in by a port.
    pub(super) fn pass(&mut self, port: &str, frame: &[u8]) -> Passed {
        let id = self.plane.port(port).expect("packets come in by ports that there are");
        let before = self.plane.fates();
        let (packet, ports) = (frame.to_vec(), self.ports.clone());
        let (verdict, left) = self.plane.run(move |worker| {
            let fed = worker.io.feed(id, &packet);
            while worker.round() > 0 {}
            let verdict = match fed {
                true => worker.handled().verdicts[0],
                false => Verdict::dropped(Reason::TruncatedFrame),
            };
            let mut left = Vec::new();
            for (name, id) in ports {
                let frames = worker.io.collect(id).into_iter();
                left.extend(frames.map(|frame| (name.clone(), frame)));
            }
            (verdict, left)
        });

        // what the host found wrong on the way out is in no verdict
        let after = self.plane.fates();
        let mut fates: Vec<Fate> = after
            .iter()
            .filter(|(key, packets)| key.port == id && before.get(key) != Some(packets))
            .map(|(key, _)| key.fate)
            .collect();
        fates.sort();
        let fate = fates.first().copied().unwrap_or(Fate::Dropped(Reason::TruncatedFrame));
        self.plane.mend();
        let changed = !left.iter().any(|(_, left): &(String, Vec<u8>)| left == frame);
        Passed { verdict: self.words(fate, &verdict, changed), left }
    }

    /// What the filter counts, and whether it failed.
    ///
    /// # Errors
    /// If the worker is gone.
    pub(super) fn status(&self) -> anyhow::Result<StageStatus> {
        let stages = self.plane.stages.status()?;
        Ok(stages.into_iter().next().expect("the filter is the first stage"))
    }

    /// What the filter wrote.
    ///
    /// # Errors
    /// If there is no such filter.
    pub(super) fn log(&self) -> anyhow::Result<Vec<String>> {
        let lines = self.plane.stages.log(STAGE, 0)?.into_iter();
        Ok(lines.map(|line| format!("{:?}: {}", line.level, line.text).to_lowercase()).collect())
    }

    /// What became of a packet, in the words of expectations.
    fn words(&self, fate: Fate, verdict: &Verdict, changed: bool) -> String {
        let mut words = match fate {
            Fate::Forwarded | Fate::Fragmented => {
                let named = self.ports.iter().find(|(_, id)| id.number() == verdict.egress);
                format!("forward {}", named.map_or("?", |(name, _)| name))
            }
            Fate::Flooded if verdict.by == REST => "pass".to_owned(),
            Fate::Flooded => "flood".to_owned(),
            Fate::Answered => "answer".to_owned(),
            Fate::Dropped(reason) => format!("drop {}", reason.label()),
            Fate::Rejected(reason) => format!("reject {}", reason.label()),
        };
        if verdict.rule != 0 && verdict.by != REST {
            words += " by ";
            words += &match self.manifest.rule(verdict.rule) {
                Some(rule) => rule.name.clone(),
                None => verdict.rule.to_string(),
            };
        }
        if changed && matches!(fate, Fate::Forwarded | Fate::Flooded) {
            words += " rewritten";
        }
        words
    }
}

/// The stage behind the filter: what nobody has said where it goes leaves by all other ports.
#[derive(Default)]
struct Rest {
    slots: Vec<Slot>,
    decisions: Vec<Decision>,
}

impl Rest {
    fn stage() -> Stage {
        let spec = StageSpec {
            number: REST,
            name: "rest".into(),
            selector: Selector::All,
            on_fault: OnFault::Closed,
            mode: Mode::Enforce,
        };
        let abilities = Abilities {
            decides: true,
            classes: ClassSet::EMPTY,
            rights: Rights {
                capabilities: CapabilitySet::EMPTY.with(Capability::Redirect),
                sees_packets: false,
            },
        };
        let main = Version {
            number: 1,
            abilities,
            guest: Some(Box::new(Self::default())),
            twin: Arc::default(),
        };
        Stage { spec: Arc::new(spec), crew: Crew { main, canary: None }, counters: Arc::default() }
    }
}

impl Guest for Rest {
    fn slots(&mut self, n: usize) -> &mut [Slot] {
        self.slots.resize(n, Slot::ZERO);
        &mut self.slots
    }

    fn flow(&mut self, n: usize, _: Origin, _: u64) -> Result<&[Decision], Fault> {
        self.decisions.clear();
        self.decisions.extend(self.slots[..n].iter().map(|slot| {
            let mut decision = Decision::ZERO;
            if !slot.has(Field::Egress) && !slot.has(Field::Flood) {
                decision.flood();
            }
            decision
        }));
        Ok(&self.decisions)
    }

    fn push_packet(&mut self, _: &Slot, _: &[u8]) -> bool {
        false
    }

    fn show_packets(
        &mut self,
        _: Origin,
        _: u64,
        _: &mut dyn FnMut(usize, &PacketRecord, &[u8]),
    ) -> Result<(), Fault> {
        Ok(())
    }

    fn take_emitted(&mut self, _: &mut dyn FnMut(u16, &[u8])) {}

    fn tick(&mut self, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn configure(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn update(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    fn recount(&mut self) {}

    fn memory_size(&self) -> usize {
        0
    }
}

/// The name of the stage with the filter.
const STAGE: &str = "filter";
/// The number of the stage behind it.
const REST: Decider = Decider::stage(u8::MAX);
/// Seconds between two packets in which filters tick.
const MOST_TICKS: u64 = 3600;
