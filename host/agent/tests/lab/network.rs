//! Who reaches whom in a lab, and as whom.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use ipnetwork::IpNetwork;
use millrace_netns::RouteTable;
use serde_json::Value;

use crate::bed::{Bed, PATIENCE, until};
use crate::talk::{ECHO, EXCHANGES, exchange};

#[test]
fn pods_on_two_nodes_reach_each_other_with_both_families() {
    let Some(bed) = Bed::up() else { return };
    let matrix = bed.done(&["probe", "--patience", "5s"]);
    assert!(!matrix.contains('!') && matrix.matches("ok").count() >= 6, "{matrix}");

    let probes: Value =
        serde_json::from_str(&bed.done(&["probe", "--patience", "5s", "-o", "json"])).unwrap();
    let probes = probes.as_array().expect("a list");
    for (from, to) in [("shop", "cart"), ("shop", "bank"), ("bank", "cart")] {
        for by in ["tcp", "udp", "ping"] {
            let ours = probes.iter().filter(|probe| {
                probe["from"] == format!("default/{from}")
                    && probe["to"] == format!("default/{to}")
                    && probe["by"] == by
            });
            let families: Vec<bool> = ours
                .map(|probe| probe["address"].as_str().expect("an address").contains(':'))
                .collect();
            assert_eq!(families, [false, true], "{from} to {to} by {by}");
        }
    }
}

#[test]
fn f3_nodes_and_pods_of_other_nodes_reach_each_other_and_pods_know_how_much_a_tunnel_takes() {
    let Some(bed) = Bed::up() else { return };
    let (_, nodes) = bed.node("west");
    let (_, pods) = bed.pod("bank");
    for (place, addresses) in [("shop", &nodes), ("node:east", &pods)] {
        for address in addresses {
            let ping = ["exec", place, "--", "ping", "-c", "1", "-W", "5", &address.to_string()];
            bed.done(&ping);
        }
    }
    // what VXLAN over IPv4 leaves of 1500, and what IP and ICMP leave of that
    assert_eq!(bed.mtu("shop"), 1450);
    for (address, payload) in pods.iter().zip(["1422", "1402"]) {
        let ping = ["ping", "-c", "1", "-W", "5", "-M", "do", "-s", payload, &address.to_string()];
        bed.done(&[&["exec", "shop", "--"], &ping[..]].concat());
    }
}

#[test]
fn packets_between_nodes_are_as_they_are_where_the_underlay_knows_the_way() {
    for (mode, underlay, leaves, mtu) in [
        ("native", "flat", "eth0", 1500),
        ("auto", "flat", "eth0", 1500),
        ("auto", "routed", "node:west", 1450),
    ] {
        let arguments = ["--tunnel", mode, "--underlay", underlay];
        let Some(bed) = Bed::up_as(&arguments) else { return };
        let (shop, _) = bed.pod("shop");
        let (_, addresses) = bed.pod("bank");
        for address in addresses {
            let stream = exchange(&shop, SocketAddr::new(address, ECHO), "default/bank");
            let flow = bed.flow("east", &stream);
            assert_eq!(flow["original"]["egress"], leaves, "{arguments:?}: {flow:#}");
            for way in ["original", "reply"] {
                assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
            }
        }
        assert_eq!(bed.mtu("shop"), mtu, "{arguments:?}");
    }
}

#[test]
fn routes_between_nodes_come_back_when_the_link_that_they_are_by_was_down() {
    let Some(bed) = Bed::up_as(&["--tunnel", "native"]) else { return };
    let ((shop, _), (_, bank), (east, _)) = (bed.pod("shop"), bed.pod("bank"), bed.node("east"));
    let bank = SocketAddr::new(bank[0], ECHO);
    exchange(&shop, bank, "default/bank");
    let net = east.netlink().expect("it is there");
    let routes = || {
        let all = net.routes(RouteTable::MAIN).expect("netlink");
        let is_of_west = |to: IpNetwork| to.contains(bank.ip()) && to.prefix() > 0;
        all.into_iter().filter(move |it| is_of_west(it.destination))
    };
    assert_eq!(routes().count(), 1);
    let before = net.addresses_of("eth0").expect("netlink");
    net.set_down("eth0").expect("it is there");
    assert_eq!(routes().count(), 0);
    let refused = || bed.asked("east", &["status"])["refused"].to_string();
    until(|| refused().contains("node `west`").then_some(()));
    net.set_up("eth0").expect("it is there");
    // addresses of IPv6 go, too, and come back by whoever has given them
    let after = net.addresses_of("eth0").expect("netlink");
    for address in before.into_iter().filter(|it| it.is_ipv6() && !after.contains(it)) {
        net.add_address("eth0", address).expect("it is free");
    }
    until(|| (routes().count() == 1).then_some(()));
    exchange(&shop, bank, "default/bank");
    until(|| (!refused().contains("node `west`")).then_some(()));
}

#[test]
fn f9_pods_send_to_what_is_outside_from_their_nodes_address() {
    let Some(bed) = Bed::up() else { return };
    let (_, nodes) = bed.node("east");
    let world_wide = bed.state()["outside"]["worldWide"].clone();
    let world_wide: Vec<IpAddr> = serde_json::from_value(world_wide).unwrap();
    let (shop, _) = bed.pod("shop");
    let outside = bed.outside();
    // where nothing but the default route leads to
    for (beyond, node) in world_wide.into_iter().zip(nodes) {
        let listener = outside.run(|| TcpListener::bind((beyond, 0))).unwrap().unwrap();
        let server = listener.local_addr().unwrap();
        let mut stream = shop.run(|| TcpStream::connect(server)).unwrap().unwrap();
        let (mut accepted, client) = listener.accept().unwrap();
        assert_eq!(client.ip(), node);
        assert!(client.port() >= FIRST_MASQUERADED, "{client}");
        let mut bytes = [0; 5];
        for _ in 0..EXCHANGES {
            stream.write_all(b"there").unwrap();
            accepted.read_exact(&mut bytes).unwrap();
            accepted.write_all(&bytes).unwrap();
            stream.read_exact(&mut bytes).unwrap();
        }
        let flow = bed.flow("east", &stream);
        assert_eq!(flow["original"]["egress"], "eth0", "{flow:#}");
        assert_eq!(flow["reply"]["destination"], client.to_string(), "{flow:#}");
        for way in ["original", "reply"] {
            assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
        }

        bed.done(&["exec", "shop", "--", "ping", "-c", "1", "-W", "5", &beyond.to_string()]);
        // nobody is there, and the pod hears of it
        let any = if beyond.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let bind = || UdpSocket::bind(any);
        let socket = shop.run(bind).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((beyond, 9)).unwrap();
        socket.send(b"x").unwrap();
        let error = socket.recv(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    let key = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let reserved = bed.done(&["exec", "node:east", "--", "cat", key]);
    assert!(reserved.starts_with(&format!("{FIRST_MASQUERADED}-")), "{reserved}");
}

#[test]
fn a_node_is_on_the_network_as_itself_with_its_agent_and_without_f7() {
    let Some(bed) = Bed::up() else { return };
    let state = bed.state();
    let (host, addresses) = bed.node("east");
    let outside = bed.outside();
    let reach = || {
        for address in &addresses {
            let listener = host.run(|| TcpListener::bind((*address, 0))).unwrap().unwrap();
            let server = listener.local_addr().unwrap();
            let mut stream = outside.run(|| TcpStream::connect(server)).unwrap().unwrap();
            let (mut accepted, client) = listener.accept().unwrap();
            assert_eq!(client, stream.local_addr().unwrap());
            let mut byte = [0];
            stream.write_all(b"x").unwrap();
            accepted.read_exact(&mut byte).unwrap();
            accepted.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();

            let ping = ["exec", "outside", "--", "ping", "-c", "1", "-W", "5"];
            bed.done(&[&ping[..], &[&*address.to_string()]].concat());
        }
    };
    reach();
    let programs = state["programs"].as_array().unwrap();
    let agent = programs.iter().find(|it| it["role"]["agent"]["node"] == "east");
    let pid = agent.expect("it runs")["process"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    until(|| bed.done(&["status"]).contains("ended").then_some(()));
    reach();
}

impl Bed {
    /// How much the interface of a pod takes, as the kernel's procfs has it: `ip link` asks after
    /// every named namespace of the machine, and complains of one that is just being made.
    fn mtu(&self, pod: &str) -> u32 {
        let of = "/proc/sys/net/ipv6/conf/eth0/mtu";
        self.done(&["exec", pod, "--", "cat", of]).trim().parse().expect("it is a number")
    }
}

/// The first of the ports that sources are masqueraded to.
const FIRST_MASQUERADED: u16 = 49_152;
