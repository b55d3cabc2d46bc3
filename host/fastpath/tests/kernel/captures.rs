//! Packets that entries carry, copied for who looks on.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_fastpath::{CaptureFilter, CaptureRing, Counter, FlowCache, Protocol};

use crate::bed::{Bed, ip, join, key, mac, port, with_and_without_features};

const ALL: CaptureFilter = CaptureFilter { snap: 9000, protocol: None, port: None, prefix: None };

/// Pod 0 says something to pod 1, by the cache.
fn say(bed: &Bed, family: u8, ports: [u16; 2], words: &[u8]) {
    let server = bed.udp(1, family, ports[1]);
    let client = bed.udp(0, family, ports[0]);
    client.send_to(words, SocketAddr::new(ip(1, family), ports[1])).unwrap();
    assert_eq!(server.recv(&mut [0; 9000]).unwrap(), words.len());
}

fn ring(cache: &mut FlowCache) -> CaptureRing {
    let ring = cache.take_capture_ring().unwrap();
    assert!(cache.take_capture_ring().is_none(), "there is one");
    ring
}

#[test]
fn a_carried_packet_is_copied_as_it_came_in_while_somebody_looks_on() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let mut ring = ring(&mut cache);
            for family in [4, 6] {
                join(&mut cache, family, Protocol::Udp, [1000, 2000]);
                let flow = key(0, family, Protocol::Udp, 1000, 2000);
                let generation = cache.usage(&flow).unwrap().unwrap().generation;
                say(&bed, family, [1000, 2000], b"before");
                assert_eq!(ring.take(), None);

                ring.begin(&ALL).unwrap();
                say(&bed, family, [1000, 2000], b"hello");
                let packet = ring.take().unwrap();
                assert_eq!(ring.take(), None);
                assert_eq!(packet.key, flow);
                assert_eq!((packet.from, packet.generation), (port(0), generation));
                assert_eq!(packet.frame.len(), packet.length as usize);
                assert!(packet.frame.ends_with(b"hello"));
                assert_eq!(packet.frame[6..12], mac(0), "nothing is rewritten yet");
                assert!(packet.time + Duration::from_secs(60) >= FlowCache::now());

                ring.end().unwrap();
                say(&bed, family, [1000, 2000], b"after");
                assert_eq!(ring.take(), None);
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 6);
        });
    });
}

#[test]
fn what_is_not_wanted_is_not_copied_and_nothing_more_of_a_packet_than_that() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let mut ring = ring(&mut cache);
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            join(&mut cache, 6, Protocol::Udp, [1000, 2000]);
            let prefix = |text: &str, bits: u32| {
                let address: std::net::Ipv6Addr = text.parse().unwrap();
                let mask = u128::MAX << (128 - bits);
                Some(((u128::from(address) & mask).to_be_bytes(), mask.to_be_bytes()))
            };
            let to = |family| match ip(1, family) {
                std::net::IpAddr::V4(v4) => format!("::ffff:{v4}"),
                std::net::IpAddr::V6(v6) => v6.to_string(),
            };
            for (filter, wanted) in [
                (CaptureFilter { protocol: Some(6), ..ALL }, [false, false]),
                (CaptureFilter { protocol: Some(17), ..ALL }, [true, true]),
                (CaptureFilter { port: Some(2000), ..ALL }, [true, true]),
                (CaptureFilter { port: Some(2001), ..ALL }, [false, false]),
                (CaptureFilter { prefix: prefix(&to(4), 128), ..ALL }, [true, false]),
                (CaptureFilter { prefix: prefix(&to(6), 128), ..ALL }, [false, true]),
                (CaptureFilter { prefix: prefix("::ffff:0.0.0.0", 96), ..ALL }, [true, false]),
                (CaptureFilter { prefix: prefix("3fff::", 16), ..ALL }, [false, false]),
            ] {
                ring.begin(&filter).unwrap();
                for (family, wanted) in [4, 6].into_iter().zip(wanted) {
                    say(&bed, family, [1000, 2000], b"hello");
                    assert_eq!(ring.take().is_some(), wanted, "{filter:?} {family}");
                }
            }
            for (snap, most) in [(20, 20), (500, 500), (9000, 842)] {
                ring.begin(&CaptureFilter { snap, ..ALL }).unwrap();
                say(&bed, 4, [1000, 2000], &[7; 800]);
                let packet = ring.take().unwrap();
                assert_eq!((packet.frame.len(), packet.length), (most, 842));
            }
        });
    });
}

#[test]
fn copies_that_find_no_room_are_counted_and_their_packets_pass() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let mut ring = ring(&mut cache);
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            ring.begin(&ALL).unwrap();
            for _ in 0..1500 {
                say(&bed, 4, [1000, 2000], b"hello");
            }
            let mut copied = 0;
            while ring.take().is_some() {
                copied += 1;
            }
            assert!(copied > 100, "{copied}");
            assert_eq!(ring.lost().unwrap() + copied, 1500);
            ring.begin(&ALL).unwrap();
            assert_eq!(ring.lost().unwrap(), 0);
        });
    });
}
