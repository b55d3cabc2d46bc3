//! Pods behind the kernel's flow cache: what it does not know goes through a worker, and what
//! was decided stays in the kernel.

use std::io::{Read, Write};
use std::mem::offset_of;
use std::time::{Duration, Instant};

use millrace_abi::{Capability, Slot};
use millrace_dataplane::connections::{self, Timeouts};
use millrace_dataplane::control::CacheSettings;
use millrace_dataplane::control::flows::FlowQuery;
use millrace_packet_tests::guests::{self, Guest};
use millrace_packet_tests::module_as;
use millrace_traffic::Core;
use millrace_traffic::burst::{BurstSettings, bursts};

use crate::bed::{Bed, await_some};

/// A guest that sends what one of two pods sends to the other.
fn crossing() -> Vec<u8> {
    let ingress = offset_of!(Slot, ingress);
    let other = format!("(i32.sub (i32.const 3) (i32.load16_u offset={ingress} {}))", guests::SLOT);
    Guest::new().wants(&[Capability::Redirect]).flow(&guests::egress_by(&other)).build()
}

/// Two pods whose flows are decided for good.
fn crossed() -> Bed {
    crossed_by(2)
}

/// The same, with so many workers, on the last cores.
fn crossed_by(workers: usize) -> Bed {
    crossing_at(Bed::cached(2, workers))
}

/// Has the two pods of a dataplane reach each other.
pub(crate) fn crossing_at(bed: Bed) -> Bed {
    bed.load(module_as("crossing", crossing(), "{}"));
    bed
}

/// How many packets met a fate in the kernel.
pub(crate) fn in_kernel(bed: &Bed, fate: &str) -> u64 {
    let cache = bed.plane.cache().expect("the kernel says").expect("there is a cache");
    cache.packets[fate]
}

#[test]
fn what_the_cache_does_not_know_goes_through_the_chain() {
    let bed = Bed::cached(3, 2).bridged();
    for from in &bed.pods {
        for to in &bed.pods {
            assert!(from.pings(to.address), "{} to {}", from.address, to.address);
            assert!(from.pings(to.v6()), "{} to {}", from.v6(), to.v6());
        }
    }
    assert!(bed.port("p1").counters.rx_packets > 0);
}

#[test]
fn a_connection_is_punted_once_and_the_kernel_carries_the_rest() {
    let bed = crossed();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let data: Vec<u8> = (0..2_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for to in [server.address, server.v6()] {
        assert!(client.pings(to), "neighbours know each other before anything is counted");
        let (punted, opened) = (in_kernel(&bed, "miss-unknown"), bed.opened());
        client.talks_to(server, to, &data);
        assert_eq!(in_kernel(&bed, "miss-unknown") - punted, 1, "{to}: the opening SYN alone");
        assert_eq!(bed.opened() - opened, 1);
    }
    assert!(in_kernel(&bed, "hit") > 0);
}

#[test]
fn a_connection_from_a_port_that_is_used_again_is_punted_once_and_carried_too() {
    let bed = crossed();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let only = |port: u16| format!("{port} {port}");
    client
        .namespace
        .set_sysctl("net.ipv4.ip_local_port_range", &only(40_000))
        .expect("it is there");
    assert!(client.pings(server.address), "neighbours know each other before anything is counted");
    let listener = server.listen(8080);
    // as many from the same port as there can be states in which an earlier one is
    for _ in 0..5 {
        let misses = || in_kernel(&bed, "miss-unknown") + in_kernel(&bed, "miss-syn");
        let (missed, opened, hits) = (misses(), bed.opened(), in_kernel(&bed, "hit"));
        // once its last segment is acknowledged
        let mut stream = await_some(|| client.connect(server, 8080));
        let (mut accepted, from) = listener.accept().expect("it has connected");
        assert_eq!(from.port(), 40_000);
        accepted.write_all(b"hello").expect("the client is there");
        // the server waits for late packets, so that the client may come from its port at once
        drop(accepted);
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).expect("the server has closed");
        assert_eq!(greeting, "hello");
        assert_eq!((misses() - missed, bed.opened() - opened), (1, 1));
        assert!(in_kernel(&bed, "hit") > hits);
    }
}

#[test]
fn a_flow_without_a_reply_stays_with_its_own_direction() {
    let bed = crossed();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (from, to) = (client.udp(), server.udp_at(5000));
    let address = to.local_addr().expect("bound");
    let (mut byte, mut next) = ([0], 0u8);
    // how soon the kernel has it is up to the worker, which may have to wait for its core
    await_some(|| {
        from.send_to(&[next], address).expect("there is a route");
        to.recv(&mut byte).expect("it arrives");
        assert_eq!(byte, [next]);
        next = next.wrapping_add(1);
        match in_kernel(&bed, "hit") {
            hits if hits >= 90 => Ok(()),
            hits => Err(hits),
        }
    });
}

#[test]
fn a_flow_that_the_kernel_carries_does_not_come_back_when_user_space_has_not_seen_it_for_long() {
    let life = Duration::from_secs(1);
    let timeouts = Timeouts { unreplied: life, replied: life, ..Timeouts::default() };
    let connections = connections::Settings { timeouts, ..connections::Settings::default() };
    let bed = Bed::cached_with(2, 2, CacheSettings { connections, ..CacheSettings::default() });
    bed.load(module_as("crossing", crossing(), "{}"));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (client, server) = (client.udp(), server.udp_at(5000));
    let address = server.local_addr().expect("bound");
    let exchange = || {
        client.send_to(b"?", address).expect("there is a route");
        let mut byte = [0];
        let from = server.recv_from(&mut byte).expect("it arrives").1;
        server.send_to(b"!", from).expect("there is a route");
        client.recv(&mut byte).expect("it arrives");
    };
    (0..100).for_each(|_| exchange());
    let seen = || (in_kernel(&bed, "miss-unknown"), bed.opened());
    let before = seen();
    let begun = Instant::now();
    // its timer goes off twice meanwhile
    while begun.elapsed() < 3 * life {
        exchange();
    }
    assert_eq!(seen(), before);
}

#[test]
fn a_flow_that_pauses_for_long_leaves_the_kernel_and_returns_as_the_same_connection() {
    let timeouts = Timeouts { residency: Duration::from_secs(1), ..Timeouts::default() };
    let connections = connections::Settings { timeouts, ..connections::Settings::default() };
    let bed = Bed::cached_with(2, 2, CacheSettings { connections, ..CacheSettings::default() });
    bed.load(module_as("crossing", crossing(), "{}"));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let listener = server.listen(5000);
    let mut client = client.connect(server, 5000).expect("it listens");
    let (mut server, _) = listener.accept().expect("somebody connects");
    let entries = || {
        let query = FlowQuery { port: None, protocol: None, state: None, sort: None, limit: 9 };
        let flows = bed.plane.flows(query).expect("the kernel says");
        let flow = flows.into_iter().find(|flow| flow.original.destination.port() == 5000);
        let flow = flow.expect("it is known");
        [flow.original, flow.reply].iter().filter(|way| way.generation.is_some()).count()
    };
    let opened = bed.opened();
    for _ in 0..2 {
        let hits = in_kernel(&bed, "hit");
        for byte in 0..100 {
            client.write_all(&[byte]).expect("it is open");
            server.read_exact(&mut [0]).expect("it arrives");
            server.write_all(&[byte]).expect("it is open");
            client.read_exact(&mut [0]).expect("it arrives");
        }
        assert!(in_kernel(&bed, "hit") - hits > 100, "the kernel carries it");
        await_some(|| match entries() {
            0 => Ok(()),
            left => Err(left),
        });
    }
    assert_eq!(bed.opened(), opened);
}

#[test]
fn a_port_that_goes_takes_its_connections_along() {
    let bed = crossed();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    client.talks_to(server, server.address, b"hello");
    let known = || bed.plane.cache().expect("the kernel says").expect("there is one").connections;
    assert!(known() > 0);
    let before = bed.redecided();
    bed.plane.remove_port(&server.port).expect("it is a port");
    assert_eq!(known(), 0);
    // what led there might have led elsewhere
    assert!(bed.redecided().dropped > before.dropped);
    assert!(!client.pings_within(server.address, Duration::from_secs(1)));
}

#[test]
fn f12_a_burst_that_begins_with_its_flows_first_packet_arrives_in_order() {
    // a worker on the sender's core and on every other one, or a single one apart from it
    for workers in [Core::available().len(), 1] {
        let bed = crossed_by(workers);
        let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
        for length in [2, 10, 50] {
            let settings = BurstSettings {
                flows: 300,
                length,
                core: Some(Core::available()[0]),
                patience: Duration::from_secs(5),
                ..BurstSettings::default()
            };
            let opened = bed.opened();
            let report = bursts(client.end(), server.end(), settings).expect("datagrams arrive");
            let all = format!("{workers} workers, bursts of {length}: {report:?}");
            assert_eq!((report.reordered_flows, report.lost, report.surplus), (0, 0, 0), "{all}");
            assert!(bed.opened() - opened >= 300, "{all}: each flow was new");
        }
    }
}

#[test]
fn f12_a_flow_that_was_silent_for_long_goes_over_with_its_next_packets() {
    let bed = crossed();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (from, to) = (client.udp(), server.udp_at(5000));
    let address = to.local_addr().expect("bound");
    let mut byte = [0];
    from.send_to(&[0], address).expect("there is a route");
    to.recv(&mut byte).expect("it arrives");
    // others that come later are looked after in the meantime
    let others = BurstSettings { flows: 2000, length: 2, ..BurstSettings::default() };
    bursts(client.end(), server.end(), others).expect("datagrams arrive");
    let (hits, forced) = (in_kernel(&bed, "hit"), in_kernel(&bed, "forced"));
    for n in 1..=3 {
        from.send_to(&[n], address).expect("there is a route");
        to.recv(&mut byte).expect("it arrives");
    }
    assert!(in_kernel(&bed, "hit") - hits >= 1, "it is carried by the kernel");
    assert_eq!(in_kernel(&bed, "forced"), forced, "nothing of it was left behind");
}
