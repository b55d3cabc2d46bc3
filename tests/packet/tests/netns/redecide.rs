//! Live connections that are decided anew: without packets, and where they are.

use std::io::{ErrorKind, Read, Write};
use std::mem::offset_of;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use millrace_abi::{Capability, INSPECT_ALL, Reason, Slot, Tag, TagKind};
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::control::status::FateStatus;
use millrace_dataplane::control::{Redecided, Which};
use millrace_dataplane::stage::OnRefused;
use millrace_netns::Route;
use millrace_packet_tests::guests::{self, Guest};
use millrace_packet_tests::{built_in, module_as};
use millrace_traffic::sequence::{Sequence, SequenceSettings};

use crate::bed::{Bed, PATIENCE, Pod, await_some};

/// A guest that sends what one of two pods sends to the other, as long as its setting is not 1, and
/// says that this depends on the destination port.
fn crossing(on_refused: OnRefused) -> Load {
    let slot = |field| format!("(i32.load16_u offset={field} {})", guests::SLOT);
    let other = format!("(i32.sub (i32.const 3) {})", slot(offset_of!(Slot, ingress)));
    let flow = guests::egress_by(&other)
        + &guests::depends_on_service(&slot(offset_of!(Slot, dst_port)))
        + &guests::when(&guests::setting_is(1), &guests::drop_flow(Reason::Denied));
    let wants = [Capability::Redirect, Capability::Drop];
    let module = Guest::new().wants(&wants).flow(&flow).build();
    let terms = StageTerms { on_refused, ..StageTerms::default() };
    Load { terms, ..module_as("crossing", module, "{}") }
}

/// Both ends of a TCP connection, and of a UDP one.
struct Talk {
    tcp: [TcpStream; 2],
    udp: [UdpSocket; 2],
}

impl Talk {
    /// Between the first two pods, in the kernel.
    fn between(bed: &Bed) -> Self {
        let [client, server] = &bed.pods[..2] else { unreachable!("there are two") };
        let listener = server.listen(7000);
        let near = client.connect(server, 7000).expect("the server listens");
        let (far, _) = listener.accept().expect("somebody connected");
        let udp = [client.udp(), server.udp_at(7001)];
        let [from, to] = [&udp[0], &udp[1]].map(|end| end.local_addr().expect("bound"));
        udp[0].connect(to).expect("an address");
        udp[1].connect(from).expect("an address");
        let mut talk = Self { tcp: [near, far], udp };
        for stream in &talk.tcp {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            stream.set_nodelay(true).expect("it is TCP");
        }
        let hits = bed.in_kernel("hit");
        await_some(|| {
            talk.goes_on();
            if bed.in_kernel("hit") > hits + 20 { Ok(()) } else { Err("not in the kernel") }
        });
        talk
    }

    /// Each end hears the other, by each protocol.
    fn goes_on(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            self.udp[from].send(b"?").expect("it is sent");
            self.udp[to].recv(&mut [0; 9]).expect("it arrives");
            self.tcp[from].write_all(b"!").expect("it is open");
            self.tcp[to].read_exact(&mut [0; 1]).expect("it arrives");
        }
    }
}

/// Waits until that many were decided anew, and none else, behind what was before.
fn await_redecided(bed: &Bed, before: Redecided, what: impl Fn(&Redecided) -> u64, count: u64) {
    await_some(|| {
        let total = bed.redecided();
        if what(&total) - what(&before) == count { Ok(()) } else { Err((before, total)) }
    });
}

#[test]
fn a_connection_that_is_denied_now_is_dropped_in_the_kernel_until_it_is_allowed_again() {
    let bed = Bed::cached(2, 2);
    bed.load(crossing(OnRefused::Drop));
    let mut talk = Talk::between(&bed);
    let (before, opened) = (bed.redecided(), bed.opened());
    bed.plane.configure("crossing", r#"{"n": 1}"#).expect("it takes any number");
    await_redecided(&bed, before, |all| all.dropped, bed.connections());

    let dropped = bed.in_kernel("drop-entry");
    for end in &talk.udp {
        end.send(b"?").expect("it is sent");
    }
    for end in &mut talk.tcp {
        end.write_all(b"!").expect("it is open");
    }
    assert!(bed.in_kernel("drop-entry") - dropped >= 4);
    // counted for the stage that refused, and for nobody else besides
    let drops = bed.plane.kernel_drops().expect("the kernel says");
    let of = |stage: Option<&str>, reason: Reason| {
        let ours = |it: &&FateStatus| {
            it.stage.as_deref() == stage && it.reason.as_deref() == Some(reason.label())
        };
        drops.iter().filter(ours).map(|it| it.packets).sum::<u64>()
    };
    assert!(of(Some("crossing"), Reason::Denied) >= 4, "{drops:#?}");
    assert_eq!(of(None, Reason::RefusedFlow), 0, "{drops:#?}");
    for end in &talk.udp {
        end.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let error = end.recv(&mut [0; 9]).expect_err("nothing has come");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        end.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    }

    let before = bed.redecided();
    bed.plane.configure("crossing", r#"{"n": 0}"#).expect("it takes any number");
    await_redecided(&bed, before, |all| all.changed, bed.connections());
    // TCP sends again what was dropped
    for end in &mut talk.tcp {
        end.read_exact(&mut [0; 1]).expect("it arrives");
    }
    talk.goes_on();
    assert_eq!(bed.opened(), opened, "they are the same connections");
}

#[test]
fn a_connection_that_its_stage_keeps_goes_on_when_new_ones_are_denied() {
    let bed = Bed::cached(2, 2);
    bed.load(crossing(OnRefused::Keep));
    let mut talk = Talk::between(&bed);
    let before = bed.redecided();
    bed.plane.configure("crossing", r#"{"n": 1}"#).expect("it takes any number");
    await_redecided(&bed, before, |all| all.kept, bed.connections());
    let (dropped, missed) = (bed.in_kernel("drop-entry"), bed.in_kernel("miss-unknown"));
    talk.goes_on();
    assert_eq!((bed.in_kernel("drop-entry"), bed.in_kernel("miss-unknown")), (dropped, missed));
    let denied = bed.dropped(Reason::Denied);
    bed.pods[0].udp().send_to(b"?", talk.udp[1].local_addr().expect("bound")).expect("it is sent");
    await_some(|| if bed.dropped(Reason::Denied) > denied { Ok(()) } else { Err("not denied") });
}

#[test]
fn a_connection_that_its_stage_resets_ends_at_both_ends_though_nobody_sends() {
    let bed = Bed::cached(2, 2);
    bed.load(crossing(OnRefused::Reset));
    let mut talk = Talk::between(&bed);
    let before = bed.redecided();
    bed.plane.configure("crossing", r#"{"n": 1}"#).expect("it takes any number");
    for end in &mut talk.tcp {
        let error = end.read(&mut [0; 1]).expect_err("it is over");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    await_redecided(&bed, before, |all| all.reset, bed.connections());
    for end in &talk.udp {
        // the error of one datagram is told with the next
        end.send(b"?").expect("nothing is known yet");
        let error = end.recv(&mut [0; 9]).expect_err("nothing has come");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_change_whose_tags_touch_10_of_1000_connections_decides_10_anew() {
    let bed = Bed::cached(2, 2);
    bed.load(crossing(OnRefused::Drop));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let common = server.udp_at(5000);
    let rare = server.udp_at(5001);
    let clients: Vec<_> = (0..1000).map(|_| client.udp()).collect();
    let mut byte = [0];
    for (n, socket) in clients.iter().enumerate() {
        let to = if n % 100 == 0 { &rare } else { &common };
        socket.send_to(b"?", to.local_addr().expect("bound")).expect("there is a route");
        to.recv(&mut byte).expect("it arrives");
    }
    let tag = |port| Tag::new(TagKind::Service, port);
    let same = |same| Redecided { same, ..Redecided::default() };
    assert_eq!(bed.plane.redecide(&Which::Tags(vec![tag(5001)])), same(10));
    assert_eq!(bed.plane.redecide(&Which::Tags(vec![tag(5001), tag(9)])), same(10));
    assert_eq!(bed.plane.redecide(&Which::Tags(vec![tag(5000)])), same(990));
    assert_eq!(bed.plane.redecide(&Which::All), same(bed.connections()));
}

#[test]
fn f12_connections_whose_decision_stays_lose_and_reorder_nothing() {
    let bed = Bed::cached(2, 2);
    bed.load(crossing(OnRefused::Drop));
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let settings = SequenceSettings { flows: 8, ..SequenceSettings::default() };
    let sequence = Sequence::start(a.end(), b.end(), settings).expect("datagrams arrive");
    assert!(sequence.await_arrivals(1_000));
    let missed = bed.in_kernel("miss-changed");
    for round in 0..50 {
        let came_to = bed.plane.redecide(&Which::All);
        assert_eq!(came_to.same, came_to.connections(), "{came_to:?}");
        if round % 10 == 0 {
            bed.plane.configure("crossing", r#"{"n": 0}"#).expect("it takes any number");
        }
        assert!(sequence.await_arrivals(sequence.arrived() + 20));
    }
    let report = sequence.stop().expect("sockets do not fail");
    assert_eq!((report.lost, report.reordered, report.duplicated), (0, 0, 0), "{report:?}");
    assert_eq!(bed.in_kernel("miss-changed"), missed, "no entry was touched");
}

#[test]
fn f12_connections_that_a_filter_looks_into_for_a_while_lose_and_reorder_nothing() {
    let bed = Bed::cached(2, 2);
    let ingress = offset_of!(Slot, ingress);
    let other = format!("(i32.sub (i32.const 3) (i32.load16_u offset={ingress} {}))", guests::SLOT);
    let flow = guests::egress_by(&other)
        + &guests::when(&guests::setting_is(1), &guests::inspect(INSPECT_ALL));
    let curious = Guest::new().wants(&[Capability::Redirect]).flow(&flow).packet("").build();
    bed.load(module_as("curious", curious, "{}"));
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let settings = SequenceSettings { flows: 8, ..SequenceSettings::default() };
    let sequence = Sequence::start(a.end(), b.end(), settings).expect("datagrams arrive");
    assert!(sequence.await_arrivals(1_000));
    let shown = || bed.stage("curious").counters.shown;
    assert_eq!(shown(), 0);
    for round in 0..50 {
        let before = shown();
        bed.plane.configure("curious", r#"{"n": 1}"#).expect("it takes any number");
        await_some(|| if shown() > before + 100 { Ok(()) } else { Err(shown()) });
        let hits = bed.in_kernel("hit");
        bed.plane.configure("curious", r#"{"n": 0}"#).expect("it takes any number");
        // mostly some of the flows still wait for packets to leave when the filter is back
        let some = if round % 10 == 0 { 100 } else { 1 };
        await_some(|| {
            let now = bed.in_kernel("hit");
            if now >= hits + some { Ok(()) } else { Err(now) }
        });
    }
    let report = sequence.stop().expect("sockets do not fail");
    assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
    // a worker that is kept from its CPU for long lets go of a flow by force, which is counted
    let forced = bed.in_kernel("forced");
    assert!(report.reordered == 0 || forced > 0, "{report:?}, none by force");
}

/// An address that moves from one pod to another.
const MOVING: &str = "10.88.0.1";

/// What the bridge knows when the moving address is this pod's.
fn owners(pods: &[Pod], owner: usize) -> String {
    let pod = |(n, pod): (usize, &Pod)| {
        let mac = pod.mac().map(|byte| format!("{byte:02x}")).join(":");
        let moving = if n == owner { format!(r#", "{MOVING}""#) } else { String::new() };
        format!(r#"{{"port": {n}, "mac": "{mac}", "addresses": ["{}"{moving}]}}"#, pod.address)
    };
    let pods: Vec<_> = (1..).zip(pods).map(pod).collect();
    let gateway = r#"{"mac": "02:00:00:00:00:fe", "addresses": ["10.77.0.254"]}"#;
    format!(r#"{{"gateway": {gateway}, "pods": [{}]}}"#, pods.join(", "))
}

fn routes(port: u16) -> String {
    format!(
        r#"{{"gatewayMac": "02:00:00:00:00:fe", "routes": [
            {{"prefix": "10.77.0.1/32", "via": [{{"port": 1}}]}},
            {{"prefix": "{MOVING}/32", "via": [{{"port": {port}}}]}}
        ]}}"#
    )
}

#[test]
fn a_connection_whose_route_moves_leaves_by_another_port_and_is_answered_from_there() {
    let bed = Bed::cached(3, 2);
    bed.load(built_in("bridge", "bridge", &owners(&bed.pods, 2)));
    bed.load(built_in("router", "router", &routes(2)));
    let everywhere = "0.0.0.0/0".parse().expect("a prefix");
    let servers: Vec<_> = bed
        .pods
        .iter()
        .enumerate()
        .filter_map(|(n, pod)| {
            let net = pod.namespace.netlink().expect("netlink works");
            let gateway = "10.77.0.254".parse().expect("an address");
            net.add_route(&Route::to(everywhere).via(gateway)).expect("the gateway is on the link");
            let own = format!("{MOVING}/32").parse().expect("a prefix");
            (n > 0).then(|| {
                net.add_address("eth0", own).expect("it is free");
                let address = SocketAddr::new(MOVING.parse().expect("an address"), 5000);
                let socket = pod.namespace.run(|| UdpSocket::bind(address));
                let socket = socket.expect("it can be entered").expect("the port is free");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
                socket
            })
        })
        .collect();
    let client = bed.pods[0].udp();
    client.connect((MOVING, 5000)).expect("there is a route");
    let talk = |server: &UdpSocket| {
        let mut byte = [0];
        for n in 0..20 {
            client.send(&[n]).expect("it is sent");
            let (_, peer) = server.recv_from(&mut byte).expect("it arrives");
            assert_eq!(byte, [n]);
            server.send_to(&byte, peer).expect("there is a route");
            client.recv(&mut byte).expect("the answer arrives");
            assert_eq!(byte, [n]);
        }
    };
    talk(&servers[0]);
    let (before, opened) = (bed.redecided(), bed.opened());
    bed.plane.configure("bridge", &owners(&bed.pods, 3)).expect("it is a configuration");
    bed.plane.configure("router", &routes(3)).expect("it is a configuration");
    await_redecided(&bed, before, |all| all.changed, 1);
    let hits = bed.in_kernel("hit");
    talk(&servers[1]);
    assert_eq!(bed.opened(), opened, "it is the same connection");
    assert!(bed.in_kernel("hit") - hits >= 40, "the kernel carries it both ways at once");
    servers[0].set_nonblocking(true).expect("it can be");
    assert!(servers[0].recv(&mut [0; 9]).is_err(), "nothing went the old way");
}
