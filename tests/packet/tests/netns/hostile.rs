//! Pods that send what nobody should: it ends with its reason, and others go on.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;

use millrace_abi::Reason;
use millrace_dataplane::connections::{Limits, Settings};
use millrace_dataplane::control::flows::FlowQuery;
use millrace_dataplane::control::{CacheSettings, Capacity};
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::wire::MacAddr;

use crate::bed::{Bed, GATEWAY, Pod, await_some};
use crate::cached::in_kernel;
use crate::raw::{Raw, port_unreachable};
use crate::translation::{routed, udp};

/// Three pods; the first is the hostile one.
fn node() -> Bed {
    routed(Bed::cached(3, 2))
}

/// Waits until so many more packets were dropped for a reason than `before`.
fn await_dropped(bed: &Bed, reason: Reason, before: u64, packets: u64) {
    await_some(|| match bed.dropped(reason) - before {
        dropped if dropped == packets => Ok(()),
        dropped => Err((reason, dropped)),
    });
}

/// One packet each, which is dropped for this reason.
fn dropped_each(bed: &Bed, reason: Reason, packets: &[Vec<u8>]) {
    let raw = Raw::of(&bed.pods[0]);
    for packet in packets {
        let before = bed.dropped(reason);
        raw.send_as_it_is(packet);
        await_dropped(bed, reason, before, 1);
    }
}

fn text(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// A datagram from the hostile pod's link, in this name, to the second pod.
fn datagram(bed: &Bed, from: IpAddr, mac: MacAddr) -> Vec<u8> {
    let target = &bed.pods[1];
    let to = if from.is_ipv4() { target.address } else { target.v6() };
    let frame = frames::udp(&text(from, 4000), &text(to, 5000), b"in whose name?");
    frames::between(frame, mac, MacAddr(GATEWAY))
}

/// Whether two pods reach each other.
fn talk(one: &Pod, other: &Pod) {
    assert!(one.pings(other.address) && one.pings(other.v6()));
}

#[test]
fn a_pod_speaks_in_no_other_pods_name() {
    let bed = node();
    let [own, other] = [0, 1].map(|n| MacAddr(bed.pods[n].mac()));
    let third = &bed.pods[2];
    let spoofed = [third.address, third.v6()].map(|from| datagram(&bed, from, own));
    dropped_each(&bed, Reason::SpoofedAddress, &spoofed);
    let hostile = &bed.pods[0];
    let foreign = [hostile.address, hostile.v6()].map(|from| datagram(&bed, from, other));
    dropped_each(&bed, Reason::SpoofedMac, &foreign);
    talk(&bed.pods[1], third);
}

#[test]
fn a_pod_does_not_claim_other_pods_addresses() {
    let bed = node();
    let own = MacAddr(bed.pods[0].mac());
    let (victim, gateway) = ("10.77.0.3", "10.77.0.254");
    let claims = [victim, gateway].map(|claimed| {
        // all of it but the sender is as if the pod's own
        let mut frame = frames::arp_reply(claimed, "10.77.0.2");
        frame[6..12].copy_from_slice(&own.0);
        frame[22..28].copy_from_slice(&own.0);
        frame
    });
    dropped_each(&bed, Reason::SpoofedAddress, &claims);
    talk(&bed.pods[1], &bed.pods[2]);
}

#[test]
fn tags_of_a_pods_own_lead_nowhere() {
    let bed = node();
    let [hostile, target, _] = &bed.pods[..] else { unreachable!("there are three") };
    let receiver = udp(target, target.address, 5000);
    talk(hostile, target);
    let own = datagram(&bed, hostile.address, MacAddr(hostile.mac()));
    let raw = Raw::of(hostile);
    // as the dataplane tags what comes in by each of the ports, and what leaves by it
    for port in 1..=3 {
        let before = in_kernel(&bed, "drop-tagged");
        raw.send_as_it_is(&frames::tagged(own.clone(), port));
        assert_eq!(in_kernel(&bed, "drop-tagged") - before, 1, "{port}");
    }
    // what comes next is plain, so the tagged ones went nowhere
    let plain = frames::udp(&text(hostile.address, 4000), &text(target.address, 5000), b"plain");
    raw.send(&plain);
    let mut received = [0; 99];
    let len = receiver.recv(&mut received).expect("it arrives");
    assert_eq!(&received[..len], b"plain");
}

#[test]
fn tricks_with_extension_headers_end_as_what_they_are() {
    let bed = node();
    let hostile = &bed.pods[0];
    let own = datagram(&bed, hostile.v6(), MacAddr(hostile.mac()));
    let behind = |headers: &[u8]| {
        let mut frame = own.clone();
        let kinds = [headers, &[17]].concat();
        frame[20] = kinds[0];
        let length = u16::from_be_bytes([frame[18], frame[19]]) + 8 * headers.len() as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        let extensions = kinds[1..].iter().flat_map(|&next| [next, 0, 0, 0, 0, 0, 0, 0]);
        frame.splice(54..54, extensions);
        frame
    };
    let (hop_by_hop, fragment, destination) = (0, 44, 60);
    let tricks = [
        behind(&[destination; 9]),
        behind(&[destination, hop_by_hop]),
        behind(&[fragment, fragment]),
    ];
    dropped_each(&bed, Reason::BadExtensionHeaders, &tricks);

    // a first fragment that ends before its transport header says whom it is for (RFC 7112)
    let mut short = behind(&[fragment]);
    short[54 + 3] = 1;
    short[18..20].copy_from_slice(&8u16.to_be_bytes());
    short.truncate(62);
    dropped_each(&bed, Reason::TruncatedTransport, &[short]);
    talk(hostile, &bed.pods[1]);
}

#[test]
fn errors_about_what_was_not_for_the_pod_itself_tell_nobody_anything() {
    let bed = node();
    let [hostile, victim, peer] = &bed.pods[..] else { unreachable!("there are three") };
    let ends =
        [(hostile.address, victim.address, peer.address), (hostile.v6(), victim.v6(), peer.v6())];
    for (own, from, to) in ends {
        let (asking, answering) = (udp(victim, from, 7000), udp(peer, to, 7001));
        asking.connect(SocketAddr::new(to, 7001)).expect("there is a route");
        asking.send(b"?").expect("there is a route");
        let mut byte = [0];
        let (_, back) = answering.recv_from(&mut byte).expect("it arrives");

        let quoted = frames::udp(&text(from, 7000), &text(to, 7001), b"?");
        let forged = port_unreachable(own, from, &quoted);
        let forged = frames::between(forged, MacAddr(hostile.mac()), MacAddr(GATEWAY));
        dropped_each(&bed, Reason::InvalidState, &[forged]);
        answering.send_to(b"!", back).expect("there is a route");
        asking.recv(&mut byte).expect("the answer arrives, and no error before it");
        assert_eq!(&byte, b"!");
    }
}

/// A connection from one pod to another: its ends.
fn connected(client: &Pod, server: &Pod, port: u16) -> [TcpStream; 2] {
    let listener = server.listen(port);
    let accept = thread::spawn(move || listener.accept().expect("somebody connects").0);
    let near = client.connect(server, port).expect("the server listens");
    [near, accept.join().expect("it does not panic")]
}

/// Sends data there, and back.
fn echo([near, far]: &mut [TcpStream; 2]) {
    let mut data = [0; 5000];
    near.write_all(&[1; 5000]).expect("the other end is there");
    far.read_exact(&mut data).expect("it arrives");
    far.write_all(&data).expect("the other end is there");
    near.read_exact(&mut data).expect("it comes back");
    assert_eq!(data, [1; 5000]);
}

#[test]
fn segments_that_only_guess_their_numbers_end_no_connection() {
    let bed = node();
    let [hostile, server, _] = &bed.pods[..] else { unreachable!("there are three") };
    let mut ends = connected(hostile, server, 6000);
    echo(&mut ends);
    let raw = Raw::of(hostile);
    let ports = ends[0].local_addr().expect("it is connected").port();
    for flags in [Flags::RST, Flags::FIN | Flags::ACK, Flags::RST | Flags::ACK] {
        let (from, to) = (text(hostile.address, ports), text(server.address, 6000));
        let hits = in_kernel(&bed, "hit");
        for _ in 0..3 {
            raw.send(&frames::tcp(&from, &to, flags, b""));
        }
        // the cache takes them for the connection's: it sees no numbers
        assert!(in_kernel(&bed, "hit") >= hits + 3, "{flags:?}");
        echo(&mut ends);
    }
    assert_eq!(bed.dropped(Reason::InvalidState), 0);
}

#[test]
fn a_flood_of_new_connections_is_its_senders_own() {
    let limits = Limits { total: 1000, per_owner: 200 };
    let connections = Settings { limits, ..Settings::default() };
    let bed = routed(Bed::cached_with(3, 2, CacheSettings { connections, ..Default::default() }));
    let [hostile, one, other] = &bed.pods[..] else { unreachable!("there are three") };
    talk(one, other);
    let mut before = connected(one, other, 6000);
    echo(&mut before);
    let raw = Raw::of(hostile);
    let opened = bed.opened();
    for n in 0..1000u16 {
        // one target's port from many, and one to many, as a scan does
        let from = text(hostile.address, 10_000 + n);
        raw.send(&frames::tcp(&from, &text(one.address, 80), Flags::SYN, b""));
        let to = text(other.address, 10_000 + n);
        raw.send(&frames::udp(&text(hostile.address, 4000), &to, b"?"));
    }
    await_some(|| match bed.opened() - opened {
        1000.. => Ok(()),
        fewer => Err(fewer),
    });
    let cache = bed.plane.cache().expect("the kernel says").expect("there is a cache");
    // its own, and the few of the others; what is evicted is let go a moment later
    await_some(|| match bed.plane.cache().expect("the kernel says") {
        Some(cache) if cache.connections <= 200 + 50 => Ok(()),
        other => Err(other.map(|cache| cache.connections)),
    });
    assert!(cache.connections > 0);
    echo(&mut before);
    echo(&mut connected(one, other, 6001));
    talk(other, one);
}

/// Room for few connections, and three pods that share it.
fn crowded() -> Bed {
    routed(Bed::cached_with(3, 2, CacheSettings { capacity: Capacity(64), ..Default::default() }))
}

/// Sends a datagram there, and one back.
fn exchange(near: &UdpSocket, far: &UdpSocket) {
    let mut byte = [0];
    near.send(b"?").expect("there is a route");
    let (_, back) = far.recv_from(&mut byte).expect("it arrives");
    far.send_to(b"!", back).expect("there is a route");
    near.recv(&mut byte).expect("the answer arrives");
    assert_eq!(&byte, b"!");
}

/// How many directions the kernel carries of connections that a pod has opened.
fn carried(bed: &Bed, pod: &Pod) -> usize {
    let query = FlowQuery { port: None, protocol: None, state: None, sort: None, limit: 9999 };
    let flows = bed.plane.flows(query).expect("the kernel says");
    let own = flows.iter().filter(|flow| flow.original.source.ip() == pod.address);
    let ways = own.flat_map(|flow| [&flow.original, &flow.reply]);
    ways.filter(|way| way.generation.is_some()).count()
}

/// How many connections of a pod left the kernel to make room.
fn crowded_out(bed: &Bed, pod: &Pod) -> u64 {
    bed.port(&pod.port).counters.crowded_out
}

#[test]
fn whoever_floods_makes_room_in_the_kernels_cache_whether_anybody_answers_or_not() {
    for is_answered in [false, true] {
        let bed = crowded();
        let [hostile, one, other] = &bed.pods[..] else { unreachable!("there are three") };
        talk(one, other);
        talk(hostile, other);
        let silent = udp(other, other.address, 5000);
        let opened = bed.opened();
        let flood: Vec<_> = (0..200u16)
            .map(|n| {
                let near = udp(hostile, hostile.address, 10_000 + n);
                near.connect((other.address, 5000)).expect("there is a route");
                match is_answered {
                    true => exchange(&near, &silent),
                    false => drop(near.send(b"?").expect("there is a route")),
                }
                near
            })
            .collect();
        await_some(|| match bed.opened() - opened {
            200.. => Ok(()),
            fewer => Err(fewer),
        });
        let full = carried(&bed, hostile);
        assert!(full > 40, "the flood has the cache: {full}");

        // another pod's connections get there, and packets of them stay there
        let answering = udp(other, other.address, 5001);
        let asking = udp(one, one.address, 5001);
        asking.connect((other.address, 5001)).expect("there is a route");
        let mut stream = connected(one, other, 6000);
        await_some(|| {
            exchange(&asking, &answering);
            echo(&mut stream);
            // both ways of both
            match carried(&bed, one) {
                4 => Ok(()),
                fewer => Err(fewer),
            }
        });
        let punted = in_kernel(&bed, "miss-unknown");
        for _ in 0..10 {
            exchange(&asking, &answering);
            echo(&mut stream);
        }
        assert_eq!(in_kernel(&bed, "miss-unknown"), punted);

        // whose room it was is counted, and nobody has lost a connection
        assert!(crowded_out(&bed, hostile) > 0);
        assert_eq!([one, other].map(|pod| crowded_out(&bed, pod)), [0, 0]);
        if is_answered {
            flood.iter().for_each(|near| exchange(near, &silent));
        }
        assert_eq!(carried(&bed, one), 4, "a flood that goes on takes nothing back");
    }
}

#[test]
fn connections_that_are_over_make_room_for_those_that_come_after_them() {
    let bed = crowded();
    let [_, client, server] = &bed.pods[..] else { unreachable!("there are three") };
    talk(client, server);
    for port in 6000..6100 {
        echo(&mut connected(client, server, port));
    }
    let cache = bed.plane.cache().expect("the kernel says").expect("there is a cache");
    assert_eq!(cache.full, 0, "{cache:?}");
    assert!(crowded_out(&bed, client) > 0);
}
