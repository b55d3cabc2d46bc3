//! Sockets on a real veth pair: packets come, go, and no frame is ever lost.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use millrace_netns::{Namespace, VethSpec};
use millrace_xsk::{
    AttachError, AttachMode, BindMode, FRAME_CAPACITY, Frame, OpenError, Program, Sent, Umem,
    UmemError, UmemSettings, Xsk, XskSettings,
};

const FRAMES: u32 = 256;
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Two namespaces and a veth pair: a host with `h0`, and a pod that can send to it.
struct Bed {
    host: Namespace,
    pod: Namespace,
}

impl Bed {
    fn new() -> Self {
        let host = Namespace::create_unique("xsk-host").expect("needs root");
        let pod = Namespace::create_unique("xsk-pod").expect("needs root");
        let net = host.netlink().expect("netlink works");
        let veth = VethSpec::new("h0", "eth0").peer_namespace(&pod).mac(HOST_MAC);
        net.add_veth(&veth).expect("veth can be made");
        net.set_up("h0").expect("it comes up");
        host.set_sysctl("net.ipv6.conf.h0.disable_ipv6", "1").expect("IPv6 can be turned off");

        let net = pod.netlink().expect("netlink works");
        pod.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "1").expect("IPv6 can be turned off");
        net.set_up("eth0").expect("it comes up");
        net.add_address("eth0", "10.9.0.2/24".parse().expect("a prefix")).expect("it is free");
        let gateway = millrace_netns::Neighbour::permanent(
            "eth0",
            "10.9.0.1".parse().expect("an address"),
            HOST_MAC,
        );
        net.add_neighbour(&gateway).expect("it is free");
        pod.ethtool("eth0").expect("it is there").disable(&["tx"]).expect("veth can do without");
        Self { host, pod }
    }

    fn open(&self, umem: &Umem, mode: AttachMode) -> (Program, Xsk) {
        self.host
            .run(|| {
                let index = millrace_netns::Netlink::host()
                    .and_then(|net| net.link("h0"))
                    .expect("it is there")
                    .index;
                let mut program = Program::attach_in(index, "h0", mode).expect("it attaches");
                let xsk = Xsk::open(umem, "h0", 0, XskSettings::default()).expect("it opens");
                program.connect(0, &xsk).expect("it connects");
                (program, xsk)
            })
            .expect("the namespace can be entered")
    }
}

fn umem() -> (Umem, Vec<Frame>) {
    Umem::new(UmemSettings { frames: FRAMES, ..UmemSettings::default() }).expect("needs root")
}

/// Receives until `count` packets came, or fails after a few seconds.
fn receive(xsk: &mut Xsk, count: usize) -> VecDeque<Frame> {
    let mut packets = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(10);
    while packets.len() < count {
        assert!(Instant::now() < give_up, "only {} of {count} packets came", packets.len());
        xsk.receive(&mut packets, 64);
        std::thread::yield_now();
    }
    packets.into()
}

/// Turns an IPv4 UDP packet around; no checksum changes by that.
fn turn_around(packet: &mut [u8]) {
    let (to, from) = packet.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (from, to) = packet[26..34].split_at_mut(4);
    from.swap_with_slice(to);
    let (from, to) = packet[34..38].split_at_mut(2);
    from.swap_with_slice(to);
}

fn echoes_in(mode: AttachMode) {
    let bed = Bed::new();
    let (umem, mut free) = umem();
    let (program, mut xsk) = bed.open(&umem, mode);
    assert_eq!(program.mode(), mode);
    assert_eq!(xsk.mode(), BindMode::Copy);
    for _ in 0..64 {
        xsk.refill(free.pop().expect("there are 256")).expect("the fill ring takes 2048");
    }
    assert_eq!(xsk.commit(), Sent::All);

    let client = bed.pod.run(|| UdpSocket::bind("10.9.0.2:4000")).expect("it runs").expect("free");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    client.connect("10.9.0.1:5000").expect("there is a neighbour");
    for n in 0..40u8 {
        client.send(&[n; 100]).expect("the queue has room");
    }
    for mut packet in receive(&mut xsk, 40) {
        assert_eq!(packet.len(), 142);
        turn_around(umem.bytes_mut(&mut packet));
        xsk.transmit(packet).expect("the ring takes 2048");
    }
    assert_eq!(xsk.commit(), Sent::All);
    for n in 0..40u8 {
        let mut echo = [0; 200];
        assert_eq!(client.recv(&mut echo).expect("every packet comes back"), 100);
        assert_eq!(echo[0], n, "and in order");
    }

    // 40 come back from the completion ring; 24 are still in the fill ring
    let give_up = Instant::now() + Duration::from_secs(10);
    while xsk.outstanding() > 24 {
        assert!(Instant::now() < give_up, "transmitted frames come back");
        xsk.reclaim(&mut free);
    }
    assert_eq!(free.len() as u32, FRAMES - 24);
    free.extend(xsk.close());
    assert_eq!(free.len() as u32, FRAMES, "closing returns what the kernel had");
}

#[test]
fn packets_are_echoed_in_native_mode_and_no_frame_is_lost() {
    echoes_in(AttachMode::Native);
}

#[test]
fn packets_are_echoed_in_generic_mode_and_no_frame_is_lost() {
    echoes_in(AttachMode::Generic);
}

#[test]
fn a_closed_socket_leaves_the_queue_to_the_kernel_and_can_be_opened_again() {
    let bed = Bed::new();
    let (umem, mut free) = umem();
    for _ in 0..3 {
        let (_program, mut xsk) = bed.open(&umem, AttachMode::Native);
        while let Some(frame) = free.pop() {
            xsk.refill(frame).expect("the fill ring takes 2048");
        }
        xsk.commit();
        let client = bed.pod.run(|| UdpSocket::bind("10.9.0.2:0")).expect("it runs").expect("free");
        client.send_to(b"hello", "10.9.0.1:5000").expect("there is a neighbour");
        free.extend(receive(&mut xsk, 1));
        free.extend(xsk.close());
        assert_eq!(free.len() as u32, FRAMES);
    }
}

#[test]
fn an_interface_that_vanishes_and_returns_is_opened_again_with_the_same_umem() {
    let bed = Bed::new();
    let (umem, mut free) = umem();
    let (program, mut xsk) = bed.open(&umem, AttachMode::Native);
    for _ in 0..32 {
        xsk.refill(free.pop().expect("there are 256")).expect("there is room");
    }
    xsk.commit();
    bed.host.netlink().and_then(|net| net.delete_link("h0")).expect("it can be deleted");
    umem_frame_is_sent_nowhere(&mut xsk, &umem, &mut free);
    drop(program);
    free.extend(xsk.close());
    assert_eq!(free.len() as u32, FRAMES, "nothing is lost with the interface");

    let again = Bed::new();
    let (_program, mut xsk) = again.open(&umem, AttachMode::Native);
    xsk.refill(free.pop().expect("there are 256")).expect("there is room");
    xsk.commit();
    let client = again.pod.run(|| UdpSocket::bind("10.9.0.2:0")).expect("it runs").expect("free");
    client.send_to(b"hello", "10.9.0.1:5000").expect("there is a neighbour");
    free.extend(receive(&mut xsk, 1));
}

fn umem_frame_is_sent_nowhere(xsk: &mut Xsk, umem: &Umem, free: &mut Vec<Frame>) {
    let mut frame = free.pop().expect("there are frames");
    umem.set_len(&mut frame, 60);
    xsk.transmit(frame).expect("there is room");
    assert_eq!(xsk.commit(), Sent::Down);
}

#[test]
fn a_dropped_program_is_gone_from_the_interface() {
    let bed = Bed::new();
    let (umem, _free) = umem();
    for _ in 0..2 {
        // a second attachment succeeds only if the first one is gone
        drop(bed.open(&umem, AttachMode::Native));
    }
}

#[test]
fn one_umem_serves_several_interfaces_and_frames_move_between_them() {
    let bed = Bed::new();
    let other = Namespace::create_unique("xsk-other").expect("needs root");
    let net = bed.host.netlink().expect("netlink works");
    net.add_veth(&VethSpec::new("h1", "eth0").peer_namespace(&other)).expect("it can be made");
    net.set_up("h1").expect("it comes up");
    let net = other.netlink().expect("netlink works");
    net.set_mac("eth0", HOST_MAC).expect("it takes a MAC");
    net.set_up("eth0").expect("it comes up");
    net.add_address("eth0", "10.9.0.1/24".parse().expect("a prefix")).expect("it is free");
    let server = other.run(|| UdpSocket::bind("10.9.0.1:5000")).expect("it runs").expect("free");
    server.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");

    let (umem, mut free) = umem();
    let (_program, mut from) = bed.open(&umem, AttachMode::Native);
    let mut to = bed
        .host
        .run(|| Xsk::open(&umem, "h1", 0, XskSettings::default()).expect("it opens"))
        .expect("it runs");
    from.refill(free.pop().expect("there are 256")).expect("there is room");
    from.commit();
    let client = bed.pod.run(|| UdpSocket::bind("10.9.0.2:0")).expect("it runs").expect("free");
    client.send_to(b"across", "10.9.0.1:5000").expect("there is a neighbour");

    for packet in receive(&mut from, 1) {
        to.transmit(packet).expect("there is room");
    }
    assert_eq!(to.commit(), Sent::All);
    let mut message = [0; 16];
    let (len, _) = server.recv_from(&mut message).expect("it arrives");
    assert_eq!(&message[..len], b"across");
}

#[test]
fn a_full_ring_hands_the_frame_back() {
    let bed = Bed::new();
    let (umem, mut free) = umem();
    let settings = XskSettings { rx_ring: 64, tx_ring: 64, zero_copy: true };
    let mut xsk =
        bed.host.run(|| Xsk::open(&umem, "h0", 0, settings).expect("it opens")).expect("it runs");
    for _ in 0..64 {
        let mut frame = free.pop().expect("there are 256");
        umem.set_len(&mut frame, 60);
        xsk.transmit(frame).expect("there are 64 places");
    }
    let frame = free.pop().expect("there are 256");
    let frame = xsk.transmit(frame).expect_err("the ring is full");
    assert_eq!(frame.capacity(), FRAME_CAPACITY);
}

#[test]
fn statistics_say_when_there_was_nothing_to_receive_into() {
    let bed = Bed::new();
    let (umem, _free) = umem();
    let (_program, xsk) = bed.open(&umem, AttachMode::Native);
    let client = bed.pod.run(|| UdpSocket::bind("10.9.0.2:0")).expect("it runs").expect("free");
    let give_up = Instant::now() + Duration::from_secs(10);
    while xsk.statistics().expect("the kernel says").rx_fill_ring_empty == 0 {
        assert!(Instant::now() < give_up, "the loss is counted");
        client.send_to(b"lost", "10.9.0.1:5000").expect("there is a neighbour");
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (umem, _free) = umem();
    let error = |interface| Xsk::open(&umem, interface, 0, XskSettings::default()).err();
    assert!(matches!(error("no\0name"), Some(OpenError::Name(_))));
    let text = error("mr-none").expect("there is no such interface").to_string();
    assert!(text.contains("`mr-none`") && text.contains("no such interface"), "{text}");
    let odd = XskSettings { rx_ring: 100, ..XskSettings::default() };
    assert!(matches!(Xsk::open(&umem, "lo", 0, odd).err(), Some(OpenError::RingSize(100))));
    let none = UmemSettings { frames: 0, ..UmemSettings::default() };
    assert!(matches!(Umem::new(none).err(), Some(UmemError::Size { .. })));
}

#[test]
fn an_interface_with_a_large_mtu_is_refused_with_the_remedy() {
    let bed = Bed::new();
    let (host, pod) = (&bed.host, &bed.pod);
    for (namespace, link) in [(host, "h0"), (pod, "eth0")] {
        namespace.netlink().and_then(|net| net.set_mtu(link, 9000)).expect("veth takes it");
    }
    let index = host.netlink().and_then(|net| net.link("h0")).expect("it is there").index;
    let error = host
        .run(|| Program::attach_in(index, "h0", AttachMode::Native).err())
        .expect("it runs")
        .expect("native XDP without fragments takes some 3500 bytes");
    assert!(matches!(error, AttachError::Attach { .. }));
    assert!(error.to_string().contains("MTU is too large"), "{error}");
}

#[test]
#[should_panic(expected = "the Umem it belongs to")]
fn a_frame_of_another_umem_is_not_taken() {
    let (_, mut frames) = umem();
    let (other, _) = umem();
    let frame = frames.pop().expect("there are 256");
    let _ = other.bytes(&frame);
}
