//! Agents of a lab's nodes that are killed, and taken over from, under load.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};

use millrace_fastpath::{Counter, FlowCache};
use millrace_netns::Namespace;
use millrace_traffic::End;
use millrace_traffic::sequence::{Sequence, SequenceSettings};
use serde_json::Value;

use crate::bed::{Bed, MILLRACE, Pod, text, until};
use crate::talk::{ECHO, Talk};

#[test]
fn a_killed_agents_known_flows_lose_nothing_and_connections_go_on_with_the_next() {
    let Some(bed) = Bed::up() else { return };
    bed.go_through(&["restart", "east", "--kill"]);
}

#[test]
fn an_agent_that_is_taken_over_from_leaves_no_packet_behind() {
    let Some(bed) = Bed::up() else { return };
    bed.go_through(&["restart", "east"]);
}

#[test]
fn without_an_agent_misses_are_counted_and_flows_are_carried() {
    let Some(bed) = Bed::up() else { return };
    let (shop, cart) = (bed.pod("shop"), bed.pod("cart"));
    let sequence = start(&shop, &cart, 0);
    assert!(sequence.await_arrivals(1000));
    let agent = bed.agent("east");
    let killed = Command::new("kill").args(["-KILL", &agent.to_string()]).status();
    assert!(killed.expect("kill is there").success());
    until(|| (!is_running(agent)).then_some(()));

    let arrived = sequence.arrived();
    assert!(sequence.await_arrivals(arrived + 1000), "the kernel carries it");
    let stranger = shop.0.run(|| std::net::UdpSocket::bind((shop.1[0], 0))).expect("entered");
    let stranger = stranger.expect("a port is free");
    // for a while after its last sign of life an agent is taken for alive
    let cache = FlowCache::load_pinned(millrace_fastpath::Settings::default(), &bed.pins("east"));
    let cache = cache.expect("it is pinned");
    until(|| {
        stranger.send_to(b"anybody?", (cart.1[0], ECHO)).expect("there is a route");
        (cache.count(Counter::DropDown).expect("the kernel says") > 0).then_some(())
    });
    drop(cache);

    bed.done(&["restart", "east"]);
    let report = sequence.stop().expect("it ran");
    assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
    let status = bed.asked("east", &["status"]);
    assert!(status["cache"]["packets"]["drop-down"].as_u64() > Some(0), "{status:#}");
    assert_eq!(connect(&shop, &cart, 0).1, "over");
}

#[test]
fn what_an_agent_has_left_is_removed_whole_and_only_once() {
    let Some(bed) = Bed::up() else { return };
    let refused = bed.cleanup("east");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("stop it first"), "{}", text(&refused.stderr));

    let agent = bed.agent("east");
    let ended = Command::new("kill").arg(agent.to_string()).status();
    assert!(ended.expect("kill is there").success());
    until(|| (!is_running(agent)).then_some(()));
    assert!(bed.pins("east").exists());

    let output = bed.cleanup("east");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let removed: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let kinds: Vec<&str> =
        removed.as_array().expect("a list").iter().filter_map(|it| it["kind"].as_str()).collect();
    let of = |kind: &str| kinds.iter().filter(|it| **it == kind).count();
    assert_eq!((of("link"), of("pins")), (4, 1), "two pods, host, tunnels: {removed:#}");
    assert!(of("file") >= 1, "{removed:#}");
    assert!(!bed.pins("east").exists());
    let left: Value = serde_json::from_slice(&bed.cleanup("east").stdout).expect("it is JSON");
    assert_eq!(left, Value::Array(Vec::new()));
    let node = bed.state()["nodes"][0]["namespace"].as_str().expect("it has one").to_owned();
    let node = Namespace::open(&node).expect("it is there");
    // the kernel takes the punt pair away with the agent, and takes its time for that
    until(|| (node.run(links).expect("it can be entered") == ["eth0", "lo"]).then_some(()));
}

impl Bed {
    /// Changes the agent under datagrams and connections, on the node and to another one.
    fn go_through(&self, change: &[&str]) {
        let (shop, cart, bank) = (self.pod("shop"), self.pod("cart"), self.pod("bank"));
        for (to, family) in [(&cart, 0), (&cart, 1), (&bank, 0), (&bank, 1)] {
            let (mut open, greeting) = connect(&shop, to, family);
            assert_eq!(greeting, "over");
            let forced = self.forced();
            let sequence = start(&shop, to, family);
            assert!(sequence.await_arrivals(1000));
            self.await_carried(to.1[family]);
            for time in 0..CHANGES {
                let before = self.agent("east");
                self.done(change);
                assert_ne!(self.agent("east"), before);
                assert_eq!(
                    open.say(&format!("time {time}")).expect("it is open").text,
                    format!("time {time}")
                );
                assert_eq!(connect(&shop, to, family).1, "over", "a new connection");
            }
            let report = sequence.stop().expect("it ran");
            assert!(report.sent > 1000, "{report:?}");
            assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
            // a stream that never pauses goes over by force if workers are late, in whatever order
            if self.forced() == forced {
                assert_eq!(report.reordered, 0, "{report:?}");
            }
        }
        let flows = self.asked("east", &["flows", "--pod", "shop"]);
        let flows = flows["flows"].as_array().expect("a list");
        assert!(flows.len() >= 8, "a connection and datagrams, four times: {}", flows.len());
        self.done(&["probe", "--patience", "5s"]);
    }

    /// Waits until the kernel carries a sequence: what is with workers goes with their process.
    fn await_carried(&self, to: IpAddr) {
        until(|| {
            let flows = self.asked("east", &["flows", "--pod", "shop"]);
            let flows = flows["flows"].as_array().expect("a list");
            let carried = flows.iter().filter(|flow| {
                let there = &flow["original"];
                let destination = there["destination"].as_str().and_then(|at| at.parse().ok());
                flow["protocol"] == "udp"
                    && destination.is_some_and(|at: SocketAddr| at.ip() == to)
                    && there["kernelPackets"].as_u64() > Some(0)
            });
            (carried.count() as u32 >= SequenceSettings::default().flows).then_some(())
        });
    }

    /// How often kernels did not wait for workers before they took a flow over.
    fn forced(&self) -> u64 {
        let of = |node| self.asked(node, &["status"])["cache"]["packets"]["forced"].as_u64();
        ["east", "west"].into_iter().map(|node| of(node).unwrap_or(0)).sum()
    }

    /// The process of a node's agent.
    fn agent(&self, node: &str) -> u32 {
        let pid = self.asked(node, &["status"])["pid"].as_u64().expect("it says so");
        u32::try_from(pid).expect("a process has a small number")
    }

    fn cleanup(&self, node: &str) -> Output {
        let (place, pins) = (format!("node:{node}"), self.pins(node).display().to_string());
        let words = ["exec", &place, "--", MILLRACE, "cleanup", "--pins", &pins, "-o", "json"];
        self.lab(&words)
    }
}

/// Opens a connection from one pod to the other, and says something.
fn connect(from: &Pod, to: &Pod, family: usize) -> (Talk, String) {
    let talk = Talk::open(&from.0, SocketAddr::new(to.1[family], ECHO));
    let mut talk = talk.expect("the server listens");
    let said = talk.say("over").expect("it is answered").text;
    (talk, said)
}

fn start(from: &Pod, to: &Pod, family: usize) -> Sequence {
    let from = End { namespace: &from.0, address: from.1[family] };
    let to = End { namespace: &to.0, address: to.1[family] };
    Sequence::start(from, to, SequenceSettings::default()).expect("datagrams get through")
}

/// The links here, sorted.
fn links() -> Vec<String> {
    let links = millrace_netns::Netlink::host().and_then(|net| net.links()).expect("netlink");
    let mut names: Vec<_> = links.into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

/// Whether a process runs, and is not just waiting to be waited for.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// How often the agent is changed, for each way.
const CHANGES: u32 = 3;
