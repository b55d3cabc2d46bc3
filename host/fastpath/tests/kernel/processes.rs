//! Processes of the node itself: where they come out when they mean one of its own addresses.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use millrace_fastpath::{Cgroup, FlowCache, Frontend, remove_pins};
use millrace_netns::{Namespace, Netlink};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::adoption::with_pins;
use crate::bed::{namespace, with_and_without_features};

#[test]
fn a_process_that_means_its_own_node_comes_out_where_another_address_stands_in() {
    on_a_node(|mut cache, _| {
        attend(&mut cache);
        for [own, stands_in] in PAIRS {
            let (meant, there) = (at(own, BOTH), at(stands_in, BOTH));
            let listener = TcpListener::bind(there).unwrap();
            let mut client = TcpStream::connect(meant).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            assert_eq!(client.peer_addr().unwrap(), meant, "it has whom it means");
            assert_eq!(server.local_addr().unwrap(), there);
            server.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();

            let server = udp(there);
            let client = udp(SocketAddr::new(a_client(meant), 0));
            // a socket without a peer is told with each datagram who has sent it
            client.send_to(b"who?", meant).unwrap();
            answer(&server);
            assert_eq!(client.recv_from(&mut [0; 4]).unwrap(), (2, meant));
            client.connect(meant).unwrap();
            assert_eq!(client.peer_addr().unwrap(), meant);
            client.send(b"who?").unwrap();
            answer(&server);
            assert_eq!(client.recv(&mut [0; 4]).unwrap(), 2);
        }
    });
}

#[test]
fn sockets_of_ipv6_that_mean_ipv4_are_attended_as_well() {
    on_a_node(|mut cache, _| {
        attend(&mut cache);
        let [own, stands_in] = PAIRS[0];
        let meant: SocketAddr = format!("[::ffff:{own}]:{BOTH}").parse().unwrap();
        let listener = TcpListener::bind(at(stands_in, BOTH)).unwrap();
        let client = TcpStream::connect(meant).unwrap();
        listener.accept().unwrap();
        assert_eq!(client.peer_addr().unwrap(), meant);

        let server = udp(at(stands_in, BOTH));
        let client = udp("[::]:0".parse().unwrap());
        client.send_to(b"who?", meant).unwrap();
        answer(&server);
        assert_eq!(client.recv_from(&mut [0; 4]).unwrap(), (2, meant));
    });
}

#[test]
fn s14_a_socket_that_is_bound_to_the_loopback_finds_what_is_there_alone() {
    on_a_node(|mut cache, _| {
        attend(&mut cache);
        for [own, stands_in] in PAIRS {
            let (meant, there) = (at(own, BOTH), at(stands_in, BOTH));
            let served = (TcpListener::bind(there).unwrap(), udp(there));
            TcpStream::connect(meant).unwrap();
            bound(a_client(meant), meant).unwrap();
            let loopback = LOOPBACK[usize::from(meant.is_ipv6())].parse().unwrap();
            let error = bound(loopback, meant).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{meant}");
            unheard(loopback, meant);
            // as somebody may be
            let listener = TcpListener::bind(meant).unwrap();
            bound(loopback, meant).unwrap();
            listener.accept().unwrap();
            drop(served);
        }
        // and of IPv6 sockets that mean IPv4
        let [own, there] = PAIRS[0];
        let _served = TcpListener::bind(at(there, BOTH)).unwrap();
        let meant: SocketAddr = format!("[::ffff:{own}]:{BOTH}").parse().unwrap();
        let error = bound(format!("::ffff:{own}").parse().unwrap(), meant).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        TcpStream::connect(meant).unwrap();
    });
}

#[test]
fn other_ports_protocols_addresses_and_networks_are_left_alone() {
    on_a_node(|mut cache, other| {
        let listeners = PAIRS.map(|[_, there]| {
            [BOTH, TCP]
                .map(|port| (TcpListener::bind(at(there, port)).unwrap(), udp(at(there, port))))
        });
        let refused = |to: SocketAddr| {
            let outcome = TcpStream::connect(to);
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
        };
        for attended in [false, true] {
            if attended {
                attend(&mut cache);
            }
            for [own, _] in PAIRS {
                let (of_both, of_tcp) = (at(own, BOTH), at(own, TCP));
                refused(at(own, NOBODYS));
                unheard(any(of_tcp), of_tcp);
                if !attended {
                    refused(of_both);
                }
                other.run(|| refused(of_both)).unwrap();
                other.run(|| unheard(any(of_both), of_both)).unwrap();
            }
            refused(at("127.0.0.2", BOTH));
        }
        // one that nothing stands in for any more
        let mut fewer = stand_ins();
        fewer.remove(&PAIRS[1][0].parse().unwrap());
        cache.stand_in(fewer).unwrap();
        TcpStream::connect(at(PAIRS[0][0], BOTH)).unwrap();
        refused(at(PAIRS[1][0], BOTH));
        drop(listeners);
    });
}

#[test]
fn a_successor_attends_them_in_place_of_its_predecessor_and_nobody_does_once_pins_are_gone() {
    with_pins(|bed, folder| {
        furnish();
        let adopt = || FlowCache::load_pinned(bed.settings, folder).unwrap();
        let [own, there] = PAIRS[0];
        let _listener = TcpListener::bind(at(there, BOTH)).unwrap();
        let mut first = adopt();
        attend(&mut first);
        let reach = || TcpStream::connect(at(own, BOTH)).map(drop);
        reach().unwrap();
        let mut second = adopt();
        second.attend(&Cgroup::root().unwrap()).unwrap();
        reach().unwrap();
        drop(first);
        reach().unwrap();
        // it knows what its predecessor has said
        second.stand_in(BTreeMap::new()).unwrap();
        assert_eq!(reach().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        second.stand_in(stand_ins()).unwrap();
        drop(second);
        reach().unwrap();
        remove_pins(folder).unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        // the kernel takes a program off a moment after the last file of it is gone
        while reach().is_ok() {
            assert!(Instant::now() < give_up, "it is still attended");
        }
    });
}

/// Runs a test where listeners can be where addresses stand in, with another node's network.
fn on_a_node(test: impl Fn(FlowCache, &Namespace) + Sync) {
    with_and_without_features(|bed| {
        let Some(other) = namespace("fast-other") else { return };
        other.netlink().unwrap().set_up("lo").unwrap();
        add(&other.netlink().unwrap(), own_addresses());
        bed.host
            .run(|| {
                furnish();
                test(FlowCache::load(bed.settings).unwrap(), &other);
            })
            .unwrap();
    });
}

/// Has processes be attended that mean the node's addresses.
fn attend(cache: &mut FlowCache) {
    cache.attend(&Cgroup::root().unwrap()).unwrap();
    cache.claim(frontends()).unwrap();
    cache.stand_in(stand_ins()).unwrap();
}

/// Has the network of this thread have the node's addresses, and those that stand in.
fn furnish() {
    let net = Netlink::host().unwrap();
    net.set_up("lo").unwrap();
    add(&net, own_addresses());
    add(&net, PAIRS.iter().map(|[_, there]| *there).chain(CLIENTS));
}

fn add(net: &Netlink, addresses: impl Iterator<Item = &'static str>) {
    for address in addresses {
        let length = if address.contains(':') { 128 } else { 32 };
        net.add_address("lo", format!("{address}/{length}").parse().unwrap()).unwrap();
    }
}

/// But for those that a loopback has anyway.
fn own_addresses() -> impl Iterator<Item = &'static str> {
    PAIRS.iter().map(|[own, _]| *own).filter(|own| !LOOPBACK.contains(own))
}

fn frontends() -> Vec<Frontend> {
    let ports = [(BOTH, 6), (BOTH, 17), (TCP, 6)];
    let of = |there: &str| ports.map(|(port, protocol)| Frontend { at: at(there, port), protocol });
    PAIRS.iter().flat_map(|[_, there]| of(there)).collect()
}

fn stand_ins() -> BTreeMap<IpAddr, IpAddr> {
    PAIRS.iter().map(|pair| pair.map(|it| it.parse().unwrap()).into()).collect()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn any(of: SocketAddr) -> IpAddr {
    if of.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }
}

/// One of the node's that nothing stands in for, and that does not stand in.
fn a_client(to: SocketAddr) -> IpAddr {
    CLIENTS[usize::from(to.is_ipv6())].parse().unwrap()
}

/// A connection from an address that is stated.
fn bound(from: IpAddr, to: SocketAddr) -> std::io::Result<()> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    Ok(connect(&socket, &to)?)
}

/// Answers whoever has asked.
fn answer(server: &UdpSocket) {
    let (_, from) = server.recv_from(&mut [0; 4]).unwrap();
    server.send_to(b"me", from).unwrap();
}

/// Nobody hears what is sent from this address.
fn unheard(from: IpAddr, to: SocketAddr) {
    let client = udp(SocketAddr::new(from, 0));
    client.connect(to).unwrap();
    client.send(b"who?").unwrap();
    assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn udp(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// The node's own addresses, and what stands in for each.
const PAIRS: [[&str; 2]; 4] = [
    ["127.0.0.1", "169.254.77.115"],
    ["192.0.2.1", "169.254.77.116"],
    ["::1", "fd6d::1"],
    ["2001:db8::1", "fd6d::2"],
];
const CLIENTS: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// Ports that are Services': with both protocols, with TCP alone, and none's.
const BOTH: u16 = 30_080;
const TCP: u16 = 30_081;
const NOBODYS: u16 = 30_082;
