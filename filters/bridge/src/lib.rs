//! A learning bridge (IEEE 802.1Q, clauses 7 and 8): frames go to the port behind which their
//! destination was last seen, and to every port of their VLAN if that is not known.
//!
//! What is learned lives in a host map, `stations`: every worker sees it, and it stays when the
//! filter is swapped. The host itself knows which ports are members of a VLAN, adds and removes
//! tags, and copies flooded frames.
//!
//! A decision is remembered for half a second at most, so that a station that
//! speaks, even in one long flow, keeps its place, and one that moved is found again. Where
//! both ends are known from the configuration nothing moves, and the decision lasts.

mod neighbours;
mod segment;
mod settings;

use std::time::Duration;

use millrace_filter::prelude::*;
use millrace_filter::record::{Port, Time};
use millrace_filter::{Field, Tag, TagKind};

use segment::{At, Meeting, Neighbour, Refusal, Segment};
pub use settings::{GatewaySettings, HostSettings, PodSettings, Settings};

/// The bridge.
pub struct Bridge {
    /// Who is known without being learned, if anybody is.
    segment: Option<Segment>,
    stations: Map<Station, Place>,
    /// The stations of a batch: each train's source, then its destination.
    read: Entries<Station, Place>,
    /// Whether stations were written since they were read.
    stale: bool,
    learned: Counter,
    moved: Counter,
    refused: Counter,
    flooded: Counter,
}

/// Who was seen: one MAC address can be a different station in each VLAN.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    vlan: u16,
    mac: MacAddr,
}

/// Where it was seen. The port comes first: the map's quota goes by it.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    port: Port,
    seen: Time,
}

impl Filter for Bridge {
    const MANIFEST: Manifest = Manifest::new("bridge", env!("CARGO_PKG_VERSION"))
        .describes("A learning, VLAN-aware bridge.")
        .wants(&[Capability::Drop, Capability::Redirect, Capability::Inspect, Capability::Emit])
        .sees(&[Class::Arp, Class::Nd])
        .snap(SNAP)
        .rules(&[
            RESERVED,
            SAME_PORT,
            TOO_MANY,
            SPOOFED,
            ROUTER_DISCOVERY,
            UNSOUND,
            NOT_A_QUESTION,
            ANSWERED,
        ])
        .map::<Station, Place>("stations");
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        if settings.aging_seconds < 1 {
            return Err("`aging_seconds`: must be at least 1".into());
        }
        let segment = Segment::new(&settings)?;
        let options = MapOptions::new(settings.stations)
            .ttl(Duration::from_secs(settings.aging_seconds.into()))
            .quota(settings.stations_per_port);
        Ok(Self {
            segment,
            stations: setup.map("stations", options)?,
            read: Entries::new(),
            stale: false,
            learned: setup.counter("learned")?,
            moved: setup.counter("moved")?,
            refused: setup.counter("refused")?,
            flooded: setup.counter("flooded")?,
        })
    }

    fn flows(&mut self, slots: &[Slot], decisions: &mut [Decision]) {
        let trains = || slots.chunk_by(are_of_one_train);
        self.read.clear();
        for train in trains() {
            self.read.ask(&Station::source(&train[0]));
            self.read.ask(&Station::destination(&train[0]));
        }
        self.stations.read(&mut self.read);
        self.stale = false;

        let mut at = 0;
        for (n, train) in trains().enumerate() {
            let mut settled = None;
            for slot in train {
                let (before, rest) = decisions.split_at_mut(at);
                let decision = &mut rest[0];
                at += 1;
                if settled == Some(slot.ingress)
                    && let Some(said) = before.last()
                {
                    *decision = *said;
                    continue;
                }
                match self.segment.as_ref().map(|segment| segment.meet(slot)) {
                    None => self.decide(slot, decision, n),
                    Some(meeting) => self.decide_among_known(slot, decision, n, meeting),
                }
                // where nothing is learned any more, and nothing counted, all go the same way
                let is_settled = self.segment.is_none()
                    && !self.stale
                    && decision.stated().contains(Field::Egress);
                settled = is_settled.then_some(slot.ingress);
            }
        }
    }

    fn packet(&mut self, slot: &Slot, packet: &mut Packet<'_>) {
        if let Some(segment) = &self.segment {
            segment.hear(slot, packet);
        }
    }
}

filter!(Bridge: flow, packet);

impl Bridge {
    /// Decides about a slot of the train that is number `n` of its batch.
    fn decide(&mut self, slot: &Slot, decision: &mut Decision, n: usize) {
        if is_reserved(MacAddr(slot.dst_mac)) {
            decision.drop(Reason::LinkLocal).by_rule(RESERVED.id);
        } else if self.learn(slot, n) {
            self.send(slot, decision, n);
        } else {
            decision.drop(Reason::StationLimit).by_rule(TOO_MANY.id).once();
        }
    }

    /// The same where somebody is known without having been seen.
    #[inline(never)]
    fn decide_among_known(
        &mut self,
        slot: &Slot,
        decision: &mut Decision,
        n: usize,
        meeting: Result<Meeting, Refusal>,
    ) {
        match meeting {
            _ if is_reserved(MacAddr(slot.dst_mac)) => self.decide(slot, decision, n),
            Err((reason, rule)) => {
                decision.drop(reason).by_rule(rule.id);
            }
            Ok(Meeting { settled: false, .. }) if !self.learn(slot, n) => {
                decision.drop(Reason::StationLimit).by_rule(TOO_MANY.id).once();
            }
            Ok(Meeting { neighbour: None, .. }) => self.send(slot, decision, n),
            Ok(Meeting { neighbour: Some(neighbour), settled }) => {
                forward(slot, decision, neighbour, settled);
            }
        }
    }

    /// Sends to where the destination was seen.
    #[inline(always)]
    fn send(&mut self, slot: &Slot, decision: &mut Decision, n: usize) {
        let destination = Station::destination(slot);
        if destination.mac.is_multicast() {
            decision.flood().revalidate_after(REVALIDATE_MS);
            return;
        }
        match self.place(&destination, 2 * n + 1) {
            Some(place) if place.port.0 == slot.ingress => {
                decision.drop(Reason::SamePort).by_rule(SAME_PORT.id).once();
            }
            Some(place) => {
                decision
                    .egress(place.port.0)
                    .revalidate_after(REVALIDATE_MS)
                    .depends_on(Tag::new(TagKind::Port, place.port.0.into()));
            }
            None => {
                // until its owner speaks, which the next packet must not miss
                self.flooded.add(1);
                decision.flood().once();
            }
        }
    }

    /// Where a station is that was read as number `at`.
    fn place(&self, station: &Station, at: usize) -> Option<Place> {
        if self.stale { self.stations.get(station) } else { self.read.get(at) }
    }

    /// Notes where the source of a slot of train number `n` is; false if its port has no room for it.
    #[inline(always)]
    fn learn(&mut self, slot: &Slot, n: usize) -> bool {
        let station = Station::source(slot);
        let here = Place { port: Port(slot.ingress), seen: Time(slot.now_ns) };
        let known = self.place(&station, 2 * n);
        if let Some(known) = known
            && known.port == here.port
            && here.seen.0.saturating_sub(known.seen.0) < REFRESH.as_nanos() as u64
        {
            return true;
        }

        self.stale = true;
        if self.stations.set(&station, &here).is_err() {
            self.refused.add(1);
            return false;
        }
        match known {
            None => self.learned.add(1),
            Some(known) if known.port != here.port => self.moved.add(1),
            Some(_) => {}
        }
        true
    }
}

impl Station {
    fn source(slot: &Slot) -> Self {
        Self { vlan: slot.vlan, mac: MacAddr(slot.src_mac) }
    }

    fn destination(slot: &Slot) -> Self {
        Self { vlan: slot.vlan, mac: MacAddr(slot.dst_mac) }
    }
}

/// Sends to a neighbour that is known, and stays where it is. Whoever is `settled` sends from a
/// place that is known too; others have to be seen again and again.
fn forward(slot: &Slot, decision: &mut Decision, neighbour: Neighbour, settled: bool) {
    match neighbour.at {
        // the packet hook has the last word on these; nobody else is to see them
        At::Gateway if matches!(slot.class(), Class::Arp | Class::Nd) => {
            decision.egress(slot.ingress).once();
        }
        At::Gateway => {}
        At::Port(port) if port == slot.ingress => {
            decision.drop(Reason::SamePort).by_rule(SAME_PORT.id);
        }
        At::Port(port) => {
            decision.egress(port).depends_on(Tag::new(TagKind::Port, port.into()));
        }
    }
    if !settled {
        decision.revalidate_after(REVALIDATE_MS);
    }
}

/// Whether one packet goes the way of the one before it: senders and the kernel's segmentation send
/// several in a row, and what the bridge reads for one of them counts for all.
fn are_of_one_train(before: &Slot, slot: &Slot) -> bool {
    (before.vlan, before.src_mac, before.dst_mac) == (slot.vlan, slot.src_mac, slot.dst_mac)
}

/// `01:80:c2:00:00:00` to `0f` stay on their link (IEEE 802.1Q table 8-1).
fn is_reserved(destination: MacAddr) -> bool {
    let [a, b, c, d, e, last] = destination.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && last < 0x10
}

const RESERVED: Rule =
    Rule::new(1, "reserved", "The destination address is reserved for the link.");
const SAME_PORT: Rule = Rule::new(2, "same-port", "The destination is where the frame came from.");
const TOO_MANY: Rule = Rule::new(3, "too-many", "The port has as many stations as it may have.");
const SPOOFED: Rule =
    Rule::new(4, "spoofed", "The port states an address that is known not to be its own.");
const ROUTER_DISCOVERY: Rule =
    Rule::new(5, "router-discovery", "Pods neither find routers so, nor are they any (RFC 6105).");
const UNSOUND: Rule =
    Rule::new(6, "unsound", "The message is not what ARP or neighbour discovery allows.");
const NOT_A_QUESTION: Rule =
    Rule::new(7, "not-a-question", "The gateway was told what it did not ask for.");
const ANSWERED: Rule = Rule::new(8, "answered", "The bridge knows the answer.");

/// Bytes of a message that are looked at: with options of any kind, nobody sends longer ones.
const SNAP: u32 = 1024;

/// How long a decision is remembered.
const REVALIDATE_MS: u32 = 500;

/// How old the note of a station gets before it is written again.
const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
