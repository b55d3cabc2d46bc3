//! Interfaces that go, come back and change while packets flow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_abi::Reason;
use millrace_dataplane::control::status::PortState;
use millrace_dataplane::control::{PortError, Settings};
use millrace_dataplane::io::Io;
use millrace_dataplane::port::{PortId, Vlans};
use millrace_dataplane::xsk_io::XskIo;
use millrace_netns::{Namespace, VethSpec};
use millrace_traffic::sequence::{Sequence, SequenceSettings};
use millrace_xsk::{UmemSettings, Xsk, XskSettings};

use crate::bed::{Bed, PATIENCE, await_some};

/// Has the second of three pods lose its interface and get another one, as `change` does it,
/// while the others go on.
fn survives(change: impl FnOnce(&Bed)) {
    let settings = Settings { workers: QUEUES as usize, ..Settings::default() };
    let bed = Bed::with(3, &settings, QUEUES).bridged();
    let [first, second, third] = &bed.pods[..] else { unreachable!("there are three") };
    assert!(first.pings(second.address));
    let settings = SequenceSettings { patience: PATIENCE, ..SequenceSettings::default() };
    let others = Sequence::start(first.end(), third.end(), settings).expect("it starts");
    assert!(others.await_arrivals(100));

    change(&bed);
    let port = bed.await_state("p2", PortState::Up);
    assert!(port.notes.is_empty(), "{:?}", port.notes);
    for other in [first, third] {
        assert!(other.pings(second.address) && second.pings(other.v6()), "{}", other.address);
    }
    assert!(others.await_arrivals(others.arrived() + 100));
    let report = others.stop().expect("sockets do not fail");
    assert_eq!((report.lost, report.reordered, report.duplicated), (0, 0, 0));
}

#[test]
fn an_interface_that_is_deleted_and_made_again_carries_traffic_again() {
    survives(|bed| {
        let number = bed.port("p2").id;
        bed.host.netlink().and_then(|net| net.delete_link("p2")).expect("it is there");
        let gone = bed.await_state("p2", PortState::Gone);
        assert_eq!((&*gone.attached, &*gone.bound, gone.queues), ("-", "-", 0));
        assert_eq!(bed.port("p1").state, PortState::Up);
        let address = bed.pods[1].address;
        assert!(!bed.pods[0].pings_within(address, Duration::from_secs(1)), "nobody is there");

        bed.pods[1].plug_into(&bed.host, QUEUES);
        assert_eq!(bed.await_state("p2", PortState::Up).id, number);
    });
}

#[test]
fn an_interface_that_is_replaced_before_the_old_one_goes_carries_traffic_again() {
    survives(|bed| {
        let net = bed.host.netlink().expect("netlink works");
        let pod = bed.pods[1].namespace.netlink().expect("netlink works");
        net.rename("p2", "old").expect("the name is free");
        bed.await_state("p2", PortState::Gone);
        pod.rename("eth0", "old").expect("the name is free");
        pod.set_down("old").expect("it is there");

        bed.pods[1].plug_into(&bed.host, QUEUES);
        bed.await_state("p2", PortState::Up);
        net.delete_link("old").expect("it is there");
        // what comes first shows that the old one's end was seen
        net.set_down("p2").expect("it is there");
        bed.await_state("p2", PortState::Down);
        net.set_up("p2").expect("it is there");
    });
}

#[test]
fn an_interface_that_is_lent_to_another_namespace_carries_traffic_when_it_is_back() {
    survives(|bed| {
        let elsewhere = Namespace::create_unique("packet-away").expect("needs root");
        bed.host.netlink().and_then(|net| net.move_to("p2", &elsewhere)).expect("it is there");
        bed.await_state("p2", PortState::Gone);
        elsewhere.netlink().and_then(|net| net.move_to("p2", &bed.host)).expect("it is there");
        let port = bed.await_state("p2", PortState::Down);
        assert!(port.notes[0].contains("ip link set dev p2 up"), "{:?}", port.notes);
        bed.host.netlink().and_then(|net| net.set_up("p2")).expect("it is there");
    });
}

#[test]
fn what_is_sent_to_an_interface_that_is_gone_is_dropped_by_name() {
    let bed = Bed::new(2).bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    assert!(client.pings(server.address));
    bed.host.netlink().and_then(|net| net.delete_link("p2")).expect("it is there");
    bed.await_state("p2", PortState::Gone);
    let socket = client.udp();
    let before = bed.dropped(Reason::PortDown);
    await_some(|| {
        socket.send_to(b"anybody?", (server.address, 5000)).expect("the neighbour is known");
        let dropped = bed.dropped(Reason::PortDown);
        if dropped > before { Ok(()) } else { Err(bed.plane.fates()) }
    });
}

#[test]
fn a_worker_sleeps_although_a_socket_of_its_has_lost_its_interface() {
    let host = Namespace::create_unique("packet-host").expect("needs root");
    let net = host.netlink().expect("netlink works");
    net.add_veth(&VethSpec::new("p1", "p2")).expect("a veth can be made");
    net.set_up("p1").expect("it comes up");
    net.set_up("p2").expect("it comes up");
    let mut io = XskIo::new(UmemSettings::default(), false).expect("there is memory");
    let settings = XskSettings { zero_copy: false, ..XskSettings::default() };
    let umem = io.umem().clone();
    let open = || Xsk::open(&umem, "p1", 0, settings);
    let xsk = host.run(open).expect("the namespace can be entered").expect("it opens");
    io.add_port(PortId::new(1).expect("a number"), vec![xsk], Arc::default());

    // nobody has told the worker yet
    net.delete_link("p1").expect("it is there");
    let (nap, start) = (Duration::from_millis(20), Instant::now());
    for nth in 1..=5 {
        io.commit();
        io.wait(nap);
        assert!(start.elapsed() >= nap * nth, "nothing wakes it");
    }
}

#[test]
fn an_interface_whose_packets_do_not_fit_is_refused_with_the_remedy() {
    let bed = Bed::new(1);
    let net = bed.host.netlink().expect("netlink works");
    net.add_veth(&VethSpec::new("big", "peer").mtu(9000)).expect("a veth can be made");
    let error = bed.open("big", Vlans::transparent()).expect_err("9000 bytes do not fit");
    assert!(matches!(error, PortError::Mtu { mtu: 9000, .. }), "{error:?}");
    assert!(error.to_string().contains("`ip link set dev big mtu 3818`"), "{error}");

    // what the other end may send counts just as much
    net.set_mtu("big", 1500).expect("it is taken");
    let error = bed.open("big", Vlans::transparent()).expect_err("the peer's do not fit either");
    assert!(error.to_string().contains("MTU"), "{error}");
    net.set_mtu("peer", 1500).expect("it is taken");
    bed.open("big", Vlans::transparent()).expect("it fits now");
}

#[test]
fn an_mtu_that_is_raised_beyond_a_frame_is_noted_until_it_fits_again() {
    let bed = Bed::new(2).bridged();
    let net = bed.host.netlink().expect("netlink works");
    net.set_mtu("p2", 9000).expect("veth takes it");
    let port = bed.await_port("p2", |port| port.mtu == 9000);
    assert_eq!(port.state, PortState::Up);
    assert!(port.notes[0].contains("`ip link set dev p2 mtu 3818`"), "{:?}", port.notes);
    assert!(bed.pods[0].pings(bed.pods[1].address), "what fits goes on");

    net.set_mtu("p2", 1400).expect("veth takes it");
    let port = bed.await_port("p2", |port| port.mtu == 1400);
    assert!(port.notes.is_empty(), "{:?}", port.notes);
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (from, to) = (client.udp(), server.udp_at(5000));
    from.send_to(&[0; 1400 - 28 + 1], to.local_addr().expect("bound")).expect("eth0 has 1500");
    from.send_to(&[0; 1400 - 28], to.local_addr().expect("bound")).expect("eth0 has 1500");
    let mut datagram = [0; 2000];
    assert_eq!(to.recv(&mut datagram).expect("the smaller one arrives"), 1400 - 28);
    assert_eq!(bed.dropped(Reason::TooBig), 1);
}

#[test]
fn an_interface_that_returns_with_an_mtu_that_does_not_fit_says_so_and_is_taken_when_it_fits() {
    let bed = Bed::new(2).bridged();
    let net = bed.host.netlink().expect("netlink works");
    net.delete_link("p2").expect("it is there");
    bed.await_state("p2", PortState::Gone);
    let veth = VethSpec::new("p2", "spare").mtu(9000);
    net.add_veth(&veth).expect("a veth can be made");
    let port = bed.await_port("p2", |port| !port.notes.is_empty());
    assert_eq!(port.state, PortState::Gone);
    assert!(port.notes[0].contains("`ip link set dev p2 mtu 3818`"), "{:?}", port.notes);
    net.set_mtu("spare", 1500).expect("it is taken");
    net.set_mtu("p2", 1500).expect("it is taken");
    let port = bed.await_state("p2", PortState::Down);
    assert_eq!((port.mtu, &*port.attached), (1500, "native"));
}

/// Queues of an interface that goes and returns, each of another worker.
const QUEUES: u32 = 2;
