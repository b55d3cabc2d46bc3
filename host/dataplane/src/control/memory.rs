//! A dataplane in memory: the same worker, chain and filters, with queues instead of
//! interfaces and a clock that moves when it is told to. For tests, benches, `filter test`
//! and `filter bench`; it needs neither root nor a network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_abi::PortKind;
use millrace_sandbox::Sandbox;

use crate::control::stages::Stages;
use crate::control::trace::{self, TraceReport, TraceRequest};
use crate::counters::{Fate, Key};
use crate::io::Io;
use crate::mailbox::{Postman, mailbox};
use crate::memory_io::MemoryIo;
use crate::port::{HeldPort, Hold, Port, PortId, Vlans};
use crate::stage::{FaultDesk, FaultReport};
use crate::worker::{Worker, WorkerCounters, WorkerSettings};

/// A dataplane in memory, with one worker.
pub struct MemoryPlane {
    /// The chain.
    pub stages: Stages<MemoryIo>,
    sandbox: Arc<Sandbox>,
    postman: Arc<Postman<Worker<MemoryIo>>>,
    counters: Arc<WorkerCounters>,
    ports: BTreeMap<String, PortId>,
    reports: Receiver<FaultReport>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryPlane {
    /// A dataplane with these ports, each with the VLANs it carries.
    ///
    /// # Panics
    /// If a thread cannot be started.
    pub fn new(sandbox: Arc<Sandbox>, ports: &[(&str, Vlans)], settings: WorkerSettings) -> Self {
        let numbered: BTreeMap<String, PortId> = ports
            .iter()
            .zip(1..)
            .filter_map(|((name, _), number)| Some(((*name).to_owned(), PortId::new(number)?)))
            .collect();
        let (reports, desk) = sync_channel(256);
        let io = MemoryIo::new(numbered.values().copied(), FRAMES, QUEUE);
        let mut worker = Worker::new(io, settings, FaultDesk { worker: 0, reports });
        for (name, vlans) in ports {
            let port = Port {
                id: numbered[*name],
                name: (*name).to_owned(),
                kind: PortKind::Wire,
                link: 0,
                mtu: 1500,
                up: true,
                shaped: false,
                vlans: vlans.clone(),
                completes_checksums: false,
                hold: Hold::Direct,
            };
            worker.add_port(HeldPort { port, counters: Arc::default() });
        }

        // the worker waits in its mailbox: a round is run when it is asked for
        let counters = worker.counters();
        let (wake, woken) = channel::<()>();
        let (postman, mailbox) = mailbox(move || {
            let _ = wake.send(());
        });
        let postman = Arc::new(postman);
        let thread = thread::spawn(move || {
            while woken.recv().is_ok() && !mailbox.deliver(&mut worker).is_closed() {}
        });
        Self {
            stages: Stages::new(Arc::clone(&sandbox), vec![Arc::clone(&postman)]),
            sandbox,
            postman,
            counters,
            ports: numbered,
            reports: desk,
            thread: Some(thread),
        }
    }

    /// Lets packets come in by a port, in bursts, and returns what left, by port, in order.
    ///
    /// # Panics
    /// If there is no such port, or the worker is gone.
    pub fn pass(&mut self, port: &str, packets: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
        let (id, packets) = (self.ports[port], packets.to_vec());
        self.run(move |worker| {
            for burst in packets.chunks(QUEUE / 4) {
                for packet in burst {
                    worker.io.feed(id, packet);
                }
                while worker.round() > 0 {}
            }
        });
        let ports = self.ports.clone();
        let left = self.run(move |worker| {
            let collect = |(name, id)| {
                let packets = worker.io.collect(id).into_iter();
                packets.map(move |packet| (String::clone(&name), packet)).collect::<Vec<_>>()
            };
            ports.into_iter().flat_map(collect).collect()
        });
        self.mend();
        left
    }

    /// Moves the clock, clears dead entries of host maps away, and lets filters tick if it is time.
    ///
    /// # Panics
    /// If the worker is gone.
    pub fn advance(&mut self, time: Duration) {
        let now_ns = self.run(move |worker| {
            worker.io.advance(time);
            worker.tick();
            worker.io.now_ns()
        });
        self.sandbox.maps().sweep(now_ns);
        self.mend();
    }

    /// What became of packets.
    pub fn fates(&self) -> BTreeMap<Key, u64> {
        self.counters.fates.read().collect()
    }

    /// How many packets had this fate, at all ports.
    pub fn count(&self, fate: Fate) -> u64 {
        self.counters.fates.read().filter(|(key, _)| key.fate == fate).map(|(_, n)| n).sum()
    }

    /// What the worker counts.
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// What would become of a packet. Nobody has connections in memory.
    ///
    /// # Panics
    /// If the worker is gone.
    pub fn trace(&mut self, request: &TraceRequest) -> TraceReport {
        let (ports, now_ns) = self.run(|worker| (worker.ports.snapshot(), worker.io.now_ns()));
        trace::trace(&mut self.stages, request, &ports, now_ns, |_, _| None)
    }

    /// Runs something on the worker.
    ///
    /// # Panics
    /// If the worker is gone.
    pub fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Worker<MemoryIo>) -> T + Send + 'static,
    ) -> T {
        self.postman.ask(task).expect("the worker lives as long as the plane")
    }

    /// The number of a port.
    pub fn port(&self, name: &str) -> Option<PortId> {
        self.ports.get(name).copied()
    }

    /// Mends what failed.
    pub fn mend(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.stages.mend(report);
        }
        self.stages.tend();
    }
}

impl Drop for MemoryPlane {
    fn drop(&mut self) {
        self.postman.close();
        if let Some(thread) = self.thread.take() {
            // a panic of the worker has been seen by whoever asked it last
            let _ = thread.join();
        }
    }
}

/// Frames in the pool.
const FRAMES: usize = 4096;
/// Packets that a port sends before somebody collects them.
const QUEUE: usize = 2048;
