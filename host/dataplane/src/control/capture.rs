//! Looking on: packets that workers and the kernel carry, copied as they pass.
//!
//! Some look on at a time, each at packets of its own. Workers have a tap for each for as long as
//! that lasts, and so has the kernel's flow cache; without them neither does anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use millrace_abi::{Class, Slot};
use millrace_fastpath::{self as fastpath, CaptureFilter, CaptureRing, CarriedPacket, MapFault};
use parking_lot::Mutex;

use super::Dataplane;
use super::dataplane::Shared;
use super::flows::FlowReader;
use super::ports::Ports;
use super::punt::PuntError;
use super::status::Label;
use super::trace::RuleStatus;
use crate::capture::{Captured, Carrier, Expression, Outlet, Wanted, tap};
use crate::control::PortError;
use crate::counters::Fate;
use crate::mailbox::NoAnswer;
use crate::port::PortId;
use crate::tracking::kernel;
use crate::verdict::Decider;

/// Which packets are to be seen.
#[derive(Clone, Debug)]
pub struct CaptureRequest {
    /// Those that are meant.
    pub expression: Expression,
    /// Of these, those that come in by this port; by any, if there is none.
    pub port: Option<String>,
    /// So many bytes of each.
    pub snap: usize,
}

/// Somebody who looks on, for as long as this lives.
pub struct Capture {
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    lost: Vec<Arc<AtomicU64>>,
    kernel: Option<Kernel>,
    wanted: Arc<Wanted>,
    /// Goes last: by then there is room for another one.
    _place: Place,
}

/// A packet that passed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// When it came, in nanoseconds of the clock of workers.
    pub time_ns: u64,
    /// The port it came in by.
    pub port: String,
    /// The number of that port.
    pub number: PortId,
    /// Bytes of its frame.
    pub len: u32,
    /// What became of it.
    pub fate: Label,
    /// Why it went no further.
    pub reason: Option<Label>,
    /// The stage that decided; the host itself, if there is none.
    pub by: Option<String>,
    /// Which of its rules.
    pub rule: Option<RuleStatus>,
    /// The port it left by, if it was one.
    pub egress: Option<String>,
    /// Who carried it: `chain` and `worker` if a worker did, with the chain asked or not, or
    /// `kernel`.
    pub carrier: Label,
    /// The first bytes of its frame, as it came in.
    pub frame: Vec<u8>,
}

/// Why nobody looks on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// As many look on as can.
    #[error(
        "{most} captures and live traces go on, and no more can at a time: end one first",
        most = CaptureRing::MOST
    )]
    Taken,
    /// There is no such port, or the kernel refuses.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A worker is gone.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// What the kernel carries.
struct Kernel {
    ring: Arc<Mutex<CaptureRing>>,
    tap: fastpath::Tap,
    flows: FlowReader,
}

/// One of those who look on, who are counted.
struct Place(Arc<AtomicUsize>);

impl Dataplane {
    /// Begins to look on.
    ///
    /// # Errors
    /// If somebody else does, there is no such port, or a worker is gone.
    pub fn capture(&self, request: CaptureRequest) -> Result<Capture, CaptureError> {
        let CaptureRequest { expression, port, snap } = request;
        let (ports, kernel) = {
            let held = self.shared.ports.lock();
            let number = port.map(|port| held.number(&port)).transpose()?;
            let kernel = held.flows().zip(held.capture_ring());
            (number.map(|number| BTreeSet::from([number.number()])), kernel)
        };
        let place = Place::take(&self.shared.onlookers).ok_or(CaptureError::Taken)?;
        let wanted = Arc::new(Wanted { expression, ports, snap });
        let kernel = kernel.map(|(flows, ring)| Kernel::begin(flows, ring, &wanted)).transpose()?;
        let mut capture = Capture {
            shared: Arc::clone(&self.shared),
            outlets: Vec::new(),
            lost: Vec::new(),
            kernel,
            wanted: Arc::clone(&wanted),
            _place: place,
        };
        // what fails from here on takes back what was begun, as the end does
        for worker in &self.shared.workers {
            let lost = Arc::new(AtomicU64::new(0));
            let (tap, outlet) = tap(Arc::clone(&wanted), Arc::clone(&lost));
            worker.postman.ask(move |worker| worker.taps.push(tap))?;
            capture.outlets.push(outlet);
            capture.lost.push(lost);
        }
        Ok(capture)
    }
}

impl Capture {
    /// The packets that have come since this was asked last, in the order of their times; waits a
    /// moment if there are none.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn take(&mut self) -> Result<Vec<CapturedPacket>, CaptureError> {
        let mut packets = self.taken();
        if packets.is_empty() {
            std::thread::sleep(PAUSE);
            packets = self.taken();
        }
        packets.sort_by_key(|packet| packet.time_ns);
        let ports: BTreeMap<u16, String> = self
            .shared
            .ports
            .lock()
            .numbers()
            .into_iter()
            .map(|(name, number)| (number, name))
            .collect();
        let stages = self.shared.stages.lock();
        let name = |number: u16| ports.get(&number).cloned();
        let status = |packet: Captured| {
            Some(CapturedPacket {
                time_ns: packet.time_ns,
                port: name(packet.port).unwrap_or_else(|| packet.port.to_string()),
                number: PortId::new(packet.port)?,
                len: packet.len,
                fate: packet.fate.label().into(),
                reason: packet.fate.reason().map(|reason| reason.label().into()),
                by: stages.name_of(packet.by).map(str::to_owned),
                rule: stages.rule(packet.by, packet.rule),
                egress: name(packet.egress),
                carrier: packet.carrier.label().into(),
                frame: packet.frame,
            })
        };
        Ok(packets.into_iter().filter_map(status).collect())
    }

    /// How many packets were not copied, since whoever looks on was too slow.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn lost(&self) -> Result<u64, CaptureError> {
        let workers: u64 = self.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum();
        let kernel = self.kernel.as_ref().map(|kernel| kernel.ring.lock().lost(&kernel.tap));
        Ok(workers + kernel.transpose().map_err(refused)?.unwrap_or_default())
    }

    fn taken(&mut self) -> Vec<Captured> {
        let mut packets = Vec::new();
        for (filled, emptied) in &self.outlets {
            while packets.len() < AT_ONCE
                && let Ok(mut batch) = filled.try_recv()
            {
                packets.append(&mut batch.drain());
                // the worker has as many as there are
                let _ = emptied.try_send(batch);
            }
        }
        if let Some(kernel) = &self.kernel {
            let mut ring = kernel.ring.lock();
            while packets.len() < AT_ONCE
                && let Some(packet) = ring.take(&kernel.tap)
            {
                packets.extend(kernel.captured(packet, &self.wanted));
            }
        }
        packets
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        for worker in &self.shared.workers {
            let wanted = Arc::clone(&self.wanted);
            // a worker that is gone copies nothing
            let _ = worker.postman.ask(move |worker| worker.taps.retain(|tap| !tap.is_of(&wanted)));
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Err(error) = self.ring.lock().end(&self.tap) {
            tracing::error!(%error, "the kernel goes on copying packets");
        }
    }
}

impl Place {
    fn take(of: &Arc<AtomicUsize>) -> Option<Self> {
        let next = |taken| (taken < CaptureRing::MOST).then_some(taken + 1);
        of.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        Some(Self(Arc::clone(of)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Kernel {
    fn begin(
        flows: FlowReader,
        ring: Arc<Mutex<CaptureRing>>,
        wanted: &Wanted,
    ) -> Result<Self, CaptureError> {
        let needs = wanted.expression.needs();
        let filter = CaptureFilter {
            snap: u32::try_from(wanted.snap).unwrap_or(u32::MAX),
            protocol: needs.protocol,
            port: needs.port,
            prefix: needs.prefix.map(|prefix| (prefix.address, prefix.mask)),
        };
        let tap = ring.lock().begin(&filter).map_err(refused)?.ok_or(CaptureError::Taken)?;
        Ok(Self { ring, tap, flows })
    }

    /// A packet that the kernel has carried, with what its connection says of it; nothing if it is
    /// not wanted.
    fn captured(&self, packet: CarriedPacket, wanted: &Wanted) -> Option<Captured> {
        let CarriedPacket { time, from, key, length, frame, .. } = packet;
        let port = from.number();
        let key = kernel::connections_key(&key);
        let slot = Slot {
            src_addr: key.source.address,
            dst_addr: key.destination.address,
            src_port: key.source.port,
            dst_port: key.destination.port,
            ip_version: if key.source.ip().is_ipv4() { 4 } else { 6 },
            protocol: key.protocol,
            class: Class::Flow as u8,
            ingress: port,
            ..Slot::ZERO
        };
        let here = wanted.ports.as_ref().is_none_or(|ports| ports.contains(&port));
        if !here || !wanted.expression.matches(&slot) {
            return None;
        }
        let verdict = self.flows.verdict(&key);
        Some(Captured {
            time_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            port,
            len: length,
            fate: Fate::Forwarded,
            by: verdict.map_or(Decider::HOST, |verdict| verdict.by),
            rule: verdict.map_or(0, |verdict| verdict.rule),
            egress: verdict.map_or(0, |verdict| verdict.egress),
            carrier: Carrier::Kernel,
            frame,
        })
    }
}

impl Ports {
    /// The number of a port, by its name.
    fn number(&self, name: &str) -> Result<PortId, PortError> {
        let number = self.numbers().get(name).copied().and_then(PortId::new);
        number.ok_or_else(|| self.unknown(name))
    }

    /// What the kernel copies packets with, if there is a flow cache.
    fn capture_ring(&self) -> Option<Arc<Mutex<CaptureRing>>> {
        self.punt.as_ref().map(|punt| Arc::clone(&punt.ring))
    }
}

fn refused(error: MapFault) -> CaptureError {
    PortError::from(PuntError::from(error)).into()
}

/// Packets that are looked at together.
const AT_ONCE: usize = 4096;
/// How long somebody who found nothing waits.
const PAUSE: Duration = Duration::from_millis(20);
