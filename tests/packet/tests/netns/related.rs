//! ICMP errors about fragments, and in fragments: F5, S25, RFC 5508 section 4.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use millrace_abi::Reason;
use millrace_filter::testing::frames;

use crate::bed::{Bed, await_some};
use crate::raw::{Raw, fragment, port_unreachable};
use crate::translation::{node, udp, virtual_address};

/// A client that has a connection to a server.
struct Talk {
    asking: UdpSocket,
    raw: Raw,
    /// The ends, as the server sees them.
    client: SocketAddr,
    server: SocketAddr,
}

impl Talk {
    /// From the first pod to the second, by this address.
    fn begin(bed: &Bed, by: IpAddr) -> Self {
        let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
        let (from, own) = match by.is_ipv4() {
            true => (client.address, server.address),
            false => (client.v6(), server.v6()),
        };
        let (asking, answering) = (udp(client, from, 0), udp(server, own, 0));
        let server_at = answering.local_addr().expect("it is bound");
        asking.connect(SocketAddr::new(by, server_at.port())).expect("there is a route");
        asking.send(b"?").expect("there is a route");
        let (_, client_at) = answering.recv_from(&mut [0]).expect("it arrives");
        Self { asking, raw: Raw::of(server), client: client_at, server: server_at }
    }

    /// What the server says about a packet of the client's, or a part of one.
    fn error(&self, about: &[u8]) -> Vec<u8> {
        port_unreachable(self.server.ip(), self.client.ip(), about)
    }

    /// A datagram of the client's, as it comes to the server.
    fn datagram(&self, len: usize) -> Vec<u8> {
        frames::udp(&self.client.to_string(), &self.server.to_string(), &vec![7; len])
    }

    /// The client hears that nobody is there.
    fn await_error(&self) {
        let error = self.asking.recv(&mut [0]).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{}", self.client);
    }
}

/// By a virtual address, which is translated, and by the server's own, in both families.
fn names(bed: &Bed) -> [(IpAddr, bool); 4] {
    let [v4, v6] = virtual_address(1);
    [(v4, true), (v6, true), (bed.pods[1].address, false), (bed.pods[1].v6(), false)]
}

#[test]
fn f5_an_error_about_a_first_fragment_reaches_who_sent_it() {
    let bed = node();
    for (by, _) in names(&bed) {
        let talk = Talk::begin(&bed, by);
        let first = fragment(&talk.datagram(2000), 7, 0, 800);
        talk.raw.send(&talk.error(&first));
        talk.await_error();
    }
}

#[test]
fn f5_of_a_fragment_that_has_no_ports_no_end_speaks() {
    let bed = node();
    for (number, (by, _)) in (1..).zip(names(&bed)) {
        let talk = Talk::begin(&bed, by);
        let later = fragment(&talk.datagram(2000), 7, 800, 1600);
        talk.raw.send(&talk.error(&later));
        await_some(|| match bed.dropped(Reason::InvalidState) {
            dropped if dropped == number => Ok(()),
            dropped => Err((by, dropped)),
        });
    }
}

#[test]
fn f5_an_error_in_fragments_arrives_as_it_is_or_is_dropped_whole() {
    let bed = node();
    let mut dropped = 0;
    for (by, is_translated) in names(&bed) {
        let talk = Talk::begin(&bed, by);
        let error = talk.error(&talk.datagram(600));
        let header = if by.is_ipv4() { 34 } else { 54 };
        for (start, end) in [(0, 400), (400, error.len() - header)] {
            talk.raw.send(&fragment(&error, 9, start, end));
        }
        if is_translated {
            dropped += 2;
            await_some(|| match bed.dropped(Reason::Unsupported) {
                it if it == dropped => Ok(()),
                it => Err((by, it)),
            });
        } else {
            talk.await_error();
        }
    }
}
