//! Tests of the filter's logic, which is plain Rust until it is compiled for WebAssembly.

use millrace_filter::testing::frames::Flags;
use millrace_filter::testing::{Rig, capture, frames, strategies};
use millrace_filter::{Control, Decision};
use proptest::prelude::*;

use super::*;

const CONFIG: &str = include_str!("../config.json");

fn is_refused(decision: &Decision) -> bool {
    decision.control != Control::Continue as u8
}

#[test]
fn a_flow_to_a_closed_port_is_refused() {
    let mut rig = Rig::<ClosedPorts>::new(CONFIG);
    for frame in [
        frames::tcp("10.0.0.1:4000", "10.0.0.2:23", Flags::SYN, b""),
        frames::udp("[2001:db8::1]:4000", "[2001:db8::2]:23", b""),
    ] {
        assert!(is_refused(&rig.flow(&frame)), "{frame:02x?}");
    }
    for frame in [
        frames::tcp("10.0.0.1:4000", "10.0.0.2:80", Flags::SYN, b""),
        frames::tcp("10.0.0.1:23", "10.0.0.2:4000", Flags::ACK, b""),
        frames::ping("10.0.0.1", "10.0.0.2"),
        frames::arp_request("10.0.0.1", "10.0.0.2"),
    ] {
        assert!(!is_refused(&rig.flow(&frame)), "{frame:02x?}");
    }
    assert_eq!(rig.metric("refused"), 2);
}

#[test]
fn a_refused_flow_names_its_reason_and_rule() {
    let mut rig = Rig::<ClosedPorts>::new(r#"{"ports": [23], "action": "reject"}"#);
    let decision = rig.flow(&frames::udp("10.0.0.1:4000", "10.0.0.2:23", b""));
    assert_eq!(decision.control, Control::Reject as u8);
    assert_eq!(
        (decision.reason, decision.rule),
        (Reason::Denied as u16, CLOSED.id)
    );
}

#[test]
fn a_port_that_is_none_is_not_accepted() {
    let error = Rig::<ClosedPorts>::try_new(r#"{"ports": [0]}"#)
        .err()
        .expect("0 is no port");
    assert_eq!(error.to_string(), "`ports`: 0 is no port");
}

#[test]
fn of_the_captured_flows_those_to_telnet_are_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/example.pcap");
    let packets = capture::read(path).expect("the capture is there");
    let mut rig = Rig::<ClosedPorts>::new(CONFIG);
    let refused = packets
        .iter()
        .filter(|packet| is_refused(&rig.flow(&packet.frame)))
        .count();
    assert_eq!((packets.len(), refused), (8, 2));
}

proptest! {
    /// The filter against the plainest one there could be.
    #[test]
    fn a_flow_is_refused_if_and_only_if_its_port_is_closed(
        ports in prop::collection::vec(1..1100u16, 0..20),
        frame in strategies::frame(),
    ) {
        let mut rig = Rig::<ClosedPorts>::new(&format!(r#"{{"ports": {ports:?}}}"#));
        let port = rig.slot(1, &frame).dst_port;
        prop_assert_eq!(is_refused(&rig.flow(&frame)), ports.contains(&port));
    }
}
