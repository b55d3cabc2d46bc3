//! Other nodes, behind VXLAN: what the kernel's own other end sends and receives.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use millrace_fastpath::{
    AttachError, Counter, Egress, FlowCache, Forward, Hop, Key, PortId, Prefix, Protocol, Remote,
    Verdict,
};
use millrace_netns::{Namespace, Neighbour, Route, VethSpec, VxlanMode, VxlanSpec};

use crate::bed::{
    Bed, GATEWAY_MAC, PODS, counts, index, ip, mac, namespace, with_and_without_features,
};

#[test]
fn packets_of_known_flows_go_to_another_node_and_come_from_it_in_both_families() {
    with_and_without_features(|bed| {
        for underlay in [4, 6] {
            let node = Node::new(&bed, 1, underlay, VNI);
            bed.run(|mut cache, _punt_end| {
                cache.add_remote(NODE, remote(1, underlay)).unwrap();
                for family in [4, 6] {
                    join(&mut cache, family);
                    let pod = bed.udp(0, family, 1000);
                    let there = node.udp(family, 2000);
                    exchange(&pod, &there);
                    // the way there is a hop, and so is the way back
                    for key in keys(family) {
                        assert_eq!(cache.usage(&key).unwrap().unwrap().packets, 1, "{key:?}");
                    }
                }
                assert_eq!(cache.count(Counter::Hit).unwrap(), 4, "{:?}", counts(&cache));
            });
        }
    });
}

#[test]
fn a_source_is_believed_from_the_node_that_has_it_alone() {
    with_and_without_features(|bed| {
        // all of them send from the same address
        let [_owner, other, elsewhere] =
            [(1, VNI), (2, VNI), (3, VNI + 1)].map(|(number, vni)| Node::new(&bed, number, 4, vni));
        bed.run(|mut cache, _punt_end| {
            cache.add_remote(NODE, remote(1, 4)).unwrap();
            let known = Remote { owns: Vec::new(), ..remote(2, 4) };
            cache.add_remote(PortId::new(201).unwrap(), known).unwrap();
            for family in [4, 6] {
                join(&mut cache, family);
            }
            for node in [&other, &elsewhere] {
                for family in [4, 6] {
                    let before = cache.count(Counter::DropForged).unwrap();
                    let pod = SocketAddr::new(ip(0, family), 1000);
                    node.udp(family, 2000).send_to(b"x", pod).unwrap();
                    until(|| cache.count(Counter::DropForged).unwrap() > before);
                }
            }
            assert_eq!(cache.count(Counter::Hit).unwrap(), 0, "{:?}", counts(&cache));
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 0);
        });
    });
}

#[test]
fn what_misses_is_punted_under_the_number_of_the_node() {
    with_and_without_features(|bed| {
        let node = Node::new(&bed, 1, 4, VNI);
        bed.run(|mut cache, mut punt_end| {
            cache.add_remote(NODE, remote(1, 4)).unwrap();
            for family in [4, 6] {
                node.udp(family, 2000).send_to(b"x", SocketAddr::new(ip(0, family), 1000)).unwrap();
                punt_end.await_frame(|frame| frame.vlan() == Some(NODE.number()));
            }
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 2, "{:?}", counts(&cache));
        });
    });
}

#[test]
fn a_node_that_is_no_port_any_more_is_neither_heard_nor_reached() {
    with_and_without_features(|bed| {
        let node = Node::new(&bed, 1, 4, VNI);
        bed.run(|mut cache, _punt_end| {
            cache.add_remote(NODE, remote(1, 4)).unwrap();
            let second = PortId::new(201).unwrap();
            cache.add_remote(second, Remote { owns: Vec::new(), ..remote(2, 4) }).unwrap();
            join(&mut cache, 4);
            assert!(cache.remove_remote(NODE).unwrap());
            assert!(!cache.remove_remote(NODE).unwrap());

            let before = cache.count(Counter::DropForged).unwrap();
            node.udp(4, 2000).send_to(b"x", SocketAddr::new(ip(0, 4), 1000)).unwrap();
            until(|| cache.count(Counter::DropForged).unwrap() > before);
            bed.udp(0, 4, 1000).send_to(b"x", SocketAddr::new(far(4), 2000)).unwrap();
            until(|| cache.count(Counter::DropGone).unwrap() == 1);
            assert_eq!(cache.count(Counter::Hit).unwrap(), 0, "{:?}", counts(&cache));

            // with the last node the program goes
            let link = index(TUNNEL);
            let error = cache.attach(link, NODE, Egress::Link(link)).unwrap_err();
            assert!(matches!(error, AttachError::IsPort(_)), "{error}");
            assert!(cache.remove_remote(second).unwrap());
            cache.attach(link, NODE, Egress::Link(link)).unwrap();
        });
    });
}

/// A node of its own kernel's making: a VXLAN link to the host of the bed.
struct Node {
    namespace: Namespace,
}

impl Node {
    fn new(bed: &Bed, number: u8, underlay: u8, vni: u32) -> Self {
        let namespace = namespace("fast-node").unwrap();
        let (host, net) = (bed.host.netlink().unwrap(), namespace.netlink().unwrap());
        let uplink = format!("up{number}");
        let _ = host.delete_link(&uplink);
        let veth = VethSpec::new(&uplink, "eth0").peer_namespace(&namespace).mtu(1600);
        host.add_veth(&veth).unwrap();
        let addresses = [1, 2].map(|end| place(number, end, underlay));
        let length = if underlay == 4 { 24 } else { 64 };
        for ((net, link, side), address) in
            [(&host, &*uplink, &bed.host), (&net, "eth0", &namespace)].into_iter().zip(addresses)
        {
            side.set_sysctl(&format!("net.ipv6.conf.{link}.accept_dad"), "0").unwrap();
            net.set_up(link).unwrap();
            let address = format!("{address}/{length}");
            net.add_address(link, address.parse().unwrap()).unwrap();
        }
        if host.link(TUNNEL).is_err() {
            host.add_vxlan(&VxlanSpec::new(TUNNEL, VxlanMode::External)).unwrap();
            bed.host.set_sysctl("net.ipv6.conf.vx0.disable_ipv6", "1").unwrap();
            host.set_up(TUNNEL).unwrap();
        }

        let mode = VxlanMode::PointToPoint { vni, remote: addresses[0] };
        net.add_vxlan(&VxlanSpec::new(TUNNEL, mode).local(addresses[1])).unwrap();
        namespace.set_sysctl("net.ipv6.conf.vx0.accept_dad", "0").unwrap();
        net.set_mac(TUNNEL, NODE_MAC).unwrap();
        net.set_up(TUNNEL).unwrap();
        for (family, length) in [(4, 24), (6, 64)] {
            net.add_address(TUNNEL, format!("{}/{length}", far(family)).parse().unwrap()).unwrap();
            let pod = Neighbour::permanent(TUNNEL, ip(0, family), GATEWAY_MAC);
            net.add_neighbour(&pod).unwrap();
            let to_pod = if family == 4 { "10.8.0.0/24" } else { "fd08::/64" };
            net.add_route(&Route::to(to_pod.parse().unwrap()).link(TUNNEL)).unwrap();

            let pod = bed.pods[0].netlink().unwrap();
            let back = if family == 4 { "10.9.0.0/24" } else { "fd09::/64" };
            let _ = pod.replace_route(&Route::to(back.parse().unwrap()).link("eth0"));
            let here = Neighbour::permanent("eth0", far(family), GATEWAY_MAC);
            pod.replace_neighbour(&here).unwrap();
        }
        Self { namespace }
    }

    fn udp(&self, family: u8, port: u16) -> UdpSocket {
        let address = SocketAddr::new(far(family), port);
        let socket = self.namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

/// What the node has behind its end of the tunnel.
fn far(family: u8) -> IpAddr {
    if family == 4 { "10.9.0.1" } else { "fd09::1" }.parse().unwrap()
}

/// An end of the wire to a node.
fn place(number: u8, end: u8, underlay: u8) -> IpAddr {
    let text = match underlay {
        4 => format!("192.0.{number}.{end}"),
        _ => format!("2001:db8:{number}::{end}"),
    };
    text.parse().unwrap()
}

fn remote(number: u8, underlay: u8) -> Remote {
    let owns = [(4, 24), (6, 64)].map(|(family, length)| Prefix { address: far(family), length });
    let address = place(number, 2, underlay);
    Remote { link: index(TUNNEL), vni: VNI, address, owns: owns.to_vec(), has: Vec::new() }
}

/// What pod 0 sends to the node, and the node to it.
fn keys(family: u8) -> [Key; 2] {
    let (pod, node) = (SocketAddr::new(ip(0, family), 1000), SocketAddr::new(far(family), 2000));
    let key = |from, source, destination| Key::new(from, Protocol::Udp, source, destination);
    let there = key(crate::bed::port(0), pod, node).unwrap();
    [there, key(PortId::UNDERLAY, node, pod).unwrap()]
}

fn join(cache: &mut FlowCache, family: u8) {
    let ways = [(Egress::Tunnel(NODE), NODE_MAC), (Egress::Peer(index(PODS[0])), mac(0))];
    for (key, (egress, destination_mac)) in keys(family).iter().zip(ways) {
        let way = Forward {
            egress,
            destination_mac,
            source_mac: GATEWAY_MAC,
            mtu: 1500,
            hop: Hop::Routed,
            translation: None,
        };
        cache.insert(key, &Verdict::Forward(way)).unwrap();
    }
}

fn exchange(pod: &UdpSocket, node: &UdpSocket) {
    pod.send_to(b"there", node.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 16];
    let (length, from) = node.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&b"there"[..], pod.local_addr().unwrap()));
    node.send_to(b"back", from).unwrap();
    let (length, from) = pod.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&b"back"[..], node.local_addr().unwrap()));
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "what is awaited does not come");
        std::thread::yield_now();
    }
}

const TUNNEL: &str = "vx0";
const VNI: u32 = 77;
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
const NODE: PortId = PortId::new(200).unwrap();
