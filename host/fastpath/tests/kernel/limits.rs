//! Misses that user space does not take: too many of one port, or nobody is there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use millrace_fastpath::{Counter, FlowCache, MissLimit, Protocol, Verdict};

use crate::bed::{PODS, attach, counts, index, ip, join, key, port, with_and_without_features};
use crate::edges::{Arrival, PuntEnd};

#[test]
fn a_port_has_no_more_misses_than_its_limit_and_others_lose_nothing() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let limit = MissLimit { every: Duration::from_secs(3600), burst: 5 };
            cache.limit(port(0), limit).unwrap();
            let wanted = key(0, 4, Protocol::Udp, 999, 2000);
            cache.insert(&wanted, &Verdict::Punt { queue: 0 }).unwrap();
            let send = |at: usize, from: u16| {
                let to = SocketAddr::new(ip(1 - at, 4), 2000);
                bed.udp(at, 4, from).send_to(b"hello", to).unwrap();
            };
            for number in 0..20 {
                send(0, 1000 + number);
                send(1, 1000 + number);
                send(0, 999);
            }
            // the pod's own chatter may have spent some
            let [limited, ..] = await_arrivals(&mut punt_end, [0, 20, 20]);
            await_count(&cache, Counter::DropLimit, 15);
            assert!(limited <= 5, "{limited} of 5");
            let refused = [0, 1].map(|at| cache.refused(port(at)).unwrap());
            assert_eq!(refused, [cache.count(Counter::DropLimit).unwrap(), 0]);

            // a port that takes its number later is not limited
            assert!(cache.detach(index(PODS[0])).unwrap());
            attach(&mut cache, 0);
            for number in 0..20 {
                send(0, 2000 + number);
            }
            await_arrivals(&mut punt_end, [20, 0, 0]);
        });
    });
}

#[test]
fn of_many_who_send_by_a_port_each_has_its_share_and_all_have_a_limit() {
    with_and_without_features(|bed| {
        let net = bed.pods[0].netlink().unwrap();
        for prefix in OTHERS.iter().flat_map(|(_, others)| others) {
            net.add_address("eth0", prefix.parse().unwrap()).unwrap();
        }
        for (family, others) in OTHERS {
            bed.run(|mut cache, mut punt_end| {
                let at_once = |burst| MissLimit { every: Duration::from_secs(3600), burst };
                cache.limit_each(port(0), at_once(5), at_once(40)).unwrap();
                let to = SocketAddr::new(ip(1, family), 2000);
                for number in 0..20 {
                    bed.udp(0, family, 1000 + number).send_to(b"hello", to).unwrap();
                }
                await_count(&cache, Counter::DropLimit, 15);
                for other in others {
                    let (address, _) = other.split_once('/').unwrap();
                    let address: IpAddr = address.parse().unwrap();
                    let socket = || UdpSocket::bind((address, 1000));
                    let socket = bed.pods[0].run(socket).unwrap().unwrap();
                    for _ in 0..5 {
                        socket.send_to(b"hello", to).unwrap();
                    }
                }
                // the pod's own chatter may have spent some
                let [arrived, ..] = await_arrivals(&mut punt_end, [15, 0, 0]);
                assert!(arrived <= 20, "{arrived}");

                // that is not each one's limit
                cache.limit_each(port(0), at_once(100), at_once(10)).unwrap();
                let before = cache.count(Counter::DropLimit).unwrap();
                for number in 0..30 {
                    bed.udp(0, family, 3000 + number).send_to(b"hello", to).unwrap();
                }
                await_count(&cache, Counter::DropLimit, before + 20);
                assert_eq!(
                    cache.refused(port(0)).unwrap(),
                    cache.count(Counter::DropLimit).unwrap() - before
                );
            });
        }
    });
}

#[test]
fn a_limit_is_paid_off_with_time() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let to = SocketAddr::new(ip(1, 4), 2000);
            let limit = MissLimit { every: Duration::from_nanos(1), burst: 1 };
            cache.limit(port(0), limit).unwrap();
            for number in 0..20 {
                bed.udp(0, 4, 1000 + number).send_to(b"hello", to).unwrap();
            }
            await_arrivals(&mut punt_end, [20, 0, 0]);
            let never = MissLimit { every: Duration::MAX, burst: 0 };
            cache.limit(port(0), never).unwrap();
            bed.udp(0, 4, 1100).send_to(b"hello", to).unwrap();
            await_count(&cache, Counter::DropLimit, 1);
        });
    });
}

#[test]
fn without_a_sign_of_life_misses_are_dropped_and_entries_go_on() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
            let stranger = bed.udp(0, 4, 1001);
            let to = server.local_addr().unwrap();
            cache.beat(Duration::from_secs(3600)).unwrap();
            stranger.send_to(b"hello", to).unwrap();
            await_arrivals(&mut punt_end, [1, 0, 0]);

            cache.beat(Duration::ZERO).unwrap();
            stranger.send_to(b"hello", to).unwrap();
            client.send_to(b"hello", to).unwrap();
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
            await_count(&cache, Counter::DropDown, 1);

            cache.beat(Duration::from_secs(3600)).unwrap();
            stranger.send_to(b"hello", to).unwrap();
            await_arrivals(&mut punt_end, [1, 0, 0]);
        });
    });
}

/// Waits for so many UDP packets of pod 0, of pod 1, and from port 999; says how many there were.
fn await_arrivals(punt_end: &mut PuntEnd, expected: [u32; 3]) -> [u32; 3] {
    let give_up = Instant::now() + Duration::from_secs(10);
    let mut numbers = [0; 3];
    while (0..3).any(|class| numbers[class] < expected[class]) {
        assert!(Instant::now() < give_up, "{numbers:?} of {expected:?}");
        while let Some(frame) = punt_end.next() {
            if frame.transport() == Some(17) {
                numbers[class(&frame)] += 1;
            }
        }
    }
    numbers
}

fn await_count(cache: &FlowCache, counter: Counter, least: u64) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while cache.count(counter).unwrap() < least {
        assert!(Instant::now() < give_up, "{counter:?}: {:?}", counts(cache));
        std::thread::yield_now();
    }
}

fn class(frame: &Arrival) -> usize {
    match frame.vlan() {
        _ if frame.source_port() == 999 => 2,
        Some(number) if number == port(0).number() => 0,
        _ => 1,
    }
}

/// Sources beside the pod's own, which have other hashes; those of IPv6 are of other prefixes.
const OTHERS: [(u8, [&str; 3]); 2] = [
    (4, ["10.8.0.101/24", "10.8.0.102/24", "10.8.0.103/24"]),
    (6, ["fd09::1/128", "fd0a::1/128", "fd0b::1/128"]),
];
