//! What a trace says of packets that nobody sent, and that nothing else comes of it.

use millrace_abi::{Capability, Field, Reason};
use millrace_dataplane::control::request::StageTerms;
use millrace_dataplane::control::trace::{StageTrace, TraceReport, TraceRequest};
use millrace_dataplane::stage::{Mode, OnFault};
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::wire::MacAddr;
use millrace_packet_tests::guests::{
    Guest, drop_flow, egress, forwarder, inspect, stating, to_port, when,
};
use millrace_packet_tests::{Plane, load, module_as, plane};

use crate::pods::{GATEWAY, POD1, POD2, from_pod1, node};

fn traced(plane: &mut Plane, port: &str, frame: Vec<u8>) -> TraceReport {
    let port = plane.port(port).expect("it is one of ours");
    plane.trace(&TraceRequest { port, frame })
}

/// The names of stages, and what they did.
fn outcomes(report: &TraceReport) -> Vec<(&str, &str)> {
    report.stages.iter().map(|step| (&*step.stage, &*step.outcome)).collect()
}

fn rule(step: &StageTrace) -> Option<&str> {
    step.rule.as_ref()?.name.as_deref()
}

#[test]
fn a_trace_says_what_stages_decide_and_how_a_packet_leaves() {
    let mut plane = node();
    let report = traced(&mut plane, "pod1", from_pod1(GATEWAY, "10.1.0.12:80"));
    assert_eq!((&*report.packet.port, &*report.packet.protocol), ("pod1", "udp"));
    assert_eq!(report.packet.source, "10.1.0.11:1000");
    assert_eq!(outcomes(&report), [("bridge", "answered"), ("router", "answered")]);
    let router = &report.stages[1];
    assert_eq!(rule(router), Some("route"));
    assert_eq!(router.decided, ["egress pod2", "next-hop 10.1.0.12", "decrement-ttl"]);
    assert!(router.tags.contains(&"port 3".to_owned()), "{router:?}");

    let ending = &report.ending;
    assert_eq!((&*ending.fate, ending.by.as_deref()), ("forwarded", Some("router")));
    let delivery = ending.delivery.as_ref().expect("it leaves");
    assert_eq!((&delivery.ports[..], delivery.mtu), (&["pod2".to_owned()][..], 1500));
    assert_eq!(delivery.ttl, report.packet.ttl - 1);
    let macs = [GATEWAY, POD2].map(|mac: MacAddr| Some(mac.to_string()));
    assert_eq!([&delivery.source_mac, &delivery.destination_mac], [&macs[0], &macs[1]]);
    assert_eq!((delivery.source, delivery.destination), (None, None));
    let offload = &delivery.offload;
    assert_eq!((offload.there, offload.back, &offload.why_not), (true, true, &None));

    // within the segment it goes as it came
    let bridged = traced(&mut plane, "pod1", from_pod1(POD2, "10.1.0.12:80"));
    let delivery = bridged.ending.delivery.expect("it leaves");
    assert_eq!((delivery.ttl, delivery.destination_mac), (bridged.packet.ttl, None));
}

#[test]
fn what_ends_a_way_is_named_with_its_rule() {
    let mut plane = node();
    let syn = frames::tcp("10.1.0.11:1000", "10.66.0.1:80", Flags::SYN, b"");
    let report = traced(&mut plane, "pod1", frames::between(syn, POD1, GATEWAY));
    let router = report.stages.last().expect("two were asked");
    assert_eq!((router.control.as_deref(), rule(router)), (Some("drop"), Some("blackhole")));
    assert_eq!(report.ending.by.as_deref(), Some("router"));
    assert_eq!(report.ending.reason.as_deref(), Some(Reason::Blackhole.label()));
    assert!(report.ending.help.is_some() && report.ending.delivery.is_none());

    let spoofed = frames::udp("10.1.0.99:1000", "10.1.0.12:80", b"x");
    let report = traced(&mut plane, "pod1", frames::between(spoofed, POD1, GATEWAY));
    assert_eq!(outcomes(&report), [("bridge", "answered")], "the router is not asked");
    assert_eq!(report.ending.reason.as_deref(), Some(Reason::SpoofedAddress.label()));

    // what the host finds wrong has no stage
    let cut = traced(&mut plane, "pod1", vec![0; 9]);
    assert_eq!((cut.stages.len(), cut.ending.by), (0, None));
    assert_eq!(cut.ending.reason.as_deref(), Some(Reason::TruncatedEthernet.label()));
    let stray = frames::tcp("10.1.0.11:1000", "10.1.0.12:80", Flags::ACK, b"");
    let stray = traced(&mut plane, "pod1", frames::between(stray, POD1, GATEWAY));
    assert_eq!(stray.ending.reason.as_deref(), Some(Reason::InvalidState.label()));
}

#[test]
fn f4_a_trace_knows_what_is_too_big() {
    let mut plane = node();
    let port = plane.port("pod2").expect("it is one of ours");
    plane.run(move |worker| worker.ports.get_mut(port).expect("it is there").port.mtu = 20);
    let report = traced(&mut plane, "pod1", from_pod1(GATEWAY, "10.1.0.12:80"));
    assert_eq!(report.ending.reason.as_deref(), Some(Reason::TooBig.label()));
    assert_eq!((report.stages.len(), report.ending.by), (2, None));
}

#[test]
fn a_question_that_a_packet_hook_answers_is_traced_to_its_answer() {
    let mut plane = node();
    let request =
        frames::between(frames::arp_request("10.1.0.11", "10.1.0.1"), POD1, MacAddr::BROADCAST);
    let report = traced(&mut plane, "pod1", request);
    let hook = report.stages[0].hook.as_ref().expect("the bridge sees ARP");
    assert_eq!(hook.verdict, "answer");
    assert_eq!((&*report.ending.fate, report.ending.by.as_deref()), ("answered", Some("bridge")));
    assert_eq!(report.ending.delivery.expect("it goes back").ports, ["pod1"]);
}

#[test]
fn nothing_comes_of_a_trace_but_what_it_says() {
    let mut plane = node();
    let seen = |plane: &Plane| {
        let stages = plane.stages.status().expect("the worker lives");
        let counters: Vec<_> = stages
            .iter()
            .map(|stage| (stage.counters.asked, format!("{:?}", stage.counters.metrics)))
            .collect();
        (plane.fates(), counters, plane.counters().flows.load(std::sync::atomic::Ordering::Relaxed))
    };
    let before = seen(&plane);
    for destination in ["10.1.0.12:80", "10.66.0.1:80", "192.0.2.1:80"] {
        traced(&mut plane, "pod1", from_pod1(GATEWAY, destination));
    }
    assert_eq!(seen(&plane), before);
    let sent = plane.run(|worker| worker.io.collect(millrace_dataplane::port::PortId::PUNT));
    assert!(sent.is_empty());
}

#[test]
fn a_learning_bridge_learns_nothing_of_a_trace() {
    let mut plane = plane(&["a", "b", "c"]);
    load(&mut plane, millrace_packet_tests::built_in("bridge", "bridge", ""));
    let (one, two) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let frame = |from, to| frames::between(frames::udp("10.0.0.1:1", "10.0.0.2:2", b""), from, to);
    let asked = traced(&mut plane, "a", frame(one, two));
    assert_eq!(
        (&*asked.ending.fate, asked.ending.delivery.unwrap().ports),
        ("flooded", vec!["b".to_owned(), "c".to_owned()])
    );
    let back = traced(&mut plane, "b", frame(two, one));
    assert_eq!(back.ending.fate, "flooded", "nobody has learned where it is");
}

#[test]
fn a_stage_that_fails_is_shown_so_and_stays_in_service() {
    for (on_fault, fate) in [(OnFault::Closed, "dropped"), (OnFault::Open, "forwarded")] {
        let mut plane = plane(&["a", "b"]);
        let poison = Guest::new().flow(&when(&to_port(666), "unreachable"));
        let mut poisoned = module_as("poisoned", poison.build(), "");
        poisoned.terms = StageTerms { on_fault, ..StageTerms::default() };
        load(&mut plane, poisoned);
        load(&mut plane, module_as("way", forwarder(2).build(), ""));

        for _ in 0..10 {
            let report = traced(&mut plane, "a", frames::udp("10.0.0.1:1", "10.0.0.2:666", b""));
            let failed = &report.stages[0];
            assert_eq!(failed.outcome, "failed");
            assert!(failed.fault.as_ref().is_some_and(|fault| fault.starts_with("trap")));
            assert_eq!(report.ending.fate, fate);
        }
        let status = plane.stage("poisoned");
        assert_eq!(status.counters.faults.values().sum::<u64>(), 0);
        assert_eq!(plane.pass("a", &[frames::udp("10.0.0.1:1", "10.0.0.2:7", b"")]).len(), 1);
    }
}

#[test]
fn a_shadow_is_asked_and_not_followed_and_a_stage_of_other_ports_is_not_asked() {
    let mut plane = plane(&["a", "b"]);
    let deny = Guest::new().wants(&[Capability::Drop]).flow(&drop_flow(Reason::Denied)).build();
    let mut shadow = module_as("shadow", deny.clone(), "");
    shadow.terms.mode = Mode::Shadow;
    load(&mut plane, shadow);
    let mut elsewhere = module_as("elsewhere", deny, "");
    elsewhere.terms.ports = ["b".to_owned()].into();
    load(&mut plane, elsewhere);
    let way = Guest::new()
        .wants(&[Capability::Redirect, Capability::Inspect])
        .packet("")
        .flow(&(egress(2) + &inspect(3) + &stating(Field::DecrementTtl)));
    load(&mut plane, module_as("way", way.build(), ""));

    let report = traced(&mut plane, "a", frames::udp("10.0.0.1:1", "10.0.0.2:7", b""));
    assert_eq!(report.stages[0].control.as_deref(), Some("drop"));
    assert_eq!((&*report.stages[0].mode, &*report.stages[1].outcome), ("shadow", "not-asked"));
    let way = &report.stages[2];
    assert!(way.decided.contains(&"inspect 3 packets".to_owned()), "{way:?}");
    assert_eq!(way.hook.as_ref().map(|hook| &*hook.verdict), Some("pass"));
    assert_eq!(report.ending.fate, "forwarded");
    let offload = report.ending.delivery.expect("it leaves").offload;
    assert!(!offload.there && offload.why_not.is_some_and(|why| why.contains("direct port")));
}
