//! Entries that become others while their flow goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_fastpath::{
    Change, Counter, Forward, Generation, Key, Protocol, Refuser, Translation, Verdict,
};

use crate::bed::{Ends, GATEWAY_MAC, ip, key, mac, port, way, with_and_without_features};
use crate::edges::Arrival;

#[test]
fn an_entry_changes_and_what_was_seen_of_it_stays() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for family in [4, 6] {
                let flow = key(0, family, Protocol::Udp, 1000, 2000);
                let [client, server] = [(0, 1000), (1, 2000)].map(|(at, n)| bed.udp(at, family, n));
                let other = bed.udp(1, family, 2001);
                let to = server.local_addr().unwrap();
                let dropped = cache.count(Counter::DropEntry).unwrap();
                let generation = cache.insert(&flow, &Verdict::Forward(way(0))).unwrap();
                client.send_to(b"hello", to).unwrap();
                assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);

                let translation = Some(Translation {
                    source: SocketAddr::new(ip(87, family), 5000),
                    destination: other.local_addr().unwrap(),
                });
                let verdict = Verdict::Forward(Forward { translation, ..way(0) });
                assert!(cache.change(&flow, generation, &verdict).unwrap());
                client.send_to(b"hello", to).unwrap();
                let (_, from) = other.recv_from(&mut [0; 9]).unwrap();
                assert_eq!(from, SocketAddr::new(ip(87, family), 5000));

                assert!(cache.change(&flow, generation, &Verdict::Punt { queue: 1 }).unwrap());
                client.send_to(b"hello", to).unwrap();
                assert_eq!(punt_end.await_frame(is_udp).queue, 1);

                assert!(cache.change(&flow, generation, &Verdict::Drop(Refuser::UNNAMED)).unwrap());
                client.send_to(b"hello", to).unwrap();
                assert_eq!(cache.count(Counter::DropEntry).unwrap(), dropped + 1);

                assert!(cache.change(&flow, generation, &Verdict::Forward(way(0))).unwrap());
                client.send_to(b"hello", to).unwrap();
                assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
                let usage = cache.usage(&flow).unwrap().unwrap();
                // all but the one that was punted
                let headers = if family == 4 { 42 } else { 62 };
                assert_eq!((usage.packets, usage.bytes), (4, 4 * (headers + 5)));
                assert_eq!(usage.generation, generation);
            }
        });
    });
}

#[test]
fn only_the_insertion_that_is_named_is_changed() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            for family in [4, 6] {
                let flow = key(0, family, Protocol::Udp, 1000, 2000);
                let first = cache.insert(&flow, &Verdict::Drop(Refuser::UNNAMED)).unwrap();
                cache.remove(&[flow]).unwrap();
                let change = |cache: &mut millrace_fastpath::FlowCache, named: Generation| {
                    cache.change(&flow, named, &Verdict::Forward(way(0))).unwrap()
                };
                assert!(!change(&mut cache, first));
                let second = cache.insert(&flow, &Verdict::Drop(Refuser::UNNAMED)).unwrap();
                assert!(!change(&mut cache, first));
                let dropped = cache.count(Counter::DropEntry).unwrap();
                let to = SocketAddr::new(ip(1, family), 2000);
                bed.udp(0, family, 1000).send_to(b"hello", to).unwrap();
                assert_eq!(cache.count(Counter::DropEntry).unwrap(), dropped + 1);
                assert!(change(&mut cache, second));
            }
        });
    });
}

#[test]
fn many_entries_change_together_and_each_that_is_not_there_is_named() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            // more of each family than go into one run, one family in the other
            let flows: Vec<_> = (0..50u16)
                .map(|n| key(0, if n % 3 == 0 { 6 } else { 4 }, Protocol::Udp, 1000 + n, 2000))
                .collect();
            let changes: Vec<_> = flows
                .iter()
                .map(|&key| Change {
                    key,
                    generation: cache.insert(&key, &Verdict::Forward(way(0))).unwrap(),
                    verdict: Verdict::Drop(Refuser::UNNAMED),
                })
                .collect();
            cache.remove(&[flows[7], flows[30]]).unwrap();
            let was_there = cache.change_all(&changes).unwrap();
            for (at, was_there) in was_there.into_iter().enumerate() {
                assert_eq!(was_there, ![7, 30].contains(&at), "{at}");
            }
            for (n, family) in [(0, 6), (1, 4), (48, 6), (49, 4)] {
                let dropped = cache.count(Counter::DropEntry).unwrap();
                let to = SocketAddr::new(ip(1, family), 2000);
                bed.udp(0, family, 1000 + n).send_to(b"hello", to).unwrap();
                assert_eq!(cache.count(Counter::DropEntry).unwrap(), dropped + 1, "{n}");
            }
            assert!(cache.change_all(&[]).unwrap().is_empty());
        });
    });
}

/// Each way has a source port of its own, and a destination port: a packet that went half by one
/// and half by the other would show both. One that went to user space instead would be overtaken by
/// those behind it.
#[test]
fn each_packet_of_a_train_takes_the_old_entry_or_the_new_one_and_none_is_overtaken() {
    const PACKETS: u16 = 5000;
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            for (family, others) in [(4, 0), (6, 0), (4, 20), (6, 20)] {
                // others that are written in the same run, before and after
                let flows = Vec::from_iter(
                    (0..=others).map(|n| key(0, family, Protocol::Udp, 990 + n, 2000)),
                );
                let flow = flows[usize::from(others / 2)];
                let source_port = 990 + others / 2;
                let ways = [0, 1].map(|way_number: u16| {
                    let source = SocketAddr::new(ip(87, family), 5000 + way_number);
                    let destination = SocketAddr::new(ip(1, family), 2000 + way_number);
                    let translation = Some(Translation { source, destination });
                    Verdict::Forward(Forward { translation, ..way(0) })
                });
                let client = bed.udp(0, family, source_port);
                let servers = [2000, 2001].map(|number| bed.udp(1, family, number));
                let inserted = Vec::from_iter(
                    flows.iter().map(|flow| (*flow, cache.insert(flow, &ways[0]).unwrap())),
                );
                let before =
                    [Counter::Hit, Counter::MissChanged].map(|it| cache.count(it).unwrap());
                let done = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    let ends = Ends(&done);
                    scope.spawn(|| {
                        for way in ways.iter().cycle() {
                            let change = |&(key, generation): &(Key, Generation)| Change {
                                key,
                                generation,
                                verdict: *way,
                            };
                            let changes = Vec::from_iter(inserted.iter().map(change));
                            let there = cache.change_all(&changes).unwrap();
                            assert!(there.iter().all(|it| *it));
                            if done.load(Ordering::Acquire) {
                                break;
                            }
                        }
                    });
                    for number in 0..PACKETS {
                        client.send_to(&number.to_be_bytes(), (ip(1, family), 2000)).unwrap();
                    }
                    drop(ends);
                });
                let after = [Counter::Hit, Counter::MissChanged].map(|it| cache.count(it).unwrap());
                assert_eq!([0, 1].map(|at| after[at] - before[at]), [u64::from(PACKETS), 0]);
                for (way_number, server) in servers.iter().enumerate() {
                    server.set_nonblocking(true).unwrap();
                    let mut bytes = [0; 2];
                    let mut last = None;
                    while let Ok((_, from)) = server.recv_from(&mut bytes) {
                        assert_eq!(usize::from(from.port()), 5000 + way_number);
                        let number = u16::from_be_bytes(bytes);
                        assert!(last.is_none_or(|last| last < number), "{last:?}, then {number}");
                        last = Some(number);
                    }
                }
                assert_eq!(cache.usage(&flow).unwrap().unwrap().packets, u64::from(PACKETS));
                cache.remove(&flows).unwrap();
            }
        });
    });
}

#[test]
fn a_flow_that_user_space_releases_goes_over_in_order() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let flow = key(0, 4, Protocol::Udp, 1000, 2000);
            let [client, server] = [(0, 1000), (1, 2000)].map(|(at, n)| bed.udp(at, 4, n));
            let wire = bed.wire();
            let say = |number: u8| {
                client.send_to(&[number], server.local_addr().unwrap()).unwrap();
            };
            let generation = cache.insert(&flow, &Verdict::Forward(way(0))).unwrap();
            say(0);
            assert!(cache.change(&flow, generation, &Verdict::Punt { queue: 0 }).unwrap());
            say(1);
            say(2);
            let mut frames = vec![punt_end.await_frame(is_udp), punt_end.await_frame(is_udp)];
            let slot = cache.acks().take().unwrap();
            assert!(cache.change_waiting(&flow, generation, way(0), &slot).unwrap());
            say(3);
            frames.push(punt_end.await_frame(is_udp));
            for frame in frames {
                assert!(!slot.is_over());
                wire.send(&frame.to(port(1), mac(1), GATEWAY_MAC));
                slot.add(1);
            }
            say(4);
            assert!(slot.is_over());
            for number in 0..5 {
                let mut bytes = [0; 9];
                assert_eq!(server.recv(&mut bytes).unwrap(), 1);
                assert_eq!(bytes[0], number);
            }

            // released at once, it is forgotten what was punted
            assert!(cache.change(&flow, generation, &Verdict::Punt { queue: 0 }).unwrap());
            say(5);
            punt_end.await_frame(is_udp);
            assert!(cache.change(&flow, generation, &Verdict::Forward(way(0))).unwrap());
            assert!(cache.change(&flow, generation, &Verdict::Punt { queue: 0 }).unwrap());
            say(6);
            punt_end.await_frame(is_udp);
            let slot = cache.acks().take().unwrap();
            slot.add(1);
            assert!(cache.change_waiting(&flow, generation, way(0), &slot).unwrap());
            say(7);
            assert!(slot.is_over());
            assert_eq!(cache.count(Counter::Forced).unwrap(), 0);
        });
    });
}

#[test]
fn an_entry_that_is_retired_says_what_it_has_seen_and_its_flow_begins_anew() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for family in [4, 6] {
                let flow = key(0, family, Protocol::Udp, 1000, 2000);
                let client = bed.udp(0, family, 1000);
                let to = SocketAddr::new(ip(1, family), 2000);
                assert_eq!(cache.retire(&flow).unwrap(), None);
                // one that goes over, one that waits to the end, and one that never was to
                for ending in
                    [Ending::Over, Ending::Over, Ending::Waits, Ending::Punts, Ending::Over]
                {
                    let slot = cache.acks().take().unwrap();
                    client.send_to(b"hello", to).unwrap();
                    punt_end.await_frame(is_udp);
                    let generation = match ending {
                        Ending::Punts => cache.insert(&flow, &Verdict::Punt { queue: 0 }),
                        _ => cache.insert_waiting(&flow, way(0), &slot),
                    };
                    if ending == Ending::Over {
                        slot.add(1);
                    }
                    client.send_to(b"hello", to).unwrap();
                    assert_eq!(slot.is_over(), ending == Ending::Over);
                    let usage = cache.retire(&flow).unwrap().unwrap();
                    assert_eq!(usage.packets, u64::from(ending == Ending::Over));
                    assert_eq!(usage.generation, generation.unwrap());
                    assert_eq!(cache.usage(&flow).unwrap(), None);
                    if ending != Ending::Over {
                        punt_end.await_frame(is_udp);
                    }
                }
            }
        });
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Over,
    Waits,
    Punts,
}

fn is_udp(frame: &Arrival) -> bool {
    frame.transport() == Some(17)
}
