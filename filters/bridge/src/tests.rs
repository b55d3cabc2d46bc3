use std::collections::HashMap;
use std::time::Duration;

use millrace_filter::testing::{Rig, frames, strategies};
use millrace_filter::wire::MacAddr;
use millrace_filter::{Control, Decision, Field, Reason};
use proptest::prelude::*;

use super::Bridge;

mod neighbours;
mod pods;

fn rig() -> Rig<Bridge> {
    Rig::new("{}")
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A frame from station `from` to station `to`.
fn frame(from: u8, to: u8) -> Vec<u8> {
    frames::between(frames::udp("10.0.0.1:1", "10.0.0.2:2", b""), mac(from), mac(to))
}

fn floods(decision: &Decision) -> bool {
    decision.stated().contains(Field::Flood)
}

fn goes_to(decision: &Decision) -> Option<u16> {
    decision.stated().contains(Field::Egress).then_some(decision.egress)
}

fn dropped(decision: &Decision) -> Option<Reason> {
    let drops = decision.control == Control::Drop as u8;
    drops.then(|| Reason::from_u16(decision.reason).expect("a reason of the table"))
}

#[test]
fn unknown_destinations_are_flooded_once_and_known_ones_are_sent_to_their_port() {
    let mut rig = rig();
    let unknown = rig.flow_from(1, &frame(1, 2));
    assert!(floods(&unknown) && unknown.stated().contains(Field::Once));
    assert_eq!(goes_to(&rig.flow_from(2, &frame(2, 1))), Some(1));
    assert_eq!(goes_to(&rig.flow_from(1, &frame(1, 2))), Some(2));
    assert_eq!((rig.metric("learned"), rig.metric("flooded"), rig.metric("moved")), (2, 1, 0));
}

#[test]
fn what_one_frame_of_a_batch_teaches_the_next_one_knows() {
    let mut rig = rig();
    let slots =
        [(1, frame(1, 2)), (2, frame(2, 1)), (1, frame(1, 2)), (5, frame(1, 2)), (2, frame(2, 1))]
            .map(|(port, frame)| rig.slot(port, &frame));
    let decisions = rig.decide_all(&slots);
    assert!(floods(&decisions[0]));
    assert_eq!(decisions[1..].iter().map(goes_to).collect::<Vec<_>>(), [1, 2, 2, 5].map(Some));
    assert_eq!((rig.metric("learned"), rig.metric("moved")), (2, 1));
}

#[test]
fn broadcast_and_multicast_are_flooded_and_teach() {
    let mut rig = rig();
    assert!(floods(&rig.flow_from(3, &frames::arp_request("10.0.0.1", "10.0.0.2"))));
    assert!(floods(&rig.flow_from(3, &frames::udp("10.0.0.1:1", "224.0.1.1:2", b""))));
    assert_eq!(goes_to(&rig.flow_from(4, &frames::arp_reply("10.0.0.2", "10.0.0.1"))), Some(3));
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port() {
    let mut rig = rig();
    rig.flow_from(1, &frame(1, 9));
    rig.flow_from(5, &frame(1, 9));
    assert_eq!(goes_to(&rig.flow_from(2, &frame(2, 1))), Some(5));
    assert_eq!(rig.metric("moved"), 1);
}

#[test]
fn a_silent_station_is_forgotten_and_a_speaking_one_is_not() {
    let mut rig = Rig::<Bridge>::new(r#"{"aging_seconds": 10}"#);
    rig.flow_from(1, &frame(1, 9));
    rig.flow_from(2, &frame(2, 9));
    for _ in 0..3 {
        rig.advance(Duration::from_secs(4));
        rig.flow_from(1, &frame(1, 9));
    }
    assert_eq!(goes_to(&rig.flow_from(3, &frame(3, 1))), Some(1));
    assert!(floods(&rig.flow_from(3, &frame(3, 2))));
}

#[test]
fn nothing_is_reflected_to_the_port_it_came_from() {
    let mut rig = rig();
    rig.flow_from(1, &frame(1, 9));
    rig.flow_from(1, &frame(2, 9));
    let decision = rig.flow_from(1, &frame(1, 2));
    assert_eq!(dropped(&decision), Some(Reason::SamePort));
    assert!(decision.stated().contains(Field::Once), "the station may move");
}

#[test]
fn frames_reserved_for_the_link_are_not_forwarded() {
    let mut rig = rig();
    for last in 0..=0x10 {
        let to = MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
        let stp = frames::between(frame(1, 2), mac(1), to);
        let reserved = (last < 0x10).then_some(Reason::LinkLocal);
        assert_eq!(dropped(&rig.flow_from(1, &stp)), reserved, "{to}");
    }
    assert_eq!(rig.metric("learned"), 1, "reserved frames teach nothing");
}

#[test]
fn vlans_are_separate_segments() {
    let mut rig = rig();
    rig.flow_from(1, &frames::tagged(frame(1, 9), 10));
    assert_eq!(goes_to(&rig.flow_from(2, &frames::tagged(frame(2, 1), 10))), Some(1));
    assert!(floods(&rig.flow_from(2, &frames::tagged(frame(2, 1), 20))));
    assert!(floods(&rig.flow_from(2, &frame(2, 1))));
}

#[test]
fn a_port_cannot_take_the_places_of_others() {
    let mut rig = Rig::<Bridge>::new(r#"{"stations_per_port": 3}"#);
    for n in 1..=3 {
        assert_eq!(dropped(&rig.flow_from(1, &frame(n, 99))), None);
    }
    let refused = rig.flow_from(1, &frame(4, 99));
    assert_eq!(dropped(&refused), Some(Reason::StationLimit));
    assert_eq!(dropped(&rig.flow_from(2, &frame(5, 99))), None);
    assert_eq!(dropped(&rig.flow_from(1, &frame(2, 99))), None, "who is known goes on");
    assert_eq!(rig.metric("refused"), 1);
}

#[test]
fn what_is_learned_survives_a_new_configuration_of_the_same_size() {
    let mut rig = rig();
    rig.flow_from(7, &frame(1, 9));
    rig.reconfigure("{}").expect("it is the same");
    assert_eq!(goes_to(&rig.flow_from(2, &frame(2, 1))), Some(7));
    let error = rig.reconfigure(r#"{"stations": 5}"#).expect_err("the table has another size");
    assert!(error.to_string().contains("stations"), "{error}");
}

#[test]
fn live_flows_are_decided_again_without_learning() {
    let mut rig = rig();
    rig.flow_from(1, &frame(1, 9));
    let mut slot = rig.slot(2, &frame(1, 9));
    slot.origin = 1;
    rig.decide(&slot);
    assert_eq!(goes_to(&rig.flow_from(3, &frame(3, 1))), Some(1));
    assert_eq!(rig.metric("moved"), 0);
}

#[test]
fn settings_out_of_range_are_refused() {
    for (config, complaint) in [
        (r#"{"aging_seconds": 0}"#, "at least 1"),
        (r#"{"aging": 5}"#, "unknown key `aging`"),
        (r#"{"stations": -1}"#, "`stations`: -1 is not"),
    ] {
        let error = Rig::<Bridge>::try_new(config).err().expect(config).to_string();
        assert!(error.contains(complaint), "{config}: {error}");
    }
}

proptest! {
    /// The bridge against a map of who was last seen where.
    #[test]
    fn it_forwards_as_a_plain_table_would(
        steps in prop::collection::vec((1..5u16, strategies::frame()), 1..80),
    ) {
        let mut rig = rig();
        let mut table: HashMap<[u8; 6], u16> = HashMap::new();
        for (port, frame) in steps {
            let decision = rig.flow_from(port, &frame);
            let to: [u8; 6] = frame[..6].try_into().expect("six bytes");
            let from: [u8; 6] = frame[6..12].try_into().expect("six bytes");
            table.insert(from, port);
            match table.get(&to) {
                Some(&place) if place == port => {
                    prop_assert_eq!(dropped(&decision), Some(Reason::SamePort));
                }
                Some(&place) => prop_assert_eq!(goes_to(&decision), Some(place)),
                None => prop_assert!(floods(&decision)),
            }
        }
    }
}
