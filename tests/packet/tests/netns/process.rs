//! A host that is a process of its own: what it costs when nothing happens, and what it leaves
//! behind when it is killed.

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millrace_dataplane::control::Settings;
use millrace_netns::Namespace;
use millrace_traffic::cpu::CpuMeter;

use crate::bed::{Bed, Pod, await_some};

/// A dataplane with bridge in a process of its own, and two pods.
struct Host {
    child: Child,
    pods: Vec<Pod>,
    namespace: Namespace,
}

impl Host {
    fn start() -> Self {
        let namespace = Namespace::create_unique("packet-host").expect("needs root");
        let pods = (1..=2).map(|n| Pod::new(&namespace, n, 1)).collect();
        let child = launch(&namespace);
        Self { child, pods, namespace }
    }

    /// What `ip link` says of a port's interface.
    fn link(&self, port: &str) -> String {
        let mut ip = self.namespace.command("ip");
        let output = ip.args(["link", "show", "dev", port]).output().expect("ip can be run");
        String::from_utf8(output.stdout).expect("ip writes text")
    }

    fn pings(&self) -> bool {
        self.pods[0].pings(self.pods[1].address)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // it may have been killed already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs this program once more, as the host in a namespace, and waits until it is ready.
fn launch(namespace: &Namespace) -> Child {
    let program = env::current_exe().expect("Linux says");
    let mut child = Command::new(program)
        .args(["--exact", "process::a_host_runs_until_its_input_ends", "--ignored", "--nocapture"])
        .env(HOST, namespace.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be run again");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let ready = output.lines().map_while(Result::ok).any(|line| line.contains(READY));
    assert!(ready, "the host starts");
    child
}

#[test]
#[ignore = "the host that the tests beside it start"]
fn a_host_runs_until_its_input_ends() {
    let namespace = Namespace::open(&env::var(HOST).expect("started by a test")).expect("is there");
    let bed = Bed::at(namespace, &Settings::default());
    for port in ["p1", "p2"] {
        bed.open(port, millrace_dataplane::port::Vlans::transparent()).expect("it opens");
    }
    let _bed = bed.bridged();
    println!("{READY}");
    io::stdin().read_to_end(&mut Vec::new()).expect("whoever started it holds the other end");
}

#[test]
fn a_host_that_is_killed_leaves_no_program_behind_and_another_one_takes_its_place() {
    let mut host = Host::start();
    assert!(host.pings());
    assert!(host.link("p1").contains("xdp"), "{}", host.link("p1"));

    host.child.kill().expect("it runs");
    host.child.wait().expect("it is a child");
    for port in ["p1", "p2"] {
        await_some(|| match host.link(port) {
            link if link.contains("xdp") => Err(link),
            _ => Ok(()),
        });
    }
    let [a, b] = &host.pods[..] else { unreachable!("there are two") };
    assert!(!a.pings_within(b.address, Duration::from_secs(1)), "nobody carries packets now");

    host.child = launch(&host.namespace);
    assert!(host.pings());
}

#[test]
fn a_host_without_traffic_sleeps() {
    let host = Host::start();
    assert!(host.pings());
    let silence = host.pods[0].udp();
    silence.set_read_timeout(Some(Duration::from_secs(1))).expect("it can be set");
    let meter = CpuMeter::of(host.child.id()).expect("it runs");
    silence.recv(&mut [0]).expect_err("nobody sends anything");
    let used = meter.stop().expect("it still runs");
    let worker = used.threads.get("millrace-0").expect("it has a worker");
    assert!(*worker < used.elapsed / 20, "{worker:?} of {:?}: {:?}", used.elapsed, used.threads);
}

/// Names the namespace of a host that a test starts.
const HOST: &str = "MILLRACE_TEST_HOST";
/// What a host says when packets can come.
const READY: &str = "the host is ready";
