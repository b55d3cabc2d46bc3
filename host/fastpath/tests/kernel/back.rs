//! Frames that user space sends: under a port's number, from the far end of the punt pair.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use millrace_fastpath::{AttachError, Counter, Egress, Forward, Key, Protocol, Verdict};
use millrace_netns::{Neighbour, VethSpec};

use crate::bed::{GATEWAY_MAC, PODS, attach, index, ip, mac, port, way, with_and_without_features};
use crate::edges::Arrival;

#[test]
fn f8_what_user_space_sends_to_a_port_reaches_its_pod() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let wire = bed.wire();
            for plainly in [false, true] {
                if plainly {
                    let link = index(PODS[1]);
                    assert!(cache.detach(link).unwrap());
                    cache.attach(link, port(1), Egress::Link(link)).unwrap();
                }
                for family in [4, 6] {
                    let before = cache.count(Counter::Returned).unwrap();
                    let (client, server) = (bed.udp(0, family, 1000), bed.udp(1, family, 2000));
                    client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
                    let frame = punt_end.await_frame(|frame| is_udp(frame, port(0).number()));
                    wire.send(&frame.to(port(1), mac(1), GATEWAY_MAC));

                    let mut bytes = [0; 9];
                    let (length, from) = server.recv_from(&mut bytes).unwrap();
                    assert_eq!(&bytes[..length], b"hello");
                    assert_eq!(from, SocketAddr::new(ip(0, family), 1000));
                    assert_eq!(cache.count(Counter::Returned).unwrap(), before + 1);
                }
            }
        });
    });
}

#[test]
fn what_user_space_sends_elsewhere_is_dropped_and_never_punted_again() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let wire = bed.wire();
            let client = bed.udp(0, 4, 1000);
            client.send_to(b"hello", SocketAddr::new(ip(1, 4), 2000)).unwrap();
            let frame = punt_end.await_frame(|frame| is_udp(frame, port(0).number()));
            let punted = cache.count(Counter::MissUnknown).unwrap();

            let plain = [&frame.bytes[..12], &frame.bytes[16..]].concat();
            wire.send(&plain);
            assert_eq!(cache.count(Counter::DropUntagged).unwrap(), 1);
            let mut provider = frame.to(port(1), mac(1), GATEWAY_MAC);
            provider[12..14].copy_from_slice(&[0x88, 0xa8]);
            wire.send(&provider);
            assert_eq!(cache.count(Counter::DropUntagged).unwrap(), 2);

            wire.send(&frame.to(port(2), mac(1), GATEWAY_MAC));
            let mut reserved = frame.to(port(1), mac(1), GATEWAY_MAC);
            for number in [[0, 0], [0x0f, 0xff]] {
                reserved[14..16].copy_from_slice(&number);
                wire.send(&reserved);
            }
            assert!(cache.detach(index(PODS[1])).unwrap());
            wire.send(&frame.to(port(1), mac(1), GATEWAY_MAC));
            assert_eq!(cache.count(Counter::DropGone).unwrap(), 4);

            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), punted);
            assert_eq!(cache.count(Counter::Returned).unwrap(), 0);

            // the number of a port that comes back is its own again
            attach(&mut cache, 1);
            let server = bed.udp(1, 4, 2000);
            wire.send(&frame.to(port(1), mac(1), GATEWAY_MAC));
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
        });
    });
}

#[test]
fn the_host_receives_by_its_own_veth_from_user_space_and_from_the_cache() {
    with_and_without_features(|bed| {
        let net = bed.host.netlink().unwrap();
        let host_mac = [2, 0, 0, 0, 2, 0];
        net.add_veth(&VethSpec::new("host0", "host1").mac(host_mac)).unwrap();
        for link in ["host0", "host1"] {
            net.set_up(link).unwrap();
        }
        net.add_address("host0", "10.8.0.254/24".parse().unwrap()).unwrap();
        net.add_neighbour(&Neighbour::permanent("host0", ip(0, 4), GATEWAY_MAC)).unwrap();
        let gateway = Neighbour::permanent("eth0", "10.8.0.254".parse().unwrap(), GATEWAY_MAC);
        bed.pods[0].netlink().unwrap().add_neighbour(&gateway).unwrap();
        let host = bed.host.run(|| UdpSocket::bind("10.8.0.254:9")).unwrap().unwrap();
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

        bed.run(|mut cache, mut punt_end| {
            let wire = bed.wire();
            let to_host = Egress::Host(index("host0"));
            cache.attach(index("host1"), port(2), to_host).unwrap();
            let (client, mut bytes) = (bed.udp(0, 4, 1000), [0; 9]);

            client.send_to(b"punted", "10.8.0.254:9").unwrap();
            let frame = punt_end.await_frame(|frame| is_udp(frame, port(0).number()));
            wire.send(&frame.to(port(2), host_mac, GATEWAY_MAC));
            let (length, from) = host.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from.ip()), (&b"punted"[..], ip(0, 4)));

            // what the host answers comes in by its port
            host.send_to(b"answer", from).unwrap();
            let frame = punt_end.await_frame(|frame| is_udp(frame, port(2).number()));
            wire.send(&frame.to(port(0), mac(0), GATEWAY_MAC));
            assert_eq!(client.recv(&mut bytes).unwrap(), 6);

            let cached = Forward { egress: to_host, destination_mac: host_mac, ..way(0) };
            let source = SocketAddr::new(ip(0, 4), 1000);
            let flow = Key::new(port(0), Protocol::Udp, source, "10.8.0.254:9".parse().unwrap());
            cache.insert(&flow.unwrap(), &Verdict::Forward(cached)).unwrap();
            client.send_to(b"cached", "10.8.0.254:9").unwrap();
            assert_eq!(host.recv(&mut bytes).unwrap(), 6);
            assert_eq!(&bytes[..6], b"cached");
            assert_eq!(cache.count(Counter::Hit).unwrap(), 1);
        });
    });
}

#[test]
fn a_broadcast_of_user_space_is_received() {
    with_and_without_features(|bed| {
        bed.run(|cache, mut punt_end| {
            let wire = bed.wire();
            let client = bed.udp(0, 4, 1000);
            client.set_broadcast(true).unwrap();
            let all = bed.pods[1].run(|| UdpSocket::bind("0.0.0.0:2000")).unwrap().unwrap();
            all.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.send_to(b"all", "10.8.0.255:2000").unwrap();
            let frame = punt_end.await_frame(|frame| is_udp(frame, port(0).number()));
            wire.send(&frame.to(port(1), [0xff; 6], mac(0)));
            assert_eq!(all.recv(&mut [0; 9]).unwrap(), 3);
            assert_eq!(cache.count(Counter::Returned).unwrap(), 1);
        });
    });
}

#[test]
fn no_port_can_lead_back_to_the_punt_pair() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let (pod, punt) = (index(PODS[0]), index("punt0"));
            let outcome = cache.attach(punt, port(2), Egress::Link(punt));
            assert!(matches!(outcome, Err(AttachError::IsPunt(link)) if link == punt));
            assert!(matches!(cache.punt_to(pod, 2), Err(AttachError::IsPort(link)) if link == pod));

            assert!(cache.detach(pod).unwrap());
            for receiver in [pod, index(PODS[1])] {
                let outcome = cache.attach(pod, port(2), Egress::Host(receiver));
                assert!(matches!(outcome, Err(AttachError::Loop(_))), "{outcome:?}");
            }
            let outcome = cache.attach(pod, port(1), Egress::Peer(pod));
            assert!(matches!(outcome, Err(AttachError::InUse(taken)) if taken == port(1)));
            attach(&mut cache, 0);
        });
    });
}

/// A UDP packet that was punted from this port.
fn is_udp(frame: &Arrival, port: u16) -> bool {
    frame.vlan() == Some(port) && frame.transport() == Some(17)
}
