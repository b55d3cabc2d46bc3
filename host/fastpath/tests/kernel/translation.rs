//! Flows whose addresses and ports become others on the way, both ways.

use std::net::{IpAddr, SocketAddr};

use aya::programs::tc::TcAttachType;
use millrace_fastpath::{
    Counter, Egress, Features, FlowCache, Forward, Hop, InsertError, Key, Protocol, Translation,
    Verdict,
};
use millrace_netns::{Neighbour, VethSpec, VxlanMode, VxlanSpec};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::bed::{
    Bed, GATEWAY_MAC, PODS, index, ip, key, mac, namespace, port, stream, tcp_client, way,
    with_and_without_features,
};
use crate::edges::{Arrival, PuntEnd, WholeSums, Wire};

#[test]
fn a_tcp_stream_is_translated_as_super_packets_and_with_checksums_that_are_checked() {
    const LENGTH: usize = 1 << 20;
    with_gateway(|bed| {
        bed.run(|mut cache, _punt_end| {
            for offload in [true, false] {
                // without, the sender completes each checksum, and the receiver checks it
                if !offload {
                    complete_checksums(&bed);
                }
                for family in [4, 6] {
                    let before = cache.count(Counter::Hit).unwrap();
                    let own = 1000 + u16::from(offload);
                    let [there, back] = translate(&mut cache, family, Protocol::Tcp, own);
                    let listener = bed.listen(family, 2000);
                    let client = tcp_client(&bed, own, VIRTUAL.address(family));
                    let (server, from) = listener.accept().unwrap();
                    assert_eq!(from, seen(own).address(family));
                    assert_eq!(client.peer_addr().unwrap(), VIRTUAL.address(family));
                    stream(&client, &server, LENGTH);
                    stream(&server, &client, LENGTH);

                    let segments = [there, back].map(|key| cache.usage(&key).unwrap().unwrap());
                    let segments: u64 = segments.iter().map(|usage| usage.packets).sum();
                    let buffers = cache.count(Counter::Hit).unwrap() - before;
                    assert_eq!(buffers < segments / 2, offload, "{buffers} for {segments}");
                    cache.remove(&[there, back]).unwrap();
                }
            }
            assert_eq!(cache.count(Counter::DropFailed).unwrap(), 0);
        });
    });
}

#[test]
fn udp_is_translated_both_ways() {
    with_gateway(|bed| {
        bed.run(|mut cache, _punt_end| {
            for offload in [true, false] {
                if !offload {
                    complete_checksums(&bed);
                }
                for family in [4, 6] {
                    let flows = translate(&mut cache, family, Protocol::Udp, 1000);
                    let (client, server) = (bed.udp(0, family, 1000), bed.udp(1, family, 2000));
                    let mut bytes = [0; 9];
                    client.send_to(b"hello", VIRTUAL.address(family)).unwrap();
                    let (length, from) = server.recv_from(&mut bytes).unwrap();
                    assert_eq!((&bytes[..length], from), (&b"hello"[..], SEEN.address(family)));
                    server.send_to(b"answer", from).unwrap();
                    let (length, from) = client.recv_from(&mut bytes).unwrap();
                    assert_eq!((&bytes[..length], from), (&b"answer"[..], VIRTUAL.address(family)));
                    cache.remove(&flows).unwrap();
                }
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 8);
        });
    });
}

#[test]
fn a_udp_super_packet_is_translated_as_one() {
    with_gateway(|bed| {
        bed.run(|mut cache, _punt_end| {
            for family in [4, 6] {
                let [there, _] = translate(&mut cache, family, Protocol::Udp, 1000);
                let before = cache.count(Counter::Hit).unwrap();
                let (client, server) = (bed.udp(0, family, 1000), bed.udp(1, family, 2000));
                setsockopt(&client, UdpGsoSegment, &1000).unwrap();
                client.send_to(&[7; 10_000], VIRTUAL.address(family)).unwrap();
                for _ in 0..10 {
                    let mut bytes = [0; 2000];
                    assert_eq!(server.recv(&mut bytes).unwrap(), 1000);
                    assert!(bytes[..1000].iter().all(|byte| *byte == 7));
                }
                assert_eq!(cache.count(Counter::Hit).unwrap(), before + 1);
                assert_eq!(cache.usage(&there).unwrap().unwrap().packets, 10);
            }
        });
    });
}

/// The kernel completes checksums where the packet leaves: there they are looked at.
#[test]
fn checksums_are_right_on_the_wire_with_and_without_a_hop() {
    with_gateway(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for (hop, ttl) in [(Hop::Bridged, 64), (Hop::Routed, 63)] {
                for family in [4, 6] {
                    let out = out(&mut cache, family, Protocol::Udp, hop);
                    let client = bed.udp(0, family, 1000);
                    client.send_to(&[0, 0, 1, 2, 3], VIRTUAL.address(family)).unwrap();
                    let frame = punt_end.await_frame(|frame| is_udp_out(frame, family));
                    assert_translated(&frame, family);
                    assert_eq!(frame.bytes[if family == 4 { 22 } else { 21 }], ttl);

                    // a word of data that makes the sum 0, which is written as 0xffff
                    let [high, low] = frame.word(udp(family) + 6).to_be_bytes();
                    client.send_to(&[high, low, 1, 2, 3], VIRTUAL.address(family)).unwrap();
                    let frame = punt_end.await_frame(|frame| is_udp_out(frame, family));
                    assert_eq!(frame.word(udp(family) + 6), 0xffff);
                    assert_translated(&frame, family);
                    cache.remove(&[out]).unwrap();
                }
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 8);
        });
    });
}

#[test]
fn a_checksum_that_the_sender_completed_is_right_after_translation() {
    with_gateway(|bed| {
        complete_checksums(&bed);
        bed.run(|mut cache, mut punt_end| {
            send_completed(&bed, &mut cache, &mut punt_end);
        });
    });
}

/// A link that gathers packets checks them first.
#[test]
fn a_checksum_that_was_checked_is_right_after_translation() {
    with_gateway(|bed| {
        complete_checksums(&bed);
        bed.host.ethtool(PODS[0]).unwrap().enable(&["gro"]).unwrap();
        bed.run(|mut cache, mut punt_end| {
            let sums = WholeSums::attach("punt0", TcAttachType::Egress);
            send_completed(&bed, &mut cache, &mut punt_end);
            let [.., checked] = sums.counts();
            assert_eq!(checked, 4);
        });
    });
}

#[test]
fn udp_without_a_checksum_stays_without() {
    with_gateway(|bed| {
        bed.run(|mut cache, mut punt_end| {
            out(&mut cache, 4, Protocol::Udp, Hop::Bridged);
            let client = bed.udp(0, 4, 1000);
            client.send_to(b"hello", VIRTUAL.address(4)).unwrap();
            let frame = punt_end.await_frame(|frame| is_udp_out(frame, 4));

            // the same packet as it was before, but for its checksum
            let mut plain = frame.bytes.clone();
            plain[24..26].copy_from_slice(&[0; 2]);
            let addresses = [ip(0, 4), VIRTUAL.address(4).ip()];
            for (at, address) in addresses.into_iter().enumerate() {
                let IpAddr::V4(address) = address else { panic!("family 4 is IPv4") };
                plain[26 + 4 * at..30 + 4 * at].copy_from_slice(&address.octets());
            }
            plain[34..38].copy_from_slice(&[1000u16, VIRTUAL.port].map(u16::to_be_bytes).concat());
            plain[40..42].copy_from_slice(&[0; 2]);
            let sum = !sum(&plain[14..34], 0);
            plain[24..26].copy_from_slice(&sum.to_be_bytes());
            bed.pods[0].run(|| Wire::open("eth0")).unwrap().send(&plain);

            let frame = punt_end.await_frame(|frame| is_udp_out(frame, 4));
            assert_eq!(frame.word(40), 0);
            assert_eq!(frame.bytes[26..34], addresses_out(4)[..]);
            assert_eq!(sum_of_header(&frame), 0xffff);
            assert_eq!(cache.count(Counter::Hit).unwrap(), 2);
        });
    });
}

/// Out of a tunnel, packets come with the sum that was taken to check the outer packet.
#[test]
fn the_sum_that_a_device_gave_fits_the_translated_packet() {
    with_gateway(|bed| {
        let Some(other) = namespace("fast-node") else { return };
        let ends = [(&bed.host, "under0", "10.9.0.1"), (&other, "under1", "10.9.0.2")];
        bed.host
            .netlink()
            .unwrap()
            .add_veth(&VethSpec::new("under0", "under1").peer_namespace(&other))
            .unwrap();
        for (at, (namespace, link, own)) in ends.into_iter().enumerate() {
            let net = namespace.netlink().unwrap();
            namespace.ethtool(link).unwrap().disable(&["tx"]).unwrap();
            net.set_up(link).unwrap();
            net.add_address(link, format!("{own}/24").parse().unwrap()).unwrap();
            let remote = ends[1 - at].2.parse().unwrap();
            let mode = VxlanMode::PointToPoint { vni: 7, remote };
            net.add_vxlan(&VxlanSpec::new("tunnel", mode)).unwrap();
            net.set_up("tunnel").unwrap();
        }
        let net = other.netlink().unwrap();
        for (family, prefix) in [(4, 24), (6, 64)] {
            net.add_address("tunnel", format!("{}/{prefix}", ip(50, family)).parse().unwrap())
                .unwrap();
            let to = Neighbour::permanent("tunnel", ip(VIRTUAL.at, family), GATEWAY_MAC);
            net.add_neighbour(&to).unwrap();
        }
        let sums = bed.pods[1].run(|| WholeSums::attach("eth0", TcAttachType::Ingress)).unwrap();
        bed.run(|mut cache, _punt_end| {
            let tunnel = index("tunnel");
            cache.attach(tunnel, port(2), Egress::Link(tunnel)).unwrap();
            for (hop, family) in
                [Hop::Bridged, Hop::Routed].into_iter().flat_map(|hop| [(hop, 4), (hop, 6)])
            {
                let own = SocketAddr::new(ip(50, family), 1000);
                let flow = Key::new(port(2), Protocol::Udp, own, VIRTUAL.address(family)).unwrap();
                let server = bed.udp(1, family, 2000);
                let translation = Some(Translation {
                    source: SEEN.address(family),
                    destination: server.local_addr().unwrap(),
                });
                let verdict = Verdict::Forward(Forward { translation, hop, ..way(0) });
                cache.insert(&flow, &verdict).unwrap();
                let client = other.run(|| std::net::UdpSocket::bind(own)).unwrap().unwrap();
                client
                    .send_to(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2], VIRTUAL.address(family))
                    .unwrap();
                assert_eq!(server.recv(&mut [0; 20]).unwrap(), 12);
                cache.remove(&[flow]).unwrap();
            }
        });
        assert_eq!(sums.counts(), [0, 4, 0, 0]);
        bed.pods[1].run(|| drop(sums)).unwrap();
    });
}

/// Where direct checksums do not load, helpers take over, and every other test passes as well.
#[test]
fn what_the_kernel_has_is_used() {
    for features in [Features::of_kernel(), Features::OFF] {
        let Some(bed) = Bed::new(features) else { return };
        bed.run(|cache, _punt_end| assert_eq!(cache.features(), features));
    }
}

#[test]
fn a_translation_is_of_the_flows_own_family() {
    let Some(bed) = Bed::new(Features::of_kernel()) else { return };
    bed.run(|mut cache, _punt_end| {
        for (family, other) in [(4, 6), (6, 4)] {
            let flow = key(0, family, Protocol::Udp, 1000, 2000);
            let [source, destination] = [SEEN, VIRTUAL].map(|end| end.address(other));
            let translation = Some(Translation { source, destination });
            let verdict = Verdict::Forward(Forward { translation, ..way(0) });
            let outcome = cache.insert(&flow, &verdict);
            assert!(matches!(outcome, Err(InsertError::Families)), "{outcome:?}");
            assert_eq!(cache.usage(&flow).unwrap(), None);
        }
    });
}

/// What is nobody's address: the client connects to the virtual one, the server sees the other.
#[derive(Clone, Copy)]
struct End {
    at: usize,
    port: u16,
}

impl End {
    fn address(self, family: u8) -> SocketAddr {
        SocketAddr::new(ip(self.at, family), self.port)
    }
}

/// What the server sees of a port of the client.
fn seen(client: u16) -> End {
    End { port: client - 1000 + SEEN.port, ..SEEN }
}

/// Entries for both directions: pod 0's port `client` to the virtual address, pod 1's port 2000 back.
fn translate(cache: &mut FlowCache, family: u8, protocol: Protocol, client: u16) -> [Key; 2] {
    let seen = seen(client).address(family);
    let [client, server] = [(0, client), (1, 2000)].map(|(at, port)| (ip(at, family), port).into());
    let there = Key::new(port(0), protocol, client, VIRTUAL.address(family)).unwrap();
    let back = Key::new(port(1), protocol, server, seen).unwrap();
    let ways = [(seen, server), (VIRTUAL.address(family), client)];
    let mut at = 0;
    let [way_there, way_back] = ways.map(|(source, destination)| {
        let translation = Some(Translation { source, destination });
        let verdict = Verdict::Forward(Forward { translation, ..way(at) });
        at += 1;
        verdict
    });
    cache.insert_pair([(&there, &way_there), (&back, &way_back)]).unwrap();
    [there, back]
}

/// An entry for what pod 0 sends to the virtual address, out of a link where it can be looked at.
fn out(cache: &mut FlowCache, family: u8, protocol: Protocol, hop: Hop) -> Key {
    let client = SocketAddr::new(ip(0, family), 1000);
    let flow = Key::new(port(0), protocol, client, VIRTUAL.address(family)).unwrap();
    let (source, destination) = (SEEN.address(family), SocketAddr::new(ip(1, family), 2000));
    let translation = Some(Translation { source, destination });
    let egress = Egress::Link(index("punt0"));
    let verdict = Verdict::Forward(Forward { translation, egress, hop, ..way(0) });
    cache.insert(&flow, &verdict).unwrap();
    flow
}

/// A bed whose pods know where to send what is for nobody's address.
fn with_gateway(test: impl Fn(Bed)) {
    with_and_without_features(|bed| {
        for (at, end) in [(0, VIRTUAL), (1, SEEN)] {
            for family in [4, 6] {
                let neighbour = Neighbour::permanent("eth0", ip(end.at, family), GATEWAY_MAC);
                bed.pods[at].netlink().unwrap().add_neighbour(&neighbour).unwrap();
            }
        }
        test(bed);
    });
}

/// Has pods complete checksums, and send no super-packets.
fn complete_checksums(bed: &Bed) {
    for pod in &bed.pods {
        pod.ethtool("eth0").unwrap().disable(&["tx"]).unwrap();
    }
}

/// Has two packets of each family be translated and looked at on the wire.
fn send_completed(bed: &Bed, cache: &mut FlowCache, punt_end: &mut PuntEnd) {
    for family in [4, 6] {
        out(cache, family, Protocol::Udp, Hop::Routed);
        let client = bed.udp(0, family, 1000);
        client.send_to(&[0, 0, 1, 2, 3], VIRTUAL.address(family)).unwrap();
        let frame = punt_end.await_frame(|frame| is_udp_out(frame, family));
        assert_translated(&frame, family);
        let [high, low] = frame.word(udp(family) + 6).to_be_bytes();
        client.send_to(&[high, low, 1, 2, 3], VIRTUAL.address(family)).unwrap();
        let frame = punt_end.await_frame(|frame| is_udp_out(frame, family));
        assert_eq!(frame.word(udp(family) + 6), 0xffff);
        assert_translated(&frame, family);
    }
}

fn is_udp_out(frame: &Arrival, family: u8) -> bool {
    let (ethertype, protocol) = if family == 4 { (0x0800, 23) } else { (0x86dd, 20) };
    frame.word(12) == ethertype && frame.bytes[protocol] == 17
}

fn udp(family: u8) -> usize {
    if family == 4 { 34 } else { 54 }
}

fn assert_translated(frame: &Arrival, family: u8) {
    let header = udp(family);
    let addresses = addresses_out(family);
    assert_eq!(frame.bytes[header - addresses.len()..header], addresses[..]);
    assert_eq!((frame.word(header), frame.word(header + 2)), (SEEN.port, 2000));
    assert_eq!(frame.bytes[..12], [mac(1), GATEWAY_MAC].concat()[..]);
    if family == 4 {
        assert_eq!(sum_of_header(frame), 0xffff, "the header's checksum");
    }
    let length = u32::from(frame.word(header + 4));
    let pseudo = u32::from(sum(&addresses, 17 + length));
    let packet = &frame.bytes[header..header + length as usize];
    assert_eq!(sum(packet, pseudo), 0xffff, "UDP's checksum");
}

/// Source and destination, as they have to stand in the header.
fn addresses_out(family: u8) -> Vec<u8> {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [octets(ip(SEEN.at, family)), octets(ip(1, family))].concat()
}

fn sum_of_header(frame: &Arrival) -> u16 {
    sum(&frame.bytes[14..34], 0)
}

/// The sum of RFC 1071, not inverted.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        odd => u32::from(odd[0]) << 8,
    });
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

const VIRTUAL: End = End { at: 99, port: 80 };
const SEEN: End = End { at: 87, port: 5000 };
