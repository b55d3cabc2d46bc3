//! Flows that go over from user space to the cache, with a worker that takes its time.

use std::collections::{HashMap, VecDeque};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millrace_fastpath::{Counter, FlowCache, InsertError, Protocol, Refuser, Slot, Verdict};

use crate::bed::{
    Bed, Ends, GATEWAY_MAC, key, mac, port, tcp_client, way, with_and_without_features,
};
use crate::edges::{Arrival, PuntEnd, Wire};

#[test]
fn no_packet_overtakes_those_that_are_in_user_space() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for family in [4, 6] {
                let flow = key(0, family, Protocol::Udp, 1000, 2000);
                let (client, server) = (bed.udp(0, family, 1000), bed.udp(1, family, 2000));
                let worker = Worker { wire: bed.wire() };
                let before =
                    [Counter::MissWaiting, Counter::Hit].map(|it| cache.count(it).unwrap());
                let said = |number: u8| {
                    client.send_to(&[number], server.local_addr().unwrap()).unwrap();
                };
                let heard = |number: u8| {
                    let mut bytes = [0; 9];
                    assert_eq!(server.recv(&mut bytes).unwrap(), 1);
                    assert_eq!(bytes[0], number);
                };

                said(0);
                let first = punt_end.await_frame(is_udp);
                let slot = cache.acks().take().unwrap();
                cache.insert_waiting(&flow, way(0), &slot).unwrap();
                said(1);
                let second = punt_end.await_frame(is_udp);
                worker.send(&first, &slot);
                said(2);
                let third = punt_end.await_frame(is_udp);
                worker.send(&second, &slot);
                worker.send(&third, &slot);
                assert!(!slot.is_over());
                said(3);
                assert!(slot.is_over());
                drop(slot);
                said(4);
                for number in 0..5 {
                    heard(number);
                }
                assert_eq!(cache.count(Counter::MissWaiting).unwrap(), before[0] + 2);
                assert_eq!(cache.count(Counter::Hit).unwrap(), before[1] + 2);
                assert_eq!(cache.usage(&flow).unwrap().unwrap().packets, 2);

                // a flow that was removed begins anew
                assert_eq!(cache.remove(&[flow]).unwrap(), 1);
                said(5);
                let anew = punt_end.await_frame(is_udp);
                let slot = cache.acks().take().unwrap();
                worker.send(&anew, &slot);
                cache.insert_waiting(&flow, way(0), &slot).unwrap();
                said(6);
                assert!(slot.is_over(), "what has left before the insertion counts");
                heard(5);
                heard(6);
            }
            assert_eq!(cache.count(Counter::Forced).unwrap(), 0);
        });
    });
}

/// F12: another worker may be quicker than the one that has the first packet.
#[test]
fn f12_all_that_is_punted_of_a_flow_goes_to_the_queue_of_its_first_packet() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for (family, source) in [(4, 1000), (6, 1001)] {
                let flow = key(0, family, Protocol::Udp, source, 2000);
                let (client, server) = (bed.udp(0, family, source), bed.udp(1, family, 2000));
                let worker = Worker { wire: bed.wire() };
                let mut punted = |cpu: usize| {
                    on_cpu(cpu, || client.send_to(&[0], server.local_addr().unwrap()).unwrap());
                    punt_end.await_frame(is_udp)
                };
                let first = punted(0);
                let second = punted(1);
                let slot = cache.acks().take().unwrap();
                cache.insert_waiting(&flow, way(0), &slot).unwrap();
                let third = punted(1);
                assert_eq!([second.queue, third.queue], [first.queue; 2]);
                for frame in [&first, &second, &third] {
                    worker.send(frame, &slot);
                }
                on_cpu(1, || client.send_to(&[0], server.local_addr().unwrap()).unwrap());
                assert!(slot.is_over());

                // the next time it is another one that comes first
                assert_eq!(cache.remove(&[flow]).unwrap(), 1);
                let anew = [punted(1), punted(0)].map(|frame| frame.queue);
                assert_eq!(anew[0], anew[1]);
            }
        });
    });
}

#[test]
fn an_entry_that_never_carried_is_forgotten_with_what_was_punted() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let flow = key(0, 4, Protocol::Udp, 1000, 2000);
            let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
            let to = server.local_addr().unwrap();
            for _ in 0..2 {
                let slot = cache.acks().take().unwrap();
                client.send_to(b"hello", to).unwrap();
                punt_end.await_frame(is_udp);
                cache.insert_waiting(&flow, way(0), &slot).unwrap();
                client.send_to(b"hello", to).unwrap();
                punt_end.await_frame(is_udp);
                assert_eq!(cache.remove(&[flow]).unwrap(), 1);
            }
            let slot = cache.acks().take().unwrap();
            client.send_to(b"hello", to).unwrap();
            punt_end.await_frame(is_udp);
            cache.insert_waiting(&flow, way(0), &slot).unwrap();
            slot.add(1);
            client.send_to(b"hello", to).unwrap();
            assert!(slot.is_over());
        });
    });
}

#[test]
fn a_flow_that_never_pauses_or_lost_a_packet_can_be_forced_over() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let flow = key(0, 4, Protocol::Udp, 1000, 2000);
            let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
            let to = server.local_addr().unwrap();
            let slot = cache.acks().take().unwrap();
            client.send_to(b"lost", to).unwrap();
            punt_end.await_frame(is_udp);
            cache.insert_waiting(&flow, way(0), &slot).unwrap();
            client.send_to(b"lost", to).unwrap();
            punt_end.await_frame(is_udp);
            slot.force();
            client.send_to(b"over", to).unwrap();
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 4);
            assert!(slot.is_over());
            assert_eq!(cache.count(Counter::Forced).unwrap(), 1);
            assert_eq!(cache.count(Counter::Hit).unwrap(), 1);
        });
    });
}

#[test]
fn a_slot_that_was_given_back_says_nothing_about_the_entry_it_was_of() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let flow = key(0, 4, Protocol::Udp, 1000, 2000);
            let client = bed.udp(0, 4, 1000);
            let to = (crate::bed::ip(1, 4), 2000);
            let slot = cache.acks().take().unwrap();
            client.send_to(b"hello", to).unwrap();
            punt_end.await_frame(is_udp);
            cache.insert_waiting(&flow, way(0), &slot).unwrap();
            let number = format!("{slot:?}").split(',').next().unwrap().to_owned();
            drop(slot);

            // the same slot, for another flow that has punted as many
            let again = cache.acks().take().unwrap();
            assert!(format!("{again:?}").starts_with(&number), "{again:?} is not {number}");
            again.add(1);
            let other = key(0, 4, Protocol::Udp, 1001, 2000);
            cache.insert_waiting(&other, way(0), &again).unwrap();
            client.send_to(b"hello", to).unwrap();
            punt_end.await_frame(is_udp);
            assert_eq!(cache.count(Counter::MissWaiting).unwrap(), 1);
            assert!(!again.is_over());
        });
    });
}

#[test]
fn a_tcp_connection_costs_one_punt() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for family in [4, 6] {
                let (there, back) = (
                    key(0, family, Protocol::Tcp, 1000, 2000),
                    key(1, family, Protocol::Tcp, 2000, 1000),
                );
                let before = cache.count(Counter::MissUnknown).unwrap();
                let worker = Worker { wire: bed.wire() };
                let listener = bed.listen(family, 2000);
                let address = listener.local_addr().unwrap();
                let (client, server) = std::thread::scope(|scope| {
                    let client = scope.spawn(|| tcp_client(&bed, 1000, address));
                    let syn = punt_end.await_frame(|frame| frame.transport() == Some(6));
                    let ways = [Verdict::Forward(way(0)), Verdict::Forward(way(1))];
                    cache.insert_pair([(&there, &ways[0]), (&back, &ways[1])]).unwrap();
                    worker.wire.send(&syn.to(port(1), mac(1), GATEWAY_MAC));
                    (client.join().unwrap(), listener.accept().unwrap().0)
                });
                crate::bed::stream(&client, &server, 100_000);
                crate::bed::stream(&server, &client, 100_000);
                assert_eq!(cache.count(Counter::MissUnknown).unwrap(), before + 1);
                assert_eq!(cache.count(Counter::MissSyn).unwrap(), 0);
            }
        });
    });
}

#[test]
fn a_tcp_connection_goes_over_in_the_middle() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let ports = [[1000, 2000], [2000, 1000]];
            let flows = [0, 1].map(|at| key(at, 4, Protocol::Tcp, ports[at][0], ports[at][1]));
            let wire = bed.wire();
            let slots = [0, 1].map(|_| cache.acks().take().unwrap());
            let listener = bed.listen(4, 2000);
            let address = listener.local_addr().unwrap();
            let (client, server) = std::thread::scope(|scope| {
                let client = scope.spawn(|| tcp_client(&bed, 1000, address));
                // the opening SYN, which does not count, the answer, and the answer to that
                for (from, counts) in [(0, 0), (1, 1), (0, 1)] {
                    let frame = punt_end.await_frame(|frame| frame.transport() == Some(6));
                    assert_eq!(frame.vlan(), Some(port(from).number()));
                    wire.send(&frame.to(port(1 - from), mac(1 - from), GATEWAY_MAC));
                    slots[from].add(counts);
                }
                (client.join().unwrap(), listener.accept().unwrap().0)
            });
            for at in 0..2 {
                cache.insert_waiting(&flows[at], way(at), &slots[at]).unwrap();
            }
            crate::bed::stream(&client, &server, 100_000);
            crate::bed::stream(&server, &client, 100_000);
            assert!(slots.iter().all(Slot::is_over));
            for counter in [Counter::MissWaiting, Counter::Forced] {
                assert_eq!(cache.count(counter).unwrap(), 0);
            }
        });
    });
}

#[test]
fn a_pair_takes_the_place_of_flows_that_are_over() {
    let Some(bed) = Bed::new(millrace_fastpath::Features::of_kernel()) else { return };
    bed.run(|mut cache, _punt_end| {
        for family in [4, 6] {
            let there = key(0, family, Protocol::Tcp, 1, 2);
            let back = key(1, family, Protocol::Tcp, 2, 1);
            let over = cache.insert(&back, &Verdict::Drop(Refuser::UNNAMED)).unwrap();
            let pair = [
                (&there, &Verdict::Drop(Refuser::UNNAMED)),
                (&back, &Verdict::Drop(Refuser::UNNAMED)),
            ];
            let generations = cache.insert_pair(pair).unwrap();
            assert!(!generations.contains(&over) && generations[0] != generations[1]);
            let present = [there, back].map(|key| cache.usage(&key).unwrap().unwrap().generation);
            assert_eq!(present, generations);
        }
        let families = [key(0, 4, Protocol::Tcp, 3, 4), key(1, 6, Protocol::Tcp, 4, 3)];
        let pair = [
            (&families[0], &Verdict::Drop(Refuser::UNNAMED)),
            (&families[1], &Verdict::Drop(Refuser::UNNAMED)),
        ];
        assert!(matches!(cache.insert_pair(pair), Err(InsertError::Families)));
        assert_eq!(cache.usage(&families[0]).unwrap(), None);
    });
}

/// Bursts go over in the middle: the sender does not wait for the worker, nor it for the sender.
#[test]
fn bursts_that_go_over_arrive_in_order() {
    const FLOWS: u16 = 60;
    with_and_without_features(|bed| {
        // whether one waits is chance, whether any does is not
        let waited = AtomicU64::new(0);
        for (burst, base) in [(2, 1000), (10, 3000), (50, 5000)] {
            bed.run(|mut cache, mut punt_end| {
                let server = bed.udp(1, 4, 2000);
                let worker = Worker { wire: bed.wire() };
                let done = AtomicBool::new(false);
                let slots = std::thread::scope(|scope| {
                    let ends = Ends(&done);
                    let working =
                        scope.spawn(|| worker.work_late(&mut cache, &mut punt_end, &done));
                    for flow in 0..FLOWS {
                        let client = bed.udp(0, 4, base + flow);
                        for number in 0..burst {
                            client.send_to(&[number], server.local_addr().unwrap()).unwrap();
                            if number % 3 == 2 {
                                std::thread::yield_now();
                            }
                        }
                        assert_eq!(arrivals(&server, burst), Vec::from_iter(0..burst), "{flow}");
                        // all have left by now
                        client.send_to(&[burst], server.local_addr().unwrap()).unwrap();
                        assert_eq!(arrivals(&server, 1), [burst]);
                    }
                    drop(ends);
                    working.join().unwrap()
                });
                assert_eq!(slots.len(), usize::from(FLOWS));
                waited.fetch_add(cache.count(Counter::MissWaiting).unwrap(), Ordering::Relaxed);
                assert_eq!(cache.count(Counter::Forced).unwrap(), 0);
            });
        }
        assert!(waited.into_inner() > 0);
    });
}

/// The far end of the punt pair, as far as it sends.
struct Worker {
    wire: Wire,
}

impl Worker {
    /// Sends a packet on to pod 1, and says so.
    fn send(&self, frame: &Arrival, slot: &Slot) {
        self.wire.send(&frame.to(port(1), mac(1), GATEWAY_MAC));
        slot.add(1);
    }

    /// Installs each flow at its first packet, but holds packets back until three more have come
    /// or none comes any more.
    fn work_late(
        &self,
        cache: &mut FlowCache,
        punt_end: &mut PuntEnd,
        done: &AtomicBool,
    ) -> HashMap<u16, Slot> {
        let mut slots = HashMap::new();
        let mut held = VecDeque::<Arrival>::new();
        let mut idle = 0;
        while !done.load(Ordering::Acquire) {
            match punt_end.next().filter(is_udp) {
                Some(frame) => {
                    let source = frame.source_port();
                    slots.entry(source).or_insert_with(|| {
                        let slot = cache.acks().take().unwrap();
                        let flow = key(0, 4, Protocol::Udp, source, 2000);
                        cache.insert_waiting(&flow, way(0), &slot).unwrap();
                        slot
                    });
                    held.push_back(frame);
                    idle = 0;
                }
                None => {
                    idle += 1;
                    std::thread::yield_now();
                }
            }
            if (held.len() > 3 || idle > 20)
                && let Some(frame) = held.pop_front()
            {
                self.send(&frame, &slots[&frame.source_port()]);
            }
        }
        slots
    }
}

fn arrivals(server: &UdpSocket, count: u8) -> Vec<u8> {
    let one = || {
        let mut bytes = [0; 9];
        assert_eq!(server.recv(&mut bytes).unwrap(), 1);
        bytes[0]
    };
    (0..count).map(|_| one()).collect()
}

fn is_udp(frame: &Arrival) -> bool {
    frame.transport() == Some(17)
}

/// Has a thread of its own do something on a CPU; where there is no such one, on any.
fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    let moved = || {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        let _ = rustix::thread::sched_setaffinity(None, &set);
        work()
    };
    std::thread::scope(|scope| scope.spawn(moved).join().unwrap())
}
