//! Walk `packet` 1/7: **worker** → burst.
//!
//! One worker: a thread with queues of its own on every port, flows of its own, and
//! guests of its own. Nothing on its way waits for anybody: what others want of it, it
//! does between two bursts ([`Mailbox`]).

mod redecide;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use millrace_abi::{Class, Field, Origin, slot_flag};
use millrace_parse::flow_hash;

use crate::burst::{Burst, Decisions, Emitted};
use crate::capture::Tap;
use crate::chain::Chain;
use crate::counters::{Counters, RuleKey};
use crate::dispatch::Dispatch;
use crate::flows::FlowMap;
use crate::fragments::Fragments;
use crate::inspect::Inspection;
use crate::io::Io;
use crate::mailbox::Mailbox;
use crate::port::{HeldPort, Hold, PortId, PortTable, add};
use crate::reply::ReplyLimit;
use crate::stage::FaultDesk;
use crate::tracking::{Leaving, Tracking};
use crate::verdict::{Terms, Verdict};

/// A worker.
pub struct Worker<I: Io> {
    /// Its queues.
    pub io: I,
    /// Its ports.
    pub ports: PortTable,
    /// Its chain.
    pub chain: Chain,
    /// What it remembers.
    pub flows: FlowMap,
    /// Copy packets, one for each who looks on.
    pub(crate) taps: Vec<Tap>,
    /// Connections of cached ports.
    pub tracking: Option<Tracking>,
    leaving: Leaving,
    fragments: Fragments<I::Frame>,
    settings: WorkerSettings,
    counters: Arc<WorkerCounters>,
    burst: Burst<I::Frame>,
    emitted: Emitted,
    shadow: Vec<(u8, u16, bool)>,
    /// The packets of the burst that the chain was asked about.
    asked: Vec<u16>,
    replies: ReplyLimit,
    next_tick_ns: u64,
    /// Whether a queue may not have been emptied in the last round.
    has_more: bool,
    /// Where frames come from, in turn: ports of its own, and the punt.
    order: Vec<PortId>,
}

/// Settings of a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Packets handled together, 1 to 256.
    pub burst: usize,
    /// Flows that are remembered.
    pub flows: usize,
    /// Whether verdicts are remembered; if not, the chain is asked about every packet.
    pub cache: bool,
    /// How long an idle worker looks for packets before it sleeps.
    pub spin: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { burst: 64, flows: 1 << 16, cache: true, spin: Duration::from_micros(50) }
    }
}

/// What a worker counts of itself. Written by it alone, read by anybody.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// What became of packets.
    pub fates: Counters,
    /// By which rules packets went no further.
    pub rules: Counters<RuleKey>,
    /// Bursts that had packets.
    pub bursts: AtomicU64,
    /// Packets whose verdict was remembered.
    pub hits: AtomicU64,
    /// Packets that the chain was asked about.
    pub misses: AtomicU64,
    /// Flows remembered.
    pub flows: AtomicU64,
    /// How often it slept.
    pub sleeps: AtomicU64,
}

impl<I: Io> Worker<I> {
    /// A worker without ports, whose chain has no stages.
    pub fn new(io: I, settings: WorkerSettings, desk: FaultDesk) -> Self {
        Self {
            io,
            ports: PortTable::default(),
            chain: Chain::empty(desk),
            flows: FlowMap::new(settings.flows),
            taps: Vec::new(),
            tracking: None,
            leaving: Leaving::default(),
            fragments: Fragments::new(),
            settings,
            counters: Arc::default(),
            burst: Burst::new(settings.burst),
            emitted: Emitted::default(),
            shadow: Vec::new(),
            asked: Vec::with_capacity(settings.burst),
            replies: ReplyLimit::new(),
            next_tick_ns: 0,
            has_more: false,
            order: Vec::new(),
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.counters)
    }

    /// How many bursts it had.
    pub fn bursts(&self) -> u64 {
        self.counters.bursts.load(Relaxed)
    }

    /// The burst handled last, without its frames: they have left.
    pub fn handled(&self) -> &Burst<I::Frame> {
        &self.burst
    }

    /// Works until the mailbox is closed.
    pub fn run(&mut self, mailbox: &Mailbox<Self>) {
        let mut idle_since = None;
        loop {
            if mailbox.deliver(self).is_closed() {
                return;
            }
            self.tick();
            if self.round() > 0 {
                idle_since = None;
                // whoever does not look again need not once all queues are empty: what comes
                // meanwhile ends its sleep
                if self.is_behind() || !self.settings.spin.is_zero() {
                    continue;
                }
            }

            // look again for a while, then sleep until there is something to do
            let now = self.io.now_ns();
            let idle_ns = now - *idle_since.get_or_insert(now);
            if idle_ns >= self.settings.spin.as_nanos() as u64 {
                add(&self.counters.sleeps, 1);
                self.io.wait(Duration::from_nanos(self.next_tick_ns.saturating_sub(now)));
                idle_since = None;
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Handles one burst from each port. Returns how many packets that were.
    pub fn round(&mut self) -> usize {
        let mut packets = 0;
        self.has_more = false;
        for turn in 0..self.order.len() {
            packets += self.serve(self.order[turn]);
        }
        self.io.commit();
        if !self.leaving.is_empty() {
            self.leaving.left(self.io.left(PortId::PUNT));
        }
        packets
    }

    /// Whether there may be more to do than what comes from here on.
    fn is_behind(&self) -> bool {
        self.has_more || !self.leaving.is_empty()
    }

    /// Handles one burst from a port or the punt, up to the queues that the commit lets go.
    fn serve(&mut self, source: PortId) -> usize {
        let came = self.burst.receive(&mut self.io, source, self.settings.burst);
        self.has_more |= came >= self.settings.burst;
        let packets = self.burst.len();
        if packets == 0 {
            return 0;
        }

        let now = self.io.now_ns();
        self.burst.read(&mut self.io, &self.ports, source, now);
        self.recall();
        self.decide(now);
        if !self.burst.fragments.is_empty() {
            let Self { fragments, burst, io, counters, .. } = self;
            fragments.settle(burst, io, &counters.fates, now);
        }
        self.chain.inspect(&mut Inspection {
            burst: &mut self.burst,
            io: &mut self.io,
            flows: &mut self.flows,
            tracking: self.tracking.as_ref(),
            ports: &self.ports,
            emitted: &mut self.emitted,
            now_ns: now,
        });
        self.dispatch();
        self.note_leaving();
        add(&self.counters.bursts, 1);
        packets
    }

    /// Looks up what is remembered of the packets; the others stay open.
    fn recall(&mut self) {
        let Self { burst, io, flows, tracking, ports, settings, counters, asked, .. } = self;
        asked.clear();
        burst.open.clear();
        burst.fragments.clear();
        let mut hits = 0;
        for (at, slot) in burst.slots.iter().enumerate() {
            // what was found for a packet is there for those that repeat it
            if burst.repeats[at]
                && let Some(flow) = burst.flows[at - 1]
            {
                burst.verdicts[at] = burst.verdicts[at - 1];
                burst.flows[at] = Some(flow);
                hits += 1;
                continue;
            }
            if !burst.verdicts[at].is_open() {
                continue;
            }
            if slot.class == Class::Fragment as u8 && ports.is_cached(slot.ingress) {
                burst.fragments.push(at as u16);
                if slot.flags & slot_flag::LATER_FRAGMENT != 0 {
                    continue;
                }
            }
            let known = tracking.as_ref().and_then(|tracking| {
                if slot.flags & slot_flag::ICMP_ERROR == 0 {
                    return tracking.recall(slot, ports);
                }
                let frame = io.bytes(&burst.frames[at]);
                tracking.related(slot, frame, burst.layers[at], ports)
            });
            if let Some(known) = known {
                burst.verdicts[at] = known.verdict;
                burst.rewrites[at] = known.rewrite;
                hits += 1;
                continue;
            }
            let flow = (settings.cache && slot.class == Class::Flow as u8)
                .then(|| flows.find(slot))
                .flatten();
            match flow {
                Some(flow) => {
                    burst.verdicts[at] = flows.verdict(flow);
                    burst.flows[at] = Some(flow);
                    hits += 1;
                }
                None => burst.open.push(at as u16),
            }
        }
        add(&counters.hits, hits);
        add(&counters.misses, burst.open.len() as u64);
    }

    /// Asks the chain about the packets that are open, and remembers what it says.
    fn decide(&mut self, now_ns: u64) {
        let Self { burst, chain, shadow, asked, emitted, .. } = self;
        if burst.open.is_empty() {
            return;
        }
        asked.clone_from(&burst.open);
        for &at in asked.iter() {
            let at = usize::from(at);
            burst.terms[at] = Terms::DEFAULT;
            burst.slots[at].hash = match burst.repeats[at] {
                true => burst.slots[at - 1].hash,
                false => flow_hash(&burst.slots[at]),
            };
        }
        chain.decide(
            &mut burst.open,
            &mut Decisions {
                origin: Origin::New,
                now_ns,
                slots: &mut burst.slots,
                verdicts: &mut burst.verdicts,
                terms: &mut burst.terms,
                repeats: &mut burst.repeats,
                shadow,
                emitted,
            },
        );
        self.remember();
    }

    /// Remembers what the chain has said, if it holds for more than a packet.
    fn remember(&mut self) {
        let Self { burst, flows, tracking, ports, settings, counters, asked, .. } = self;
        for &at in asked.iter() {
            let at = usize::from(at);
            let (slot, verdict, terms) = (&burst.slots[at], &burst.verdicts[at], &burst.terms[at]);
            let opened = match tracking {
                Some(tracking) if verdict.is_open() => tracking.open(slot, verdict, terms, ports),
                _ => Ok(None),
            };
            match opened {
                Ok(Some(known)) => {
                    burst.verdicts[at] = known.verdict;
                    burst.rewrites[at] = known.rewrite;
                }
                Err(reason) => burst.verdicts[at] = Verdict::dropped(reason),
                Ok(None) => {
                    let lasts = settings.cache
                        && slot.class == Class::Flow as u8
                        && !verdict.fields.contains(Field::Once)
                        && verdict.is_a_filters();
                    if lasts {
                        burst.flows[at] = Some(flows.insert(slot, verdict, terms));
                    }
                }
            }
        }
        counters.flows.store(flows.len() as u64, Relaxed);
    }

    /// Remembers which packets the kernel waits for: their flows go over when they have left.
    fn note_leaving(&mut self) {
        let last = self.io.staged(PortId::PUNT);
        for rewrite in &mut self.burst.rewrites {
            if let Some(slot) = rewrite.slot.take() {
                self.leaving.note(last, slot);
            }
        }
    }

    fn dispatch(&mut self) {
        let Self { io, ports, counters, replies, burst, emitted, asked, taps, .. } = self;
        let (counters, rules) = (&counters.fates, &counters.rules);
        let mut dispatch = Dispatch { io, ports, counters, rules, replies, taps, asked };
        dispatch.burst(burst);
        if !emitted.is_empty() {
            dispatch.emitted(emitted);
        }
    }

    /// Lets filters do what they do once a second, if it is time.
    pub fn tick(&mut self) {
        let now = self.io.now_ns();
        if now < self.next_tick_ns {
            return;
        }
        self.next_tick_ns = now + TICK.as_nanos() as u64;
        self.fragments.expire(&mut self.io, &self.counters.fates, now);
        self.chain.tick(now, &mut self.emitted);
        self.dispatch();
        self.io.commit();
    }

    /// Adds a port, in place of the one that had its number.
    pub fn add_port(&mut self, held: HeldPort) {
        self.ports.insert(held);
        self.set_order();
        self.flows.forget_all();
    }

    /// Takes a port out; what leads to it is forgotten.
    pub fn remove_port(&mut self, id: PortId) -> Option<HeldPort> {
        let held = self.ports.remove(id);
        self.set_order();
        self.flows.forget_all();
        held
    }

    fn set_order(&mut self) {
        let is_direct = |held: &&HeldPort| held.port.hold == Hold::Direct;
        let own = self.ports.iter().filter(is_direct).map(|held| held.port.id);
        let has_cached = self.ports.iter().any(|held| !is_direct(&held));
        self.order = own.chain(has_cached.then_some(PortId::PUNT)).collect();
    }
}

/// How often the tick hooks are called.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
