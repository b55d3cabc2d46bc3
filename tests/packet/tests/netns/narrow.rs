//! Paths that are narrower than what is sent: F4.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;

use millrace_abi::Reason;
use millrace_filter::testing::frames;

use crate::bed::{Bed, PATIENCE, await_some};
use crate::raw::{Raw, fragment};
use crate::translation::{in_kernel, listen, node, udp, virtual_address};

/// Two pods; the port of the second carries packets of so many bytes. Its own link carries as
/// many, or, unnoticed, 1,500.
fn narrow(mtu: u32, is_known: bool) -> Bed {
    let bed = node();
    bed.host.netlink().expect("netlink works").set_mtu("p2", mtu).expect("a veth takes it");
    if is_known {
        let net = bed.pods[1].namespace.netlink().expect("netlink works");
        net.set_mtu("eth0", mtu).expect("a veth takes it");
    }
    bed.await_port("p2", |port| port.mtu == mtu);
    bed
}

/// How many packets left in fragments.
fn fragmented(bed: &Bed) -> u64 {
    let fates = bed.plane.fates();
    fates.iter().filter(|fate| &*fate.fate == "fragmented").map(|fate| fate.packets).sum()
}

#[test]
fn f4_packets_that_may_be_cut_are_cut_for_a_narrower_path() {
    let bed = narrow(1000, true);
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let by = virtual_address(1)[0];
    let receiver = udp(server, server.address, 5353);
    let raw = Raw::of(client);
    let (from, to) = (SocketAddr::new(client.address, 4000), SocketAddr::new(by, 53));
    let datagram = frames::udp(&from.to_string(), &to.to_string(), &[7; 1400]);
    // whole, in one piece; and in fragments that are too big themselves, the last one first
    let whole = fragment(&datagram, 1, 0, 1408);
    let parts = [fragment(&datagram, 2, 1200, 1408), fragment(&datagram, 2, 0, 1200)];
    for (frames, pieces) in [(&[whole][..], 1), (&parts, 1)] {
        let before = fragmented(&bed);
        frames.iter().for_each(|frame| raw.send(frame));
        let mut received = [0; 3000];
        let (len, _) = receiver.recv_from(&mut received).expect("it arrives");
        assert!(received[..len] == [7; 1400], "{len} bytes");
        assert_eq!(fragmented(&bed) - before, pieces);
    }
    assert_eq!(bed.dropped(Reason::TooBig), 0);
}

/// Sends so many bytes over one connection, and has them back.
fn exchange(bed: &Bed, from: usize, to: IpAddr, by: IpAddr, bytes: u32) {
    let (client, server) = (&bed.pods[from], &bed.pods[1 - from]);
    let listener = listen(server, to);
    let port = listener.local_addr().expect("it is bound").port();
    let data: Vec<u8> = (0..bytes).map(|n| ((n * 31) >> 3) as u8).collect();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("the stream ends");
        stream.write_all(&data).expect("the client is there");
    });
    let address = SocketAddr::new(by, port);
    let stream = client.namespace.run(|| std::net::TcpStream::connect_timeout(&address, PATIENCE));
    let mut stream = stream.expect("it can be entered").expect("the server listens");
    stream.write_all(&data).expect("the server reads");
    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the server answers");
    assert!(back == data, "{by}: every byte came back");
    echo.join().expect("it does not panic");
}

#[test]
fn segments_fit_a_path_that_is_narrower_than_both_ends_know() {
    let bed = narrow(1300, false);
    let (client, server) = (&bed.pods[0], &bed.pods[1]);
    assert!(client.pings(server.address) && client.pings(server.v6()), "they know each other");
    let punted = |bed: &Bed| in_kernel(bed, "miss-unknown");
    for (by, own) in virtual_address(1).into_iter().zip([server.address, server.v6()]) {
        let before = punted(&bed);
        exchange(&bed, 0, own, by, 300_000);
        assert_eq!(punted(&bed) - before, 2, "{by}: the SYN, and the answer to it");
    }
    for to in [client.address, client.v6()] {
        let before = punted(&bed);
        exchange(&bed, 1, to, to, 1000);
        assert_eq!(punted(&bed) - before, 1, "{to}: the SYN alone, for the way there is wider");
    }
    assert_eq!(bed.dropped(Reason::TooBig), 0, "no segment was ever too big");
    assert_eq!(in_kernel(&bed, "miss-mtu"), 0);
}

#[test]
fn f4_what_the_kernel_carries_follows_a_path_that_becomes_narrower() {
    let bed = node();
    let (client, server) = (&bed.pods[0], &bed.pods[1]);
    for address in [server.address, server.v6()] {
        let receiver = udp(server, address, 5353);
        let sender = udp(client, if address.is_ipv4() { client.address } else { client.v6() }, 0);
        let before = ["hit", "miss-mtu"].map(|fate| in_kernel(&bed, fate));
        let mut received = [0; 1500];
        await_some(|| {
            sender.send_to(&[7; 1400], (address, 5353)).expect("there is a route");
            let (len, _) = receiver.recv_from(&mut received).expect("it arrives");
            assert_eq!(len, 1400);
            if in_kernel(&bed, "hit") > before[0] { Ok(()) } else { Err("the kernel has it not") }
        });
        assert_eq!(in_kernel(&bed, "miss-mtu"), before[1]);

        let net = bed.host.netlink().expect("netlink works");
        net.set_mtu("p2", 1300).expect("a veth takes it");
        await_some(|| {
            // in pieces, once it is told
            let _ = sender.send_to(&[7; 1400], (address, 5353));
            let seen = in_kernel(&bed, "miss-mtu");
            if seen > before[1] { Ok(()) } else { Err(seen) }
        });
        net.set_mtu("p2", 1500).expect("a veth takes it");
        bed.await_port("p2", |port| port.mtu == 1500);
    }
}
