//! The bridge against a dumb learning switch.
//!
//! The switch remembers nothing but who was seen where and when, and says every place that a
//! frame may go to. Without the flow cache that is one place; with it, a decision may be as old
//! as the bridge lets it be.

use std::time::Duration;

use millrace_abi::Reason;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::port::Vlans;
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames;
use millrace_filter::wire::MacAddr;
use millrace_packet_tests::{Plane, built_in, load, sandbox_with};
use proptest::prelude::*;

const PORTS: [(&str, &str); 5] = [
    ("p0", "access:10"),
    ("p1", "trunk:10+20"),
    ("p2", "trunk:20+native:10"),
    ("p3", "transparent"),
    ("p4", "access:20"),
];

/// What a frame is for.
#[derive(Clone, Copy, Debug)]
enum Target {
    Station(u8),
    Everybody,
    Link,
}

/// A frame that comes in, some time after the one before.
#[derive(Clone, Copy, Debug)]
struct Step {
    wait_ms: u64,
    port: usize,
    from: u8,
    to: Target,
    tag: Option<u16>,
}

/// The switch: every sighting there was.
struct Switch {
    ports: Vec<Vlans>,
    sightings: Vec<Sighting>,
    /// For how long what was decided may stay in force.
    stale_ms: u64,
}

#[derive(Clone, Copy)]
struct Sighting {
    ms: u64,
    vlan: u16,
    station: u8,
    port: usize,
}

/// Where a frame went: its fate, and the ports it left by.
type Outcome = (Fate, Vec<usize>);

impl Switch {
    /// Whatever may become of a frame that comes in at `ms`.
    fn outcomes(&mut self, ms: u64, step: Step) -> Vec<Outcome> {
        let Some(vlan) = self.ports[step.port].classify(step.tag.unwrap_or(0)) else {
            return vec![(Fate::Dropped(Reason::VlanNotAllowed), vec![])];
        };
        let others = (0..self.ports.len()).filter(|&port| port != step.port);
        let members = others.filter(|&port| self.ports[port].tagging(vlan).is_some());
        let members: Vec<usize> = members.collect();
        let flood = match members.is_empty() {
            true => (Fate::Dropped(Reason::NothingToFlood), members),
            false => (Fate::Flooded, members),
        };
        let station = match step.to {
            Target::Link => return vec![(Fate::Dropped(Reason::LinkLocal), vec![])],
            Target::Everybody => None,
            Target::Station(station) => Some(station),
        };
        self.sightings.push(Sighting { ms, vlan, station: step.from, port: step.port });
        let Some(station) = station else { return vec![flood] };

        // the last sighting, and all others whose place was in force not too long ago
        let mut seen =
            self.sightings.iter().rev().filter(|s| (s.vlan, s.station) == (vlan, station));
        let Some(&last) = seen.next() else { return vec![flood] };
        let mut places = vec![last.port];
        let mut since = last.ms;
        while ms - since < self.stale_ms
            && let Some(earlier) = seen.next()
        {
            places.push(earlier.port);
            since = earlier.ms;
        }
        let mut outcomes: Vec<Outcome> = places
            .into_iter()
            .map(|port| match port == step.port {
                true => (Fate::Dropped(Reason::SamePort), vec![]),
                false => (Fate::Forwarded, vec![port]),
            })
            .collect();

        // the bridge writes down who speaks not more often than it must
        let silent = ms - last.ms;
        if silent >= AGING_MS + self.stale_ms {
            outcomes.clear();
        }
        if silent + REFRESH_MS + self.stale_ms >= AGING_MS {
            outcomes.push(flood);
        }
        outcomes
    }
}

/// The frame of a step.
fn frame(step: Step) -> Vec<u8> {
    let to = match step.to {
        Target::Station(station) => mac(station),
        Target::Everybody => MacAddr::BROADCAST,
        Target::Link => MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
    };
    let frame = frames::between(frames::udp("10.0.0.1:1", "10.0.0.2:2", b"x"), mac(step.from), to);
    step.tag.map_or(frame.clone(), |vlan| frames::tagged(frame, vlan))
}

fn mac(station: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, station])
}

/// What becomes of a frame.
fn outcome(plane: &mut Plane, step: Step) -> Outcome {
    let before = plane.tally();
    let left = plane.pass(PORTS[step.port].0, &[frame(step)]);
    let after = plane.tally();
    let changed = after.into_iter().find(|entry| !before.contains(entry));
    let by = |(name, _): &(String, Vec<u8>)| PORTS.iter().position(|(port, _)| port == name);
    let (fate, _) = changed.expect("every packet has a fate");
    (fate, left.iter().map(|packet| by(packet).expect("it is one of ours")).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let wait_ms = prop_oneof![4 => Just(0), 3 => 0..700u64, 2 => 0..4000u64, 1 => 5000..15000u64];
    let to = prop_oneof![
        8 => (0..5u8).prop_map(Target::Station),
        1 => Just(Target::Everybody),
        1 => Just(Target::Link),
    ];
    // most stations stay where they are
    let place = prop_oneof![3 => Just(None), 1 => (0..PORTS.len()).prop_map(Some)];
    let tag =
        prop_oneof![2 => Just(None), 2 => Just(Some(10)), 2 => Just(Some(20)), 1 => Just(Some(30))];
    (wait_ms, place, 0..5u8, to, tag).prop_map(|(wait_ms, place, from, to, tag)| {
        let port = place.unwrap_or(usize::from(from));
        Step { wait_ms, port, from, to, tag }
    })
}

/// Runs the two beside each other.
fn compare(cache: bool, stale_ms: u64) {
    let compiled = tempfile::tempdir().expect("there is room");
    let vlans = |text: &str| text.parse::<Vlans>().expect("it is written right");
    let ports = PORTS.map(|(name, text)| (name, vlans(text)));
    let settings = WorkerSettings { cache, ..WorkerSettings::default() };
    let config = format!(r#"{{"aging_seconds": {}}}"#, AGING_MS / 1000);
    proptest!(ProptestConfig::with_cases(64), |(steps in prop::collection::vec(step(), 1..80))| {
        let mut plane = Plane::new(sandbox_with(compiled.path()), &ports, settings);
        load(&mut plane, built_in("bridge", "bridge", &config));
        let ports = ports.iter().map(|(_, vlans)| vlans.clone()).collect();
        let mut switch = Switch { ports, sightings: Vec::new(), stale_ms };
        let mut ms = 0;
        for step in steps {
            plane.advance(Duration::from_millis(step.wait_ms));
            ms += step.wait_ms;
            let expected = switch.outcomes(ms, step);
            let found = outcome(&mut plane, step);
            prop_assert!(expected.contains(&found), "{step:?}: {found:?} is not in {expected:?}");
        }
    });
}

#[test]
fn every_frame_goes_where_a_plain_switch_sends_it() {
    compare(false, 0);
}

#[test]
fn a_station_that_moves_is_reached_within_a_second_though_its_flows_are_remembered() {
    compare(true, 1000);
}

const AGING_MS: u64 = 10_000;

/// How old the bridge lets a note get before it writes it again.
const REFRESH_MS: u64 = 500;
