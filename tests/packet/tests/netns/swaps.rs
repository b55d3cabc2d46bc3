//! Filters that change, and filters that fail, while packets flow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_abi::Reason;
use millrace_dataplane::control::Settings;
use millrace_dataplane::control::request::{Load, Position};
use millrace_dataplane::control::status::StageState;
use millrace_dataplane::stage::OnFault;
use millrace_packet_tests::guests::{Guest, to_port, when};
use millrace_packet_tests::{built_in, module_as};
use millrace_traffic::sequence::{Sequence, SequenceSettings};
use tempfile::TempDir;

use crate::bed::{Bed, PATIENCE, Pod, await_some};

/// Two pods on a bridge whose compiled filters are kept: a swap is not a compilation then.
fn bed(workers: usize) -> (Bed, TempDir) {
    let folder = tempfile::tempdir().expect("there is room");
    let cache = Some(folder.path().to_owned());
    let settings = Settings { workers, cache, ..Settings::default() };
    (Bed::with(2, &settings, workers as u32).bridged(), folder)
}

/// Numbered datagrams between two pods; none is given up so soon.
fn sequence(from: &Pod, to: &Pod, patience: Duration) -> Sequence {
    let settings = SequenceSettings { patience, ..SequenceSettings::default() };
    Sequence::start(from.end(), to.end(), settings).expect("it starts")
}

/// A filter that lets everything pass; each number is another module.
fn passing(number: usize) -> Vec<u8> {
    Guest::new().flow("").with(&format!("(data (i32.const 0) \"{number}\")")).build()
}

fn swaps_lose_nothing(workers: usize) {
    let (bed, _folder) = bed(workers);
    let [from, to] = &bed.pods[..] else { unreachable!("there are two") };
    bed.load(module_as("passing", passing(0), "{}"));
    let bridge = millrace_builtin::find("bridge").expect("it is built in").bytes;
    let there = sequence(from, to, PATIENCE);
    let back = sequence(to, from, PATIENCE);
    for number in 1..=50 {
        // each swap happens to packets on their way
        assert!(there.await_arrivals(there.arrived() + 20));
        assert!(back.await_arrivals(back.arrived() + 20));
        bed.plane.swap("bridge", bridge, None).unwrap_or_else(|error| panic!("{error}"));
        bed.plane
            .swap("passing", &passing(number % 2), None)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    for sequence in [there, back] {
        assert!(sequence.await_arrivals(sequence.arrived() + 20));
        let report = sequence.stop().expect("sockets do not fail");
        assert_eq!((report.lost, report.reordered, report.duplicated), (0, 0, 0), "{report:?}");
    }
    assert_eq!(bed.stage("bridge").filter.number, 51);
    assert_eq!(bed.stage("passing").filter.number, 51);
}

#[test]
fn fifty_swaps_of_two_filters_lose_reorder_and_double_nothing() {
    swaps_lose_nothing(1);
}

#[test]
fn fifty_swaps_on_two_workers_lose_reorder_and_double_nothing() {
    swaps_lose_nothing(2);
}

/// A TCP connection full of bytes that say where they belong, until it is ended.
struct Flood {
    ended: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<()>,
}

impl Flood {
    fn start(from: &Pod, to: &Pod) -> Self {
        let listener = to.listen(8080);
        let sending = from.connect(to, 8080).expect("the server listens");
        let (receiving, _) = listener.accept().expect("the client has connected");
        let (ended, arrived) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, count) = (Arc::clone(&ended), Arc::clone(&arrived));
        Self {
            ended,
            arrived,
            sender: thread::spawn(move || pour(sending, &end)),
            receiver: thread::spawn(move || drain(receiving, &count)),
        }
    }

    /// Waits until so many more bytes have arrived.
    fn flows_on(&self, bytes: u64) {
        let wanted = self.arrived.load(Ordering::Relaxed) + bytes;
        await_some(|| match self.arrived.load(Ordering::Relaxed) {
            arrived if arrived >= wanted => Ok(()),
            arrived => Err(arrived),
        });
    }

    /// Ends it, and sees that all has arrived.
    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the connection holds");
        self.receiver.join().expect("every byte arrives in its place");
        assert_eq!(self.arrived.load(Ordering::Relaxed), sent);
    }
}

fn pour(mut stream: TcpStream, ended: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !ended.load(Ordering::Relaxed) {
        let words: Vec<u8> = (0..1024u64).flat_map(|n| (sent + n * 8).to_be_bytes()).collect();
        stream.write_all(&words).expect("the other end reads");
        sent += words.len() as u64;
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
    sent
}

fn drain(mut stream: TcpStream, arrived: &AtomicU64) {
    let mut words = [0; 8192];
    loop {
        match stream.read_exact(&mut words) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return,
            Err(error) => panic!("{error}"),
        }
        for word in words.chunks_exact(8) {
            let at = arrived.fetch_add(8, Ordering::Relaxed);
            assert_eq!(word, at.to_be_bytes());
        }
    }
}

#[test]
fn a_tcp_connection_survives_whatever_is_done_to_filters() {
    let (bed, _folder) = bed(1);
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let flood = Flood::start(client, server);
    let bridge = millrace_builtin::find("bridge").expect("it is built in").bytes;
    let deny = |port: u16| format!(r#"{{"rules": [{{"port": {port}}}]}}"#);
    for round in 0..3 {
        bed.load(built_in("deny", "deny-list", &deny(1)));
        flood.flows_on(100_000);
        bed.plane.configure("deny", &deny(2 + round)).expect("it takes that");
        flood.flows_on(100_000);
        bed.plane.move_to("deny", &Position::First).expect("it is there");
        flood.flows_on(100_000);
        bed.plane.swap("bridge", bridge, None).expect("it starts");
        flood.flows_on(100_000);
        bed.plane.roll_back("bridge").expect("there is one before");
        flood.flows_on(100_000);
        bed.plane.remove("deny").expect("it is there");
        flood.flows_on(100_000);
    }
    flood.end();
}

#[test]
fn a_deny_rule_that_is_loaded_holds_for_the_next_packet_of_a_flow_that_lives() {
    let bed = Bed::new(2).bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (from, denied, allowed) = (client.udp(), server.udp_at(5000), server.udp_at(5001));
    let send = |text: &[u8], port: u16| {
        from.send_to(text, (server.address, port)).expect("there is a route");
    };
    let hears = |socket: &std::net::UdpSocket, text: &[u8]| {
        let mut datagram = [0; 64];
        let len = socket.recv(&mut datagram).expect("it arrives");
        assert_eq!(datagram[..len], *text);
    };
    for n in 0..10 {
        send(&[n], 5000);
        hears(&denied, &[n]);
    }

    bed.load(Load {
        position: Position::First,
        ..built_in("deny", "deny-list", r#"{"rules": [{"protocol": "udp", "port": 5000}]}"#)
    });
    for n in 0..10 {
        send(&[n], 5000);
    }
    send(b"behind them", 5001);
    hears(&allowed, b"behind them");
    denied.set_nonblocking(true).expect("it can be");
    denied.recv(&mut [0; 64]).expect_err("nothing has come");
    assert_eq!(bed.dropped(Reason::Denied), 10);

    bed.plane.configure("deny", r#"{"rules": []}"#).expect("it takes that");
    denied.set_nonblocking(false).expect("it can be");
    send(b"again", 5000);
    hears(&denied, b"again");
    assert_eq!(bed.dropped(Reason::Denied), 10);
}

#[test]
fn a_filter_that_traps_costs_the_packets_it_was_asked_about_and_no_others() {
    let bed = Bed::new(2);
    let mut trap =
        module_as("trap", Guest::new().flow(&when(&to_port(666), "unreachable")).build(), "{}");
    trap.terms.on_fault = OnFault::Closed;
    bed.load(trap);
    let bed = bed.bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };

    let sequence = sequence(client, server, Duration::from_secs(2));
    assert!(sequence.await_arrivals(100));
    let (poison, mut sent, mut absent) = (client.udp(), 0, None);
    for fault in 1..=3 {
        let stage = await_some(|| {
            let stage = bed.stage("trap");
            let faults: u64 = stage.counters.faults.values().sum();
            if faults == fault {
                return Ok(stage);
            }
            // the first of them, or the one before came while the filter was mended
            if absent != Some((fault, stage.counters.absent)) {
                absent = Some((fault, stage.counters.absent));
                poison.send_to(b"trap", (server.address, 666)).expect("there is a route");
                sent += 1;
            }
            Err(Box::new(stage.counters))
        });
        assert_eq!(stage.state, StageState::Running);
        assert!(sequence.await_arrivals(sequence.arrived() + 100), "others go on");
    }
    let report = sequence.stop().expect("sockets do not fail");
    let dropped = bed.dropped(Reason::FilterFault) + bed.dropped(Reason::FilterAbsent);
    // pods say a word of their own now and then, which may have been in them too
    assert!(dropped >= sent + report.lost, "what was lost was in those bursts: {report:?}");
    assert!(dropped <= sent * 64, "{dropped}: a burst has no more");
    assert_eq!((report.reordered, report.duplicated), (0, 0));
}
