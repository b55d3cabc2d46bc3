//! A worker of the dataplane on real interfaces, with a chain of natively compiled filters: what
//! the same path would be if filters were part of the host.
//!
//! The dataplane itself loads WebAssembly alone. This puts its own parts together around another
//! chain, with the settings that it has: worker, sockets, packet memory.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use millrace_abi::PortKind;
use millrace_dataplane::mailbox::{Postman, mailbox};
use millrace_dataplane::port::{HeldPort, Hold, Port, PortCounters, PortId, Vlans};
use millrace_dataplane::stage::{FaultDesk, FaultReport, Stage};
use millrace_dataplane::worker::{Worker, WorkerSettings};
use millrace_dataplane::xsk_io::XskIo;
use millrace_traffic::Core;
use millrace_xsk::UmemSettings;

use super::queues::{Door, Queues};

/// A running worker; it ends when this is dropped.
pub struct NativePlane {
    postman: Postman<Worker<XskIo>>,
    thread: Option<JoinHandle<()>>,
    _faults: Receiver<FaultReport>,
    _doors: Vec<Door>,
}

impl NativePlane {
    /// Starts between two interfaces of the calling thread's namespace, on a core.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(
        ports: [&str; 2],
        chain: Vec<Stage>,
        settings: WorkerSettings,
        core: Core,
    ) -> Result<Self> {
        let (reports, faults) = sync_channel(16);
        let io = XskIo::new(UmemSettings::default(), false)?;
        let waker = io.waker();
        let mut worker = Worker::new(io, settings, FaultDesk { worker: 0, reports });
        worker.chain.stages = chain;
        let mut doors = Vec::new();
        for (number, interface) in (1..).zip(ports) {
            let id = PortId::new(number).expect("1 and 2 are ports' numbers");
            let queues = Queues::open(worker.io.umem(), interface)?;
            let port = Port {
                id,
                name: interface.to_owned(),
                kind: PortKind::Wire,
                link: 0,
                mtu: queues.link.mtu,
                up: queues.link.up,
                vlans: Vlans::transparent(),
                completes_checksums: queues.completes_checksums(),
                shaped: false,
                hold: Hold::Direct,
            };
            let counters = Arc::<PortCounters>::default();
            worker.io.add_port(id, queues.sockets, Arc::clone(&counters));
            worker.add_port(HeldPort { port, counters });
            doors.push(queues.door);
        }
        doors.iter_mut().try_for_each(Door::open)?;

        let (postman, mailbox) = mailbox(waker);
        let thread = thread::Builder::new().name("native-0".to_owned()).spawn(move || {
            let _stay = core.keep();
            worker.run(&mailbox);
        })?;
        Ok(Self { postman, thread: Some(thread), _faults: faults, _doors: doors })
    }
}

impl Drop for NativePlane {
    fn drop(&mut self) {
        self.postman.close();
        if let Some(thread) = self.thread.take() {
            // its panic has been printed
            let _ = thread.join();
        }
    }
}
