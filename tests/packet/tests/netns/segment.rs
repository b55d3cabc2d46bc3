//! The bridge's segments on real interfaces: flooding, moves, VLANs; frame by frame.

use millrace_dataplane::control::Settings;
use millrace_dataplane::port::Vlans;
use millrace_filter::testing::frames;
use millrace_filter::wire::MacAddr;

use crate::bed::{Bed, await_some};
use crate::station::Station;

/// A bridge with a bare station at each port, given with its VLANs as in `trunk:10+20`.
fn segment<const N: usize>(ports: [&str; N]) -> (Bed, [Station; N]) {
    let bed = Bed::with(0, &Settings::default(), 1).bridged();
    let mut number = 0;
    let stations = ports.map(|vlans| {
        number += 1;
        let name = format!("w{number}");
        let station = Station::new(&bed.host, &name);
        let vlans: Vlans = vlans.parse().unwrap_or_else(|error| panic!("{error}"));
        bed.open(&name, vlans).unwrap_or_else(|error| panic!("{error}"));
        station
    });
    (bed, stations)
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A frame from one station to another, with a number that tells it from others.
fn frame(from: MacAddr, to: MacAddr, number: u8) -> Vec<u8> {
    frames::between(frames::udp("10.0.0.1:1", "10.0.0.2:2", &[number]), from, to)
}

#[test]
fn what_must_be_flooded_reaches_every_port_but_the_one_it_came_from() {
    let (_bed, [mut a, mut b, mut c]) = segment(["transparent"; 3]);
    let group = MacAddr([0x01, 0x00, 0x5e, 0, 0, 9]);
    let targets = [MacAddr::BROADCAST, group, mac(0x77)];
    for (number, target) in (0..).zip(targets) {
        let flooded = frame(mac(0xa), target, number);
        a.send(&flooded);
        assert_eq!(b.receive(), flooded, "{target}");
        assert_eq!(c.receive(), flooded, "{target}");
    }
    // had anything come back, it would have come before this
    let last = frame(mac(0xb), mac(0xa), 9);
    b.send(&last);
    assert_eq!(a.receive(), last);
    assert!(a.heard().is_empty() && b.heard().is_empty() && c.heard().is_empty());
}

#[test]
fn what_is_for_a_known_station_reaches_it_alone() {
    let (_bed, [mut a, mut b, mut c]) = segment(["transparent"; 3]);
    b.send(&frame(mac(0xb), MacAddr::BROADCAST, 0));
    a.receive();
    c.receive();
    let known = frame(mac(0xa), mac(0xb), 1);
    a.send(&known);
    assert_eq!(b.receive(), known);
    let last = frame(mac(0xa), MacAddr::BROADCAST, 2);
    a.send(&last);
    assert_eq!(c.receive(), last, "the one before was not for it");
}

#[test]
fn a_station_that_moves_to_another_port_is_reached_there() {
    let (bed, [mut asker, mut old, mut new]) = segment(["transparent"; 3]);
    let question = frame(mac(1), mac(2), 0);
    old.send(&frame(mac(2), mac(1), 1));
    new.receive();
    asker.receive();
    asker.send(&question);
    assert_eq!(old.receive(), question);

    new.send(&frame(mac(2), mac(1), 1));
    // the flow that lived knows it after its next revalidation
    await_some(|| {
        asker.send(&question);
        new.heard().first().map(|heard| assert_eq!(*heard, question)).ok_or(bed.plane.fates())
    });
    old.heard();
    asker.send(&question);
    asker.send(&frame(mac(1), MacAddr::BROADCAST, 2));
    assert_eq!(old.receive(), frame(mac(1), MacAddr::BROADCAST, 2), "it hears no more of the flow");
}

#[test]
fn vlans_are_kept_apart_and_tags_are_as_each_port_wants_them() {
    let (_bed, [mut ten, mut twenty, mut trunk, mut native]) =
        segment(["access:10", "access:20", "trunk:10+20", "trunk:20+native:10"]);
    let plain = frame(mac(1), MacAddr::BROADCAST, 0);
    ten.send(&plain);
    assert_eq!(trunk.receive(), frames::tagged(plain.clone(), 10));
    assert_eq!(native.receive(), plain);
    twenty.send(&plain);
    assert_eq!(trunk.receive(), frames::tagged(plain.clone(), 20));
    assert_eq!(native.receive(), frames::tagged(plain.clone(), 20));

    trunk.send(&frames::tagged(plain.clone(), 10));
    assert_eq!(ten.receive(), plain, "without its tag, and nothing of VLAN 20 before it");
    assert_eq!(native.receive(), plain);
    trunk.send(&frames::tagged(plain.clone(), 20));
    assert_eq!(twenty.receive(), plain);
    // a trunk without a native VLAN has no place for what has no tag, nor one for VLAN 30
    trunk.send(&plain);
    trunk.send(&frames::tagged(plain.clone(), 30));
    let last = frame(mac(4), MacAddr::BROADCAST, 9);
    native.receive();
    native.send(&last);
    assert_eq!(ten.receive(), last);
    assert_eq!(trunk.receive(), frames::tagged(last, 10));
    assert!(twenty.heard().is_empty());
}

#[test]
fn a_trunk_on_a_veth_says_how_tags_are_kept_from_getting_lost() {
    let (bed, _stations) = segment(["transparent", "access:10", "trunk:10+20"]);
    let notes = ["w1", "w2", "w3"].map(|port| bed.port(port).notes);
    assert!(notes[0].is_empty() && notes[1].is_empty(), "{notes:?}");
    assert!(notes[2][0].contains("`ethtool -K PEER txvlan off"), "{notes:?}");
}

#[test]
fn one_address_is_a_station_of_its_own_in_each_vlan() {
    let (_bed, [mut ten, mut twenty, mut trunk]) =
        segment(["access:10", "access:20", "trunk:10+20"]);
    // the same address behind the trunk in VLAN 10, and behind a port of its own in VLAN 20
    trunk.send(&frames::tagged(frame(mac(7), MacAddr::BROADCAST, 0), 10));
    ten.receive();
    twenty.send(&frame(mac(7), MacAddr::BROADCAST, 1));
    trunk.receive();
    let to_it = frame(mac(1), mac(7), 2);
    ten.send(&to_it);
    assert_eq!(trunk.receive(), frames::tagged(to_it.clone(), 10));
    trunk.send(&frames::tagged(to_it.clone(), 20));
    assert_eq!(twenty.receive(), to_it);
}
