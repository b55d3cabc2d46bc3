//! Packets without an entry, and those that may not take theirs.

use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use millrace_fastpath::{Closing, Counter, FlowCache, Forward, Protocol, Refuser, Verdict};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use crate::bed::{
    Bed, PODS, attach, counts, index, ip, join, key, mac, port, way, with_and_without_features,
};
use crate::edges::{Wire, tag};

#[test]
fn a_packet_without_an_entry_is_punted_under_its_ports_number() {
    with_and_without_features(|bed| {
        bed.run(|cache, mut punt_end| {
            for at in 0..2 {
                let client = bed.udp(at, 4, 1000);
                client.send_to(b"hello", SocketAddr::new(ip(1 - at, 4), 2000)).unwrap();
                let frame = punt_end.await_frame(|frame| {
                    frame.ethertype() == 0x0800 && frame.source_port() == 1000
                });
                assert_eq!(frame.vlan(), Some(port(at).number()));
                assert_eq!(frame.length, 18 + 28 + 5);
                assert!(frame.queue < 2);
            }
            assert_eq!(cache.count(Counter::MissUnknown).unwrap() as usize, 2);
            assert_eq!(cache.count(Counter::Hit).unwrap(), 0);
        });
    });
}

#[test]
fn an_entry_can_name_the_queue_its_packets_are_punted_to() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for queue in [1, 0] {
                let source = 1000 + queue as u16;
                let wanted = key(0, 4, Protocol::Udp, source, 2000);
                cache.insert(&wanted, &Verdict::Punt { queue }).unwrap();
                let client = bed.udp(0, 4, source);
                client.send_to(b"hello", SocketAddr::new(ip(1, 4), 2000)).unwrap();
                let frame = punt_end.await_frame(|frame| {
                    frame.ethertype() == 0x0800 && frame.source_port() == source
                });
                assert_eq!(frame.queue, queue);
            }
            assert_eq!(cache.count(Counter::MissPunt).unwrap(), 2);
        });
    });
}

#[test]
fn packets_that_are_too_large_miss_and_others_hit() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let narrow = Verdict::Forward(Forward { mtu: 1000, ..way(0) });
            cache.insert(&key(0, 4, Protocol::Udp, 1000, 2000), &narrow).unwrap();
            let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
            let to = server.local_addr().unwrap();
            client.send_to(&[1; 1000 - 28], to).unwrap();
            assert_eq!(server.recv(&mut [0; 1500]).unwrap(), 972);
            client.send_to(&[1; 1000 - 27], to).unwrap();
            let frame = punt_end.await_frame(|frame| frame.length > 1000);
            assert_eq!(frame.length, 18 + 1001);
            assert_eq!(fates(&cache), [(Counter::Hit, 1), (Counter::MissMtu, 1)]);
        });
    });
}

#[test]
fn a_super_packet_misses_by_the_size_of_its_segments() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let narrow = Verdict::Forward(Forward { mtu: 1000, ..way(0) });
            cache.insert(&key(0, 4, Protocol::Tcp, 1000, 2000), &narrow).unwrap();
            let back = Verdict::Forward(way(1));
            cache.insert(&key(1, 4, Protocol::Tcp, 2000, 1000), &back).unwrap();
            let (mut client, _server) = bed.tcp(4, 1000, 2000);
            assert_eq!(cache.count(Counter::MissMtu).unwrap(), 0);
            client.write_all(&[1; 10_000]).unwrap();
            // the punt pair takes it apart
            let frame = punt_end.await_frame(|frame| frame.length > 1000);
            assert_eq!(frame.length, 18 + 1500);
            assert!(cache.count(Counter::MissMtu).unwrap() >= 1);
        });
    });
}

#[test]
fn both_fragments_of_a_packet_miss() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            for family in [4, 6] {
                join(&mut cache, family, Protocol::Udp, [1000, 2000]);
                let client = bed.udp(0, family, 1000);
                client.send_to(&[1; 2000], SocketAddr::new(ip(1, family), 2000)).unwrap();
                let ethertype = if family == 4 { 0x0800 } else { 0x86dd };
                let large = |frame: &crate::edges::Arrival| {
                    frame.ethertype() == ethertype && frame.length > 500
                };
                let fragments = [punt_end.await_frame(large), punt_end.await_frame(large)];
                let total: u32 = fragments.iter().map(|fragment| fragment.length).sum();
                let headers = if family == 4 { 2 * 38 } else { 2 * 66 };
                assert_eq!(total, headers + 8 + 2000);
            }
            assert_eq!(cache.count(Counter::MissFragment).unwrap(), 4);
            assert_eq!(cache.count(Counter::Hit).unwrap(), 0);
        });
    });
}

#[test]
fn ip_options_miss() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            // four times "no operation"
            send_raw(&bed, &[1, 1, 1, 1], 17, &udp(1000, 2000));
            let frame =
                punt_end.await_frame(|frame| frame.ethertype() == 0x0800 && frame.protocol() == 17);
            assert_eq!(frame.length, 18 + 24 + 8);
            assert!(cache.count(Counter::MissOptions).unwrap() >= 1);
            assert_eq!(fates(&cache), []);
        });
    });
}

#[test]
fn ipv6_extension_headers_miss_each_as_what_it_is() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            join(&mut cache, 6, Protocol::Udp, [1000, 2000]);
            let client = bed.udp(0, 6, 1000);
            let to = SocketAddr::new(ip(1, 6), 2001);
            client.send_to(b"hello", to).unwrap();
            let plain = punt_end
                .await_frame(|frame| frame.ethertype() == 0x86dd && frame.bytes[18 + 6] == 17);
            // the same packet to the port that has an entry, with a header of 8 bytes before UDP's
            let headers = [
                (0, Counter::MissOptions),
                (43, Counter::MissOptions),
                (60, Counter::MissOptions),
                (44, Counter::MissFragment),
                (51, Counter::MissProtocol),
            ];
            let pod = bed.pods[0].run(|| Wire::open("eth0")).unwrap();
            for (number, fate) in headers {
                let mut packet = [&mac(1)[..], &mac(0), &plain.bytes[16..58]].concat();
                packet[14 + 6] = number;
                packet[14 + 5] += 8;
                packet.extend([17, 0, 0, 0, 0, 0, 0, 0]);
                packet.extend(&plain.bytes[58..]);
                let udp = packet.len() - 13;
                packet[udp + 2..udp + 4].copy_from_slice(&2000u16.to_be_bytes());
                let before = cache.count(fate).unwrap();
                pod.send(&packet);
                let frame = punt_end.await_frame(|frame| {
                    frame.ethertype() == 0x86dd
                        && frame.bytes[18 + 6] == number
                        && frame.bytes[18 + 40] == 17
                });
                assert_eq!(frame.vlan(), Some(port(0).number()));
                assert!(cache.count(fate).unwrap() > before, "{number}");
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 0);
        });
    });
}

#[test]
fn a_new_connection_does_not_take_the_entry_of_an_old_one() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            let key = key(0, 4, Protocol::Tcp, 1000, 2000);
            cache.insert(&key, &Verdict::Forward(way(0))).unwrap();
            // a SYN and its repetition, then data: only SYNs were seen until then
            for flags in [SYN, SYN, ACK] {
                send_raw(&bed, &[], 6, &tcp(1000, 2000, flags));
            }
            assert_eq!(fates(&cache), [(Counter::Hit, 3)]);
            for nonsense in [SYN, SYN | FIN, SYN | RST] {
                send_raw(&bed, &[], 6, &tcp(1000, 2000, nonsense));
                punt_end.await_frame(|frame| {
                    frame.ethertype() == 0x0800 && frame.source_port() == 1000
                });
            }
            assert_eq!(fates(&cache), [(Counter::Hit, 3), (Counter::MissSyn, 3)]);
        });
    });
}

#[test]
fn a_reset_passes_is_reported_and_undone_by_data() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let key = key(0, 4, Protocol::Tcp, 1000, 2000);
            let generation = cache.insert(&key, &Verdict::Forward(way(0))).unwrap();
            let mut closing_after = |flags| {
                send_raw(&bed, &[], 6, &tcp(1000, 2000, flags));
                (cache.usage(&key).unwrap().unwrap().closing, cache.next_event())
            };
            assert_eq!(closing_after(ACK), (None, None));
            let (closing, event) = closing_after(RST);
            let event = event.expect("a reset is reported before it goes on");
            assert_eq!(closing, Some(Closing::Reset));
            assert_eq!((event.key, event.generation), (key, generation));
            assert_eq!(event.closing, Closing::Reset);
            assert_eq!(closing_after(RST), (Some(Closing::Reset), None), "once is enough");
            assert_eq!(closing_after(ACK), (None, None));
            assert_eq!(closing_after(FIN | ACK).0, Some(Closing::Fin));
            assert_eq!(closing_after(ACK), (Some(Closing::Fin), None));
            assert_eq!(fates(&cache), [(Counter::Hit, 6)]);
        });
    });
}

#[test]
fn a_tag_of_the_pods_own_is_dropped_even_where_there_is_an_entry() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, mut punt_end| {
            join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
            let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
            let to = server.local_addr().unwrap();
            let tagging = bed.pods[0].run(|| tag("eth0")).unwrap();
            client.send_to(b"tagged", to).unwrap();
            assert!(cache.count(Counter::DropTagged).unwrap() >= 1);
            assert_eq!(fates(&cache), []);
            bed.pods[0].run(|| drop(tagging)).unwrap();

            // what comes next is plain, so the tagged one went nowhere
            client.send_to(b"plain", to).unwrap();
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
            bed.udp(0, 4, 1001).send_to(b"mark", to).unwrap();
            let mine = punt_end.await_frame(|frame| {
                frame.ethertype() == 0x0800 && (1000..1002).contains(&frame.source_port())
            });
            assert_eq!((mine.vlan(), mine.source_port()), (Some(port(0).number()), 1001));
        });
    });
}

#[test]
fn an_entry_can_drop_and_without_a_punt_pair_misses_are_dropped() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            cache
                .insert(&key(0, 4, Protocol::Udp, 1000, 2000), &Verdict::Drop(Refuser::UNNAMED))
                .unwrap();
            let client = bed.udp(0, 4, 1000);
            client.send_to(b"hello", SocketAddr::new(ip(1, 4), 2000)).unwrap();
            assert_eq!(fates(&cache), [(Counter::DropEntry, 1)]);

            assert!(cache.detach(index(PODS[0])).unwrap());
            let mut alone = FlowCache::load(bed.settings).unwrap();
            attach(&mut alone, 0);
            client.send_to(b"hello", SocketAddr::new(ip(1, 4), 2001)).unwrap();
            assert!(alone.count(Counter::DropNoPunt).unwrap() >= 1, "{:?}", counts(&alone));
        });
    });
}

/// What became of TCP and UDP. The pods' own chatter (neighbours, multicast listeners with their
/// router alert) is of neither, and not counted here.
fn fates(cache: &FlowCache) -> Vec<(Counter, u64)> {
    let chatter = [Counter::MissProtocol, Counter::MissOptions, Counter::DropTagged];
    let mine = |(counter, n): &(Counter, u64)| *n > 0 && !chatter.contains(counter);
    counts(cache).into_iter().filter(mine).collect()
}

fn udp(from: u16, to: u16) -> Vec<u8> {
    [from, to, 8, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// A segment without data; its checksum is nobody's concern here.
fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let ports = [from, to].into_iter().flat_map(u16::to_be_bytes);
    ports.chain([0; 8]).chain([0x50, flags]).chain([0; 6]).collect()
}

/// Sends an IPv4 packet from pod 0 to pod 1; the kernel fills in length and checksum.
fn send_raw(bed: &Bed, options: &[u8], protocol: u8, payload: &[u8]) {
    let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) = (ip(0, 4), ip(1, 4)) else {
        panic!("family 4 is IPv4");
    };
    let mut packet = vec![0x40 + (5 + options.len() / 4) as u8, 0, 0, 0, 0, 0, 0, 0, 64, protocol];
    packet.extend([0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    packet.extend(payload);
    let open = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
    let socket: OwnedFd = bed.pods[0].run(open).unwrap().unwrap();
    let sent = sendto(&socket, &packet, SendFlags::empty(), &SocketAddrV4::new(to, 0)).unwrap();
    assert_eq!(sent, packet.len());
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
