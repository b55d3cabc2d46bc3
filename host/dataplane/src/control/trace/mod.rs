//! What would become of a packet: the chain is asked about it stage by stage, and the host says
//! what it would do then. Nothing of it happens.
//!
//! The twins answer ([`Twin`](crate::stage::Twin)), with [`Origin::Shadow`]: no worker is held up,
//! host maps are read and not written, and whatever a filter breaks is not in service. What is
//! counted is left as it is.
//!
//! - `report`: what is found, as plain data
//! - `delivery`: what the host would do

mod delivery;
mod report;

use millrace_abi::{Field, Origin, Reason, Slot};
use millrace_parse::{Layers, parse};
use millrace_sandbox::now_ns;

pub use self::report::{
    Connected, DeliveryStatus, Ending, HookStatus, OffloadStatus, PacketStatus, RuleStatus,
    StageTrace, TraceReport,
};
use crate::connections::Key;
use crate::control::flows::Names;
use crate::control::punt::PuntError;
use crate::control::stages::Stages;
use crate::control::{Dataplane, PortError};
use crate::io::Io;
use crate::port::{Port, PortId, PortTable};
use crate::tracking::zone;
use crate::verdict::{Decider, Terms, Verdict};

/// A packet that nobody sent.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    /// The port it would come in by.
    pub port: PortId,
    /// Its bytes, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// A packet on its way through the chain.
pub(super) struct Probe<'p> {
    pub(super) slot: Slot,
    pub(super) frame: &'p [u8],
    pub(super) verdict: Verdict,
    pub(super) terms: Terms,
}

impl Dataplane {
    /// What would become of a packet. Nothing of it happens, and nothing is counted.
    ///
    /// # Errors
    /// If a worker is gone, or the kernel does not say what it has of the packet's connection.
    pub fn trace(&self, request: &TraceRequest) -> Result<TraceReport, PortError> {
        let reader = self.shared.ports.lock().flows();
        let worker = self.shared.workers.first().expect("there is at least one worker");
        let ports = worker.postman.ask(|worker| worker.ports.snapshot())?;
        let mut refused = None;
        let connection = |slot: &Slot, names: &Names<'_>| {
            let key = Key::of(slot, zone(slot, &ports)?);
            let found = reader?.connected(&key, names, now_ns());
            found.map_err(|error| refused = Some(error)).ok()?
        };
        let mut stages = self.shared.stages.lock();
        let report = trace(&mut stages, request, &ports, now_ns(), connection);
        refused.map_or(Ok(report), |error| Err(PuntError::from(error).into()))
    }
}

/// Lets the packet pass the chain. `connection` says which one it belongs to.
pub(super) fn trace<I: Io + 'static>(
    stages: &mut Stages<I>,
    request: &TraceRequest,
    ports: &PortTable,
    now_ns: u64,
    connection: impl FnOnce(&Slot, &Names<'_>) -> Option<Connected>,
) -> TraceReport {
    let stage_names = stages.names();
    let names = &Names {
        port: &|number| Some(ports.get(PortId::new(number)?)?.port.name.clone()),
        stage: &|by| stage_names.get(&by).map(|name| name.to_string()),
    };
    let frame = &request.frame[..];
    let (mut slot, read) = read(request, ports, now_ns);
    let packet = PacketStatus::of(&slot, names);
    let refused = |reason| TraceReport {
        packet: packet.clone(),
        connection: None,
        stages: Vec::new(),
        ending: Ending::dropped(reason, None),
    };
    let layers = match read {
        Ok(layers) => layers,
        Err(reason) => return refused(reason),
    };
    let Some(held) = ports.get(request.port) else { return refused(Reason::NoSuchPort) };
    match held.port.vlans.classify(slot.vlan) {
        Some(vlan) => slot.vlan = vlan,
        None => return refused(Reason::VlanNotAllowed),
    }

    let connection = connection(&slot, names);
    let mut probe = Probe { slot, frame, verdict: Verdict::OPEN, terms: Terms::DEFAULT };
    let steps = stages.trace(&mut probe, names);
    let verdict = &probe.verdict;
    let leads_somewhere =
        verdict.fields.contains(Field::Egress) || verdict.fields.contains(Field::Flood);
    if verdict.is_open() && !leads_somewhere {
        probe.verdict.drop_by(Decider::HOST, Reason::NoDecision);
    }
    let ending = delivery::ending(&probe, layers, ports, names);
    TraceReport { packet, connection, stages: steps, ending }
}

fn read(request: &TraceRequest, ports: &PortTable, now_ns: u64) -> (Slot, Result<Layers, Reason>) {
    let kind = ports.get(request.port).map_or(0, |held| held.port.kind as u8);
    let mut slot = Slot {
        ingress: request.port.number(),
        ingress_kind: kind,
        origin: Origin::Shadow as u8,
        now_ns,
        ..Slot::ZERO
    };
    let read = parse(&request.frame, &mut slot);
    (slot, read)
}

/// The port a verdict leads to.
fn egress<'p>(verdict: &Verdict, ports: &'p PortTable) -> Option<&'p Port> {
    let held = PortId::new(verdict.egress).and_then(|id| ports.get(id))?;
    Some(&held.port)
}
