//! From an interface to a port that workers have.

use std::os::fd::AsFd;
use std::sync::Arc;

use millrace_netns::{Link, LinkKind};
use millrace_xsk::{OpenError, Program, Xsk};

use super::opened::{MAX_MTU, Opened, Way};
use super::{PortError, PortRecord, Ports};
use crate::control::request::Beyond;
use crate::control::status::PortState;
use crate::port::{HeldPort, Hold, Port, PortCounters};

impl Ports {
    /// Opens a port's interface on every worker.
    pub(super) fn open(&self, record: &mut PortRecord) -> Result<(), PortError> {
        let link = self.net.link(record.interface())?;
        if !link.ethernet {
            return Err(PortError::NotEthernet(link.name));
        }
        // an uplink is the host's, whose packets may be larger
        let is_uplink = matches!(record.request.beyond, Some(Beyond::Uplink(_)));
        if link.mtu > MAX_MTU && !is_uplink {
            return Err(PortError::Mtu { interface: link.name, mtu: link.mtu });
        }
        let port = Port {
            id: record.id,
            name: record.request.interface.clone(),
            kind: record.request.kind,
            link: link.index,
            mtu: link.mtu.min(MAX_MTU),
            up: link.up,
            shaped: link.shaped,
            vlans: record.request.vlans.clone(),
            completes_checksums: link.kind == LinkKind::Veth && record.request.hold == Hold::Direct,
            hold: record.request.hold,
        };
        let state = if link.up { PortState::Up } else { PortState::Down };
        let opened = match record.request.hold {
            Hold::Direct => self.open_sockets(link, &port, &record.counters)?,
            Hold::Cached(_) => self.enter_cache(link, &port, record)?,
        };
        record.state = state;
        record.opened = Some(opened);
        record.refusal = None;
        for note in record.notes() {
            tracing::warn!(port = record.request.interface, "{note}");
        }
        Ok(())
    }

    /// Opens sockets on every queue, and lets the workers have them.
    fn open_sockets(
        &self,
        link: Link,
        port: &Port,
        counters: &[Arc<PortCounters>],
    ) -> Result<Opened, PortError> {
        let interface = &port.name;
        let queues = self.queues(&link);
        if (queues as usize) < self.workers.len() {
            let (interface, workers) = (interface.clone(), self.workers.len());
            return Err(PortError::Queues { interface, queues, workers });
        }
        let driver = self.namespace.ethtool(interface).and_then(|tool| tool.driver());
        let driver = driver.map_or_else(|_| String::new(), |driver| driver.name);

        let mut program = match self.attach {
            Some(mode) => Program::attach_in(link.index, interface, mode)?,
            None => Program::attach(link.index, interface)?,
        };
        let mut sockets: Vec<Vec<Xsk>> = self.workers.iter().map(|_| Vec::new()).collect();
        let (mut connections, mut bound) = (Vec::new(), "");
        for queue in 0..queues {
            let worker = queue as usize % self.workers.len();
            let socket = Xsk::open(&self.workers[worker].umem, interface, queue, self.sockets)?;
            bound = socket.mode().label();
            let handle = socket.as_fd().try_clone_to_owned().map_err(|cause| {
                OpenError::Refused { interface: interface.clone(), queue, cause, remedy: "" }
            })?;
            connections.push((queue, handle));
            sockets[worker].push(socket);
        }
        for ((hand, sockets), counters) in self.workers.iter().zip(sockets).zip(counters) {
            let (port, counters) = (port.clone(), Arc::clone(counters));
            hand.postman.ask(move |worker| {
                worker.io.add_port(port.id, sockets, Arc::clone(&counters));
                worker.add_port(HeldPort { port, counters });
            })?;
        }
        // frames may come once the workers have put buffers there
        for (queue, socket) in connections {
            program.connect(queue, &socket)?;
        }
        Ok(Opened { link, way: Way::Sockets { program, bound, queues, driver } })
    }

    /// Lets the workers know the port, and then the kernel's flow cache.
    fn enter_cache(
        &self,
        link: Link,
        port: &Port,
        record: &PortRecord,
    ) -> Result<Opened, PortError> {
        let punt = self.punt.as_ref().ok_or_else(|| PortError::NoCache(port.name.clone()))?;
        for (hand, counters) in self.workers.iter().zip(&record.counters) {
            let (port, counters) = (port.clone(), Arc::clone(counters));
            hand.postman.ask(move |worker| worker.add_port(HeldPort { port, counters }))?;
        }
        punt.attach(&self.namespace, port, record.request.beyond.as_ref())?;
        Ok(Opened { link, way: Way::Cache })
    }

    /// How many receive queues are in use.
    fn queues(&self, link: &Link) -> u32 {
        let tool = self.namespace.ethtool(&link.name);
        let channels = tool.and_then(|tool| tool.channels());
        match channels.map(|channels| channels.rx + channels.combined) {
            Ok(queues) if queues > 0 => queues,
            _ => link.rx_queues.max(1),
        }
    }
}
