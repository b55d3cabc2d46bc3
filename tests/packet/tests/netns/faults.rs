//! What runs out, or goes, while packets come: it is counted, and over when it is over.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use millrace_abi::{Capability, Reason};
use millrace_dataplane::connections::{self, Timeouts};
use millrace_dataplane::control::flows::FlowQuery;
use millrace_dataplane::control::{CacheSettings, Capacity, PortRange, Settings};
use millrace_filter::testing::frames;
use millrace_netns::Namespace;
use millrace_packet_tests::guests::Guest;
use millrace_packet_tests::module_as;
use millrace_xsk::{UmemSettings, XskSettings};

use crate::bed::{Bed, Pod, await_some, features};
use crate::cached::{crossing_at, in_kernel};
use crate::raw::Raw;
use crate::translation::{configs, leads_out, routed, udp, virtual_address};

#[test]
fn packets_that_workers_have_no_room_for_are_counted_and_later_ones_find_some() {
    let few_frames = UmemSettings { frames: 128, ..UmemSettings::default() };
    let small_ring = XskSettings { rx_ring: 32, zero_copy: false, ..XskSettings::default() };
    let usual = Settings::default();
    for (umem, sockets, reason) in
        [(few_frames, usual.sockets, Reason::NoFrame), (usual.umem, small_ring, Reason::PuntFull)]
    {
        let flow_cache = Some(CacheSettings { features: features(), ..CacheSettings::default() });
        let settings = Settings { umem, sockets, flow_cache, ..Settings::default() };
        let mut bed = Bed::at(Namespace::create_unique("packet-host").expect("root"), &settings);
        for n in 1..=2 {
            let pod = Pod::new(&bed.host, n, 1);
            bed.add_cached(&pod);
            bed.pods.push(pod);
        }
        let bed = crossing_at(bed);
        let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
        let free = || bed.plane.workers().expect("it lives")[0].free_frames;
        client.talks_to(server, server.address, b"before");
        let before = free();

        let raw = Raw::of(client);
        let mut ports = (1..=u16::MAX).cycle();
        let to = SocketAddr::new(server.address, 9).to_string();
        await_some(|| {
            for port in ports.by_ref().take(2000) {
                let from = SocketAddr::new(client.address, port).to_string();
                raw.send(&frames::udp(&from, &to, b"one of very many"));
            }
            let drops = bed.plane.kernel_drops().expect("the kernel says");
            let because =
                |label: &str| drops.iter().any(|drop| drop.reason.as_deref() == Some(label));
            if because(reason.label()) { Ok(()) } else { Err(drops) }
        });

        client.talks_to(server, server.address, b"behind it");
        await_some(|| match free() {
            // rings hold some more or fewer at one time than at another
            now if now.abs_diff(before) <= IN_RINGS => Ok(()),
            now => Err((before, now)),
        });
    }
}

/// Far less than was dropped.
const IN_RINGS: u64 = 64;

#[test]
fn connections_that_find_no_room_in_the_kernel_are_carried_by_workers_until_there_is_some() {
    let timeouts = Timeouts { residency: Duration::from_secs(1), ..Timeouts::default() };
    let connections = connections::Settings { timeouts, ..connections::Settings::default() };
    let settings =
        CacheSettings { capacity: Capacity(16), connections, ..CacheSettings::default() };
    let bed = crossing_at(Bed::cached_with(2, 2, settings));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let answering = udp(server, server.address, 5000);
    let exchange = |asking: &UdpSocket, n: u8| {
        let mut byte = [0];
        asking.send_to(&[n], (server.address, 5000)).expect("there is a route");
        let (_, from) = answering.recv_from(&mut byte).expect("it arrives");
        assert_eq!((byte, from), ([n], asking.local_addr().expect("bound")));
        answering.send_to(&byte, from).expect("there is a route");
        asking.recv(&mut byte).expect("the answer arrives");
        assert_eq!(byte, [n]);
    };
    let all: Vec<_> = (0..40).map(|_| udp(client, client.address, 0)).collect();
    for n in 0..5 {
        all.iter().for_each(|asking| exchange(asking, n));
    }
    let cache = || bed.plane.cache().expect("the kernel says").expect("there is a cache");
    assert!(cache().full >= 24, "{:?}", cache());
    assert!(in_kernel(&bed, "hit") > 0, "some have found room");

    // those that are silent make room
    let entries = || {
        let query = FlowQuery { port: None, protocol: None, state: None, sort: None, limit: 99 };
        let flows = bed.plane.flows(query).expect("the kernel says");
        let ways = flows.iter().flat_map(|flow| [&flow.original, &flow.reply]);
        ways.filter(|way| way.generation.is_some()).count()
    };
    await_some(|| match entries() {
        0 => Ok(()),
        left => Err(left),
    });
    let before = ["hit", "forced"].map(|fate| in_kernel(&bed, fate));
    let full = cache().full;
    for n in 0..20 {
        exchange(&all[39], n);
    }
    assert_eq!(cache().full, full);
    let now = ["hit", "forced"].map(|fate| in_kernel(&bed, fate));
    assert!(now[0] > before[0] + 20, "the kernel carries it now: {:?}", cache());
    assert_eq!(now[1], before[1], "in order");
}

#[test]
fn a_pods_address_may_be_anothers_at_once_and_nobody_hears_what_was_for_others() {
    // ports for translations are used again and again
    let masquerade = PortRange { first: 50_000, last: 50_031 };
    let settings = CacheSettings { masquerade, ..CacheSettings::default() };
    let mut bed = routed(Bed::cached_with(3, 2, settings));
    let by = SocketAddr::new(virtual_address(3)[0], 7000);
    let done = AtomicBool::new(false);
    let heard = AtomicU64::new(0);
    let (asking, changes) = (Asking { by, done: &done, heard: &heard }, 5);
    let sockets = |pod: &Pod| (0..8).map(|_| udp(pod, pod.address, 0)).collect();
    let clients: Vec<Vec<UdpSocket>> = bed.pods[1..].iter().map(sockets).collect();
    thread::scope(|scope| {
        // an assertion that fails ends the others, too
        let done = Done(&done);
        for sockets in &clients {
            scope.spawn(|| asking.of(sockets));
        }
        let mut server = Echo::of(&bed.pods[0]);
        for change in 0..changes {
            let before = heard.load(Ordering::Acquire);
            await_some(|| {
                server.answers();
                match heard.load(Ordering::Acquire) - before {
                    200.. => Ok(()),
                    fewer => Err((change, fewer)),
                }
            });
            // in the middle of all that
            let gone = &bed.pods[0];
            bed.plane.remove_port(&gone.port).expect("it is a port");
            bed.host.netlink().expect("netlink").delete_link(&gone.port).expect("it is there");
            bed.pods[0] = Pod::new(&bed.host, 1, 1);
            leads_out(&bed.pods[0]);
            server = Echo::of(&bed.pods[0]);
            bed.add_cached(&bed.pods[0]);
            for (stage, config) in configs(&bed) {
                bed.plane.configure(stage, &config).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        drop(done);
    });
    assert_eq!(bed.plane.numbers().len(), 3);
}

/// Clients that ask and ask.
#[derive(Clone, Copy)]
struct Asking<'a> {
    by: SocketAddr,
    done: &'a AtomicBool,
    /// Answers that were heard.
    heard: &'a AtomicU64,
}

impl Asking<'_> {
    /// Asks by all sockets in turn; what they hear they have asked themselves.
    fn of(self, sockets: &[UdpSocket]) {
        for socket in sockets {
            socket.set_nonblocking(true).expect("it can be");
        }
        while !self.done.load(Ordering::Acquire) {
            for socket in sockets {
                let own = socket.local_addr().expect("bound").to_string();
                // a pod that has just gone is nobody's neighbour for a moment
                let _ = socket.send_to(own.as_bytes(), self.by);
                let mut text = [0; 64];
                match socket.recv_from(&mut text) {
                    Ok((len, from)) => {
                        assert_eq!(String::from_utf8_lossy(&text[..len]), own);
                        assert_eq!(from, self.by);
                        self.heard.fetch_add(1, Ordering::AcqRel);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{own}"),
                }
            }
            thread::yield_now();
        }
    }
}

/// Who says again what it hears, and sees each client by a name of its own.
struct Echo {
    socket: UdpSocket,
    seen: BTreeSet<(SocketAddr, String)>,
}

impl Echo {
    fn of(pod: &Pod) -> Self {
        let socket = udp(pod, pod.address, 7000);
        socket.set_nonblocking(true).expect("it can be");
        Self { socket, seen: BTreeSet::new() }
    }

    fn answers(&mut self) {
        let mut text = [0; 64];
        while let Ok((len, from)) = self.socket.recv_from(&mut text) {
            match self.socket.send_to(&text[..len], from) {
                // while the machine has no time for what was sent, there is no room for more
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => drop(sent.expect("there is a route")),
            }
            self.seen.insert((from, String::from_utf8_lossy(&text[..len]).into_owned()));
            let names: BTreeSet<_> = self.seen.iter().map(|(from, _)| from).collect();
            assert_eq!(names.len(), self.seen.len(), "two clients have one name: {:?}", self.seen);
        }
    }
}

#[test]
fn what_the_kernel_does_not_take_of_a_worker_is_counted_and_later_packets_pass() {
    let bed = crossing_at(Bed::cached(2, 1));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    // a filter that sends by itself, once a second: without a link nothing comes from pods
    let emit = "(drop (call $emit (global.get $setting) (i32.const 2048) (i32.const 64)))
                i32.const 0";
    let beacon = Guest::new().wants(&[Capability::Emit]).tick(emit).build();
    let number = bed.plane.numbers()[&client.port];
    bed.load(module_as("beacon", beacon, &format!(r#"{{"n": {number}}}"#)));
    let net = bed.host.netlink().expect("netlink works");
    let links = net.links().expect("the kernel says");
    let near = links.iter().find(|link| link.name.starts_with("mr-pt-")).expect("the punt pair");
    let refused = || {
        let cache = bed.plane.cache().expect("the kernel says").expect("there is a cache");
        cache.send_refused
    };
    assert_eq!(refused(), 0);
    net.set_down(&near.name).expect("it is there");
    await_some(|| if refused() > 0 { Ok(()) } else { Err("all is taken") });
    net.set_up(&near.name).expect("it is there");
    client.talks_to(server, server.address, b"behind it");
}

/// Says when it is dropped that it is over.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
