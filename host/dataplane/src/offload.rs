//! Decided flows go to the kernel's flow cache.
//!
//! A flow between two cached ports is installed in both directions before its first packet leaves,
//! so that the answer finds it. Whatever the kernel could not do alike stays with the worker:
//! floods, packets that a filter wants to see, decisions that hold once or for a while.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use millrace_abi::{Class, Field, FieldSet, Slot};
use millrace_fastpath::{
    Egress, FlowCache, Forward, Hop, InsertError, Key, Protocol, Verdict as Entry,
};
use millrace_wire::IpProtocol;
use parking_lot::Mutex;

use crate::port::{HeldPort, Hold, Port, PortId, PortTable, add};
use crate::verdict::{Terms, Verdict};

/// A worker's hand on the kernel's flow cache.
pub struct Offload {
    cache: Arc<Mutex<FlowCache>>,
    counters: Arc<OffloadCounters>,
}

/// What a worker counts of flows that it gave to the kernel. Written by it alone.
#[derive(Debug, Default)]
pub struct OffloadCounters {
    /// Flows installed.
    pub installed: AtomicU64,
    /// Flows that found no room.
    pub full: AtomicU64,
    /// Flows that the kernel refused for another reason.
    pub refused: AtomicU64,
}

impl Offload {
    /// For one worker.
    pub fn new(cache: Arc<Mutex<FlowCache>>) -> Self {
        Self { cache, counters: Arc::default() }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<OffloadCounters> {
        Arc::clone(&self.counters)
    }

    /// Installs the flow that a slot has opened, if the kernel can carry it.
    pub fn opened(&self, slot: &Slot, verdict: &Verdict, terms: &Terms, ports: &PortTable) {
        let Some([there, back]) = directions(slot, verdict, terms, ports) else { return };
        let mut cache = self.cache.lock();
        let installed = insert(&mut cache, &there).and_then(|()| insert(&mut cache, &back));
        drop(cache);
        add(
            match installed {
                Ok(()) => &self.counters.installed,
                Err(InsertError::Full) => &self.counters.full,
                Err(_) => &self.counters.refused,
            },
            1,
        );
    }
}

/// A direction of a flow, as the kernel knows it.
struct Direction {
    key: Key,
    entry: Entry,
}

/// That a worker on another core was faster is as good.
fn insert(cache: &mut FlowCache, direction: &Direction) -> Result<(), InsertError> {
    match cache.insert(&direction.key, &direction.entry) {
        Ok(_) | Err(InsertError::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Both directions of the flow, if the kernel can carry it.
fn directions(
    slot: &Slot,
    verdict: &Verdict,
    terms: &Terms,
    ports: &PortTable,
) -> Option<[Direction; 2]> {
    let plain = FieldSet::EMPTY.with(Field::Egress).with(Field::NextHop).with(Field::DecrementTtl);
    let is_plain = verdict.is_open()
        && verdict.inspect == 0
        && terms.revalidate_ms == 0
        && verdict.fields.contains(Field::Egress)
        && verdict.fields.minus(plain.with(Field::Idle)).is_empty();
    if !is_plain || slot.class != Class::Flow as u8 {
        return None;
    }
    let protocol = match IpProtocol(slot.protocol) {
        IpProtocol::TCP => Protocol::Tcp,
        IpProtocol::UDP => Protocol::Udp,
        _ => return None,
    };
    let cached = |number| {
        let HeldPort { port, .. } = ports.get(PortId::new(number)?)?;
        matches!(port.hold, Hold::Cached(_)).then_some(port)
    };
    let (ingress, egress) = (cached(slot.ingress)?, cached(verdict.egress)?);
    let source = endpoint(slot.source()?, slot.src_port);
    let destination = endpoint(slot.destination()?, slot.dst_port);
    let hop = if verdict.fields.contains(Field::DecrementTtl) { Hop::Routed } else { Hop::Bridged };

    // the answer is addressed as this packet was, the other way round
    let (to, from) = match egress.hold {
        Hold::Cached(station) if verdict.fields.contains(Field::NextHop) => {
            (station.mac, station.gateway.mac)
        }
        _ => (slot.dst_mac, slot.src_mac),
    };
    let there = Direction {
        key: Key::new(number(ingress), protocol, source, destination)?,
        entry: Entry::Forward(forward(egress, to, from, hop)),
    };
    let back = Direction {
        key: Key::new(number(egress), protocol, destination, source)?,
        entry: Entry::Forward(forward(ingress, slot.src_mac, slot.dst_mac, hop)),
    };
    Some([there, back])
}

fn forward(port: &Port, destination_mac: [u8; 6], source_mac: [u8; 6], hop: Hop) -> Forward {
    let mtu = u16::try_from(port.mtu).unwrap_or(u16::MAX);
    Forward { egress: egress(port), destination_mac, source_mac, mtu, hop }
}

/// How the kernel sends to a port: only the other end of a pod's link is in another namespace.
pub(crate) fn egress(port: &Port) -> Egress {
    match port.kind {
        millrace_abi::PortKind::Pod => Egress::Peer(port.link),
        _ => Egress::Link(port.link),
    }
}

/// A port's number, as the cache has it.
pub(crate) fn number(port: &Port) -> millrace_fastpath::PortId {
    let number = port.id.number();
    millrace_fastpath::PortId::new(number).expect("a port's number is one that a tag can carry")
}

fn endpoint(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
