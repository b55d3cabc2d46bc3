//! What processes of a node reach by its own addresses, which they never leave it by: node ports and
//! pods' ports of the node (S11, S14, S27).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use millrace_netns::Namespace;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::bed::{Bed, NODES, PATIENCE, until};
use crate::outside::{EVERYWHERE, HERE, ON_EAST, Seen, Shop};
use crate::talk::{Talk, ask};

#[test]
fn s10_s11_s14_the_host_reaches_all_endpoints_by_its_own_node_ports_and_is_masqueraded() {
    let Some(shop) = Shop::open() else { return };
    let (host, _) = shop.bed.node("east");
    for family in [0, 1] {
        for own in [shop.nodes[0][family], LOOPBACK[family]] {
            for port in [EVERYWHERE, HERE] {
                let place = SocketAddr::new(own, port);
                let seen = shop.served(&host, place, &["near", "far"]);
                assert_eq!(seen, Seen::Another, "{place}");
                // it knows nothing of another address
                let talk = Talk::open(&host, place).expect("somebody serves");
                assert_eq!(talk.stream.peer_addr().expect("it is connected"), place);
            }
            datagram(&host, SocketAddr::new(own, EVERYWHERE));
            // nothing leaves the loopback with its address: nobody is there, as with kube-proxy's nftables
            let place = SocketAddr::new(own, EVERYWHERE);
            if own.is_loopback() {
                let error = host.run(|| bound(own, place)).expect("a namespace");
                let error = error.expect_err("it stays on the loopback");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{place}");
            }
        }
        // S10: within the cluster nobody is sent away because endpoints are elsewhere
        let (west, _) = shop.bed.node("west");
        let place = SocketAddr::new(shop.nodes[1][family], ON_EAST);
        assert_eq!(ask(&west, place).expect("it is answered").1.server, "default/near");
    }
}

#[test]
fn s11_what_stands_in_for_a_nodes_addresses_is_nobody_elses_to_reach() {
    let Some(shop) = Shop::open() else { return };
    let (pod, _) = shop.bed.pod("client");
    let (host, [own]) = (shop.bed.node("east").0, [shop.nodes[0][0]]);
    let mut talk = Talk::open(&host, SocketAddr::new(own, EVERYWHERE)).expect("it serves");
    talk.say("who").expect("it is answered");
    let flows = shop.bed.asked("east", &["flows"]);
    let flows = flows["flows"].as_array().expect("a list");
    let to = |flow: &serde_json::Value| flow["original"]["destination"].as_str().map(str::to_owned);
    let stands_in = flows.iter().filter_map(to).find(|it| it.starts_with("169.254."));
    let stands_in: SocketAddr = stands_in.expect("the host's").parse().expect("a place");
    let before = dropped(&shop.bed);
    let socket = pod.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap().unwrap();
    socket.send_to(b"anybody?", stands_in).unwrap();
    until(|| (dropped(&shop.bed) > before).then_some(()));
}

#[test]
fn s27_ports_of_pods_are_the_nodes_and_each_address_and_protocol_can_be_another_pods() {
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let (east, addresses) = bed.node("east");
    let node = addresses[0];
    let port = |own| SocketAddr::new(own, HOST_PORT);
    let tcp = |from: &Namespace, to: SocketAddr| {
        let talk = Talk::open(from, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        page(talk.stream)
    };
    assert_eq!(tcp(&east, port(LOOPBACK[0])), "default/loopback");
    assert_eq!(tcp(&east, port(node)), "default/node");
    assert_eq!(ask(&east, port(node)).expect("it is answered").1.server, "default/datagrams");
    // from an address of its own, as from any other
    let bound = east.run(|| bound(node, port(LOOPBACK[0]))).expect("a namespace");
    assert_eq!(page(bound.expect("somebody serves")), "default/loopback");

    for from in [&bed.pod("client").0, &bed.outside(), &bed.node("west").0] {
        assert_eq!(tcp(from, port(node)), "default/node");
        assert_eq!(ask(from, port(node)).expect("it is answered").1.server, "default/datagrams");
        let error = Talk::open(from, port(LOOPBACK[0])).err().expect("it is another's loopback");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Asks from a socket without a peer, which is told who answers.
fn datagram(from: &Namespace, to: SocketAddr) {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = from.run(|| UdpSocket::bind((any, 0))).expect("a namespace").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is open");
    socket.send_to(b"who", to).expect("there is a way");
    let (_, answers) = socket.recv_from(&mut [0; 512]).expect("it is answered");
    assert_eq!(answers, to);
}

/// The page that is there: the name of the pod that serves it.
fn page(mut stream: TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    answer.lines().last().expect("there is a page").to_owned()
}

/// A connection from an address that is stated.
fn bound(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Packets that a node has dropped because of where they come from.
fn dropped(bed: &Bed) -> u64 {
    let drops = bed.asked("east", &["drops"]);
    let drops = drops.as_array().expect("a list").iter();
    let ours = drops.filter(|it| it["reason"] == "source-range");
    ours.filter_map(|it| it["packets"].as_u64()).sum()
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const HOST_PORT: u16 = 8007;
const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: loopback}, spec: {nodeName: east, containers:
 [{name: server, image: none, ports: [{containerPort: 8080, hostPort: 8007, hostIP: 127.0.0.1}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: node}, spec: {nodeName: east, containers:
 [{name: server, image: none, ports: [{containerPort: 8080, hostPort: 8007, hostIP: 172.30.0.11}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: datagrams}, spec: {nodeName: east, containers:
 [{name: server, image: none,
   ports: [{containerPort: 7, hostPort: 8007, protocol: UDP, hostIP: 172.30.0.11}]}]}}
";
