//! Uplinks: what of a host's own link is for pods, and that the rest stays the host's.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use millrace_fastpath::{
    Counter, Egress, FlowCache, Forward, Frontend, Hop, Key, PortId, Prefix, Protocol, Remote,
    Translation, Uplink, Verdict,
};
use millrace_netns::{Namespace, Neighbour, Route, VethSpec, VxlanMode, VxlanSpec};

use crate::bed::{
    Bed, GATEWAY_MAC, PODS, counts, index, ip, mac, namespace, port, with_and_without_features,
};
use crate::edges::Wire;

#[test]
fn pods_send_from_the_nodes_address_and_answers_find_them() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, _punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            cache.reserve([MASQUERADED]).unwrap();
            for family in [4, 6] {
                join(&mut cache, family);
                let pod = bed.udp(0, family, 1000);
                let there = udp(&outside, there(family, 2000));
                pod.send_to(b"there", there.local_addr().unwrap()).unwrap();
                let mut bytes = [0; 16];
                let (length, from) = there.recv_from(&mut bytes).unwrap();
                assert_eq!((&bytes[..length], from), (&b"there"[..], here(family, MASQUERADED)));
                there.send_to(b"back", from).unwrap();
                let (length, from) = pod.recv_from(&mut bytes).unwrap();
                assert_eq!((&bytes[..length], from), (&b"back"[..], there.local_addr().unwrap()));
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 4, "{:?}", counts(&cache));
        });
    });
}

#[test]
fn f7_what_is_not_for_pods_is_the_hosts_with_the_cache_and_without() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, _punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            cache.reserve([MASQUERADED]).unwrap();
            let reach = |hosts: u16| {
                for family in [4, 6] {
                    let listener = TcpListener::bind(here(family, hosts)).unwrap();
                    let connect = || TcpStream::connect(here(family, hosts));
                    let mut stream = outside.run(connect).unwrap().unwrap();
                    stream.write_all(b"x").unwrap();
                    let (_, from) = listener.accept().unwrap();
                    assert_eq!(from, stream.local_addr().unwrap());

                    let address = here(family, 0).ip().to_string();
                    let ping = ["-c", "1", "-W", "5", &address];
                    assert!(outside.command("ping").args(ping).output().unwrap().status.success());
                    // and the host's own echo is answered
                    let address = there(family, 0).ip().to_string();
                    let ping = ["-c", "1", "-W", "5", &address];
                    assert!(bed.host.command("ping").args(ping).output().unwrap().status.success());
                }
            };
            // as a program that asked for it by number
            reach(MASQUERADED - 1);
            let untouched = |cache: &FlowCache| {
                counts(cache).into_iter().all(|(counter, count)| match counter {
                    // pods and the outside look for routers
                    Counter::MissProtocol | Counter::MissOptions => true,
                    _ => count == 0,
                })
            };
            assert!(untouched(&cache), "{:?}", counts(&cache));
            // user space is dead: the node stays on the network
            cache.beat(Duration::ZERO).unwrap();
            reach(MASQUERADED + 1);
            drop(cache);
            reach(MASQUERADED);
        });
    });
}

#[test]
fn what_is_for_pods_is_punted_and_so_are_errors_and_echoes_they_asked_for() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, mut punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            cache.reserve([MASQUERADED]).unwrap();
            let mut punted = |family: u8, protocol: u8| {
                let ethertype = if family == 4 { 0x0800 } else { 0x86dd };
                punt_end.await_frame(|frame| {
                    frame.vlan() == Some(UPLINK.number())
                        && frame.ethertype() == ethertype
                        && frame.transport() == Some(protocol)
                });
            };
            for (family, icmp) in [(4, 1), (6, 58)] {
                let socket = udp(&outside, there(family, 2000));
                socket.send_to(b"x", SocketAddr::new(ip(0, family), 1000)).unwrap();
                punted(family, 17);
                socket.send_to(b"x", here(family, MASQUERADED)).unwrap();
                punted(family, 17);

                // nobody is at that port
                join(&mut cache, family);
                drop(socket);
                let pod = bed.udp(0, family, 1000);
                pod.send_to(b"x", there(family, 2000)).unwrap();
                punted(family, icmp);

                // of the host's echoes, here for a pod's
                let peer = there(family, 0).ip();
                let ping = |identifier: &str| {
                    let ping = ["-c", "1", "-W", "1", "-e", identifier, &peer.to_string()];
                    bed.host.command("ping").args(ping).output().unwrap().status.success()
                };
                assert!(ping("77"), "it is the host's");
                cache.expect_echo(peer, 77).unwrap();
                assert!(!ping("77"));
                punted(family, icmp);
                assert!(ping("78"), "it is another");
                cache.forget_echo(peer, 77).unwrap();
                assert!(ping("77"), "it is the host's again");
            }
        });
    });
}

#[test]
fn where_services_are_reached_is_punted_and_the_hosts_again_when_it_is_none_any_more() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, mut punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            let net = outside.netlink().unwrap();
            let virtuals = [4, 6].map(|family| (family, beyond(family)));
            for (family, address) in virtuals {
                let to = route_to(address).via(here(family, 0).ip());
                net.add_route(&to).unwrap();
            }
            let frontends = virtuals.into_iter().flat_map(|(family, address)| {
                [here(family, NODE_PORT), SocketAddr::new(address, 80)]
                    .map(|at| Frontend { at, protocol: 17 })
            });
            cache.claim(frontends).unwrap();
            for (family, address) in virtuals {
                let client = udp(&outside, there(family, 2000));
                let hosts = udp(&bed.host, here(family, NODE_PORT));
                for to in [here(family, NODE_PORT), SocketAddr::new(address, 80)] {
                    client.send_to(b"x", to).unwrap();
                    punt_end.await_frame(|frame| {
                        frame.vlan() == Some(UPLINK.number()) && frame.transport() == Some(17)
                    });
                }
                // the same port with another protocol is nobody's but the host's
                let listener = bed.host.run(|| TcpListener::bind(here(family, NODE_PORT)));
                let listener = listener.unwrap().unwrap();
                let connect = || TcpStream::connect(here(family, NODE_PORT));
                outside.run(connect).unwrap().unwrap();
                listener.accept().unwrap();
                drop(hosts);
            }
            cache.claim([]).unwrap();
            for (family, _) in virtuals {
                let client = udp(&outside, there(family, 2000));
                let hosts = udp(&bed.host, here(family, NODE_PORT));
                client.send_to(b"x", here(family, NODE_PORT)).unwrap();
                assert_eq!(hosts.recv_from(&mut [0; 4]).unwrap().1, client.local_addr().unwrap());
            }
        });
    });
}

#[test]
fn f5_later_fragments_are_for_whom_the_first_one_is() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, mut punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            let frontend = |family| Frontend { at: here(family, NODE_PORT), protocol: 17 };
            cache.claim([4, 6].map(frontend)).unwrap();
            let mut received = [0; 5000];
            for family in [4, 6] {
                let client = udp(&outside, there(family, 2000));
                let hosts = udp(&bed.host, here(family, NODE_PORT + 1));
                for _ in 0..3 {
                    client.send_to(&[7; 4000], here(family, NODE_PORT)).unwrap();
                    for _ in 0..3 {
                        punt_end.await_frame(|frame| {
                            frame.vlan() == Some(UPLINK.number()) && frame.length > 500
                        });
                    }
                    client.send_to(&[7; 4000], here(family, NODE_PORT + 1)).unwrap();
                    assert_eq!(hosts.recv(&mut received).unwrap(), 4000);
                }
            }
            assert_eq!(cache.count(Counter::MissFragment).unwrap(), 2 * 3 * 3);
        });
    });
}

#[test]
fn an_error_about_a_fragment_is_a_services_if_that_was() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        bed.run(|mut cache, mut punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            cache.claim([Frontend { at: here(6, NODE_PORT), protocol: 17 }]).unwrap();
            let wire = outside.run(|| Wire::open("eth0")).unwrap();
            // the second cannot say whose it was
            for place in [0, 1480] {
                wire.send(&too_big(place));
            }
            // and what comes behind them is for pods
            let client = udp(&outside, there(6, 2000));
            client.send_to(b"x", here(6, NODE_PORT)).unwrap();
            let mut next = || {
                let frame = punt_end.await_frame(|it| it.vlan() == Some(UPLINK.number()));
                frame.transport()
            };
            assert_eq!([next(), next()], [Some(58), Some(17)]);
        });
    });
}

/// Somebody outside says that a fragment of what a Service has answered is too big.
fn too_big(place: u16) -> Vec<u8> {
    let address = |at: SocketAddr| match at.ip() {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => unreachable!("it is of IPv6"),
    };
    let header = |next: u8, length: u16, from: SocketAddr, to: SocketAddr| {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([next, 64]);
        [header, address(from).to_vec(), address(to).to_vec()].concat()
    };
    let more = place | 1;
    let fragment = [&[17, 0][..], &more.to_be_bytes(), &7u32.to_be_bytes()].concat();
    let udp = [NODE_PORT, 2000, 4008, 0].map(u16::to_be_bytes).concat();
    let quoted = header(44, 1488, here(6, NODE_PORT), there(6, 2000));
    let message = [vec![2, 0, 0, 0, 0, 0, 5, 0], quoted, fragment, udp].concat();
    let ip = header(58, message.len() as u16, there(6, 0), here(6, 0));
    // to whoever is on the wire
    let ethernet = [&[0xff; 6][..], &mac(1), &[0x86, 0xdd]].concat();
    [ethernet, ip, message].concat()
}

#[test]
fn a_pods_address_is_not_believed_from_outside() {
    with_and_without_features(|bed| {
        let outside = outside(&bed);
        // a pod here; and one behind a tunnel
        let forged = [["10.8.0.99", "10.9.0.99"], ["fd08::99", "fd09::99"]];
        let net = outside.netlink().unwrap();
        for address in forged.as_flattened() {
            net.add_address("lo", address.parse().unwrap()).unwrap();
        }
        bed.run(|mut cache, _punt_end| {
            cache.add_uplink(UPLINK, &uplink()).unwrap();
            let owns = [("10.9.0.0", 24), ("fd09::", 64)];
            let owns = owns.map(|(address, length)| prefix(address, length)).to_vec();
            let [address, node] =
                ["192.0.2.9", "192.0.1.2"].map(|it| it.parse::<IpAddr>().unwrap());
            let has = vec![Prefix { address: node, length: 32 }];
            let remote = Remote { link: index("vx0"), vni: 1, address, owns, has };
            cache.add_remote(PortId::new(201).unwrap(), remote).unwrap();

            for (family, sources) in [4, 6].into_iter().zip(forged) {
                let host = udp(&bed.host, here(family, 3000));
                for source in sources {
                    let before = cache.count(Counter::DropForged).unwrap();
                    let socket = udp(&outside, SocketAddr::new(source.parse().unwrap(), 2000));
                    // to the host, and to a pod
                    socket.send_to(b"forged", here(family, 3000)).unwrap();
                    socket.send_to(b"forged", SocketAddr::new(ip(0, family), 1000)).unwrap();
                    until(|| cache.count(Counter::DropForged).unwrap() == before + 2);
                }
                // a node's own address is not a pod's
                udp(&outside, there(family, 2000)).send_to(b"x", here(family, 3000)).unwrap();
                let mut bytes = [0; 16];
                assert_eq!(host.recv_from(&mut bytes).unwrap().1, there(family, 2000));
            }
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 0, "{:?}", counts(&cache));
        });
    });
}

/// A host outside, on a wire to the bed's host; and a link of tunnels there.
fn outside(bed: &Bed) -> Namespace {
    let outside = namespace("fast-outside").unwrap();
    let (host, net) = (bed.host.netlink().unwrap(), outside.netlink().unwrap());
    host.add_veth(&VethSpec::new("up0", "eth0").peer_namespace(&outside)).unwrap();
    for (side, net, link, place) in [
        (&bed.host, &host, "up0", here as fn(u8, u16) -> SocketAddr),
        (&outside, &net, "eth0", there),
    ] {
        side.set_sysctl(&format!("net.ipv6.conf.{link}.accept_dad"), "0").unwrap();
        side.set_sysctl("net.ipv4.ping_group_range", "0 2147483647").unwrap();
        net.set_up("lo").unwrap();
        net.set_up(link).unwrap();
        for (family, length) in [(4, 24), (6, 64)] {
            let address = format!("{}/{length}", place(family, 0).ip());
            net.add_address(link, address.parse().unwrap()).unwrap();
        }
    }
    host.add_vxlan(&VxlanSpec::new("vx0", VxlanMode::External)).unwrap();
    for (family, pods, length) in [(4, "10.8.0.0/24", 24), (6, "fd08::/64", 64)] {
        let route = Route::to(pods.parse().unwrap()).via(here(family, 0).ip());
        net.add_route(&route).unwrap();
        let pod = bed.pods[0].netlink().unwrap();
        let beyond = format!("{}/{length}", if family == 4 { "192.0.1.0" } else { "2001:db8:1::" });
        pod.add_route(&Route::to(beyond.parse().unwrap()).link("eth0")).unwrap();
        let gateway = Neighbour::permanent("eth0", there(family, 0).ip(), GATEWAY_MAC);
        pod.add_neighbour(&gateway).unwrap();
    }
    outside
}

fn uplink() -> Uplink {
    Uplink {
        link: index("up0"),
        gateway_mac: GATEWAY_MAC,
        addresses: [4, 6].map(|family| here(family, 0).ip()).to_vec(),
        pods: vec![prefix("10.8.0.0", 24), prefix("fd08::", 64)],
        tunnel_port: Some(4789),
    }
}

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix { address: address.parse().unwrap(), length }
}

/// A port of the bed's host.
fn here(family: u8, port: u16) -> SocketAddr {
    let ip: IpAddr = if family == 4 { "192.0.1.1" } else { "2001:db8:1::1" }.parse().unwrap();
    SocketAddr::new(ip, port)
}

/// A port of the host outside.
fn there(family: u8, port: u16) -> SocketAddr {
    let ip: IpAddr = if family == 4 { "192.0.1.2" } else { "2001:db8:1::2" }.parse().unwrap();
    SocketAddr::new(ip, port)
}

/// An address that only Services have.
fn beyond(family: u8) -> IpAddr {
    if family == 4 { "203.0.113.10" } else { "2001:db8:f::10" }.parse().unwrap()
}

fn route_to(address: IpAddr) -> Route {
    let length = if address.is_ipv4() { 32 } else { 128 };
    Route::to(format!("{address}/{length}").parse().unwrap())
}

/// What pod 0 sends to port 2000 outside goes from the node's address, and answers come back.
fn join(cache: &mut FlowCache, family: u8) {
    let (pod, beyond) = (SocketAddr::new(ip(0, family), 1000), there(family, 2000));
    let node = here(family, MASQUERADED);
    let way = |egress, destination_mac, source, destination| Forward {
        egress,
        destination_mac,
        source_mac: GATEWAY_MAC,
        mtu: 1500,
        hop: Hop::Routed,
        translation: Some(Translation { source, destination }),
    };
    let key = |from, source, destination| Key::new(from, Protocol::Udp, source, destination);
    let out = way(Egress::Neighbour(index("up0")), GATEWAY_MAC, node, beyond);
    let back = way(Egress::Peer(index(PODS[0])), mac(0), beyond, pod);
    for (key, way) in
        [(key(port(0), pod, beyond), out), (key(PortId::UNDERLAY, beyond, node), back)]
    {
        cache.insert(&key.unwrap(), &Verdict::Forward(way)).unwrap();
    }
}

/// A socket at an address that may have been another one's until now: processes that other tests
/// start have all descriptors until they are what they are to be.
fn udp(at: &Namespace, address: SocketAddr) -> UdpSocket {
    let mut socket = None;
    until(|| {
        socket = match at.run(|| UdpSocket::bind(address)).unwrap() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            bound => Some(bound.unwrap()),
        };
        socket.is_some()
    });
    let socket = socket.expect("it was awaited");
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "what is awaited does not come");
        std::thread::yield_now();
    }
}

const UPLINK: PortId = PortId::new(300).unwrap();
/// What pod 0 sends from, on the node's address.
const MASQUERADED: u16 = 50_000;
/// Where a Service is reached at the node's address.
const NODE_PORT: u16 = 30_080;
