//! A filter, a host of its own, and what a test wants to know of both.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::abi::{PacketRecord, PacketVerdict, limits, packet_flag};
use crate::filter::Filter;
use crate::packet::Packet;
use crate::tables::{Tables, Update};
use crate::testing::host::{self, Host, StandIn};
use crate::{Decision, Error, Reason, Served, Slot};

/// Runs a filter natively.
pub struct Rig<F> {
    filter: F,
    host: Arc<StandIn>,
}

/// What the packet hook did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of the packet.
    pub verdict: PacketVerdict,
    /// Why, if it was dropped.
    pub reason: Option<Reason>,
    /// Which rule decided; 0 if none.
    pub rule: u32,
    /// The packet as it goes on, or the answer that goes back.
    pub bytes: Vec<u8>,
    /// Whether the filter wants no more packets of the flow.
    pub released: bool,
}

impl<F: Filter> Rig<F> {
    /// Makes the filter from its configuration as JSON.
    ///
    /// # Panics
    /// If it refuses the configuration; see [`Rig::try_new`].
    pub fn new(config: &str) -> Self {
        Self::try_new(config)
            .unwrap_or_else(|error| panic!("the configuration is refused: {error}"))
    }

    /// Makes the filter from its configuration as JSON.
    ///
    /// # Errors
    /// If it refuses the configuration.
    pub fn try_new(config: &str) -> Result<Self, Error> {
        let host = Arc::new(StandIn::default());
        // a clock that has run for a while, as real ones have
        host.advance(Duration::from_secs(3600).as_nanos() as u64);
        let filter = Self::make(&host, config)?;
        Ok(Self { filter, host })
    }

    /// Replaces the filter by a new one with this configuration, as a swap does: maps stay.
    ///
    /// # Errors
    /// If it refuses the configuration; the old filter stays.
    pub fn reconfigure(&mut self, config: &str) -> Result<(), Error> {
        self.filter = Self::make(&self.host, config)?;
        Ok(())
    }

    /// Tells the filter all that is in the tables it subscribes to, in one update.
    ///
    /// # Errors
    /// If it refuses them; a host would drop the filter then.
    pub fn publish(&mut self, tables: &Tables) -> Result<(), Error> {
        let whole = tables.whole(F::MANIFEST.tables(), 1, usize::MAX).concat();
        self.update(Update::new(&whole))
    }

    /// Tells the filter what has changed of its tables.
    ///
    /// # Errors
    /// As [`Rig::publish`].
    pub fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        let mut outcome = Ok(());
        self.call(true, |filter| outcome = filter.update(update));
        outcome
    }

    /// What the filter decides about the flow that `frame`, come in by port 1, opens.
    ///
    /// # Panics
    /// If the frame is malformed: the host would not ask a filter about it.
    pub fn flow(&mut self, frame: &[u8]) -> Decision {
        self.flow_from(1, frame)
    }

    /// What the filter decides about the flow that `frame`, come in by `port`, opens.
    ///
    /// # Panics
    /// As [`Rig::flow`].
    pub fn flow_from(&mut self, port: u16, frame: &[u8]) -> Decision {
        let slot = self.slot(port, frame);
        self.decide(&slot)
    }

    /// What the filter decides about a slot.
    pub fn decide(&mut self, slot: &Slot) -> Decision {
        let [decision] = self.decide_all(&[*slot]);
        decision
    }

    /// What the filter decides about slots, all of one origin, when it is asked about them at once.
    ///
    /// # Panics
    /// If there are more than a batch may have.
    pub fn decide_all<const N: usize>(&mut self, slots: &[Slot; N]) -> [Decision; N] {
        assert!(N <= limits::MAX_BATCH, "a batch has at most {} slots", limits::MAX_BATCH);
        let mut decisions = [Decision::ZERO; N];
        let is_new = slots.iter().all(Slot::is_new);
        self.call(is_new, |filter| filter.flows(slots, &mut decisions));
        decisions
    }

    /// What the filter does with a packet, come in by port 1.
    ///
    /// # Panics
    /// As [`Rig::flow`].
    pub fn packet(&mut self, frame: &[u8]) -> Outcome {
        self.packet_from(1, frame)
    }

    /// What the filter does with a packet, come in by `port`.
    ///
    /// # Panics
    /// As [`Rig::flow`].
    pub fn packet_from(&mut self, port: u16, frame: &[u8]) -> Outcome {
        let slot = self.slot(port, frame);
        let snap = F::MANIFEST.snap_len().next_multiple_of(16);
        let seen = frame.len().min(snap);
        let mut room = vec![0; snap];
        room[..seen].copy_from_slice(&frame[..seen]);
        let mut record = PacketRecord {
            len: seen as u32,
            wire_len: frame.len() as u32,
            capacity: snap as u32,
            ..PacketRecord::ZERO
        };
        self.call(true, |filter| filter.packet(&slot, &mut Packet::new(&mut record, &mut room)));
        Outcome::read(&record, &room, frame)
    }

    /// Calls the tick hook.
    pub fn tick(&mut self) {
        let now_ns = self.host.now_ns();
        self.call(true, |filter| filter.tick(now_ns));
    }

    /// Has an endpoint have so many live connections, for filters that ask
    /// ([`MapOptions::connections`](crate::MapOptions::connections)).
    pub fn connect(&mut self, served: &Served, count: u64) {
        self.host.set_connections(served, count);
    }

    /// Moves the clock.
    pub fn advance(&mut self, time: Duration) {
        self.host.advance(time.as_nanos() as u64);
    }

    /// The value of a counter or gauge.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn metric(&self, name: &str) -> u64 {
        self.host.metric_value(name).unwrap_or_else(|| panic!("there is no metric `{name}`"))
    }

    /// The lines that the filter wrote since the last time.
    pub fn lines(&mut self) -> Vec<String> {
        self.host.take_lines()
    }

    /// The frames that the filter sent since the last time, with their ports.
    pub fn emitted(&mut self) -> Vec<(u16, Vec<u8>)> {
        self.host.take_emitted()
    }

    /// What the host tells filters about `frame`, come in by `port`.
    ///
    /// # Panics
    /// As [`Rig::flow`].
    pub fn slot(&self, port: u16, frame: &[u8]) -> Slot {
        let mut slot = Slot { ingress: port, now_ns: self.host.now_ns(), ..Slot::ZERO };
        millrace_parse::parse(frame, &mut slot)
            .unwrap_or_else(|reason| panic!("the frame is malformed: {}", reason.help()));
        slot
    }

    /// The filter itself.
    pub fn filter(&mut self) -> &mut F {
        &mut self.filter
    }

    fn make(host: &Arc<StandIn>, config: &str) -> Result<F, Error> {
        host.begin_setup();
        let current: Arc<dyn Host> = Arc::clone(host) as _;
        host::configure(&current, config)
    }

    /// Calls the filter; a dry call writes nothing that lasts.
    fn call(&mut self, live: bool, call: impl FnOnce(&mut F)) {
        let current: Arc<dyn Host> = Arc::clone(&self.host) as _;
        let saved = if live { Vec::new() } else { self.host.save_metrics() };
        self.host.set_dry(!live);
        host::with(&current, || call(&mut self.filter));
        self.host.set_dry(false);
        for (metric, values) in saved {
            for (number, value) in metric.iter().zip(values) {
                number.store(value, Relaxed);
            }
        }
    }
}

impl Outcome {
    fn read(record: &PacketRecord, room: &[u8], frame: &[u8]) -> Self {
        let verdict = PacketVerdict::from_u8(record.verdict).expect("the SDK writes no other");
        let rewritten = record.flags & packet_flag::REWRITTEN != 0;
        let bytes = match verdict {
            PacketVerdict::Answer => room[..record.new_len as usize].to_vec(),
            _ if rewritten && frame.len() > record.len as usize => {
                // a packet beyond the snap length keeps its tail
                let seen = record.len as usize;
                [&room[..seen], &frame[seen..]].concat()
            }
            _ if rewritten => room[..record.new_len as usize].to_vec(),
            _ => frame.to_vec(),
        };
        Self {
            verdict,
            reason: (verdict == PacketVerdict::Drop)
                .then(|| Reason::stated_by_filter(record.reason).unwrap_or(Reason::BadAnswer)),
            rule: record.rule,
            bytes,
            released: record.flags & packet_flag::RELEASE != 0,
        }
    }
}
