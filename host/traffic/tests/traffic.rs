//! Traffic between two namespaces with a wire between them. Needs root; without it the tests print
//! a note and pass, except under `CI`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use millrace_netns::{Namespace, NamespaceError, VethSpec};
use millrace_traffic::blast::{Blast, BlastSettings, Blasted, Handing};
use millrace_traffic::burst::{BurstReport, BurstSettings, bursts};
use millrace_traffic::connect::{ConnectSettings, connect};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sequence::{Sequence, SequenceSettings};
use millrace_traffic::sink::{DISCARD, Sink, discard_at};
use millrace_traffic::stream::{StreamSettings, stream};
use millrace_traffic::{Core, End, Server};

/// Two namespaces, `eth0` of one wired to `eth0` of the other.
struct Wire {
    near: Namespace,
    far: Namespace,
}

impl Wire {
    fn new() -> Option<Self> {
        let (near, far) = (namespace()?, namespace()?);
        let netlink = near.netlink().expect("netlink works");
        let veth = VethSpec::new("eth0", "eth0").peer_namespace(&far);
        netlink.add_veth(&veth).expect("a veth can be made");
        for (netlink, address) in [(netlink, NEAR), (far.netlink().expect("netlink works"), FAR)] {
            let prefix = format!("{address}/24").parse().expect("a prefix");
            netlink.add_address("eth0", prefix).expect("it is free");
            netlink.set_up("eth0").expect("it comes up");
        }
        Some(Self { near, far })
    }

    fn ends(&self) -> (End<'_>, End<'_>) {
        let end = |namespace, address: &str| {
            let address: IpAddr = address.parse().expect("an address");
            End { namespace, address }
        };
        (end(&self.near, NEAR), end(&self.far, FAR))
    }

    /// Sets the far interface down, or up again.
    fn cut(&self, cut: bool) {
        let netlink = self.far.netlink().expect("netlink works");
        let set = if cut { netlink.set_down("eth0") } else { netlink.set_up("eth0") };
        set.expect("it is there");
    }
}

fn namespace() -> Option<Namespace> {
    match Namespace::create_unique("traffic") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => Some(outcome.expect("root can make namespaces")),
    }
}

#[test]
fn a_wire_loses_overtakes_and_doubles_nothing() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let sequence = Sequence::start(near, far, SequenceSettings::default()).expect("it starts");
    assert!(sequence.await_arrivals(5_000));
    let report = sequence.stop().expect("sockets do not fail");
    assert!(report.sent >= 5_000, "{report:?}");
    assert_eq!(report.received, report.sent);
    assert_eq!((report.lost, report.reordered, report.duplicated), (0, 0, 0));
    assert!(report.longest_gap < report.elapsed, "{report:?}");
}

#[test]
fn a_sequence_goes_on_behind_a_cut_and_counts_what_was_lost() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let patience = Duration::from_millis(50);
    let settings = SequenceSettings { patience, ..SequenceSettings::default() };
    let sequence = Sequence::start(near, far, settings).expect("it starts");
    assert!(sequence.await_arrivals(1_000));
    wire.cut(true);
    // what is sent into the cut is given up a window at a time
    let before = sequence.arrived();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(sequence.await_arrivals(before + 1_000)));
        wire.cut(false);
    });
    let report = sequence.stop().expect("sockets do not fail");
    assert_eq!(report.lost, report.sent - report.received);
    assert_eq!((report.reordered, report.duplicated), (0, 0));
}

#[test]
fn a_sink_counts_every_datagram_of_a_blast_and_nothing_else() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let sink = Sink::attach(&wire.far, "eth0", DISCARD).expect("the kernel takes it");
    let pace = Some(20_000);
    let settings = BlastSettings { pace, ..BlastSettings::frames_of(64) };
    let blast = Blast::start(near, discard_at(far), settings).expect("it starts");
    while blast.sent() < 2_000 {
        std::thread::yield_now();
    }
    // other traffic passes meanwhile, and is not counted
    let time = Duration::from_millis(20);
    let settings = ExchangeSettings { over: Over::Udp, time, client: None, server: None };
    assert!(!exchange(near, far, settings).expect("answers come").is_empty());
    let blasted = blast.stop().expect("sockets do not fail");
    let count = sink.count();
    assert!(blasted.sent >= 2_000 && blasted.refused == 0, "{blasted:?}");
    assert_eq!((count.packets, count.bytes), (blasted.sent, blasted.sent * 64));
}

#[test]
fn datagrams_handed_over_together_arrive_one_by_one_where_the_interface_splits_nothing() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let sink = Sink::attach(&wire.far, "eth0", DISCARD).expect("the kernel takes it");
    let tool = wire.near.ethtool("eth0").expect("ethtool works");
    // as what a veth is like once its peer has an XDP program: the stack splits before it
    tool.disable(&["tx-udp-segmentation"]).expect("veth can do without");
    for bytes in [64, 1500] {
        let before = sink.count();
        let blasted = blast_together(near, far, bytes);
        let after = sink.count();
        let count = (after.packets - before.packets, after.bytes - before.bytes);
        assert!(blasted.sent >= 2_000 && blasted.refused == 0, "{blasted:?}");
        assert_eq!(count, (blasted.sent, blasted.sent * bytes as u64), "{bytes} bytes");
    }
    // a veth that takes them whole hands them on so, with one set of headers for all
    tool.enable(&["tx-udp-segmentation"]).expect("veth can do it");
    let before = sink.count();
    let blasted = blast_together(near, far, 64);
    let after = sink.count();
    assert_eq!(after.packets - before.packets, blasted.sent);
    assert!(after.bytes - before.bytes < blasted.sent * 64, "{blasted:?} came as {after:?}");
}

fn blast_together(near: End<'_>, far: End<'_>, bytes: usize) -> Blasted {
    let (handing, pace) = (Handing::Segmented, Some(20_000));
    let settings = BlastSettings { handing, pace, ..BlastSettings::frames_of(bytes) };
    let blast = Blast::start(near, discard_at(far), settings).expect("it starts");
    while blast.sent() < 2_000 && !blast.is_over() {
        std::thread::yield_now();
    }
    blast.stop().expect("sockets do not fail")
}

#[test]
fn a_blast_ends_by_itself() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let _sink = Sink::attach(&wire.far, "eth0", DISCARD).expect("the kernel takes it");
    let limit = Duration::from_millis(20);
    let core = Core::available().first().copied();
    let settings = BlastSettings { limit, core, ..BlastSettings::frames_of(1500) };
    let blast = Blast::start(near, discard_at(far), settings).expect("it starts");
    let meter = CpuMeter::start().expect("Linux says");
    while !blast.is_over() {
        std::thread::yield_now();
    }
    let blasted = blast.stop().expect("sockets do not fail");
    assert!(blasted.elapsed >= limit && blasted.sent > 0, "{blasted:?}");
    assert!(!meter.stop().expect("Linux says").cores.is_empty());
}

#[test]
fn streams_arrive_whole_over_one_and_several_connections() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    for streams in [1, 3] {
        let time = Duration::from_millis(50);
        let settings = StreamSettings { streams, time, ..StreamSettings::default() };
        let streamed = stream(near, far, settings).expect("connections hold");
        assert!(streamed.bytes > 0 && streamed.bytes.is_multiple_of(128 << 10), "{streamed:?}");
        assert!(streamed.elapsed >= time);
    }
}

#[test]
fn what_goes_there_comes_back() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    for over in [Over::Tcp, Over::Udp] {
        let time = Duration::from_millis(50);
        let settings = ExchangeSettings { over, time, client: None, server: None };
        let latencies = exchange(near, far, settings).expect("answers come");
        assert!(latencies.len() > 10, "{over:?}: {}", latencies.len());
        assert!(latencies.percentile(50.0) <= latencies.percentile(99.0));
    }
}

#[test]
fn connections_are_made_and_closed_one_after_the_other_and_side_by_side() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let time = Duration::from_millis(50);
    for lanes in [1, 16] {
        let settings = ConnectSettings { lanes, time, ..ConnectSettings::default() };
        let connected = connect(near, far, settings).expect("connections hold");
        // each lane has the time for one at least
        assert!(connected.latencies.len() >= lanes as usize, "{connected:?}");
        assert!(connected.elapsed >= time && connected.per_second() > 0.0, "{connected:?}");
        assert_eq!(connected.openings.len(), connected.latencies.len());
        assert!(connected.openings.total() < connected.latencies.total(), "{connected:?}");
    }
}

#[test]
fn who_is_reached_by_another_address_is_not_looked_for_at_its_own() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let netlink = wire.far.netlink().expect("netlink works");
    netlink.add_address("eth0", "10.5.0.3/24".parse().expect("a prefix")).expect("it is free");
    let at = SocketAddr::from(([0, 0, 0, 0], 8080));
    let server = |through: &str| Server {
        namespace: far.namespace,
        at,
        through: Some(through.parse().expect("an address")),
    };
    let time = Duration::from_millis(20);
    let settings = ConnectSettings { time, ..ConnectSettings::default() };

    let connected =
        connect(near, server("10.5.0.3:8080"), settings).expect("it listens there, too");

    assert!(!connected.latencies.is_empty(), "{connected:?}");
    assert!(connect(near, server("10.5.0.3:8081"), settings).is_err(), "nobody listens there");
}

#[test]
fn who_is_asked_by_another_address_is_not_looked_for_at_its_own() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    let netlink = wire.far.netlink().expect("netlink works");
    netlink.add_address("eth0", "10.5.0.3/24".parse().expect("a prefix")).expect("it is free");
    let at: SocketAddr = "10.5.0.3:8080".parse().expect("an address");
    let time = Duration::from_millis(20);
    for over in [Over::Tcp, Over::Udp] {
        let settings = ExchangeSettings { over, time, client: None, server: None };
        let server = |through| Server { namespace: far.namespace, at, through: Some(through) };

        let answers = exchange(near, server(at), settings).expect("it answers there");

        assert!(!answers.is_empty(), "{over:?}");
        let own = SocketAddr::new(far.address, at.port());
        assert!(exchange(near, server(own), settings).is_err(), "{over:?}: nobody answers there");
    }
}

#[test]
fn flows_that_open_with_a_burst_keep_their_order_on_a_wire() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    for length in [1, 2, 64] {
        let settings = BurstSettings { flows: 20, length, ..BurstSettings::default() };
        let report = bursts(near, far, settings).expect("sockets do not fail");
        let whole = BurstReport { sent: 20 * u64::from(length), ..BurstReport::default() };
        assert_eq!(report, whole, "{length}");
    }
}

#[test]
fn a_path_that_carries_nothing_is_an_error_and_no_hang() {
    let Some(wire) = Wire::new() else { return };
    let (near, far) = wire.ends();
    wire.near.netlink().expect("netlink works").set_down("eth0").expect("it is there");
    let time = Duration::from_millis(50);
    assert!(connect(near, far, ConnectSettings { time, ..ConnectSettings::default() }).is_err());
    assert!(stream(near, far, StreamSettings { time, ..StreamSettings::default() }).is_err());
    let settings = ExchangeSettings { over: Over::Udp, time, client: None, server: None };
    assert!(exchange(near, far, settings).is_err());
}

const NEAR: &str = "10.5.0.1";
const FAR: &str = "10.5.0.2";
