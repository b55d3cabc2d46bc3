//! Packets of a flow in a row are handled together, and exactly as one by one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_dataplane::port::{HeldPort, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::testing::frames;
use millrace_filter::wire::checksum::Delta;
use millrace_filter::wire::tcp::Flags;
use millrace_packet_tests::guests::{Guest, inspect, to_port, when};
use millrace_packet_tests::{Plane, built_in, load, module_as, sandbox_with};
use proptest::prelude::*;

/// Packets in a row that differ in what follows from their place in it alone.
#[derive(Clone, Debug)]
struct Row {
    /// Which of [`kinds`].
    kind: usize,
    packets: u8,
    from: &'static str,
    /// The header's checksum of this packet is wrong.
    wrong: Option<u8>,
    /// How much later they come than the row before.
    later: Duration,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let from = prop_oneof![Just("a"), Just("b")];
    let wrong = prop::option::weighted(0.2, 0..12u8);
    let later = prop_oneof![4 => Just(0), 1 => 0..40_000u64].prop_map(Duration::from_millis);
    let row = (0..kinds().len(), 1..12u8, from, wrong, later);
    let row = row.prop_map(|(kind, packets, from, wrong, later)| Row {
        kind,
        packets,
        from,
        wrong,
        later,
    });
    prop::collection::vec(row, 1..40)
}

fn kinds() -> Vec<Vec<u8>> {
    let mut fragment = frames::udp("10.0.0.1:4000", "10.0.0.2:80", b"12345678");
    change(&mut fragment, 20, 0x2000);
    vec![
        frames::udp("10.0.0.1:4000", "10.0.0.2:80", b"12345678"),
        frames::udp("10.0.0.1:4000", "10.0.0.2:81", b"12345678"),
        frames::udp("10.0.0.1:4000", "10.0.0.2:9", b"12345678"),
        frames::udp("10.0.0.2:80", "10.0.0.1:4000", b"12345678"),
        frames::tcp("10.0.0.1:4000", "10.0.0.2:80", Flags::ACK, b"12345678"),
        frames::tcp("10.0.0.1:4000", "10.0.0.2:80", Flags::FIN | Flags::ACK, b"12345678"),
        frames::udp("[2001:db8::1]:4000", "[2001:db8::2]:80", b"12345678"),
        frames::tcp("[2001:db8::1]:4000", "[2001:db8::2]:9", Flags::ACK, b"12345678"),
        frames::tagged(frames::udp("10.0.0.1:4000", "10.0.0.2:80", b"12345678"), 7),
        frames::ping("10.0.0.1", "10.0.0.2"),
        frames::arp_request("10.0.0.1", "10.0.0.2"),
        fragment,
    ]
}

/// Changes a word of an IPv4 header, and its checksum with it.
fn change(frame: &mut [u8], at: usize, to: u16) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let checksum = Delta::NONE.u16(word(at), to).apply(word(CHECKSUM));
    frame[at..at + 2].copy_from_slice(&to.to_be_bytes());
    frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

impl Row {
    fn packets(&self) -> Vec<Vec<u8>> {
        let packet = |place: u8| {
            let mut frame = kinds().swap_remove(self.kind);
            if is_ipv4(&frame) {
                change(&mut frame, IDENT, 0xfffa_u16.wrapping_add(place.into()));
                frame[CHECKSUM] ^= if self.wrong == Some(place) { 0x10 } else { 0 };
            }
            *frame.last_mut().expect("no frame is empty") = place;
            frame
        };
        (0..self.packets).map(packet).collect()
    }
}

fn is_ipv4(frame: &[u8]) -> bool {
    frame[12..15] == [8, 0, 0x45]
}

/// The packet with as many hops left, of which no filter here takes notice.
fn with_hops(mut frame: Vec<u8>, hops: u8) -> Vec<u8> {
    if is_ipv4(&frame) {
        let protocol = frame[23];
        change(&mut frame, 22, u16::from_be_bytes([hops, protocol]));
    } else if frame[12..14] == [0x86, 0xdd] {
        frame[21] = hops;
    }
    frame
}

fn plane(folder: &Path, settings: WorkerSettings) -> Plane {
    let ports = ["a", "b", "c"].map(|name| (name, Vlans::transparent()));
    let mut plane = Plane::new(sandbox_with(folder), &ports, settings);
    load(&mut plane, built_in("bridge", "bridge", "{}"));
    load(&mut plane, built_in("deny", "deny-list", r#"{"rules": [{"port": 81}]}"#));
    let watcher = Guest::new().flow(&when(&to_port(9), &inspect(5))).packet("");
    load(&mut plane, module_as("watcher", watcher.build(), ""));
    plane
}

/// All that a dataplane counts.
fn books(plane: &Plane) -> String {
    let counters = plane.counters();
    let [hits, misses] = [&counters.hits, &counters.misses].map(|counter| counter.load(Relaxed));
    let stages = ["bridge", "deny", "watcher"].map(|name| {
        let counted = plane.stage(name).counters;
        (counted.asked, counted.dropped, counted.shown)
    });
    let ports = plane.run(|worker| {
        let of_port = |held: &HeldPort| {
            let counted = Arc::clone(&held.counters);
            [&counted.rx_packets, &counted.rx_bytes, &counted.tx_packets, &counted.tx_bytes]
                .map(|counter| counter.load(Relaxed))
        };
        worker.ports.iter().map(of_port).collect::<Vec<_>>()
    });
    format!("{hits} hits, {misses} misses, {stages:?}, {ports:?}, {:?}", plane.fates())
}

#[test]
fn trains_are_handled_as_their_packets_one_by_one() {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    proptest!(ProptestConfig::with_cases(24), |(rows in rows(), cache in any::<bool>())| {
        let settings = WorkerSettings { cache, burst: 16, ..WorkerSettings::default() };
        let mut together = plane(folder.path(), settings);
        let mut apart = plane(folder.path(), settings);
        for row in &rows {
            together.advance(row.later);
            apart.advance(row.later);
            let packets = row.packets();
            // packets whose hops differ are no train, and no other flow
            let scattered: Vec<_> = packets
                .iter()
                .zip((0..2).cycle())
                .map(|(frame, odd)| with_hops(frame.clone(), HOPS - odd))
                .collect();
            let left = together.pass(row.from, &packets);
            let left_apart = apart.pass(row.from, &scattered);
            let alike = |left: Vec<(String, Vec<u8>)>| -> Vec<_> {
                left.into_iter().map(|(port, frame)| (port, with_hops(frame, HOPS))).collect()
            };
            prop_assert_eq!(alike(left), alike(left_apart), "{:?}", row);
        }
        prop_assert_eq!(books(&together), books(&apart));
    });
}

const IDENT: usize = 18;
const CHECKSUM: usize = 24;
const HOPS: u8 = 64;
