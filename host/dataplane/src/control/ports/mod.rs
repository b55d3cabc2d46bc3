//! Interfaces as ports: opened on every worker, watched, and opened again when they
//! return.
//!
//! A port keeps its number while its interface is away, and what leads to it is dropped
//! meanwhile with the reason `port-down`.
//!
//! - `open`: from an interface to a port that workers have; `opened`: what there is of it then
//! - `record`: what is known of a port; `error`: why there is none

mod error;
mod open;
mod opened;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use millrace_abi::limits;
use millrace_fastpath::{AttendError, Cgroup, Left};
use millrace_netns::{Link, LinkEvent, Namespace, Netlink, NetlinkError};
use millrace_tables::Frontend;
use millrace_xsk::{AttachMode, Statistics, Umem, XskSettings};

use crate::control::flows::FlowReader;
use crate::control::names::present;
use crate::control::punt::{CacheSettings, Punt};
use crate::control::redecide::{Desk, Redecider};
use crate::control::request::{AddPort, Beyond};
use crate::control::status::{CacheStatus, PortState, PortStatus, PortTotals, mac};
use crate::mailbox::{NoAnswer, Postman};
use crate::port::PortId;
use crate::tracking::Upkeep;
use crate::worker::Worker;
use crate::xsk_io::XskIo;
pub use error::PortError;
use opened::{MAX_MTU, Opened, Way};
use record::PortRecord;

/// The ports of all workers.
pub struct Ports {
    pub(super) namespace: Namespace,
    net: Netlink,
    pub(super) workers: Vec<Hand>,
    sockets: XskSettings,
    attach: Option<AttachMode>,
    /// The way of cached ports.
    pub(super) punt: Option<Punt>,
    pub(super) records: BTreeMap<String, PortRecord>,
    /// Numbers that were given out, and are not given out again while others are left.
    last_number: u16,
    /// The numbers that ports had with a predecessor, and have again.
    pub(super) left: HashMap<Left, PortId>,
}

/// One worker, as ports need it.
pub(super) struct Hand {
    pub(super) postman: Arc<Postman<Worker<XskIo>>>,
    pub(super) umem: Umem,
}

impl Ports {
    pub(super) fn new(
        workers: Vec<Hand>,
        sockets: XskSettings,
        attach: Option<AttachMode>,
        cache: Option<CacheSettings>,
    ) -> Result<Self, PortError> {
        let namespace = Namespace::current().map_err(NetlinkError::from)?;
        let net = namespace.netlink()?;
        let punt = cache
            .map(|settings| Punt::open(settings, &namespace, &workers, sockets))
            .transpose()?;
        let left = punt.as_ref().map(Punt::left).transpose()?.unwrap_or_default();
        let last_number = left.values().map(|id| id.number()).max().unwrap_or(0);
        let records = BTreeMap::new();
        Ok(Self { namespace, net, workers, sockets, attach, punt, records, last_number, left })
    }

    /// Adds a port.
    ///
    /// # Errors
    /// If the interface is not there, cannot be a port, or the kernel refuses. Nothing of it stays
    /// then.
    pub fn add(&mut self, request: AddPort) -> Result<PortId, PortError> {
        if self.records.contains_key(&request.interface) {
            return Err(PortError::Taken(request.interface));
        }
        let name = request.interface.clone();
        let known = match self.left.is_empty() {
            true => None,
            false => self.left.remove(&self.as_left(&request)?),
        };
        let id = known.map_or_else(|| self.free_number(), Ok)?;
        let mut record = PortRecord {
            id,
            request,
            counters: self.workers.iter().map(|_| Arc::default()).collect(),
            state: PortState::Gone,
            opened: None,
            refusal: None,
        };
        if let Err(error) = self.open(&mut record) {
            // the workers may know it by now; what failed first is what to tell of
            let _ = self.leave_workers(id).and_then(|()| self.forget_connections(id));
            return Err(error);
        }
        if known.is_none() {
            self.last_number = id.number();
        }
        self.records.insert(name, record);
        Ok(id)
    }

    /// What a predecessor would have left of a port.
    fn as_left(&self, request: &AddPort) -> Result<Left, PortError> {
        Ok(match &request.beyond {
            Some(Beyond::Tunnel(tunnel)) => Left::Remote {
                link: self.net.link(&tunnel.interface)?.index,
                vni: tunnel.vni,
                address: tunnel.remote,
            },
            _ => Left::Link(self.net.link(&request.interface)?.index),
        })
    }

    /// Takes a port away, and says which number it had. What leads there is still
    /// to be decided anew, and what is left of it then to be forgotten.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn remove(&mut self, name: &str) -> Result<PortId, PortError> {
        let record = self.records.remove(name).ok_or_else(|| self.unknown(name))?;
        // no more frames first, then nobody to take them, then nothing known of them
        let link = record.opened.as_ref().map(|opened| opened.link.index);
        if let Some(opened) = record.opened {
            self.shut(record.id, opened)?;
        }
        self.leave_workers(record.id)?;
        self.forget_carried(record.id, link);
        Ok(record.id)
    }

    /// The numbers of all ports, by name.
    pub fn numbers(&self) -> BTreeMap<String, u16> {
        self.records.iter().map(|(name, record)| (name.clone(), record.id.number())).collect()
    }

    /// The name of a port.
    pub fn name(&self, id: PortId) -> Option<&str> {
        let found = self.records.iter().find(|(_, record)| record.id == id);
        found.map(|(name, _)| name.as_str())
    }

    /// Follows what happened to an interface. Returns the ports that packets leave by in another way
    /// now, or in other sizes.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn follow(&mut self, event: &LinkEvent) -> Result<Vec<PortId>, PortError> {
        let name = match event {
            LinkEvent::Changed { was, now } if was.name != now.name => {
                // a port is its interface's name: whoever has another one is gone
                self.follow_named(&was.name, &LinkEvent::Vanished(was.clone()))?;
                &now.name
            }
            LinkEvent::Changed { now: link, .. }
            | LinkEvent::Appeared(link)
            | LinkEvent::Vanished(link) => &link.name,
        };
        self.follow_named(name, event)
    }

    fn follow_named(&mut self, name: &str, event: &LinkEvent) -> Result<Vec<PortId>, PortError> {
        let mut changed = Vec::new();
        // one interface may have the tunnels to many nodes
        let behind = self.records.iter().filter(|(_, record)| record.interface() == name);
        for name in behind.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let Some(mut record) = self.records.remove(&name) else { continue };
            let outcome = self.follow_port(&mut record, event);
            changed.extend(Some(record.id).filter(|_| matches!(outcome, Ok(true))));
            self.records.insert(name, record);
            outcome?;
        }
        Ok(changed)
    }

    /// Says whether packets leave in another way.
    fn follow_port(&self, record: &mut PortRecord, event: &LinkEvent) -> Result<bool, PortError> {
        let port = record.request.interface.clone();
        match event {
            LinkEvent::Vanished(gone) => {
                // an older interface of this name may go when the port has the newer one already
                record.refusal = None;
                if record.opened.as_ref().is_some_and(|o| o.link.index == gone.index) {
                    tracing::warn!(port, "the interface is gone; the port waits for it");
                    self.close(record)?;
                }
            }
            LinkEvent::Appeared(_) | LinkEvent::Changed { .. } if record.opened.is_none() => {
                match self.open(record) {
                    Ok(()) => tracing::info!(port, "the interface is back"),
                    Err(error) => {
                        tracing::warn!(port, %error, "the interface cannot be opened");
                        record.refusal = Some(error.to_string());
                        self.wait_for(record)?;
                    }
                }
            }
            LinkEvent::Appeared(now) | LinkEvent::Changed { now, .. } => {
                if record.opened.as_ref().is_some_and(|opened| opened.link.index != now.index) {
                    self.close(record)?;
                    return self.follow_port(record, event);
                }
                // the event may be older than what was read when the port was opened
                match self.net.link_by_index(now.index) {
                    Ok(link) if link.name == record.interface() => {
                        return self.update(record, &link);
                    }
                    // what became of it since is yet to be heard
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    /// What is there to see.
    ///
    /// # Errors
    /// If a worker is gone, or the kernel does not say.
    pub fn status(&self) -> Result<Vec<PortStatus>, PortError> {
        let mut statuses = Vec::new();
        for (name, record) in &self.records {
            let mut counters = PortTotals::default();
            for counted in &record.counters {
                counters.rx_packets += counted.rx_packets.load(Relaxed);
                counters.rx_bytes += counted.rx_bytes.load(Relaxed);
                counters.tx_packets += counted.tx_packets.load(Relaxed);
                counters.tx_bytes += counted.tx_bytes.load(Relaxed);
                counters.tx_refused += counted.tx_refused.load(Relaxed);
            }
            let id = record.id;
            counters.carried(self.carried(id, record.opened.as_ref().map(|o| o.link.index)));
            for kernel in self.socket_statistics(id)? {
                counters.rx_dropped += kernel.rx_dropped;
                counters.rx_ring_full += kernel.rx_ring_full;
                counters.rx_no_frame += kernel.rx_fill_ring_empty;
                counters.invalid += kernel.rx_invalid + kernel.tx_invalid;
            }
            if let Some(punt) = &self.punt {
                counters.misses_refused = punt.refused(id)?;
                let connections = punt.connections_of(id);
                counters.evicted = connections.evicted;
                counters.crowded_out = connections.crowded_out;
            }
            let opened = record.opened.as_ref();
            statuses.push(PortStatus {
                id,
                name: name.clone(),
                kind: record.request.kind.label().into(),
                state: record.state,
                attached: opened.map_or("-", Opened::attached).into(),
                bound: opened.map_or("-", Opened::bound).into(),
                mtu: opened.map_or(0, |opened| opened.link.mtu),
                mac: mac(record.request.hold, opened.map(|opened| &opened.link)),
                vlans: record.request.vlans.to_string(),
                queues: opened.map_or(0, Opened::queues),
                notes: record.notes(),
                counters,
            });
        }
        statuses.sort_by_key(|status| status.id);
        Ok(statuses)
    }

    /// What the kernel counts of the sockets of a port, or of the punt, of all workers.
    pub(super) fn socket_statistics(&self, id: PortId) -> Result<Vec<Statistics>, NoAnswer> {
        let mut all = Vec::new();
        for hand in &self.workers {
            let ask = move |worker: &mut Worker<XskIo>| -> Vec<_> {
                worker.io.sockets(id).filter_map(|xsk| xsk.statistics().ok()).collect()
            };
            all.extend(hand.postman.ask(ask)?);
        }
        Ok(all)
    }

    /// What has to be done about connections, if there is a flow cache.
    pub(super) fn upkeep(&self) -> Option<Arc<Upkeep>> {
        self.punt.as_ref().map(Punt::upkeep)
    }

    /// Who decides connections of cached ports anew, if there can be any.
    pub(super) fn redecider(&self, desk: Arc<Desk>) -> Option<Redecider<XskIo>> {
        let workers = self.workers.iter().map(|hand| Arc::clone(&hand.postman)).collect();
        self.punt.as_ref().map(|punt| punt.redecider(desk, workers))
    }

    /// What there is to see of the flow cache, if there is one.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn cache(&self) -> Result<Option<CacheStatus>, PortError> {
        Ok(self.punt.as_ref().map(Punt::status).transpose()?)
    }

    /// Who reads the connections of cached ports, if there can be any.
    pub(super) fn flows(&self) -> Option<FlowReader> {
        self.punt.as_ref().map(Punt::flows)
    }

    /// Claims where Services are reached from outside, in place of what was claimed before.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn claim(
        &self,
        frontends: impl IntoIterator<Item = Frontend>,
    ) -> Result<(), PortError> {
        self.punt.as_ref().map_or(Ok(()), |punt| Ok(punt.claim(frontends)?))
    }

    /// Claims some more, and some no longer.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn change_claims(
        &self,
        gone: impl IntoIterator<Item = Frontend>,
        new: impl IntoIterator<Item = Frontend>,
    ) -> Result<(), PortError> {
        self.punt.as_ref().map_or(Ok(()), |punt| Ok(punt.change_claims(gone, new)?))
    }

    /// Attends a cgroup's processes, if there are cached ports.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn attend(&self, cgroup: &Cgroup) -> Result<(), AttendError> {
        self.punt.as_ref().map_or(Ok(()), |punt| punt.attend(cgroup))
    }

    /// Says which addresses stand in for the node's own.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn stand_in(&self, own: BTreeMap<IpAddr, IpAddr>) -> Result<(), PortError> {
        self.punt.as_ref().map_or(Ok(()), |punt| Ok(punt.stand_in(own)?))
    }

    /// Has the workers forget a port: they open no connections by way of it any more.
    fn leave_workers(&self, id: PortId) -> Result<(), PortError> {
        for hand in &self.workers {
            hand.postman.ask(move |worker| {
                worker.io.remove_port(id);
                drop(worker.remove_port(id));
            })?;
        }
        Ok(())
    }

    /// Closes a port whose interface is gone; the workers keep its place.
    fn close(&self, record: &mut PortRecord) -> Result<(), PortError> {
        if let Some(opened) = record.opened.take() {
            self.shut(record.id, opened)?;
        }
        self.wait_for(record)
    }

    /// Has the workers keep a port's place, for when its interface is there.
    fn wait_for(&self, record: &mut PortRecord) -> Result<(), PortError> {
        record.state = PortState::Gone;
        let id = record.id;
        for hand in &self.workers {
            hand.postman.ask(move |worker| {
                worker.io.remove_port(id);
                if let Some(held) = worker.ports.get_mut(id) {
                    held.port.up = false;
                }
            })?;
        }
        self.forget_connections(id)
    }

    /// Lets no more packets come from what was opened.
    fn shut(&self, id: PortId, opened: Opened) -> Result<(), PortError> {
        match (opened.way, &self.punt) {
            (Way::Cache, Some(punt)) => Ok(punt.detach(&self.namespace, id, opened.link.index)?),
            _ => Ok(()),
        }
    }

    /// Lets go all connections of a port that no worker opens new ones of.
    pub(super) fn forget_connections(&self, id: PortId) -> Result<(), PortError> {
        self.punt.as_ref().map_or(Ok(()), |punt| Ok(punt.forget(id)?))
    }

    /// Follows a change of the interface's state or MTU.
    fn update(&self, record: &mut PortRecord, now: &Link) -> Result<bool, PortError> {
        let Some(opened) = &mut record.opened else { return Ok(false) };
        let leaves = opened.link.mtu != now.mtu || opened.link.shaped != now.shaped;
        let changed = leaves || opened.link.up != now.up;
        let too_large = now.mtu > MAX_MTU && opened.link.mtu <= MAX_MTU;
        opened.link = now.clone();
        if !changed {
            return Ok(false);
        }
        if too_large {
            let error = PortError::Mtu { interface: now.name.clone(), mtu: now.mtu };
            tracing::warn!("{error}; larger packets are dropped and counted");
        }
        record.state = if now.up { PortState::Up } else { PortState::Down };
        let (id, up, mtu, shaped) = (record.id, now.up, now.mtu.min(MAX_MTU), now.shaped);
        let mut port = None;
        for hand in &self.workers {
            port = hand.postman.ask(move |worker| {
                let held = worker.ports.get_mut(id)?;
                held.port.up = up;
                held.port.mtu = mtu;
                held.port.shaped = shaped;
                Some(held.port.clone())
            })?;
        }
        if let (Some(punt), Some(port)) = (&self.punt, &port) {
            punt.leave_by(port)?;
        }
        Ok(leaves)
    }

    fn free_number(&self) -> Result<PortId, PortError> {
        let taken = |id: &PortId| {
            let mut numbers = self.records.values().map(|record| &record.id);
            numbers.any(|taken| taken == id) || self.left.values().any(|taken| taken == id)
        };
        let from = self.last_number;
        let numbers = (0..limits::MAX_PORT).map(|n| (from + n) % limits::MAX_PORT + 1);
        numbers.filter_map(PortId::new).find(|id| !taken(id)).ok_or(PortError::Full)
    }

    pub(super) fn unknown(&self, name: &str) -> PortError {
        let present = present(name, self.records.keys().map(String::as_str));
        PortError::Unknown { name: name.to_owned(), present }
    }
}
