//! Flows with entries: they never leave the kernel.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use millrace_fastpath::{
    Closing, Counter, Cursor, Egress, Event, Features, FlowCache, Forward, Hop, InsertError, Key,
    Protocol, Refuser, Verdict,
};

use crate::bed::{
    Bed, GATEWAY_MAC, counts, index, ip, join, key, mac, stream, way, with_and_without_features,
};

#[test]
fn udp_passes_both_ways_in_both_families_by_the_cache_alone() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            for family in [4, 6] {
                join(&mut cache, family, Protocol::Udp, [1000, 2000]);
                echo(&bed, family, 1000, 2000);
                for (at, ports) in [(0, [1000, 2000]), (1, [2000, 1000])] {
                    let key = key(at, family, Protocol::Udp, ports[0], ports[1]);
                    let usage = cache.usage(&key).unwrap().unwrap();
                    let headers = if family == 4 { 42 } else { 62 };
                    assert_eq!((usage.packets, usage.bytes), (1, headers + 5), "{family} {at}");
                    assert!(usage.last_seen <= FlowCache::now());
                    assert_eq!(usage.closing, None);
                }
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 4);
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 0);
        });
    });
}

#[test]
fn a_tcp_stream_passes_as_super_packets_from_syn_to_fin() {
    const LENGTH: usize = 4 << 20;
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            for family in [4, 6] {
                join(&mut cache, family, Protocol::Tcp, [1000, 2000]);
                let before = cache.count(Counter::Hit).unwrap();
                let (client, server) = bed.tcp(family, 1000, 2000);
                stream(&client, &server, LENGTH);
                stream(&server, &client, LENGTH);

                let sent = |at: usize| {
                    let ports = [[1000, 2000], [2000, 1000]][at];
                    let key = key(at, family, Protocol::Tcp, ports[0], ports[1]);
                    cache.usage(&key).unwrap().unwrap()
                };
                let segments = sent(0).packets + sent(1).packets;
                let buffers = cache.count(Counter::Hit).unwrap() - before;
                assert!(segments as usize >= 2 * LENGTH / 1460, "{segments} segments");
                assert!(buffers < segments / 2, "{buffers} buffers, {segments} segments");
                assert_eq!(sent(0).closing, None);

                drop(client);
                let event = await_event(&mut cache);
                assert_eq!(event.key, key(0, family, Protocol::Tcp, 1000, 2000));
                assert_eq!(event.closing, Closing::Fin);
                let usage = cache.usage(&event.key).unwrap().unwrap();
                assert_eq!(usage.generation, event.generation);
                assert_eq!(usage.closing, Some(Closing::Fin));
                drop(server);
                assert_eq!(await_event(&mut cache).key.source().ip(), ip(1, family));
            }
            for counter in [Counter::MissUnknown, Counter::MissSyn, Counter::MissMtu] {
                assert_eq!(cache.count(counter).unwrap(), 0, "{:?}", counts(&cache));
            }
        });
    });
}

#[test]
fn a_hop_costs_one_of_the_ttl_and_new_addresses_are_written() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            // out of a link, so that the frame can be looked at as it leaves
            let egress = Egress::Link(index("punt0"));
            let routed = Verdict::Forward(Forward { hop: Hop::Routed, egress, ..way(0) });
            for (family, ethertype) in [(4, 0x0800), (6, 0x86dd)] {
                cache.insert(&key(0, family, Protocol::Udp, 1000, 2000), &routed).unwrap();
                let to = SocketAddr::new(ip(1, family), 2000);
                let client = bed.udp(0, family, 1000);
                client.send_to(b"hello", to).unwrap();
                let frame = punt_end.await_frame(|frame| frame.word(12) == ethertype);
                assert_eq!(frame.bytes[..6], mac(1));
                assert_eq!(frame.bytes[6..12], GATEWAY_MAC);
                if family == 6 {
                    assert_eq!(frame.bytes[14 + 7], 63);
                    continue;
                }
                assert_eq!(frame.bytes[14 + 8], 63);
                let sum: u32 = (14..34).step_by(2).map(|at| u32::from(frame.word(at))).sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the checksum is right");

                client.set_ttl(1).unwrap();
                client.send_to(b"hello", to).unwrap();
                assert_eq!(cache.count(Counter::MissTtl).unwrap(), 1);
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 2);
        });
    });
}

#[test]
fn entries_are_seen_in_slices_and_removed_in_batches() {
    let Some(bed) = Bed::new(Features::of_kernel()) else { return };
    bed.run(|mut cache, _punt_end| {
        let mut keys = Vec::new();
        for n in 0..500 {
            for family in [4, 6] {
                let key = key(0, family, Protocol::Udp, 1000 + n, 2000);
                cache.insert(&key, &Verdict::Drop(Refuser::UNNAMED)).unwrap();
                keys.push(key);
            }
        }
        assert!(matches!(
            cache.insert(&keys[0], &Verdict::Drop(Refuser::UNNAMED)),
            Err(InsertError::Exists)
        ));
        let [old, new] = [false, true].map(|over| {
            over.then(|| cache.insert_over(&keys[0], &Verdict::Drop(Refuser::UNNAMED)).unwrap());
            cache.usage(&keys[0]).unwrap().unwrap().generation
        });
        assert!(new > old, "the flow before is over");
        assert_eq!(walk(&cache).len(), 1000);

        // every second one, and one that is not there in between
        let mut some: Vec<_> = keys.iter().step_by(2).copied().collect();
        some.insert(100, key(1, 4, Protocol::Tcp, 1, 1));
        assert_eq!(cache.remove(&some).unwrap(), 500);
        assert_eq!(cache.remove(&some).unwrap(), 0);
        assert_eq!(cache.usage(&keys[0]).unwrap(), None);
        let mut left = walk(&cache);
        left.sort_by_key(|key| key.source().port());
        let expected: Vec<_> = keys.into_iter().skip(1).step_by(2).collect();
        assert_eq!(left, expected);
    });
}

#[test]
fn a_full_cache_says_so() {
    let Some(bed) = Bed::new(Features::of_kernel()) else { return };
    bed.run(|mut cache, _punt_end| {
        assert_eq!(cache.capacity().unwrap(), bed.settings.capacity);
        let room = u16::try_from(bed.settings.capacity.0).unwrap();
        for n in 0..room {
            cache
                .insert(&key(0, 4, Protocol::Udp, 1 + n, 1), &Verdict::Drop(Refuser::UNNAMED))
                .unwrap();
        }
        let one_more = key(0, 4, Protocol::Udp, 1 + room, 1);
        let outcome = cache.insert(&one_more, &Verdict::Drop(Refuser::UNNAMED));
        assert!(matches!(outcome, Err(InsertError::Full)), "{outcome:?}");
    });
}

fn walk(cache: &FlowCache) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let slice = cache.slice(cursor).unwrap();
        keys.extend(slice.entries.into_iter().map(|(key, _)| key));
        next = slice.next;
    }
    keys
}

/// Sends a packet from pod 0 to pod 1, and its answer.
fn echo(bed: &Bed, family: u8, client: u16, server: u16) {
    let (client, server) = (bed.udp(0, family, client), bed.udp(1, family, server));
    client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 9];
    let (length, from) = server.recv_from(&mut bytes).unwrap();
    assert_eq!((length, from.ip()), (5, ip(0, family)));
    server.send_to(&bytes[..length], from).unwrap();
    assert_eq!(client.recv(&mut bytes).unwrap(), 5);
}

fn await_event(cache: &mut FlowCache) -> Event {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(event) = cache.next_event() {
            return event;
        }
        assert!(Instant::now() < give_up, "no event came");
        std::thread::yield_now();
    }
}
