//! What pods leave to hardware that is not there: checksums and segmentation.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use millrace_dataplane::control::Settings;
use millrace_dataplane::port::Vlans;
use millrace_filter::wire::{IpProtocol, ipv4, ipv6, tcp, udp};
use millrace_netns::Neighbour;
use millrace_xsk::AttachMode;

use crate::bed::{Bed, Pod};
use crate::station::Station;

/// A pod, and a bare station that it takes for 10.77.0.9 and fd77::9.
fn pod_and_station() -> (Bed, Station) {
    let bed = Bed::new(1).bridged();
    let station = Station::new(&bed.host, "w9");
    bed.open("w9", Vlans::transparent()).unwrap_or_else(|error| panic!("{error}"));
    let net = bed.pods[0].namespace.netlink().expect("netlink works");
    for address in STATION {
        let neighbour = Neighbour::permanent("eth0", ip(address), [2, 0, 0, 0, 0, 9]);
        net.add_neighbour(&neighbour).expect("it is free");
    }
    (bed, station)
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// Whether the frame is a packet of this protocol for the station's port 5000, and what it carries.
fn payload_at_station(frame: &[u8], protocol: IpProtocol) -> Option<Vec<u8>> {
    let (pseudo, found, segment) = match frame[12..14] {
        [0x08, 0x00] => {
            let packet = ipv4::Packet::new_checked(&frame[14..]).ok()?;
            (packet.pseudo(), packet.protocol(), packet.payload().to_vec())
        }
        [0x86, 0xdd] => {
            let packet = ipv6::Packet::new_checked(&frame[14..]).ok()?;
            (packet.pseudo(), packet.next_header(), packet.payload().to_vec())
        }
        _ => return None,
    };
    if found != protocol {
        return None;
    }
    let (ports, right, payload) = match protocol {
        IpProtocol::UDP => {
            let datagram = udp::Datagram::new_checked(&segment[..]).ok()?;
            assert_ne!(datagram.checksum(), 0, "none is not a right one");
            let right = datagram.verify_checksum(pseudo);
            (datagram.ports(), right, datagram.payload().to_vec())
        }
        _ => {
            let segment = tcp::Segment::new_checked(&segment[..]).ok()?;
            let right = segment.verify_checksum(pseudo);
            (segment.ports(), right, segment.payload().to_vec())
        }
    };
    if ports.destination != 5000 {
        return None;
    }
    assert!(right, "{frame:02x?}");
    Some(payload)
}

#[test]
fn f1_checksums_that_a_pod_leaves_to_hardware_are_right_on_the_wire() {
    let (bed, mut station) = pod_and_station();
    let pod = &bed.pods[0];
    let offload = pod.namespace.ethtool("eth0").and_then(|tool| tool.is_on("tx"));
    assert!(offload.expect("ethtool works"), "the pod leaves checksums to its device");
    for address in STATION {
        let to = SocketAddr::new(ip(address), 5000);
        let from = SocketAddr::new(if to.is_ipv4() { pod.address } else { pod.v6() }, 0);
        // odd and even lengths, and one that sums up to nothing much
        for text in [&b"odd"[..], b"even", b"", &[0xff; 64]] {
            let socket = pod.namespace.run(|| UdpSocket::bind(from)).expect("it can be entered");
            socket.expect("it is free").send_to(text, to).expect("there is a neighbour");
            let arrived = |frame: &[u8]| payload_at_station(frame, IpProtocol::UDP);
            let frame = station.receive_where(|frame| arrived(frame).is_some());
            assert_eq!(arrived(&frame).as_deref(), Some(text), "{address}");
        }
        // nobody answers: the first segment is all there is to see
        let namespace = &pod.namespace;
        thread::scope(|scope| {
            let patience = std::time::Duration::from_millis(1);
            scope.spawn(move || {
                let connected = namespace.run(|| TcpStream::connect_timeout(&to, patience));
                connected.expect("it can be entered").expect_err("a station has no TCP");
            });
            station.receive_where(|frame| payload_at_station(frame, IpProtocol::TCP).is_some());
        });
    }
}

/// Has bytes go from one pod to another and back over TCP.
fn tcp_goes_whole(from: &Pod, to: &Pod, address: IpAddr) {
    let at = SocketAddr::new(address, 0);
    let listener = to.namespace.run(|| TcpListener::bind(at)).expect("it can be entered");
    let listener = listener.expect("the address is there");
    let at = listener.local_addr().expect("it is bound");
    let stream = from.namespace.run(|| TcpStream::connect(at)).expect("it can be entered");
    let mut stream = stream.expect("the server listens");
    let (mut far, _) = listener.accept().expect("the client has connected");
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let expected = sent.clone();
    let echo = thread::spawn(move || {
        let mut received = Vec::new();
        far.read_to_end(&mut received).expect("the stream ends");
        assert!(received == expected, "every byte arrived");
        far.write_all(&received).expect("the client reads");
    });
    stream.write_all(&sent).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the stream ends");
    echo.join().expect("the echo does not fail");
    assert!(back == sent, "every byte came back");
}

#[test]
fn f2_a_pod_that_is_connected_cuts_its_segments_itself_and_tcp_goes_whole_over_both_versions() {
    let bed = Bed::new(2).bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for pod in [client, server] {
        let tool = pod.namespace.ethtool("eth0").expect("it is there");
        assert!(!tool.is_on("tso").expect("ethtool works"), "XDP at the other end has ended it");
    }
    for address in [server.address, server.v6()] {
        tcp_goes_whole(client, server, address);
    }
    for port in ["p1", "p2"] {
        assert_eq!(bed.port(port).counters.rx_dropped, 0, "nothing was too large for a frame");
    }
}

#[test]
fn f2_behind_the_driver_the_remedy_that_is_named_lets_tcp_go_whole() {
    let settings = Settings { attach: Some(AttachMode::Generic), ..Settings::default() };
    let bed = Bed::with(2, &settings, 1).bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    for pod in [client, server] {
        let note = bed.port(&pod.port).notes.remove(0);
        assert!(note.contains("`ethtool -K PEER tso off gso off`"), "{note}");
        let tool = pod.namespace.ethtool("eth0").expect("it is there");
        tool.disable(&["tso", "gso"]).expect("veth can do without");
    }
    tcp_goes_whole(client, server, server.address);
    tcp_goes_whole(client, server, server.v6());
}

const STATION: [&str; 2] = ["10.77.0.9", "fd77::9"];
