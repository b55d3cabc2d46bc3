//! Each test names the rule of Kubernetes that it shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use millrace_filter::tables::{
    Algorithm, Backend, Endpoint, EndpointSet, Endpoints, Frontend, FrontendKind, Protocol, Range,
    Row, Service, Source, SourceSet, Table, Tables, TrafficPolicy, Update,
};
use millrace_filter::testing::{Rig, frames};
use millrace_filter::wire::tcp::Flags;
use millrace_filter::{Control, Decision, Field, Origin, PortKind, Reason, Slot, Tag, TagKind};

use super::ServiceLb;

const ALL: EndpointSet = EndpointSet(1);
const HERE: EndpointSet = EndpointSet(2);
const SIX: EndpointSet = EndpointSet(3);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn frontend(place: &str, protocol: Protocol) -> Frontend {
    let place: std::net::SocketAddr = place.parse().expect("an address and a port");
    Frontend { address: place.ip(), port: place.port(), protocol }
}

/// A Service with endpoints here and elsewhere, reached by its own address from within.
fn service(number: u32) -> Service {
    Service {
        number,
        port: 80,
        kind: FrontendKind::ClusterIp,
        policy: TrafficPolicy::Cluster,
        cluster: ALL,
        local: HERE,
        affinity_s: 0,
        sources: SourceSet::NONE,
        algorithm: Algorithm::Maglev,
    }
}

mod algorithms;

/// Three endpoints, of which the first is here, and two of IPv6.
const BACKENDS: [&str; 3] = ["10.1.0.2", "10.1.1.2", "10.1.1.3"];
const BACKENDS_V6: [&str; 2] = ["fd01::2", "fd01:0:0:1::2"];

/// The tables with these Services.
fn tables(services: &[(Frontend, Service)]) -> Tables {
    let mut tables = Tables::default();
    for (set, backends) in [(ALL, &BACKENDS[..]), (HERE, &BACKENDS[..1]), (SIX, &BACKENDS_V6)] {
        let endpoint = |it: &&str| Endpoint { address: address(it), port: 8080 };
        let octets = Endpoint::encode_all(&backends.iter().map(endpoint).collect::<Vec<_>>());
        tables.put(&Row::Endpoints(set, Endpoints::new(&octets).expect("they are in order")));
    }
    for (frontend, service) in services {
        tables.put(&Row::Service(*frontend, *service));
    }
    tables
}

fn rig(services: &[(Frontend, Service)]) -> Rig<ServiceLb> {
    let mut rig = Rig::new("{}");
    rig.publish(&tables(services)).expect("they fit together");
    rig
}

/// What is decided about the first packet of a connection that comes by a port of this kind.
fn ask(rig: &mut Rig<ServiceLb>, from: PortKind, frame: &[u8]) -> Decision {
    let slot = Slot { ingress_kind: from as u8, ..rig.slot(1, frame) };
    rig.decide(&slot)
}

fn syn(source: &str, destination: &str) -> Vec<u8> {
    frames::tcp(source, destination, Flags::SYN, b"")
}

/// The endpoint that was stated, if one was.
fn endpoint(decision: &Decision) -> Option<(IpAddr, u16)> {
    let to = Slot { to_addr: decision.to_addr, ip_version: 6, ..Slot::ZERO };
    let address = to.translated_destination().expect("an address").to_canonical();
    decision.stated().contains(Field::To).then_some((address, decision.to_port))
}

fn masquerades(decision: &Decision) -> bool {
    decision.stated().contains(Field::Masquerade)
}

/// How a connection ends that gets no endpoint.
fn end(decision: &Decision) -> (Control, Reason) {
    assert_eq!(endpoint(decision), None);
    let control = Control::from_u8(decision.control).expect("the SDK writes no other");
    (control, Reason::from_u16(decision.reason).expect("a reason of the table"))
}

fn says_nothing(decision: &Decision) -> bool {
    *decision == Decision::ZERO
}

const VIP: &str = "10.96.0.10:80";

#[test]
fn c1_connections_to_a_service_go_to_its_endpoints_and_to_each_alike() {
    let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), service(7))]);
    let mut hits: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for port in 1000..10_000u16 {
        let decision = ask(&mut rig, PortKind::Pod, &syn(&format!("10.1.0.9:{port}"), VIP));
        let (address, port) = endpoint(&decision).expect("there are endpoints");
        assert_eq!(port, 8080);
        assert_eq!(decision.tags[..1], [Tag::new(TagKind::Service, 7).bits()]);
        *hits.entry(address).or_default() += 1;
    }
    assert_eq!(hits.keys().copied().collect::<Vec<_>>(), BACKENDS.map(address));
    assert!(hits.values().all(|hits| (2800..3200).contains(hits)), "{hits:?}");
    assert_eq!(rig.metric("balanced"), 9000);
}

#[test]
fn s2_one_port_number_is_another_service_with_another_protocol() {
    let udp = Service { cluster: HERE, ..service(2) };
    let mut rig =
        rig(&[(frontend(VIP, Protocol::Tcp), service(1)), (frontend(VIP, Protocol::Udp), udp)]);
    let tcp = ask(&mut rig, PortKind::Pod, &syn("10.1.0.9:1", VIP));
    assert_eq!(tcp.tags[0], Tag::new(TagKind::Service, 1).bits());
    let udp = ask(&mut rig, PortKind::Pod, &frames::udp("10.1.0.9:1", VIP, b""));
    assert_eq!(udp.tags[0], Tag::new(TagKind::Service, 2).bits());
    assert_eq!(endpoint(&udp), Some((address(BACKENDS[0]), 8080)));
    // nobody has said what SCTP is to do there
    let sctp = ask(&mut rig, PortKind::Pod, &frames::sctp("10.1.0.9:1", VIP, b""));
    assert_eq!(end(&sctp), (Control::Reject, Reason::NoService));
}

#[test]
fn s16_connections_come_from_where_they_may_or_are_dropped_and_established_ones_stay() {
    let ranges = [("192.0.2.0", 24), ("10.1.0.0", 16), ("2001:db8::", 32)];
    let limited = Service { sources: SourceSet(5), kind: FrontendKind::LoadBalancer, ..service(1) };
    let mut tables = tables(&[
        (frontend(VIP, Protocol::Tcp), limited),
        (frontend("10.96.0.11:80", Protocol::Tcp), service(2)),
    ]);
    for (first, len) in ranges {
        let range = Range { address: address(first), len };
        tables.put(&Row::Source(Source { set: SourceSet(5), range }));
    }
    let mut rig = Rig::<ServiceLb>::new("{}");
    rig.publish(&tables).expect("they fit together");
    for source in ["192.0.2.9:1", "10.1.255.7:1"] {
        assert!(
            endpoint(&ask(&mut rig, PortKind::Uplink, &syn(source, VIP))).is_some(),
            "{source}"
        );
    }
    let dropped = (Control::Drop, Reason::SourceRange);
    for (from, source) in [(PortKind::Uplink, "192.0.3.9:1"), (PortKind::Pod, "10.2.0.9:1")] {
        let decision = ask(&mut rig, from, &syn(source, VIP));
        assert_eq!(end(&decision), dropped, "{source}");
        assert!(
            endpoint(&ask(&mut rig, from, &syn(source, "10.96.0.11:80"))).is_some(),
            "{source}"
        );
        // one that was let in before
        let to = rig.slot(1, &syn(source, &format!("{}:8080", BACKENDS[1])));
        let slot = Slot {
            origin: Origin::Redecide as u8,
            ingress_kind: from as u8,
            to_addr: to.dst_addr,
            to_port: to.dst_port,
            ..rig.slot(1, &syn(source, VIP))
        };
        assert_eq!(endpoint(&rig.decide(&slot)), Some((address(BACKENDS[1]), 8080)));
    }

    // a set that goes lets nobody in, and others do not mind
    let mut next = Tables::default();
    next.put(&Row::Service(frontend(VIP, Protocol::Tcp), limited));
    let gone = tables.delta(&next);
    let updates = gone.updates(&[Table::Sources], 2, usize::MAX).concat();
    rig.update(Update::new(&updates)).expect("it is taken");
    assert_eq!(end(&ask(&mut rig, PortKind::Uplink, &syn("192.0.2.9:1", VIP))), dropped);
}

#[test]
fn s23_each_family_has_endpoints_of_its_own() {
    let six = Service { cluster: SIX, ..service(1) };
    let mut rig = rig(&[
        (frontend(VIP, Protocol::Tcp), service(1)),
        (frontend("[fd96::10]:80", Protocol::Tcp), six),
    ]);
    for port in 1..50 {
        let frame = syn(&format!("[fd01::9]:{port}"), "[fd96::10]:80");
        let (address, _) = endpoint(&ask(&mut rig, PortKind::Pod, &frame)).expect("endpoints");
        assert!(BACKENDS_V6.map(self::address).contains(&address));
        let frame = syn(&format!("10.1.0.9:{port}"), VIP);
        let (address, _) = endpoint(&ask(&mut rig, PortKind::Pod, &frame)).expect("endpoints");
        assert!(BACKENDS.map(self::address).contains(&address));
    }
}

#[test]
fn s9_without_any_endpoint_a_connection_is_rejected_and_without_a_local_one_dropped() {
    use FrontendKind::{ClusterIp, ExternalIp, LoadBalancer, NodePort};
    let none = EndpointSet::NONE;
    for kind in [ClusterIp, ExternalIp, LoadBalancer, NodePort] {
        for policy in TrafficPolicy::ALL {
            let nowhere = Service { kind, policy, cluster: none, local: none, ..service(1) };
            let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), nowhere)]);
            for from in [PortKind::Pod, PortKind::Host, PortKind::Uplink] {
                let decision = ask(&mut rig, from, &syn("10.1.0.9:1", VIP));
                assert_eq!(end(&decision), (Control::Reject, Reason::NoBackend), "{kind:?}");
                assert_eq!(decision.tag_count, 1, "it changes with the Service");
            }
        }
        let elsewhere = Service { kind, policy: TrafficPolicy::Local, local: none, ..service(1) };
        let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), elsewhere)]);
        let decision = ask(&mut rig, PortKind::Uplink, &syn("198.51.100.1:1", VIP));
        assert_eq!(end(&decision), (Control::Drop, Reason::NoLocalBackend), "{kind:?}");
    }
}

#[test]
fn s7_s8_s10_s11_who_gets_which_endpoints_and_whose_source_is_hidden() {
    use FrontendKind::{ClusterIp, LoadBalancer, NodePort};
    use PortKind::{Host, Pod, Uplink};
    use TrafficPolicy::{Cluster, Local};
    // as the table of S11 has it: where from, where to, which policy, all endpoints, masquerade
    for (from, kind, policy, all, masquerade) in [
        (Pod, ClusterIp, Cluster, true, false),
        (Pod, ClusterIp, Local, false, false),
        (Pod, NodePort, Cluster, true, true),
        (Pod, NodePort, Local, true, false),
        (Pod, LoadBalancer, Cluster, true, true),
        (Pod, LoadBalancer, Local, true, false),
        (Host, ClusterIp, Cluster, true, true),
        (Host, ClusterIp, Local, false, true),
        (Host, NodePort, Cluster, true, true),
        (Host, NodePort, Local, true, true),
        (Host, LoadBalancer, Local, true, true),
        (Uplink, ClusterIp, Cluster, true, true),
        (Uplink, ClusterIp, Local, false, true),
        (Uplink, NodePort, Cluster, true, true),
        (Uplink, NodePort, Local, false, false),
        (Uplink, LoadBalancer, Cluster, true, true),
        (Uplink, LoadBalancer, Local, false, false),
    ] {
        let service = Service { kind, policy, ..service(1) };
        let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), service)]);
        let mut seen = BTreeMap::new();
        for port in 1..100 {
            let decision = ask(&mut rig, from, &syn(&format!("192.0.2.9:{port}"), VIP));
            let case = format!("{from:?} to {kind:?} with {policy:?}");
            assert_eq!(masquerades(&decision), masquerade, "{case}");
            *seen.entry(endpoint(&decision).expect("an endpoint")).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), if all { 3 } else { 1 }, "{from:?} {kind:?} {policy:?}");
    }
}

#[test]
fn s11_what_stands_in_for_a_nodes_address_is_for_its_own_processes_alone() {
    let own = SourceSet(6);
    for policy in TrafficPolicy::ALL {
        let service = Service { kind: FrontendKind::OwnNode, policy, sources: own, ..service(1) };
        let mut tables = tables(&[(frontend(VIP, Protocol::Tcp), service)]);
        let range = Range { address: address("192.0.2.1"), len: 32 };
        tables.put(&Row::Source(Source { set: own, range }));
        let mut rig = Rig::<ServiceLb>::new("{}");
        rig.publish(&tables).expect("they fit together");
        let mut seen = std::collections::BTreeSet::new();
        for port in 1..100 {
            let frame = syn(&format!("192.0.2.1:{port}"), VIP);
            let decision = ask(&mut rig, PortKind::Host, &frame);
            assert!(masquerades(&decision), "{policy:?}");
            seen.insert(endpoint(&decision).expect("an endpoint"));
        }
        assert_eq!(seen.len(), 3, "{policy:?}: all endpoints");
        // neither what says that it is the node, nor what the node forwards
        for from in [PortKind::Pod, PortKind::Uplink, PortKind::Remote] {
            let decision = ask(&mut rig, from, &syn("192.0.2.1:1", VIP));
            assert_eq!(end(&decision), (Control::Drop, Reason::SourceRange), "{from:?}");
        }
        let decision = ask(&mut rig, PortKind::Host, &syn("198.51.100.1:1", VIP));
        assert_eq!(end(&decision), (Control::Drop, Reason::SourceRange));
    }
}

#[test]
fn s12_who_gets_itself_is_hidden_from_itself() {
    let mut rig = rig(&[(frontend(VIP, Protocol::Udp), service(1))]);
    let mut itself = 0;
    for port in 1..200 {
        let frame = frames::udp(&format!("{}:{port}", BACKENDS[1]), VIP, b"");
        let decision = ask(&mut rig, PortKind::Pod, &frame);
        let is_itself = endpoint(&decision) == Some((address(BACKENDS[1]), 8080));
        assert_eq!(masquerades(&decision), is_itself);
        itself += u32::from(is_itself);
    }
    assert!(itself > 20, "{itself} of 199");
}

#[test]
fn s15_another_port_of_a_service_is_rejected_and_an_address_of_nobody_dropped() {
    let mut tables = tables(&[(frontend(VIP, Protocol::Tcp), service(1))]);
    tables.put(&Row::Range(Range { address: address("10.96.0.0"), len: 12 }));
    let mut rig = Rig::<ServiceLb>::new("{}");
    rig.publish(&tables).expect("they fit together");
    for frame in [syn("10.1.0.9:1", "10.96.0.10:81"), frames::ping("10.1.0.9", "10.96.0.10")] {
        let decision = ask(&mut rig, PortKind::Pod, &frame);
        assert_eq!(end(&decision), (Control::Reject, Reason::NoService));
        assert_eq!(decision.tags[0], Tag::new(TagKind::Service, 1).bits());
    }
    for frame in [syn("10.1.0.9:1", "10.111.0.1:80"), frames::ping("10.1.0.9", "10.96.0.11")] {
        let decision = ask(&mut rig, PortKind::Pod, &frame);
        assert_eq!(end(&decision), (Control::Drop, Reason::NoService));
        assert!(decision.stated().contains(Field::Revalidate), "it may be somebody's soon");
    }
    for frame in [syn("10.1.0.9:1", "10.112.0.1:80"), frames::arp_request("10.1.0.9", "10.96.0.10")]
    {
        assert!(says_nothing(&ask(&mut rig, PortKind::Pod, &frame)), "it is for others to say");
    }
}

#[test]
fn s15_ports_of_a_node_that_are_nobodys_are_the_nodes_own() {
    let node_port = Service { kind: FrontendKind::NodePort, ..service(1) };
    let mut rig = rig(&[(frontend("192.0.2.1:30080", Protocol::Tcp), node_port)]);
    assert!(says_nothing(&ask(&mut rig, PortKind::Uplink, &syn("198.51.100.1:1", "192.0.2.1:22"))));
    let open = ask(&mut rig, PortKind::Uplink, &syn("198.51.100.1:1", "192.0.2.1:30080"));
    assert!(endpoint(&open).is_some());
}

#[test]
fn s19_a_client_stays_with_its_endpoint_for_as_long_as_the_service_says() {
    let faithful = Service { affinity_s: 100, ..service(1) };
    let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), faithful)]);
    let mut next = 0u16;
    let mut connect = |rig: &mut Rig<ServiceLb>, client: &str| {
        next += 1;
        endpoint(&ask(rig, PortKind::Pod, &syn(&format!("{client}:{next}"), VIP)))
    };
    let first = connect(&mut rig, "10.1.0.9");
    for _ in 0..20 {
        assert_eq!(connect(&mut rig, "10.1.0.9"), first);
        // each connection begins the time anew
        rig.advance(Duration::from_secs(90));
    }
    assert_eq!(rig.metric("kept_by_affinity"), 20);
    let others: Vec<_> = (0..40).map(|n| connect(&mut rig, &format!("10.1.2.{n}"))).collect();
    assert!(BACKENDS.iter().all(|it| others.contains(&Some((address(it), 8080)))));

    // over, one endpoint is as good as another
    rig.advance(Duration::from_secs(101));
    let kept = rig.metric("kept_by_affinity");
    connect(&mut rig, "10.1.0.9");
    assert_eq!(rig.metric("kept_by_affinity"), kept);
}

#[test]
fn s19_affinity_comes_and_goes_with_the_service_and_ends_with_the_endpoint() {
    let vip = frontend(VIP, Protocol::Tcp);
    let faithful = Service { affinity_s: 100, ..service(1) };
    let mut rig = rig(&[(vip, faithful)]);
    let connect = |rig: &mut Rig<ServiceLb>, port: u16| {
        endpoint(&ask(rig, PortKind::Pod, &syn(&format!("10.1.0.9:{port}"), VIP)))
    };
    let first = connect(&mut rig, 1);
    assert!((2..40).all(|port| connect(&mut rig, port) == first));
    rig.publish(&tables(&[(vip, service(1))])).expect("they fit together");
    assert!(!(2..40).all(|port| connect(&mut rig, port) == first), "it has none any more");
    rig.publish(&tables(&[(vip, Service { cluster: HERE, ..faithful })])).expect("they fit");
    let left = Some((address(BACKENDS[0]), 8080));
    assert!((2..40).all(|port| connect(&mut rig, port) == left), "the only one that is left");
}

#[test]
fn s21_what_opens_no_connection_gets_no_endpoint() {
    let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), service(1))]);
    for flags in [Flags::ACK, Flags::SYN | Flags::ACK, Flags::RST, Flags::FIN | Flags::ACK] {
        let frame = frames::tcp("10.1.0.9:1", VIP, flags, b"");
        let decision = ask(&mut rig, PortKind::Pod, &frame);
        assert_eq!(end(&decision), (Control::Drop, Reason::InvalidState), "{flags:?}");
        assert!(decision.stated().contains(Field::Once), "the next packet may open one");
    }
}

/// A live connection to the virtual address that has this endpoint.
fn live(rig: &Rig<ServiceLb>, frame: &[u8], backend: &str) -> Slot {
    let backend = address(backend);
    let mut slot = rig.slot(1, frame);
    slot.ingress_kind = PortKind::Pod as u8;
    slot.origin = Origin::Redecide as u8;
    slot.to_addr = rig.slot(1, &frames::ping(&backend.to_string(), &backend.to_string())).dst_addr;
    slot.to_port = 8080;
    slot
}

#[test]
fn s20_s21_a_live_connection_keeps_its_endpoint_unless_it_is_udp_and_that_has_gone() {
    let services = |cluster| {
        [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| (frontend(VIP, protocol), Service { cluster, ..service(1) }))
    };
    let (tcp, udp) = (syn("10.1.0.9:1", VIP), frames::udp("10.1.0.9:1", VIP, b""));
    for backend in BACKENDS {
        let mut rig = rig(&services(ALL));
        let gone = backend != BACKENDS[0];
        let kept = Some((address(backend), 8080));
        for frame in [&tcp, &udp] {
            let slot = live(&rig, frame, backend);
            assert_eq!(endpoint(&rig.decide(&slot)), kept, "nothing has changed");
        }
        rig.publish(&tables(&services(HERE))).expect("they fit together");
        let slot = live(&rig, &tcp, backend);
        assert_eq!(endpoint(&rig.decide(&slot)), kept, "TCP is left alone");
        let slot = live(&rig, &udp, backend);
        let decision = rig.decide(&slot);
        assert_eq!(decision.stated().contains(Field::PickAgain), gone);
        assert_eq!(endpoint(&decision), Some((address(BACKENDS[0]), 8080)));

        // nobody, or no Service at all, is no reason to cut off whoever still answers
        for tables in [tables(&services(EndpointSet::NONE)), tables(&[])] {
            rig.publish(&tables).expect("they fit together");
            for frame in [&tcp, &udp] {
                let slot = live(&rig, frame, backend);
                let decision = rig.decide(&slot);
                assert_eq!((decision.control, endpoint(&decision)), (0, kept));
            }
        }
    }
}

#[test]
fn what_a_stage_in_front_has_translated_is_not_translated_again() {
    let mut rig = rig(&[(frontend(VIP, Protocol::Tcp), service(1))]);
    let slot = rig.slot(1, &syn("10.1.0.9:1", VIP));
    assert!(says_nothing(&rig.decide(&Slot { decided: Field::To as u16, ..slot })));
}

#[test]
fn services_and_endpoints_change_row_by_row() {
    let (a, b) = (frontend(VIP, Protocol::Tcp), frontend("10.96.0.10:81", Protocol::Tcp));
    let mut rig = rig(&[(a, service(1))]);
    let steps = [
        tables(&[(a, service(1)), (b, service(1))]),
        tables(&[(b, Service { cluster: HERE, ..service(1) })]),
        tables(&[(b, Service { kind: FrontendKind::ExternalIp, ..service(1) })]),
        tables(&[]),
    ];
    let expected = [(true, true), (false, true), (false, true), (false, false)];
    let mut before = tables(&[(a, service(1))]);
    for (next, (has_a, has_b)) in steps.into_iter().zip(expected) {
        let update = before.delta(&next).updates(&Table::ALL, 2, usize::MAX).concat();
        rig.update(Update::new(&update)).expect("it fits what is known");
        let mut reaches = |place: &str| {
            endpoint(&ask(&mut rig, PortKind::Pod, &syn("10.1.0.9:1", place))).is_some()
        };
        assert_eq!((reaches(VIP), reaches("10.96.0.10:81")), (has_a, has_b));
        before = next;
    }
    let nobodys = ask(&mut rig, PortKind::Pod, &syn("10.1.0.9:1", VIP));
    assert!(says_nothing(&nobodys), "the address has gone with its last port");
}

#[test]
fn an_update_that_does_not_fit_together_is_refused_with_what_is_missing() {
    let lost = Service { cluster: EndpointSet(99), ..service(1) };
    let mut rig = Rig::<ServiceLb>::new("{}");
    let error =
        rig.publish(&tables(&[(frontend(VIP, Protocol::Tcp), lost)])).expect_err("it lacks");
    assert!(error.to_string().contains("99"), "{error}");
    let error = rig.update(Update::new(&[1, 2, 3])).expect_err("it is cut off");
    assert!(error.to_string().contains("ends in the middle"), "{error}");
}
