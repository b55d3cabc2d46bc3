//! Writes DNS questions to its log: a filter that looks into packets.
//!
//! The flow hook asks for the packets of flows to port 53; the packet hook reads the
//! question (RFC 1035 section 4.1) and lets everything pass.

use millrace_filter::INSPECT_ALL;
use millrace_filter::prelude::*;
use millrace_filter::wire::{IpProtocol, dns, udp};

/// The filter.
pub struct DnsLog {
    questions: Counter,
    unreadable: Counter,
    name_length: Histogram,
}

impl Filter for DnsLog {
    const MANIFEST: Manifest = Manifest::new("dns-log", env!("CARGO_PKG_VERSION"))
        .describes("Writes DNS questions over UDP to its log.")
        .wants(&[Capability::Inspect])
        .snap(512);
    type Config = ();

    fn new(_: (), setup: &mut Setup) -> Result<Self, Error> {
        Ok(Self {
            questions: setup.counter("questions")?,
            unreadable: setup.counter("unreadable")?,
            name_length: setup.histogram("name_length")?,
        })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        if slot.protocol == IpProtocol::UDP.0 && slot.dst_port == dns::PORT {
            decision.inspect(INSPECT_ALL);
        }
    }

    fn packet(&mut self, slot: &Slot, packet: &mut Packet<'_>) {
        // a question fits into the snap length, but the packet may go on behind it
        match udp::payload_in(packet.bytes()).and_then(question) {
            Some(question) => {
                self.questions.add(1);
                self.name_length.observe(question.name.to_string().len() as u64);
                let source = slot.source().map(|source| source.to_string()).unwrap_or_default();
                log::info!("{source} asks for {} (type {})", question.name, question.kind);
            }
            None => self.unreadable.add(1),
        }
    }
}

filter!(DnsLog: flow, packet);

/// What a message asks for, if it is a query.
fn question(message: &[u8]) -> Option<dns::Question> {
    let message = dns::Message::new(message).filter(|it| !it.is_answer());
    message?.question()
}

#[cfg(test)]
mod tests {
    use millrace_filter::abi::PacketVerdict;
    use millrace_filter::testing::{Rig, frames, strategies};
    use proptest::prelude::*;

    use super::*;

    const A: &str = "10.0.0.1:5353";
    const B: &str = "10.0.0.2:53";

    fn query(name: &[&str]) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, 28, 0, 1]);
        message
    }

    #[test]
    fn only_packets_to_the_dns_port_are_asked_for() {
        let mut rig = Rig::<DnsLog>::new("{}");
        assert_eq!(rig.flow(&frames::udp(A, B, b"")).inspect, INSPECT_ALL);
        assert_eq!(rig.flow(&frames::udp(B, A, b"")).inspect, 0);
        assert_eq!(rig.flow(&frames::ping("10.0.0.1", "10.0.0.2")).inspect, 0);
    }

    #[test]
    fn a_question_is_logged_with_its_name_and_passes() {
        let mut rig = Rig::<DnsLog>::new("{}");
        for frame in [
            frames::udp(A, B, &query(&["kubernetes", "default", "svc"])),
            frames::tagged(frames::udp(A, B, &query(&["kubernetes", "default", "svc"])), 9),
        ] {
            let outcome = rig.packet(&frame);
            assert_eq!((outcome.verdict, &outcome.bytes), (PacketVerdict::Pass, &frame));
            assert_eq!(rig.lines(), ["10.0.0.1 asks for kubernetes.default.svc. (type 28)"]);
        }
        let v6 = frames::udp("[2001:db8::1]:1", "[2001:db8::2]:53", &query(&["a\n"]));
        rig.packet(&v6);
        assert_eq!(rig.lines(), ["2001:db8::1 asks for a\\010. (type 28)"]);
        assert_eq!(rig.metric("questions"), 3);
    }

    #[test]
    fn answers_and_broken_questions_are_counted_and_pass() {
        let mut answer = query(&["a"]);
        answer[2] |= 0x80;
        let mut pointer = query(&[]);
        pointer[12] = 0xc0;
        for message in [&answer, &pointer, &query(&["abc"])[..14], b"short"] {
            let mut rig = Rig::<DnsLog>::new("{}");
            assert_eq!(rig.packet(&frames::udp(A, B, message)).verdict, PacketVerdict::Pass);
            assert_eq!((rig.metric("questions"), rig.metric("unreadable")), (0, 1));
        }
    }

    proptest! {
        #[test]
        fn any_packet_passes_unchanged(frame in strategies::frame()) {
            let mut rig = Rig::<DnsLog>::new("{}");
            prop_assert_eq!(rig.packet(&frame).bytes, frame);
        }

        #[test]
        fn any_message_is_read_or_not(message in prop::collection::vec(any::<u8>(), 0..80)) {
            question(&message);
        }
    }
}
