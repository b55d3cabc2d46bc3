//! Pods behind virtual addresses, which an example filter translates: what the worker makes of
//! the first packet, and the kernel of the rest.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use millrace_dataplane::control::{CacheSettings, Crowded, PortRange, WithoutPort};
use millrace_netns::Route;
use millrace_packet_tests::built_in;

use crate::bed::{Bed, PATIENCE, Pod, await_some};

/// Two pods; the second is behind the virtual addresses 1, 2 and 4, the first behind 3.
pub(crate) fn node() -> Bed {
    routed(Bed::cached(2, 2))
}

/// Pods with a gateway, and with filters that know what each of them owns.
pub(crate) fn routed(bed: Bed) -> Bed {
    bed.pods.iter().for_each(leads_out);
    for (name, config) in configs(&bed) {
        bed.load(built_in(name, name, &config));
    }
    bed
}

/// Has a pod send to its gateway what is for others.
pub(crate) fn leads_out(pod: &Pod) {
    let net = pod.namespace.netlink().expect("netlink works");
    for (everywhere, gateway) in [("0.0.0.0/0", "10.77.0.254"), ("::/0", "fd77::fe")] {
        let everywhere = everywhere.parse().expect("a prefix");
        let gateway = gateway.parse().expect("an address");
        net.add_route(&Route::to(everywhere).via(gateway)).expect("the gateway is on the link");
    }
}

/// The filters, and what they know of the pods and their ports.
pub(crate) fn configs(bed: &Bed) -> [(&'static str, String); 3] {
    let numbers = bed.plane.numbers();
    let numbered = || (1..).zip(&bed.pods).map(|(n, pod): (u16, _)| (n, numbers[&pod.port], pod));
    let pods = numbered().map(|(n, port, pod)| {
        let mac = pod.mac().map(|byte| format!("{byte:02x}")).join(":");
        format!(r#"{{"port": {port}, "mac": "{mac}", "addresses": ["10.77.0.{n}", "fd77::{n}"]}}"#)
    });
    let routes = numbered().flat_map(|(n, port, _)| {
        [format!("10.77.0.{n}/32"), format!("fd77::{n}/128")]
            .map(|prefix| format!(r#"{{"prefix": "{prefix}", "via": [{{"port": {port}}}]}}"#))
    });
    let router = format!(
        r#"{{"gatewayMac": "02:00:00:00:00:fe", "routes": [{}]}}"#,
        routes.collect::<Vec<_>>().join(", ")
    );
    let bridge = format!(
        r#"{{"gateway": {{"mac": "02:00:00:00:00:fe", "addresses": ["10.77.0.254", "fd77::fe"]}},
             "pods": [{}]}}"#,
        pods.collect::<Vec<_>>().join(", ")
    );
    [("static-nat", NAT.to_owned()), ("bridge", bridge), ("router", router)]
}

/// A virtual address in both families.
pub(crate) fn virtual_address(n: u8) -> [IpAddr; 2] {
    [format!("10.99.0.{n}"), format!("fd99::{n}")].map(|text| text.parse().expect("an address"))
}

/// How many packets met a fate in the kernel.
pub(crate) fn in_kernel(bed: &Bed, fate: &str) -> u64 {
    bed.plane.cache().expect("the kernel says").expect("there is a cache").packets[fate]
}

pub(crate) fn listen(pod: &Pod, family: IpAddr) -> TcpListener {
    let address = SocketAddr::new(family, 0);
    let listener = pod.namespace.run(|| TcpListener::bind(address)).expect("it can be entered");
    listener.expect("the port is free")
}

pub(crate) fn udp(pod: &Pod, address: IpAddr, port: u16) -> UdpSocket {
    let address = SocketAddr::new(address, port);
    let socket = pod.namespace.run(|| UdpSocket::bind(address)).expect("it can be entered");
    let socket = socket.expect("the port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket
}

/// Sends data to a server by a virtual address, and has it back; whom the server saw.
fn echoed(client: &Pod, server: &Pod, by: IpAddr, own: IpAddr) -> IpAddr {
    let listener = listen(server, own);
    let port = listener.local_addr().expect("it is bound").port();
    let echo = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("somebody connects");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("the stream ends");
        stream.write_all(&data).expect("the client is there");
        peer.ip()
    });
    let address = SocketAddr::new(by, port);
    let stream = client.namespace.run(|| TcpStream::connect_timeout(&address, PATIENCE));
    let mut stream = stream.expect("it can be entered").expect("the server listens");
    let data: Vec<u8> = (0..1_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    stream.write_all(&data).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the server answers");
    assert!(back == data, "{by}: every byte came back");
    echo.join().expect("it does not panic")
}

#[test]
fn a_pod_is_reached_by_a_virtual_address_and_the_kernel_carries_it() {
    let bed = node();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for (by, (own, from)) in virtual_address(1)
        .into_iter()
        .zip([(server.address, client.address), (server.v6(), client.v6())])
    {
        assert!(client.pings(by), "{by} answers");
        let (punted, opened) = (in_kernel(&bed, "miss-unknown"), bed.opened());
        let hits = in_kernel(&bed, "hit");
        assert_eq!(echoed(client, server, by, own), from, "the server sees the client");
        assert_eq!(bed.opened() - opened, 1);
        assert_eq!(in_kernel(&bed, "miss-unknown") - punted, 1, "{by}: the opening SYN alone");
        assert!(in_kernel(&bed, "hit") > hits + 20, "{by}: the rest is the kernel's");
    }
}

#[test]
fn datagrams_are_answered_by_the_address_they_were_sent_to() {
    let bed = node();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for (by, (own, from)) in virtual_address(1)
        .into_iter()
        .zip([(server.address, client.address), (server.v6(), client.v6())])
    {
        let (asking, answering) = (udp(client, from, 0), udp(server, own, 5353));
        let mut byte = [0];
        let hits = in_kernel(&bed, "hit");
        for n in 0..100u8 {
            // the port is translated as well
            asking.send_to(&[n], SocketAddr::new(by, 53)).expect("there is a route");
            let (_, peer) = answering.recv_from(&mut byte).expect("it arrives");
            assert_eq!((byte, peer), ([n], asking.local_addr().expect("bound")));
            answering.send_to(&byte, peer).expect("there is a route");
            let (_, peer) = asking.recv_from(&mut byte).expect("the answer arrives");
            assert_eq!((byte, peer), ([n], SocketAddr::new(by, 53)));
        }
        await_some(|| match in_kernel(&bed, "hit") - hits {
            hits if hits >= 180 => Ok(()),
            hits => Err(hits),
        });
    }
}

#[test]
fn two_virtual_addresses_of_one_pod_are_told_apart() {
    let bed = node();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for (family, (own, from)) in
        [(server.address, client.address), (server.v6(), client.v6())].into_iter().enumerate()
    {
        let (asking, answering) = (udp(client, from, 5000), udp(server, own, 5353));
        let by = [1, 2].map(|n| SocketAddr::new(virtual_address(n)[family], 53));
        let mut byte = [0];
        let seen = by.map(|by| {
            asking.send_to(b"?", by).expect("there is a route");
            answering.recv_from(&mut byte).expect("it arrives").1
        });
        assert_eq!(seen.map(|peer| peer.ip()), [from; 2]);
        assert_ne!(seen[0].port(), seen[1].port(), "one port for each name of the server");
        for (peer, by) in seen.into_iter().zip(by).rev() {
            answering.send_to(b"!", peer).expect("there is a route");
            assert_eq!(asking.recv_from(&mut byte).expect("the answer arrives").1, by);
        }
    }
}

#[test]
fn a_pod_reaches_itself_by_a_virtual_address_if_it_is_masqueraded() {
    let bed = node();
    let pod = &bed.pods[0];
    let gateways: [IpAddr; 2] =
        ["10.77.0.254", "fd77::fe"].map(|text| text.parse().expect("an address"));
    for ((by, own), gateway) in
        virtual_address(3).into_iter().zip([pod.address, pod.v6()]).zip(gateways)
    {
        assert!(pod.pings(by), "{by} answers");
        assert_eq!(echoed(pod, pod, by, own), gateway, "the pod sees the gateway");
    }
}

#[test]
fn f9_that_no_port_is_left_is_said_and_towards_whom() {
    let masquerade = PortRange { first: 50_000, last: 50_001 };
    let settings = CacheSettings { masquerade, ..CacheSettings::default() };
    let bed = routed(Bed::cached_with(1, 1, settings));
    let pod = &bed.pods[0];
    let listening = udp(pod, pod.address, 5353);
    let [by, _] = virtual_address(3).map(|address| SocketAddr::new(address, 5353));
    let asking: Vec<_> = (0..4).map(|_| udp(pod, pod.address, 0)).collect();
    for asking in &asking[..2] {
        asking.send_to(b"?", by).expect("there is a route");
        listening.recv(&mut [0]).expect("there is a port for it");
    }
    for asking in &asking[2..] {
        asking.send_to(b"?", by).expect("there is a route");
    }
    let refused = await_some(|| {
        let without = bed.plane.cache().expect("it says").expect("there is one").without_port;
        if without.refused() == 2 { Ok(without) } else { Err(without) }
    });
    let towards = SocketAddr::new(pod.address, 5353);
    let all = Crowded { destination: towards, protocol: "udp".into(), refused: 2 };
    assert_eq!(refused, WithoutPort { destinations: vec![all], elsewhere: 0 });
}

#[test]
fn a_source_that_a_filter_states_is_what_the_server_sees() {
    let bed = node();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for ((by, own), source) in
        virtual_address(4).into_iter().zip([server.address, server.v6()]).zip(virtual_address(9))
    {
        assert!(client.pings(by), "{by} answers");
        assert_eq!(echoed(client, server, by, own), source);
    }
}

#[test]
fn who_asks_a_closed_port_of_a_virtual_address_is_told() {
    let bed = node();
    let client = &bed.pods[0];
    for (by, from) in virtual_address(1).into_iter().zip([client.address, client.v6()]) {
        let asking = udp(client, from, 0);
        asking.connect(SocketAddr::new(by, 9)).expect("there is a route");
        asking.send(b"?").expect("nothing is known yet");
        let error = asking.recv(&mut [0]).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{by}");
    }
}

const NAT: &str = r#"{"rules": [
    {"to": "10.99.0.0/30", "protocol": "udp", "port": 53, "new_destination": "10.77.0.2", "new_port": 5353},
    {"to": "fd99::/126", "protocol": "udp", "port": 53, "new_destination": "fd77::2", "new_port": 5353},
    {"to": "10.99.0.1/32", "new_destination": "10.77.0.2"},
    {"to": "fd99::1/128", "new_destination": "fd77::2"},
    {"to": "10.99.0.3/32", "new_destination": "10.77.0.1", "masquerade": true},
    {"to": "fd99::3/128", "new_destination": "fd77::1", "masquerade": true},
    {"to": "10.99.0.4/32", "new_destination": "10.77.0.2", "new_source": "10.99.0.9"},
    {"to": "fd99::4/128", "new_destination": "fd77::2", "new_source": "fd99::9"}
]}"#;
