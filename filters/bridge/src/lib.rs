//! A learning bridge (IEEE 802.1Q, clauses 7 and 8): frames go to the port behind which their
//! destination was last seen, and to every port of their VLAN if that is not known.
//!
//! What is learned lives in a host map, `stations`: every worker sees it, and it stays when the
//! filter is swapped. The host itself knows which ports are members of a VLAN, adds and removes
//! tags, and copies flooded frames.
//!
//! A decision is remembered for half a second at most, so that a station that
//! speaks, even in one long flow, keeps its place, and one that moved is found again.

use std::time::Duration;

use millrace_filter::prelude::*;
use millrace_filter::record::{Port, Time};
use millrace_filter::{Tag, TagKind};

/// What the operator configures.
#[derive(Config, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds without a frame after which a station is forgotten.
    #[config(default = 300)]
    pub aging_seconds: u32,
    /// Stations that are learned behind one port; frames of further ones are dropped.
    #[config(default = 1024)]
    pub stations_per_port: u32,
    /// Stations in all.
    #[config(default = 65536)]
    pub stations: u32,
}

/// The bridge.
pub struct Bridge {
    stations: Map<Station, Place>,
    /// The stations of a batch: each slot's source, then its destination.
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
        .wants(&[Capability::Drop, Capability::Redirect])
        .rules(&[RESERVED, SAME_PORT, TOO_MANY])
        .map::<Station, Place>("stations");
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        if settings.aging_seconds < 1 {
            return Err("`aging_seconds`: must be at least 1".into());
        }
        let options = MapOptions::new(settings.stations)
            .ttl(Duration::from_secs(settings.aging_seconds.into()))
            .quota(settings.stations_per_port);
        Ok(Self {
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
        self.read.clear();
        for slot in slots {
            self.read.ask(&Station::source(slot));
            self.read.ask(&Station::destination(slot));
        }
        self.stations.read(&mut self.read);
        self.stale = false;

        for (n, (slot, decision)) in slots.iter().zip(decisions).enumerate() {
            self.decide(slot, decision, n);
        }
    }
}

filter!(Bridge: flow);

impl Bridge {
    /// Decides about the slot that is number `n` of its batch.
    fn decide(&mut self, slot: &Slot, decision: &mut Decision, n: usize) {
        let destination = Station::destination(slot);
        if is_reserved(destination.mac) {
            decision.drop(Reason::LinkLocal).by_rule(RESERVED.id);
            return;
        }
        if !self.learn(slot, n) {
            decision.drop(Reason::StationLimit).by_rule(TOO_MANY.id).once();
            return;
        }
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

    /// Notes where the source of slot number `n` is; false if its port has no room for it.
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

/// `01:80:c2:00:00:00` to `0f` stay on their link (IEEE 802.1Q table 8-1).
fn is_reserved(destination: MacAddr) -> bool {
    let [a, b, c, d, e, last] = destination.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && last < 0x10
}

const RESERVED: Rule =
    Rule::new(1, "reserved", "The destination address is reserved for the link.");
const SAME_PORT: Rule = Rule::new(2, "same-port", "The destination is where the frame came from.");
const TOO_MANY: Rule = Rule::new(3, "too-many", "The port has as many stations as it may have.");

/// How long a decision is remembered.
const REVALIDATE_MS: u32 = 500;

/// How old the note of a station gets before it is written again.
const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
