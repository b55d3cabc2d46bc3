//! Nodes with another interface than the one that the cluster knows them by.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use millrace_netns::{Namespace, Route, RouteTable, VethSpec};

use crate::bed::{Bed, PATIENCE, until};

#[test]
fn f9_what_is_behind_another_interface_is_reached_by_it_and_sees_its_address() {
    let Some(bed) = Bed::up() else { return };
    let store = Store::beside(&bed, "east");
    bed.done(&["restart", "east"]);
    for family in [0, 1] {
        bed.is_reached_by_store(&store, STORE[family], NEAR[family]);
    }
}

#[test]
fn f9_pods_send_by_the_interface_that_has_the_hosts_default_route() {
    let Some(bed) = Bed::up() else { return };
    let store = Store::beside(&bed, "east");
    let (host, _) = bed.node("east");
    let host = host.netlink().expect("it is there");
    for route in host.routes(RouteTable::MAIN).expect("the host's routes") {
        if route.destination.prefix() == 0 {
            host.remove_route(&route).expect("it is there");
        }
    }
    for family in [0, 1] {
        let everywhere = EVERYWHERE[family].parse().expect("a prefix");
        let own: IpAddr = STORE[family].parse().expect("an address");
        host.add_route(&Route::to(everywhere).via(own).link(LINK)).expect("it has the address");
    }
    bed.done(&["restart", "east"]);
    for family in [0, 1] {
        bed.is_reached_by_store(&store, BEYOND[family], NEAR[family]);
    }
    // what is behind the other one is still there
    let (outside, (_, nodes)) = (bed.outside(), bed.node("west"));
    let (shop, _) = bed.pod("shop");
    let listener = outside.run(|| TcpListener::bind("0.0.0.0:0")).unwrap().unwrap();
    let gateway = outside.netlink().unwrap().addresses().unwrap().into_iter().find_map(|it| {
        let subnet = ipnetwork::IpNetwork::new(nodes[0], it.network.prefix()).ok()?;
        (it.network.is_ipv4() && it.network.network() == subnet.network()).then(|| it.network.ip())
    });
    let to = (gateway.expect("it is in the nodes' subnet"), listener.local_addr().unwrap().port());
    let stream = shop.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (_, client) = listener.accept().unwrap();
    assert_eq!(client.ip(), bed.node("east").1[0]);
    drop(stream);
}

#[test]
fn f9_an_interface_that_comes_while_the_agent_runs_is_used_and_one_that_goes_is_not() {
    let Some(bed) = Bed::up() else { return };
    let store = Store::beside(&bed, "east");
    for family in [0, 1] {
        bed.await_way_to(&store, STORE[family]);
        bed.is_reached_by_store(&store, STORE[family], NEAR[family]);
    }
    // a route alone, to what the store has behind it
    let (host, _) = bed.node("east");
    let host = host.netlink().expect("it is there");
    for (to, via) in BEYOND.into_iter().zip(STORE) {
        let to: IpAddr = to.parse().expect("an address");
        let via = via.parse().expect("an address");
        host.add_route(&Route::to(to.into()).via(via)).expect("the store is on the link");
    }
    for family in [0, 1] {
        bed.await_way_to(&store, BEYOND[family]);
        bed.is_reached_by_store(&store, BEYOND[family], NEAR[family]);
    }
    host.delete_link(LINK).expect("it is there");
    until(|| {
        let ports = bed.asked("east", &["ports"]);
        let ports = ports.as_array().expect("it has some");
        ports.iter().all(|port| port["name"] != LINK).then_some(())
    });
}

/// A host that a node has an interface for, and that knows the way to nobody else.
struct Store(Namespace);

impl Store {
    fn beside(bed: &Bed, node: &str) -> Self {
        let store = Namespace::create_unique("lab-store").expect("the lab is there as well");
        let (node, _) = bed.node(node);
        let (near, far) = (node.netlink().expect("netlink"), store.netlink().expect("netlink"));
        near.add_veth(&VethSpec::new(LINK, LINK).peer_namespace(&store)).expect("the name is free");
        for (net, addresses) in [(&near, NEAR), (&far, STORE)] {
            for (address, length) in addresses.into_iter().zip([24, 64]) {
                let network = format!("{address}/{length}").parse().expect("an address");
                net.add_address(LINK, network).expect("it is nobody else's");
            }
            net.set_up(LINK).expect("it is there");
        }
        far.set_up("lo").expect("it is there");
        for (address, length) in BEYOND.into_iter().zip([32, 128]) {
            let network = format!("{address}/{length}").parse().expect("an address");
            far.add_address("lo", network).expect("it is nobody else's");
        }
        Self(store)
    }
}

impl Bed {
    /// Waits until the agent has seen how the store is reached.
    fn await_way_to(&self, store: &Store, address: &str) {
        let there: IpAddr = address.parse().expect("an address");
        let any = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let (shop, _) = self.pod("shop");
        let server = store.0.run(|| UdpSocket::bind((there, 0))).expect("a namespace");
        let server = server.expect("it has the address");
        server.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        until(|| {
            // each with a port of its own: what was decided for another one stays
            let socket = shop.run(|| UdpSocket::bind(any)).expect("a namespace").expect("a port");
            socket.send_to(b"x", server.local_addr().expect("bound")).expect("there is a route");
            server.recv(&mut [0]).ok()
        });
    }

    /// Has a pod of the node talk to the store, which is to take it for the node there.
    fn is_reached_by_store(&self, store: &Store, address: &str, node: &str) {
        let [there, node]: [IpAddr; 2] = [address, node].map(|it| it.parse().expect("an address"));
        let (shop, _) = self.pod("shop");
        for talk in [by_tcp, by_udp] {
            let client = talk(self, &shop, &store.0, there).expect("they reach each other");
            assert_eq!(client, node);
        }
        self.done(&["exec", "shop", "--", "ping", "-c", "1", "-W", "5", address]);
    }
}

/// Whom the store takes the pod for.
fn by_tcp(bed: &Bed, shop: &Namespace, store: &Namespace, there: IpAddr) -> io::Result<IpAddr> {
    let listener = store.run(|| TcpListener::bind((there, 0))).expect("a namespace")?;
    let server = listener.local_addr()?;
    let connect = || TcpStream::connect_timeout(&server, PATIENCE);
    let mut stream = shop.run(connect).expect("a namespace")?;
    let (mut accepted, client) = listener.accept()?;
    let mut byte = [0];
    stream.write_all(b"x")?;
    accepted.read_exact(&mut byte)?;
    accepted.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    let flow = bed.flow("east", &stream);
    assert_eq!(flow["original"]["egress"], LINK, "{flow:#}");
    Ok(client.ip())
}

/// Whom the store takes the pod for.
fn by_udp(_: &Bed, shop: &Namespace, store: &Namespace, there: IpAddr) -> io::Result<IpAddr> {
    let any = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let server = store.run(|| UdpSocket::bind((there, 0))).expect("a namespace")?;
    let socket = shop.run(|| UdpSocket::bind(any)).expect("a namespace")?;
    for socket in [&server, &socket] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut byte = [0];
    socket.connect(server.local_addr()?)?;
    socket.send(b"x")?;
    let (_, client) = server.recv_from(&mut byte)?;
    server.send_to(b"y", client)?;
    socket.recv(&mut byte)?;
    assert_eq!(byte, *b"y");
    Ok(client.ip())
}

/// The other interface, at either end.
const LINK: &str = "eth1";
const NEAR: [&str; 2] = ["198.51.100.1", "fd51::1"];
const STORE: [&str; 2] = ["198.51.100.2", "fd51::2"];
/// Behind the store.
const BEYOND: [&str; 2] = ["203.0.113.9", "fd52::9"];
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
