//! NetworkPolicies in a lab: who still reaches whom, and what becomes of connections that there are.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::{Bed, NODES, PATIENCE, until};
use crate::talk::{ECHO, Talk};

/// Two nodes; a server with a friend and a stranger beside it, and a friend on the other node.
struct Town(Bed);

impl Town {
    /// Without policies.
    fn open() -> Option<Self> {
        Some(Self(Bed::of(&[("nodes.yaml", NODES), ("pods.yaml", &pods("friend"))], &[])?))
    }

    /// Has policies be in force, for so many pods of both nodes together.
    fn rule(&self, policies: &str, pods: usize) {
        self.0.write(&[("policies.yaml", policies)]);
        self.0.done(&["apply", &self.0.folder()]);
        let nodes = ["east", "west"].map(|node| self.0.asked(node, &["policies"]));
        let each = nodes.iter().filter_map(Value::as_object).flat_map(|it| it.values());
        let count = |it: &Value| it["pods"].as_array().map_or(0, Vec::len);
        assert_eq!(each.map(count).sum::<usize>(), pods, "{nodes:?}");
    }

    /// Waits until those do not reach each other, and all others do.
    fn is_cut(&self, expected: &BTreeSet<(String, String, String)>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.cut();
            if seen == *expected {
                return;
            }
            assert!(Instant::now() < deadline, "{seen:?} are cut, not {expected:?}");
        }
    }

    /// Who does not reach whom, over TCP, UDP and by ping, with both families.
    fn cut(&self) -> BTreeSet<(String, String, String)> {
        let output = self.0.lab(&["probe", "--patience", "300ms", "-o", "json"]);
        let probes: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let probes = probes.as_array().expect("a list").clone();
        assert!(!probes.is_empty());
        let text =
            |it: &Value| it.as_str().expect("a text").trim_start_matches("default/").to_owned();
        let missed = probes.iter().filter(|probe| probe["reached"] == false);
        missed.map(|it| (text(&it["from"]), text(&it["to"]), text(&it["by"]))).collect()
    }
}

/// The pods, of which `a` and `far` play this role.
fn pods(role: &str) -> String {
    let friend = format!("{{role: {role}}}");
    let pods = [
        ("server", "east", "{app: web}"),
        ("a", "east", &*friend),
        ("b", "east", "{role: stranger}"),
        ("far", "west", &*friend),
    ];
    let pod = |(name, node, labels): (&str, &str, &str)| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}}}, \
             spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
        )
    };
    pods.map(pod).concat()
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: web}}, \
         spec: {{podSelector: {{matchLabels: {{app: web}}}}, {spec}}}}}\n"
    )
}

fn cuts(of: &[(&str, &str)], by: &[&str]) -> BTreeSet<(String, String, String)> {
    let each = of.iter().flat_map(|(from, to)| by.iter().map(move |by| (*from, *to, *by)));
    each.map(|(from, to, by)| (from.to_owned(), to.to_owned(), by.to_owned())).collect()
}

/// With an annotation.
fn annotated(policy: &str, key: &str, word: &str) -> String {
    let annotation = format!("annotations: {{millrace.dev/{key}: '{word}'}}, name: ");
    policy.replacen("name: ", &annotation, 1)
}

const ALL: [&str; 3] = ["ping", "tcp", "udp"];

#[test]
fn n1_n2_n4_what_policies_do_not_allow_reaches_nobody_whichever_node_it_is_from() {
    let Some(town) = Town::open() else { return };
    assert_eq!(town.cut(), BTreeSet::new(), "there is no policy");

    town.rule(&policy("policyTypes: [Ingress]"), 1);
    let everybody = [("a", "server"), ("b", "server"), ("far", "server")];
    town.is_cut(&cuts(&everybody, &ALL));
    let friends = "ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]";
    town.rule(&policy(friends), 1);
    town.is_cut(&cuts(&[("b", "server")], &ALL));
    let echo =
        "ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: 7}]}]";
    town.rule(&policy(echo), 1);
    let mut expected = cuts(&[("a", "server"), ("far", "server")], &["ping", "udp"]);
    expected.extend(cuts(&[("b", "server")], &ALL));
    town.is_cut(&expected);

    town.rule(&policy("policyTypes: [Egress]"), 1);
    let everybody = [("server", "a"), ("server", "b"), ("server", "far")];
    town.is_cut(&cuts(&everybody, &ALL));
    town.rule("", 0);
    town.is_cut(&BTreeSet::new());
}

#[test]
fn n13_n15_a_label_that_goes_ends_what_it_allowed_and_the_policy_that_denies_is_named() {
    let Some(town) = Town::open() else { return };
    let friends = policy("ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]");
    town.rule(&friends, 1);
    let (_, addresses) = town.0.pod("server");
    let mut talks = Vec::new();
    for pod in ["a", "far"] {
        for address in &addresses {
            let (namespace, _) = town.0.pod(pod);
            let to = SocketAddr::new(*address, ECHO);
            let mut talk = Talk::open(&namespace, to).expect("it is allowed");
            talk.say("hello").expect("it is allowed");
            talks.push(talk);
        }
    }

    town.0.write(&[("pods.yaml", &pods("stranger"))]);
    town.0.done(&["apply", &town.0.folder()]);
    for talk in &mut talks {
        let client = talk.client().to_string();
        let flow = until(|| {
            let flows = town.0.asked("east", &["flows"]);
            let ours = |it: &&Value| it["original"]["source"] == client;
            let flow = flows["flows"].as_array()?.iter().find(ours)?.clone();
            (flow["original"]["reason"] == "isolated").then_some(flow)
        });
        assert_eq!(flow["policy"], "no ingress rule of NetworkPolicy default/web", "{flow:#}");
        assert_eq!(flow["original"]["by"], "policy");
        talk.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
        let error = talk.say("again").expect_err("it is not allowed any more");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
    let trace =
        town.0.asked("east", &["trace", "--from", "b", "--to", &format!("{}:7", addresses[0])]);
    let stages = trace["stages"].as_array().expect("there are stages");
    let policy = stages.iter().find(|it| it["stage"] == "policy").expect("it was asked");
    assert_eq!(policy["rule"]["name"], "no ingress rule of NetworkPolicy default/web", "{trace:#}");
}

#[test]
fn what_an_audited_policy_would_deny_goes_on_and_is_named_and_what_it_denies_then_is_named_in_drops()
 {
    let Some(town) = Town::open() else { return };
    let denies = policy("policyTypes: [Ingress]");
    town.rule(&annotated(&denies, "audit", "true"), 1);
    assert_eq!(town.0.asked("east", &["policies"])["default/web"]["mode"], "audit");
    town.is_cut(&BTreeSet::new());
    let (_, addresses) = town.0.pod("server");
    let to = format!("{}:7", addresses[0]);
    let trace = town.0.asked("east", &["trace", "--from", "a", "--to", &to]);
    let stages = trace["stages"].as_array().expect("there are stages");
    let policy = stages.iter().find(|it| it["stage"] == "policy").expect("it was asked");
    let named = "no ingress rule of NetworkPolicy default/web";
    let audited = format!("audit alone: {named} would deny it");
    assert_eq!(policy["rule"]["name"], audited, "{trace:#}");
    let talk = Talk::open(&town.0.pod("a").0, to.parse().expect("an address")).expect("it goes on");
    assert_eq!(town.0.flow("east", &talk.stream)["policy"], audited);

    town.rule(&denies, 1);
    town.is_cut(&cuts(&[("a", "server"), ("b", "server"), ("far", "server")], &ALL));
    let drops = town.0.asked("east", &["drops"]);
    let isolated = drops.as_array().expect("a list").iter().find(|it| it["reason"] == "isolated");
    let places = isolated.expect("there are some")["places"].as_array().expect("a list").clone();
    let rules = |place: &Value| place["rules"].as_array().cloned().unwrap_or_default();
    let by = |pod: &str| {
        let place = places.iter().find(|place| place["pod"] == pod).expect("it was denied");
        rules(place).iter().map(|rule| rule["name"].clone()).collect::<Vec<_>>()
    };
    for pod in ["default/a", "default/b"] {
        assert!(by(pod).contains(&named.into()), "{drops:#}");
    }

    // so are packets of the connection that went on: no worker sees them
    until(|| {
        (&talk.stream).write_all(b"!").expect("it is open");
        let drops = town.0.asked("east", &["drops"]);
        let isolated = drops.as_array()?.iter().find(|it| it["reason"] == "isolated")?;
        let in_kernel = isolated["places"].as_array()?.iter().find(|it| it["port"] == "*")?;
        assert_eq!(in_kernel["stage"], "policy");
        rules(in_kernel).iter().any(|rule| rule["name"] == named).then_some(())
    });
}

#[test]
fn n13_a_policy_says_what_becomes_of_connections_that_it_denies() {
    let Some(town) = Town::open() else { return };
    let (namespace, _) = town.0.pod("a");
    let [mut kept, mut reset] = ["server", "b"].map(|pod| {
        let (_, addresses) = town.0.pod(pod);
        let to = SocketAddr::new(addresses[0], ECHO);
        let mut talk = Talk::open(&namespace, to).expect("there is no policy");
        talk.say("hello").expect("there is no policy");
        talk
    });
    let keeps = annotated(&policy("policyTypes: [Ingress]"), "on-refused", "keep");
    let resets = keeps.replace("name: web", "name: b").replace("keep", "reset");
    let resets = resets.replace("app: web", "role: stranger");
    town.rule(&format!("{keeps}---\n{resets}"), 2);
    let others = [("a", "server"), ("b", "server"), ("far", "server")];
    let mut expected = cuts(&others, &ALL);
    expected.extend(cuts(&[("a", "b"), ("server", "b"), ("far", "b")], &ALL));
    town.is_cut(&expected);
    until(|| {
        let error = reset.say("again").err()?;
        (error.kind() == ErrorKind::ConnectionReset).then_some(())
    });
    kept.say("again").expect("it goes on");
}
