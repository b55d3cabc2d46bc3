//! Connections of cached ports, as a worker has them.
//!
//! A packet that belongs to a connection goes the way that was decided for it. One that does not
//! may open one, once the chain has let it go on; both directions are then in the kernel's cache
//! before the packet leaves, so that the answer finds them.
//!
//! - `echo`: answers that come with the host's
//! - `ends`: whom packets leave from, and for whom, when filters ask for translations
//! - `kernel`: what the cache is told; `hand_over`: while packets are still here
//! - `anew`, `change`: connections that are decided anew, and go another way; `refuser`: who
//!   refuses them
//! - `inspected`: connections that stages look into; `preview`: what one would be like
//! - `related`: ICMP errors about packets of connections; `reset`: TCP's ends are told it is over
//! - `upkeep`: what is done about connections when no packet comes, and how some make room
//! - `succession`: connections that go on in another process

pub(crate) mod anew;
pub(crate) mod change;
mod echo;
mod ends;
mod hand_over;
mod inspected;
pub(crate) mod kernel;
mod preview;
pub(crate) mod refuser;
mod related;
pub(crate) mod reset;
mod silent;
mod succession;
mod upkeep;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use millrace_abi::{Class, Field, FieldSet, Reason, slot_flag};
use millrace_fastpath::{
    self as fastpath, FlowCache, Generation, InsertError, Protocol, Slot, Verdict as Entry,
};
use millrace_wire::IpProtocol;
use millrace_wire::tcp::Flags;
use parking_lot::Mutex;

use crate::connections::{
    ConnectionId, Connections, Direction, Due, Found, Hop, Key, Link, Masquerade, OpenError,
    Opening, Packet, Standing, Translation, Way, Zone, may_open,
};
use crate::port::{Hold, Port, PortId, PortTable, add};
use crate::verdict::{Terms, Verdict};
use ends::Ends;
use kernel::KernelFlow;

pub(crate) use hand_over::{HandOver, Leaving};
pub(crate) use preview::{Preview, preview};
pub use succession::Resumed;
pub(crate) use succession::{Charge, Succession};
pub(crate) use upkeep::Upkeep;

/// A worker's hand on the node's connections, and on the kernel's cache of them.
pub struct Tracking {
    connections: Arc<Connections>,
    cache: Arc<Mutex<FlowCache>>,
    hand_over: Arc<HandOver>,
    succession: Option<Arc<Succession>>,
    upkeep: Arc<Upkeep>,
    masquerade: Arc<Masquerade>,
    counters: Arc<TrackingCounters>,
    /// The worker's queue of the punt pair.
    queue: u32,
}

/// What a worker counts of connections. Written by it alone.
#[derive(Debug, Default)]
pub struct TrackingCounters {
    /// Connections opened.
    pub opened: AtomicU64,
    /// Directions given to the kernel.
    pub installed: AtomicU64,
    /// Directions that found no room there.
    pub full: AtomicU64,
    /// Directions that the kernel refused for another reason.
    pub refused: AtomicU64,
}

/// What was decided for a packet's connection.
pub struct Known {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// What is rewritten.
    pub rewrite: Rewrite,
}

/// What a packet's connection has for it.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The Ethernet addresses it gets.
    pub link: Option<Link>,
    /// The ends it gets, if it belongs to a connection.
    pub translation: Option<Translation>,
    /// Where its leaving is to be noted.
    pub(crate) slot: Option<Arc<Slot>>,
    /// Its connection, if some stage looks into that.
    pub(crate) inspected: Option<ConnectionId>,
}

impl Tracking {
    /// For the worker that has this queue of the punt pair.
    pub(crate) fn new(queue: u32, upkeep: &Arc<Upkeep>, masquerade: Arc<Masquerade>) -> Self {
        Self {
            connections: Arc::clone(&upkeep.connections),
            cache: Arc::clone(&upkeep.cache),
            hand_over: Arc::clone(&upkeep.hand_over),
            succession: upkeep.succession.clone(),
            upkeep: Arc::clone(upkeep),
            masquerade,
            counters: Arc::default(),
            queue,
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<TrackingCounters> {
        Arc::clone(&self.counters)
    }

    /// What was decided for the connection of a packet, if it belongs to one.
    pub fn recall(&self, slot: &millrace_abi::Slot, ports: &PortTable) -> Option<Known> {
        let key = Key::of(slot, zone(slot, ports)?);
        let packet =
            Packet { tcp_flags: Flags(slot.tcp_flags), len: slot.len, now_ns: slot.now_ns };
        if is_opening_of_tcp(slot) {
            self.catch_up(&key);
        }
        let found = self.connections.find(&key, packet)?;
        if found.standing == Standing::Invalid {
            let verdict = Verdict::dropped(Reason::InvalidState);
            return Some(Known { verdict, rewrite: Rewrite::default() });
        }
        // the kernel does not count fragments, and never carries them
        let is_fragment = slot.class() == Class::Fragment;
        let Way { verdict, link, .. } = found.way;
        let is_inspected = verdict.inspect != 0;
        let slot = match found.generation {
            _ if is_fragment => None,
            None if is_inspected => {
                self.keep(found.id, found.direction, &key, found.revision);
                self.kept_slot(&key)
            }
            Some(_) if is_inspected => self.kept_slot(&key),
            known => {
                let flow = kernel::flow(&key, &found.way, &found.translation, ports);
                flow.and_then(|flow| {
                    // few packets are to come of what is over
                    if known.is_none() && !found.state.is_over() {
                        let generation = self.install(found.id, &flow);
                        self.note(found.id, found.direction, &flow.key, generation, found.revision);
                    }
                    self.hand_over.slot(&flow.key, known.map(Generation::from))
                })
            }
        };
        Some(Known {
            verdict,
            rewrite: Rewrite {
                link,
                translation: Some(found.translation),
                slot,
                inspected: is_inspected.then_some(found.id),
            },
        })
    }

    /// Opens a connection for a packet that the chain has let go on, if what was decided can hold
    /// for more than this packet.
    ///
    /// # Errors
    /// Why the packet has to be dropped instead.
    pub fn open(
        &self,
        slot: &millrace_abi::Slot,
        verdict: &Verdict,
        terms: &Terms,
        ports: &PortTable,
    ) -> Result<Option<Known>, Reason> {
        let zone = zone(slot, ports).filter(|_| lasts(verdict, terms));
        let Some(zone) = zone else { return Ok(None) };
        let egress = PortId::new(verdict.egress).and_then(|id| ports.get(id));
        // what cannot leave now opens nothing
        let Some(egress) = egress.map(|held| &held.port).filter(|port| port.up) else {
            return Ok(None);
        };
        may_open(slot)?;

        let ways = ways(slot, verdict, egress);
        let key = Key::of(slot, zone);
        let leaving = Ends::of(slot, &key, verdict.fields, egress)?;
        let opening = Opening {
            slot: *slot,
            zone,
            reply: leaving.answered_at(&key, Zone::of(egress)),
            ways,
            tags: terms.tags,
            idle: verdict
                .fields
                .contains(Field::Idle)
                .then(|| Duration::from_millis(terms.idle_ms.into())),
        };
        let plain = opening.reply;
        let mut inspected = None;
        let reply = match leaving.open(&self.connections, &self.masquerade, opening) {
            Ok(opened) => {
                add(&self.counters.opened, 1);
                let flows = flows([&key, &opened.reply], &ways, ports);
                [opened.replaced, opened.evicted].into_iter().flatten().for_each(|due| {
                    self.forget(&due, &flows, slot.now_ns);
                });
                if verdict.inspect != 0 {
                    self.connections.inspect(opened.id, &terms.inspect_left);
                    for (direction, key) in Direction::BOTH.into_iter().zip([&key, &opened.reply]) {
                        self.keep(opened.id, direction, key, 0);
                    }
                    inspected = Some(opened.id);
                }
                echo::expect(&self.cache, &opened.reply);
                self.introduce(opened.id, flows);
                opened.reply
            }
            Err(OpenError::Open) => match self.recall(slot, ports) {
                // another worker was quicker, with another packet of it: what it has counts
                Some(known) => return Ok(Some(known)),
                // one that is not out of the way yet
                None if plain == key.reversed(plain.zone) => plain,
                None => return Err(Reason::InvalidState),
            },
            Err(OpenError::ReplyTaken) => return Err(Reason::NoNatPort),
            Err(OpenError::Refused(reason)) => return Err(reason),
        };
        let translation = Some(Translation::between(&key, &reply));
        let link = ways[Direction::Original as usize].link;
        // the kernel has not counted a SYN, nor a fragment
        let counted = key.protocol != IpProtocol::TCP.0 && slot.class() != Class::Fragment;
        let counted = kernel::key(&key).filter(|_| counted);
        let slot = counted.and_then(|key| self.hand_over.slot(&key, None));
        let rewrite = Rewrite { link, translation, slot, inspected };
        Ok(Some(Known { verdict: *verdict, rewrite }))
    }

    /// Learns from the kernel how the connection ends that a SYN belongs to, if the kernel carries
    /// it: such a SYN comes here once more than SYNs was seen of the connection, which may be over
    /// then, and its client uses the port again. The kernel reports that, but not at once: what it
    /// has reported is not asked for.
    fn catch_up(&self, key: &Key) {
        let carried = |known: &Found| known.generation.is_some() && !known.state.is_over();
        let known = self.connections.related(key).filter(carried);
        let Some(view) = known.and_then(|known| self.connections.view(known.id)) else { return };
        for key in &view.keys {
            let Some(entry) = kernel::key(key) else { continue };
            // what the kernel does not say now it reports later
            if let Ok(Some(usage)) = self.cache.lock().usage(&entry)
                && let Some(generation) = kernel::generation(usage.generation)
            {
                self.connections.observe(key, generation, &kernel::connections_usage(&usage));
            }
        }
    }

    /// Gives both directions of a connection that was just opened to the kernel.
    fn introduce(&self, id: ConnectionId, flows: [Option<KernelFlow>; 2]) {
        if let Some(succession) = &self.succession {
            succession.keep(id);
        }
        let pair = match &flows {
            [Some(there), Some(back)] if there.key.protocol() == Protocol::Tcp => {
                self.insert_pair(id, [there, back])
            }
            _ => None,
        };
        for (direction, flow) in Direction::BOTH.into_iter().zip(flows) {
            let Some(flow) = flow else { continue };
            // nothing of these is on its way here: the SYN alone was, or no packet at all
            let alone = flow.key.protocol() == Protocol::Tcp || direction == Direction::Reply;
            let generation = match pair {
                Some(generations) => kernel::generation(generations[direction as usize]),
                None if alone => self.insert(id, &flow),
                None => self.install(id, &flow),
            };
            self.note(id, direction, &flow.key, generation, 0);
        }
    }

    /// Gives both directions to the kernel at once, which carries them from now on; nothing if that
    /// cannot be, and then one of them may.
    fn insert_pair(&self, id: ConnectionId, pair: [&KernelFlow; 2]) -> Option<[Generation; 2]> {
        let [there, back] = pair.map(|flow| (&flow.key, Entry::Forward(flow.forward)));
        let pair = [(there.0, &there.1), (back.0, &back.1)];
        let generations = self.with_room(id, || self.cache.lock().insert_pair(pair)).ok()?;
        add(&self.counters.installed, 2);
        Some(generations)
    }

    /// Has the connection know its entry, which goes as well if the connection has gone or was
    /// decided anew meanwhile.
    fn note(
        &self,
        id: ConnectionId,
        direction: Direction,
        key: &fastpath::Key,
        generation: Option<NonZeroU32>,
        revision: u32,
    ) {
        if self.connections.cached(id, direction, generation, revision) || generation.is_none() {
            return;
        }
        self.hand_over.forget(key, generation.map(Generation::from));
        if let Err(error) = self.cache.lock().remove(&[*key]) {
            tracing::error!(%error, "the kernel keeps a flow that is over");
        }
    }

    /// Lets go what the kernel has of a connection that is to go, and then itself. Where one of
    /// `next` has its key it is left to that: a connection that is replaced is one of TCP, whose
    /// entries are inserted over.
    fn forget(&self, due: &Due, next: &[Option<KernelFlow>; 2], now_ns: u64) {
        let mut keys = Vec::new();
        for (key, generation) in due.keys.iter().zip(due.generations) {
            let Some(key) = kernel::key(key) else { continue };
            self.hand_over.forget(&key, generation.map(Generation::from));
            if next.iter().flatten().all(|flow| flow.key != key) {
                keys.push(key);
            }
        }
        let echo = echo::forget(&self.cache, &due.keys);
        if let Err(error) = echo.and_then(|()| match keys.is_empty() {
            true => Ok(0),
            false => self.cache.lock().remove(&keys),
        }) {
            tracing::error!(%error, "the kernel keeps a flow that is over");
        }
        upkeep::retire(&self.connections, self.succession.as_deref(), due, now_ns);
    }

    /// Gives a direction to the kernel, which carries it once what is here has left.
    fn install(&self, id: ConnectionId, flow: &KernelFlow) -> Option<NonZeroU32> {
        let key = &flow.key;
        let generation = self.put(id, key, |cache| self.hand_over.insert(cache, key, flow.forward));
        if generation.is_none() {
            self.hand_over.give_up(key);
            if let Err(error) = self.cache.lock().forget_punted(key) {
                tracing::error!(%error, "the kernel counts packets of a flow that it has no room for");
            }
        }
        generation
    }

    /// Gives a direction to the kernel, which carries it from now on.
    fn insert(&self, id: ConnectionId, flow: &KernelFlow) -> Option<NonZeroU32> {
        let forward = Entry::Forward(flow.forward);
        self.put(id, &flow.key, |cache| cache.insert_over(&flow.key, &forward))
    }

    /// Gives a direction of a connection to the kernel, in place of what a connection that is gone
    /// has left.
    fn put(
        &self,
        id: ConnectionId,
        key: &fastpath::Key,
        insert: impl Fn(&mut FlowCache) -> Result<Generation, InsertError>,
    ) -> Option<NonZeroU32> {
        let inserted = self.with_room(id, || {
            let mut cache = self.cache.lock();
            match insert(&mut cache) {
                Err(InsertError::Exists) => {
                    let removed = cache.usage(key).and_then(|left| {
                        self.hand_over.forget(key, left.map(|usage| usage.generation));
                        cache.remove(&[*key])
                    });
                    removed.map_err(InsertError::Refused).and_then(|_| insert(&mut cache))
                }
                other => other,
            }
        });
        match inserted {
            Ok(generation) => {
                add(&self.counters.installed, 1);
                kernel::generation(generation)
            }
            Err(error) => {
                let full = matches!(error, InsertError::Full);
                add(if full { &self.counters.full } else { &self.counters.refused }, 1);
                None
            }
        }
    }

    /// Tries once more if there is no room, and others make some for this connection.
    fn with_room<T>(
        &self,
        id: ConnectionId,
        insert: impl Fn() -> Result<T, InsertError>,
    ) -> Result<T, InsertError> {
        match insert() {
            Err(InsertError::Full) if self.upkeep.make_room_for(id) => insert(),
            outcome => outcome,
        }
    }
}

/// What the kernel is told of both directions, as far as it can carry them.
fn flows(keys: [&Key; 2], ways: &[Way; 2], ports: &PortTable) -> [Option<KernelFlow>; 2] {
    Direction::BOTH.map(|direction| {
        let (side, other) = (direction as usize, direction.other() as usize);
        if direction == Direction::Reply && is_narrower_there(keys[side], ways, ports) {
            return None;
        }
        let translation = Translation::between(keys[side], keys[other]);
        kernel::flow(keys[side], &ways[side], &translation, ports)
    })
}

/// Whether a decision holds for a connection.
fn lasts(verdict: &Verdict, terms: &Terms) -> bool {
    verdict.fields.contains(Field::Egress)
        && !verdict.fields.contains(Field::Once)
        && terms.revalidate_ms == 0
}

/// Whether the answer to a SYN is to come here once more, before the kernel carries answers: the
/// way there is narrower than the opener's own link, and the answer states what the opener may
/// send.
fn is_narrower_there(reply: &Key, ways: &[Way; 2], ports: &PortTable) -> bool {
    let mtu = |way: &Way| Some(ports.get(PortId::new(way.verdict.egress)?)?.port.mtu);
    let [there, back] = ways;
    reply.protocol == IpProtocol::TCP.0 && mtu(there) < mtu(back)
}

/// Where a packet's connection begins, if it can have one.
pub(crate) fn zone(slot: &millrace_abi::Slot, ports: &PortTable) -> Option<Zone> {
    let port = &ports.get(PortId::new(slot.ingress)?)?.port;
    let has = |flag| slot.flags & flag != 0;
    let can = match slot.class() {
        Class::Flow => true,
        Class::Icmp => !has(slot_flag::OPTIONS) && is_echo(slot),
        // a fragment's header is an extension of IPv6's, and no other is told from it
        Class::Fragment if has(slot_flag::FIRST_FRAGMENT) => {
            IpProtocol(slot.protocol).has_ports() || is_echo(slot)
        }
        _ => false,
    };
    (can && matches!(port.hold, Hold::Cached(_))).then(|| Zone::of(port))
}

/// Whether the packet is a SYN that opens a connection.
fn is_opening_of_tcp(slot: &millrace_abi::Slot) -> bool {
    IpProtocol(slot.protocol) == IpProtocol::TCP && may_open(slot).is_ok()
}

/// Whether the packet asks for an echo, or is one (RFC 792, RFC 4443 section 4).
fn is_echo(slot: &millrace_abi::Slot) -> bool {
    match IpProtocol(slot.protocol) {
        IpProtocol::ICMPV4 => slot.ip_version == 4 && [0, 8].contains(&slot.icmp_type),
        IpProtocol::ICMPV6 => slot.ip_version == 6 && [128, 129].contains(&slot.icmp_type),
        _ => false,
    }
}

/// What happens to packets of both directions of a connection that this packet opens.
///
/// The answer is addressed as this packet was, the other way round.
fn ways(slot: &millrace_abi::Slot, verdict: &Verdict, egress: &Port) -> [Way; 2] {
    let routed = verdict.fields.contains(Field::DecrementTtl);
    let hop = if routed { Hop::Routed } else { Hop::Bridged };
    let there = match egress.hold {
        Hold::Cached(station) if verdict.fields.contains(Field::NextHop) => {
            Link { destination: station.mac, source: station.gateway.mac }
        }
        _ => Link { destination: slot.dst_mac, source: slot.src_mac },
    };
    let back = Link { destination: slot.src_mac, source: slot.dst_mac };
    let fields = FieldSet::EMPTY.with(Field::Egress);
    let answer = Verdict {
        fields: if routed { fields.with(Field::DecrementTtl) } else { fields },
        egress: slot.ingress,
        ..*verdict
    };
    [
        Way { verdict: *verdict, link: Some(there), hop },
        Way { verdict: answer, link: Some(back), hop },
    ]
}
