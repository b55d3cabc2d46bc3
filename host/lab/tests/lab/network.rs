//! Who reaches whom in a lab.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use millrace_control::{PodNetwork, Protocol};
use millrace_lab::probe::{Means, Outcome, probe};
use millrace_lab::{LabError, Topology};

use crate::ground::{Ground, await_line, nodes, pings, pod, script, server, with};
use crate::plane;

#[test]
fn nodes_and_the_outside_host_reach_each_other_over_either_underlay() {
    for topology in [Topology::Flat, Topology::Routed] {
        let Some(ground) = Ground::new("under", nodes(3), topology) else { return };
        let state = ground.state();
        let nodes: Vec<_> = (0..3).map(|number| ground.node(number)).collect();
        for address in state.nodes.iter().flat_map(|node| &node.addresses) {
            for from in nodes.iter().chain([&ground.outside()]) {
                assert!(pings(from, address), "{from} to {address} in {topology:?}");
            }
        }
        for address in state.outside.addresses.iter().chain(&state.outside.world_wide) {
            for from in &nodes {
                assert!(pings(from, address), "{from} to {address} in {topology:?}");
            }
        }
    }
}

#[test]
fn neighbours_of_a_routed_underlay_are_a_hop_away_if_they_are_on_two_segments() {
    let Some(ground) = Ground::new("hops", nodes(3), Topology::Routed) else { return };
    let once = |to: usize| {
        let address = ground.state().nodes[to].addresses[0].to_string();
        let mut ping = ground.node(0).command("ping");
        ping.args(["-c", "1", "-W", "5", "-t", "1", &address]);
        ping.output().unwrap().status.success()
    };
    assert_eq!((once(1), once(2)), (false, true));
}

#[test]
fn c1_containers_of_a_pod_reach_each_other_on_localhost_and_other_pods_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let heard = folder.path().join("heard");
    let ask = format!(
        "until exec 3<>/dev/tcp/localhost/7; do sleep 0.05; done; echo hello >&3; read -r line <&3; \
         echo \"$HOSTNAME heard: $line\" > {}; sleep 600",
        heard.display()
    );
    let mut two = pod("two", "a");
    two.containers = vec![server("server", &[(Protocol::Tcp, 80)]), script("client", &ask)];
    let mut none = pod("none", "a");
    none.containers = vec![script("idle", "sleep 600")];
    let Some(ground) = Ground::new("local", with(nodes(1), [two, none]), Topology::Flat) else {
        return;
    };

    let line = await_line(&heard);
    assert!(line.starts_with("two heard: default/two 127.0.0.1:"), "{line}");
    assert!(line.ends_with(" hello"), "{line}");
    for (pod, open) in [("two", true), ("none", false)] {
        for port in [7, 80, 8080] {
            let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
            let mut bash = ground.pod(pod).command("bash");
            let status = bash.args(["-c", &connect]).output().unwrap().status;
            assert_eq!(status.success(), open, "{pod} {port}");
        }
    }
}

#[test]
fn a_command_runs_where_it_is_asked_to() {
    let Some(ground) = Ground::new("exec", with(nodes(1), [pod("web", "a")]), Topology::Flat)
    else {
        return;
    };
    let state = ground.state();
    let inode =
        |path: &str| fs::metadata(path).map(|it| std::os::linux::fs::MetadataExt::st_ino(&it));
    let readlink = |command: Result<std::process::Command, LabError>| {
        let output = command.unwrap().args(["/proc/self/ns/net"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let wanted = |name: &str| format!("net:[{}]", inode(&format!("/run/netns/{name}")).unwrap());
    let web = "web".parse().unwrap();
    assert_eq!(readlink(ground.in_pod(&web, "readlink")), wanted(&state.pods[0].namespace));
    assert_eq!(readlink(ground.in_node("a", "readlink")), wanted(&state.nodes[0].namespace));
    assert_eq!(readlink(ground.in_outside("readlink")), wanted(&state.outside.namespace));

    let mut greet = ground.in_pod(&web, "sh").unwrap();
    let output = greet.args(["-c", "echo $HOSTNAME"]).output().unwrap();
    assert_eq!(output.stdout, b"web\n");
    let error = ground.in_pod(&"db".parse().unwrap(), "sh").unwrap_err().to_string();
    assert!(error.ends_with("has no pod `default/db`; it has `default/web`"), "{error}");
    let error = ground.in_node("z", "sh").unwrap_err().to_string();
    assert!(error.ends_with("has no node `z`; it has `a`"), "{error}");
}

#[test]
fn c1_with_an_agent_every_pod_reaches_every_pod_as_itself() {
    let mut host = pod("host", "b");
    host.network = PodNetwork::Host;
    let pods = [pod("p", "a"), pod("q", "a"), pod("r", "b"), host];
    let world = with(nodes(2), pods);
    let Some(ground) = Ground::with_agent("probe", world, Topology::Flat, Some(&plane::command))
    else {
        return;
    };
    let addresses: BTreeMap<_, _> =
        ground.state().pods.iter().map(|pod| (&pod.name, &pod.addresses)).collect();
    let probes = probe(&ground, Duration::from_secs(10)).unwrap();
    assert_eq!(probes.len(), 4 * 4 * 2 * 3);
    for probe in &probes {
        let Outcome::Reached { seen_as } = &probe.outcome else { panic!("{probe:?}") };
        // a host may use any of its addresses
        if probe.from.name != "host" {
            let known = seen_as.is_none_or(|it| addresses[&probe.from].contains(&it));
            assert!(known, "{probe:?}");
        }
        assert_eq!(seen_as.is_none(), probe.by == Means::Ping, "{probe:?}");
    }
    for node in 0..2 {
        let greeted = ground.state().name.folder().join(format!("node{node}/greeted"));
        assert!(greeted.exists(), "the agent was given its environment");
    }
}

#[test]
fn a_probe_tells_refusal_silence_and_strangers_apart() {
    let mut closed = pod("closed", "a");
    closed.containers = vec![script("idle", "sleep 600")];
    let pods = [pod("open", "a"), closed, pod("quiet", "a"), pod("taken", "a")];
    let Some(ground) =
        Ground::with_agent("outcome", with(nodes(1), pods), Topology::Flat, Some(&plane::command))
    else {
        return;
    };
    let run = |pod: &str, words: &[&str]| {
        let status = ground.pod(pod).command(words[0]).args(&words[1..]).status().unwrap();
        assert!(status.success(), "{words:?}");
    };
    // quiet hears and never answers; what is sent to taken ends up at open
    run("quiet", &["ip", "route", "del", "default"]);
    run("quiet", &["ip", "-6", "route", "del", "default"]);
    let (node, address) = (ground.node(0), |pod: usize, family: usize| {
        ground.state().pods[pod].addresses[family].to_string()
    });
    let taken: Vec<_> = (0..2).map(|family| address(3, family)).collect();
    for own in &taken {
        let mut ip = ground.pod("open").command("ip");
        assert!(ip.args(["address", "add", own, "dev", "eth0"]).status().unwrap().success());
        let mut ip = node.command("ip");
        ip.args(["route", "replace", own, "dev", "pod3"]);
        assert!(ip.status().unwrap().success());
    }

    let probes = probe(&ground, Duration::from_secs(2)).unwrap();
    let outcomes = |from: &str, to: &str, by: Means| {
        let probes = probes.iter().filter(|it| it.from.name == from && it.to.name == to);
        let outcomes = probes.filter(|it| it.by == by).map(|it| it.outcome.clone());
        outcomes.collect::<Vec<_>>()
    };
    for by in [Means::Tcp, Means::Udp] {
        assert_eq!(outcomes("open", "closed", by), [Outcome::Refused, Outcome::Refused]);
        assert_eq!(outcomes("open", "quiet", by), [Outcome::Silence, Outcome::Silence]);
        assert_eq!(outcomes("quiet", "open", by), [Outcome::Unreachable, Outcome::Unreachable]);
        for outcome in outcomes("closed", "taken", by) {
            let Outcome::Stranger { said } = outcome else { panic!("{outcome:?}") };
            assert!(said.starts_with("default/open "), "{said}");
        }
    }
    assert!(outcomes("open", "closed", Means::Ping).iter().all(Outcome::is_reached));
}
