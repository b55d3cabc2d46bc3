//! Fragments behind cached ports: F5.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use millrace_abi::Reason;
use millrace_filter::testing::frames;

use crate::bed::{Bed, await_some};
use crate::raw::{Raw, fragment};
use crate::translation::{node, udp, virtual_address};

/// The first pod's way to speak to the second by a virtual address, which translates port 53 to
/// 5353.
struct Talk {
    raw: Raw,
    server: UdpSocket,
    from: IpAddr,
    by: IpAddr,
}

/// The same in both families.
fn talks(bed: &Bed) -> [Talk; 2] {
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let ends = [(client.address, server.address), (client.v6(), server.v6())];
    let mut names = virtual_address(1).into_iter();
    ends.map(|(from, own)| {
        let by = names.next().expect("one for each family");
        Talk { raw: Raw::of(client), server: udp(server, own, 5353), from, by }
    })
}

impl Talk {
    /// A datagram of 2,000 bytes, each of them `fill`.
    fn datagram(&self, fill: u8) -> Vec<u8> {
        let from = SocketAddr::new(self.from, 4000).to_string();
        frames::udp(&from, &SocketAddr::new(self.by, 53).to_string(), &[fill; 2000])
    }

    /// Sends parts of a datagram as fragments, in this order.
    fn send(&self, fill: u8, id: u16, parts: &[(usize, usize)]) {
        let datagram = self.datagram(fill);
        for &(start, end) in parts {
            self.raw.send(&fragment(&datagram, id, start, end));
        }
    }

    /// What the server gets next begins with this; it got all of it.
    fn await_datagram(&self, fill: u8) {
        let mut received = [0; 3000];
        let (len, _) = self.server.recv_from(&mut received).expect("it arrives");
        assert_eq!((len, received[0]), (2000, fill));
        assert!(received[..len].iter().all(|&byte| byte == fill), "all of one datagram");
    }
}

/// All of a datagram, in three parts.
const PARTS: [(usize, usize); 3] = [(0, 800), (800, 1600), (1600, 2008)];

#[test]
fn f5_datagrams_too_large_for_a_frame_are_translated_both_ways() {
    let bed = node();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for (by, (own, from)) in virtual_address(1)
        .into_iter()
        .zip([(server.address, client.address), (server.v6(), client.v6())])
    {
        let (asking, answering) = (udp(client, from, 0), udp(server, own, 5353));
        let mut received = [0; 4000];
        for n in 0..50u8 {
            let sent = [n; 3000];
            asking.send_to(&sent, SocketAddr::new(by, 53)).expect("there is a route");
            let (len, peer) = answering.recv_from(&mut received).expect("it arrives");
            assert!(received[..len] == sent, "{by}: {len} bytes of {n}");
            answering.send_to(&sent, peer).expect("there is a route");
            let (len, peer) = asking.recv_from(&mut received).expect("the answer arrives");
            assert!(received[..len] == sent, "{by}: {len} bytes of {n}");
            assert_eq!(peer, SocketAddr::new(by, 53));
        }
        assert!(client.pings_with(by, 3000), "{by} answers a large echo");
    }
}

#[test]
fn f5_fragments_may_come_in_any_order() {
    let bed = node();
    for talk in talks(&bed) {
        for (n, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]]
            .into_iter()
            .enumerate()
        {
            talk.send(n as u8, n as u16 + 1, &order.map(|part| PARTS[part]));
            talk.await_datagram(n as u8);
        }
    }
    assert_eq!(bed.dropped(Reason::FragmentAlone), 0);
}

#[test]
fn f5_a_datagram_whose_fragments_overlap_does_not_arrive() {
    let bed = node();
    let mut overlaps = 0;
    for talk in talks(&bed) {
        for (id, second) in [(1, (792, 1600)), (2, (0, 800)), (3, (400, 600))] {
            talk.send(1, id, &[PARTS[0], second, PARTS[1], PARTS[2]]);
            overlaps += 3;
            // what comes behind it does
            talk.send(2, id + 100, &PARTS);
            talk.await_datagram(2);
        }
    }
    assert_eq!(bed.dropped(Reason::FragmentOverlap), overlaps);
}

#[test]
fn f5_fragments_without_a_first_one_are_dropped_after_a_while() {
    let bed = node();
    for talk in talks(&bed) {
        talk.send(1, 1, &PARTS[1..]);
    }
    await_some(|| match bed.dropped(Reason::FragmentAlone) {
        4 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn f5_a_pods_flood_of_fragments_does_not_cost_another_pod_its_own() {
    let bed = node();
    for talk in talks(&bed) {
        let other = Raw::of(&bed.pods[1]);
        let from = SocketAddr::new(talk.server.local_addr().expect("bound").ip(), 1);
        let to = SocketAddr::new(talk.from, 9);
        let flood = frames::udp(&from.to_string(), &to.to_string(), &[0; 72]);
        let (first, later) = PARTS.split_at(1);
        // a flood of first ones, then one of later ones
        for (start, before, after) in [(0, first, later), (40, later, first)] {
            talk.send(7, start as u16, before);
            for id in (0..600).map(|n| n + 100 * start as u16) {
                other.send(&fragment(&flood, id, start, start + 40));
            }
            talk.send(7, start as u16, after);
            talk.await_datagram(7);
        }
    }
    // none of its own later ones had a first one
    await_some(|| match bed.dropped(Reason::FragmentAlone) {
        1200 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn f5_fragments_that_cannot_be_put_in_their_place_are_malformed() {
    let bed = node();
    let [v4, v6] = talks(&bed);
    for talk in [&v4, &v6] {
        // what others follow is no multiple of 8 bytes long
        talk.send(1, 1, &[(0, 804)]);
        // one that ends behind the longest datagram
        let mut last = fragment(&talk.datagram(1), 2, 1600, 2008);
        let place = if last[12] == 0x08 { 20 } else { 56 };
        let unit = if last[12] == 0x08 { 0x1fff } else { 0xfff8 };
        last[place..place + 2].copy_from_slice(&u16::to_be_bytes(unit));
        if last[12] == 0x08 {
            millrace_filter::wire::ipv4::Packet::new_unchecked(&mut last[14..]).fill_checksum();
        }
        talk.raw.send(&last);
    }
    await_some(|| match bed.dropped(Reason::BadFragment) {
        4 => Ok(()),
        other => Err(other),
    });
    v4.server.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout can be set");
    assert!(v4.server.recv(&mut [0]).is_err(), "nothing arrives of them");
}
