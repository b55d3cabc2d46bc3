//! Packets that entries carry, copied for who looks on.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_fastpath::{CaptureFilter, CaptureRing, Counter, FlowCache, Protocol, Tap};

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

fn begun(ring: &mut CaptureRing, filter: &CaptureFilter) -> Tap {
    ring.begin(filter).unwrap().expect("there is room for one")
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

                let tap = begun(&mut ring, &ALL);
                say(&bed, family, [1000, 2000], b"hello");
                let packet = ring.take(&tap).unwrap();
                assert_eq!(ring.take(&tap), None);
                assert_eq!(packet.key, flow);
                assert_eq!((packet.from, packet.generation), (port(0), generation));
                assert_eq!(packet.frame.len(), packet.length as usize);
                assert!(packet.frame.ends_with(b"hello"));
                assert_eq!(packet.frame[6..12], mac(0), "nothing is rewritten yet");
                assert!(packet.time + Duration::from_secs(60) >= FlowCache::now());

                ring.end(&tap).unwrap();
                say(&bed, family, [1000, 2000], b"after");
                assert_eq!(ring.take(&tap), None);
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
                let tap = begun(&mut ring, &filter);
                for (family, wanted) in [4, 6].into_iter().zip(wanted) {
                    say(&bed, family, [1000, 2000], b"hello");
                    assert_eq!(ring.take(&tap).is_some(), wanted, "{filter:?} {family}");
                }
                ring.end(&tap).unwrap();
            }
            for (snap, most) in [(20, 20), (500, 500), (9000, 842)] {
                let tap = begun(&mut ring, &CaptureFilter { snap, ..ALL });
                say(&bed, 4, [1000, 2000], &[7; 800]);
                let packet = ring.take(&tap).unwrap();
                assert_eq!((packet.frame.len(), packet.length), (most, 842));
                ring.end(&tap).unwrap();
            }
        });
    });
}

#[test]
fn each_who_looks_on_gets_its_own_packets_and_no_more_can_than_there_is_room_for() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let mut ring = ring(&mut cache);
            for number in [2000, 2001] {
                join(&mut cache, 4, Protocol::Udp, [1000, number]);
            }
            let of = |port, snap| CaptureFilter { port: Some(port), snap, ..ALL };
            let one = begun(&mut ring, &of(2000, 60));
            let other = begun(&mut ring, &of(2001, 500));
            let all = begun(&mut ring, &ALL);
            let says = |number| say(&bed, 4, [1000, number], &[7; 800]);
            let mut taken = |tap: &Tap| {
                let packets = std::iter::from_fn(|| ring.take(tap));
                let seen = |packet: millrace_fastpath::CarriedPacket| {
                    (packet.key.destination().port(), packet.frame.len())
                };
                Vec::from_iter(packets.map(seen))
            };
            [2000, 2001, 2000].into_iter().for_each(says);
            assert_eq!(taken(&one), [(2000, 60), (2000, 60)]);
            assert_eq!(taken(&all), [(2000, 842), (2001, 842), (2000, 842)]);
            assert_eq!(taken(&other), [(2001, 500)], "others have taken before");

            // one ends before the others, and another one has its place
            ring.end(&one).unwrap();
            says(2001);
            let mut rest = Vec::from_iter((3..=CaptureRing::MOST).map(|_| begun(&mut ring, &ALL)));
            assert!(ring.begin(&ALL).unwrap().is_none());
            says(2000);
            assert_eq!(ring.take(&other).unwrap().frame.len(), 500);
            assert_eq!(ring.take(&other), None);
            let last = rest.pop().unwrap();
            assert_eq!(ring.take(&last).unwrap().key.destination().port(), 2000);
            assert_eq!(ring.take(&last), None, "it began after the one before");
            rest.extend([other, all, last]);
            assert!(rest.iter().all(|tap| ring.lost(tap).unwrap() == 0));
        });
    });
}

#[test]
fn who_takes_nothing_holds_up_nobody_and_what_it_has_missed_is_counted() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            const PACKETS: u64 = 2500;
            let mut ring = ring(&mut cache);
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            let [slow, quick] = [(); 2].map(|()| begun(&mut ring, &ALL));
            for _ in 0..PACKETS {
                say(&bed, 4, [1000, 2000], b"hello");
                assert!(ring.take(&quick).is_some());
            }
            assert_eq!(ring.lost(&quick).unwrap(), 0);
            let late = std::iter::from_fn(|| ring.take(&slow)).count() as u64;
            assert!(late > 100, "{late}");
            assert_eq!(late + ring.lost(&slow).unwrap(), PACKETS);
            assert!(late < PACKETS, "there is no end to what waits");
        });
    });
}

#[test]
fn copies_that_find_no_room_are_counted_and_their_packets_pass() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let mut ring = ring(&mut cache);
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            let tap = begun(&mut ring, &ALL);
            for _ in 0..1500 {
                say(&bed, 4, [1000, 2000], b"hello");
            }
            let mut copied = 0;
            while ring.take(&tap).is_some() {
                copied += 1;
            }
            assert!(copied > 100, "{copied}");
            assert_eq!(ring.lost(&tap).unwrap() + copied, 1500);
            ring.end(&tap).unwrap();
            let tap = begun(&mut ring, &ALL);
            assert_eq!(ring.lost(&tap).unwrap(), 0);
        });
    });
}
