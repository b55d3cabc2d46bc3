//! The examples, and the bridge, as they ship: what each of them is for, row by row.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use millrace_abi::Reason;
use millrace_dataplane::control::status::MetricStatus;
use millrace_dataplane::counters::Fate;
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::wire::MacAddr;
use millrace_packet_tests::guests::forwarder;
use millrace_packet_tests::{Plane, built_in, load, module_as, plane, plane_in, sandbox, try_load};
use millrace_sandbox::{Sandbox, now_ns};

/// Two ports, and an example asked about what goes from `a` to `b`.
fn crossed_by(example: &str, config: &str) -> Plane {
    crossed_in(sandbox(), example, config)
}

fn crossed_in(sandbox: Arc<Sandbox>, example: &str, config: &str) -> Plane {
    let mut plane = plane_in(sandbox, &["a", "b"]);
    load(&mut plane, module_as("way", forwarder(2).build(), ""));
    load(&mut plane, built_in("example", example, config));
    plane
}

/// What becomes of a packet that comes in by `a`.
fn fate(plane: &mut Plane, packet: Vec<u8>) -> Fate {
    let before = plane.tally();
    plane.pass("a", &[packet]);
    let after = plane.tally();
    after.into_iter().find(|entry| !before.contains(entry)).expect("it has one").0
}

fn counted(plane: &Plane, metric: &str) -> MetricStatus {
    plane.stage("example").counters.metrics[metric].clone()
}

#[test]
fn a_deny_list_denies_what_matches_all_that_a_rule_states() {
    let ssh = |from: &str, to: &str| frames::tcp(from, to, Flags::SYN, b"");
    let rules = r#"{"rules": [
        {"from": "10.0.0.0/8", "protocol": "tcp", "port": 22},
        {"to": "2001:db8:1::/48"},
        {"from": "10.0.0.9/32", "to": "10.0.1.0/24"},
        {"protocol": "sctp"}
    ]}"#;
    let mut drops = crossed_by("deny-list", rules);
    let rejecting = rules.replacen('{', r#"{"action": "reject", "#, 1);
    let mut rejects = crossed_by("deny-list", &rejecting);
    for (what, packet, denied) in [
        ("all of a rule", ssh("10.1.1.1:5", "192.0.2.1:22"), true),
        ("another port", ssh("10.1.1.1:5", "192.0.2.1:23"), false),
        ("that port at the other end", ssh("10.1.1.1:22", "192.0.2.1:5"), false),
        ("another source", ssh("11.1.1.1:5", "192.0.2.1:22"), false),
        ("another protocol", frames::udp("10.1.1.1:5", "192.0.2.1:22", b""), false),
        ("any protocol to a network", frames::ping("2001:db8::1", "2001:db8:1::1"), true),
        ("a network beside it", frames::ping("2001:db8::1", "2001:db8:2::1"), false),
        ("one host to a network", frames::udp("10.0.0.9:1", "10.0.1.77:2", b""), true),
        ("its neighbour", frames::udp("10.0.0.8:1", "10.0.1.77:2", b""), false),
        ("a protocol", frames::sctp("10.0.0.1:1", "10.0.0.2:2", &[0; 4]), true),
        ("what is no IP", frames::arp_request("10.0.0.9", "10.0.1.1"), false),
    ] {
        let (drop, reject) = match denied {
            true => (Fate::Dropped(Reason::Denied), Fate::Rejected(Reason::Denied)),
            false => (Fate::Forwarded, Fate::Forwarded),
        };
        assert_eq!(fate(&mut drops, packet.clone()), drop, "{what}");
        assert_eq!(fate(&mut rejects, packet), reject, "{what}");
    }
    assert_eq!(counted(&drops, "denied"), MetricStatus::Counter(4));
}

#[test]
fn a_rate_limit_counts_new_flows_by_their_source() {
    let mut plane = crossed_by("rate-limit", r#"{"flows_per_second": 10, "burst": 5}"#);
    let mut port = 0;
    let mut opened = |plane: &mut Plane, source: &str, attempts: u16| -> usize {
        let flows = (0..attempts).map(|_| {
            port += 1;
            frames::udp(&format!("{source}:{port}"), "10.9.9.9:53", b"x")
        });
        plane.pass("a", &flows.collect::<Vec<_>>()).len()
    };
    assert_eq!(opened(&mut plane, "10.0.0.1", 20), 5, "a source has its burst");
    assert_eq!(opened(&mut plane, "10.0.0.1", 20), 0, "and no more at once");
    assert_eq!(opened(&mut plane, "10.0.0.2", 3), 3, "which is not its neighbour's");
    plane.advance(Duration::from_millis(300));
    assert_eq!(opened(&mut plane, "10.0.0.1", 20), 3, "then it has its rate");
    let module = millrace_builtin::find("rate-limit").expect("it is an example").bytes;
    plane.stages.swap("example", module, None).expect("it starts");
    assert_eq!(opened(&mut plane, "10.0.0.1", 20), 0, "a swap does not fill the bucket");
    plane.advance(Duration::from_secs(60));
    assert_eq!(opened(&mut plane, "10.0.0.1", 20), 5, "and time no more than its burst");
    assert_eq!(plane.count(Fate::Dropped(Reason::RateLimited)), 15 + 20 + 17 + 20 + 15);

    // what is open goes on, however fast
    let open = frames::udp("10.0.0.3:1", "10.9.9.9:53", b"x");
    for _ in 0..5 {
        assert_eq!(plane.pass("a", &vec![open.clone(); 1]).len(), 1);
    }
    assert_eq!(opened(&mut plane, "10.0.0.3", 20), 4, "one flow is one flow");
}

#[test]
fn a_log_of_questions_has_those_that_can_be_read_and_lets_everything_pass() {
    let query = |flags: u8, name: &[u8]| {
        [&[0, 7, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat()
    };
    let name = b"\x03www\x07example\x03org\0";
    let mut plane = crossed_by("dns-log", "{}");
    for (what, packet, line) in [
        (
            "a question",
            frames::udp("10.0.0.1:999", "10.0.0.2:53", &query(1, name)),
            Some("10.0.0.1 asks for www.example.org. (type 1)"),
        ),
        (
            "one over IPv6",
            frames::udp("[2001:db8::1]:999", "[2001:db8::2]:53", &query(1, b"\x01a\0")),
            Some("2001:db8::1 asks for a. (type 1)"),
        ),
        (
            "one behind a tag",
            frames::tagged(frames::udp("10.0.0.1:9", "10.0.0.2:53", &query(1, b"\0")), 7),
            Some("10.0.0.1 asks for . (type 1)"),
        ),
        (
            "one that would write to the terminal",
            frames::udp("10.0.0.1:998", "10.0.0.2:53", &query(1, b"\x04\x1b[2J\0")),
            Some(r"10.0.0.1 asks for \027\0912j. (type 1)"),
        ),
        ("an answer", frames::udp("10.0.0.1:997", "10.0.0.2:53", &query(0x81, name)), None),
        ("half a name", frames::udp("10.0.0.1:996", "10.0.0.2:53", &query(1, name)[..20]), None),
        ("nothing", frames::udp("10.0.0.1:995", "10.0.0.2:53", b""), None),
        ("another port", frames::udp("10.0.0.1:53", "10.0.0.2:54", &query(1, name)), None),
        ("TCP", frames::tcp("10.0.0.1:1", "10.0.0.2:53", Flags::ACK, &query(1, name)), None),
    ] {
        let log = |plane: &Plane| plane.stages.log("example", 0).expect("it is there");
        let before = log(&plane).len();
        let left = plane.pass("a", from_ref(&packet));
        assert_eq!(left, [("b".to_owned(), packet)], "{what} passes as it is");
        let lines = log(&plane);
        let new: Vec<_> = lines[before..].iter().map(|line| line.text.as_str()).collect();
        assert_eq!(new, line.into_iter().collect::<Vec<_>>(), "{what}");
    }
    assert_eq!(counted(&plane, "questions"), MetricStatus::Counter(4));
    assert_eq!(counted(&plane, "unreadable"), MetricStatus::Counter(3));
    assert_eq!(plane.stage("example").counters.shown, 7);
}

#[test]
fn a_filter_in_c_counts_flows_by_port_and_denies_one() {
    let sandbox = sandbox();
    let mut plane = crossed_in(Arc::clone(&sandbox), "port-count", r#"{"deny": 7777}"#);
    let flows = |port: u16| -> u64 {
        let maps = sandbox.maps().owned_by("example");
        let [(name, map)] = &maps[..] else { panic!("it has one map, not {}", maps.len()) };
        assert_eq!(name, "ports");
        let mut value = [0; 8];
        map.peek(&port.to_le_bytes(), &mut value, now_ns());
        u64::from_le_bytes(value)
    };
    let udp = |source: u16, port: u16| {
        frames::udp(&format!("10.0.0.1:{source}"), &format!("10.0.0.2:{port}"), b"x")
    };
    let denied = Fate::Dropped(Reason::Denied);
    for (what, packet, expected) in [
        ("a flow", udp(1, 53), Fate::Forwarded),
        ("the same flow", udp(1, 53), Fate::Forwarded),
        ("another one to the same port", udp(2, 53), Fate::Forwarded),
        (
            "one over TCP",
            frames::tcp("10.0.0.1:1", "10.0.0.2:53", Flags::SYN, b""),
            Fate::Forwarded,
        ),
        ("one to the denied port", udp(1, 7777), denied),
        ("one from the denied port", udp(7777, 1), Fate::Forwarded),
        ("what has no port", frames::ping("10.0.0.1", "10.0.0.2"), Fate::Forwarded),
    ] {
        assert_eq!(fate(&mut plane, packet), expected, "{what}");
    }
    assert_eq!((flows(53), flows(7777), flows(1), flows(0)), (3, 1, 1, 0));
    assert_eq!(counted(&plane, "denied"), MetricStatus::Counter(1));

    for (config, complaint) in [
        (r#"{"deny": 0}"#, "must be a port"),
        (r#"{"deny": 65536}"#, "must be a port"),
        (r#"{"deny": 99999999999}"#, "must be a port"),
        (r#"{"deny": "x"}"#, "must be a port"),
    ] {
        let error = plane.stages.configure("example", config).expect_err(config).to_string();
        assert!(error.contains(complaint), "{config}: {error}");
        assert_eq!(fate(&mut plane, udp(3, 7777)), denied, "{config}");
    }
    for n in 0..40 {
        let config = if n % 2 == 0 { "{}" } else { r#"{"deny": 53}"# };
        plane.stages.configure("example", config).expect("it is right");
        let expected = if n % 2 == 0 { Fate::Forwarded } else { denied };
        assert_eq!(fate(&mut plane, udp(1, 53)), expected, "configured {n} times");
    }
    assert_eq!(flows(53), 43, "each configuration asks anew, and the map stays");
}

#[test]
fn a_bridge_sends_frames_where_their_stations_are() {
    let mut plane = plane(&["a", "b", "c"]);
    let config = r#"{"aging_seconds": 10, "stations_per_port": 3}"#;
    load(&mut plane, built_in("bridge", "bridge", config));
    let mac = |n: u8| match n {
        255 => MacAddr::BROADCAST,
        254 => MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]),
        253 => MacAddr([0x01, 0, 0x5e, 0, 0, 9]),
        n => MacAddr([2, 0, 0, 0, 0, n]),
    };
    for (what, seconds, port, from, to, left) in [
        ("who is unknown is looked for everywhere", 0, "a", 1, 2, &["b", "c"][..]),
        ("who has spoken is known", 0, "b", 2, 1, &["a"]),
        ("so is who answered", 0, "a", 1, 2, &["b"]),
        ("what is for everybody goes to everybody else", 0, "b", 2, 255, &["a", "c"]),
        ("so does what is for a group", 0, "b", 2, 253, &["a", "c"]),
        ("what is for the link stays on it", 0, "b", 2, 254, &[]),
        ("a station is its own neighbour", 0, "b", 2, 2, &[]),
        ("nothing goes back to where it came from", 0, "a", 3, 1, &[]),
        ("one more station behind a port", 0, "a", 4, 2, &["b"]),
        ("one too many is not let in", 0, "a", 5, 2, &[]),
        ("nor is it known", 0, "b", 2, 5, &["a", "c"]),
        ("a station that moves is known where it is", 0, "c", 4, 2, &["b"]),
        ("by everybody", 1, "b", 2, 4, &["c"]),
        ("and leaves room", 0, "a", 5, 2, &["b"]),
        ("who is silent is not forgotten at once", 8, "b", 2, 1, &["a"]),
        ("but is in the end", 3, "b", 2, 1, &["a", "c"]),
        ("who has spoken meanwhile is not", 0, "c", 6, 2, &["b"]),
    ] {
        plane.advance(Duration::from_secs(seconds));
        let packet = frames::udp("10.0.0.1:1", "10.0.0.2:2", b"x");
        let packet = frames::between(packet, mac(from), mac(to));
        let found: Vec<_> = plane.pass(port, &[packet]).into_iter().map(|(port, _)| port).collect();
        assert_eq!(found, left, "{what}");
    }
    let metrics = plane.stage("bridge").counters.metrics;
    let counted = ["learned", "moved", "refused"].map(|name| metrics[name].clone());
    assert_eq!(counted, [6, 1, 1].map(MetricStatus::Counter));
}

#[test]
fn a_full_bridge_has_room_again_for_whoever_comes_when_stations_have_aged() {
    let mut plane = plane(&["a", "b"]);
    load(&mut plane, built_in("bridge", "bridge", r#"{"stations": 1, "aging_seconds": 1}"#));
    for station in 0..32 {
        let from = MacAddr([2, 0, 0, 0, 0, station]);
        let plain = frames::udp("10.0.0.1:1", "10.0.0.2:2", b"");
        plane.pass("a", &[frames::between(plain, from, MacAddr([2, 0, 0, 0, 1, 0]))]);
        plane.advance(Duration::from_secs(2));
    }
    assert_eq!(plane.tally(), [(Fate::Flooded, 32)]);
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_name() {
    for (example, config, complaint) in [
        ("deny-list", r#"{"rules": [{"from": "10.0.0.0/33"}]}"#, "rules[0].from"),
        ("deny-list", r#"{"rules": [{"port": 70000}]}"#, "rules[0].port"),
        ("deny-list", r#"{"rules": [{"prot": "tcp"}]}"#, "unknown key `prot`"),
        ("deny-list", r#"{}"#, "rules"),
        ("deny-list", r#"{"rules": [], "action": "burn"}"#, "action"),
        ("rate-limit", r#"{"flows_per_second": 0}"#, "at least 1"),
        ("rate-limit", r#"{"burst": 5}"#, "flows_per_second"),
        ("rate-limit", r#"{"flows_per_second": 1, "sources": 0}"#, "1 to"),
        ("dns-log", r#"{"verbose": true}"#, "verbose"),
        ("bridge", r#"{"aging_seconds": 0}"#, "aging_seconds"),
        ("bridge", r#"{"stations": 4294967296}"#, "stations"),
        ("bridge", "[]", "object"),
    ] {
        let mut plane = plane(&["a", "b"]);
        let error = try_load(&mut plane, built_in("example", example, config));
        let error = error.expect_err(config).to_string();
        assert!(error.contains(complaint), "{example} {config}: {error}");
        assert_eq!(plane.stages.status().expect("the worker answers").len(), 0);
    }
}
