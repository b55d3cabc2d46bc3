//! What becomes of Gateways and their routes is in the API server: written by one node, once.

use std::time::{Duration, Instant};

use millrace_control::Readiness;
use millrace_control::compile::Compiler;
use millrace_control::gateway::Judgement;
use millrace_control::source::FromPools;
use millrace_kube::{Cluster, Report};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::server::Server;

/// The agents of two nodes, each with what it knows of the cluster.
struct Agents(Vec<(&'static str, Cluster, Compiler)>);

impl Agents {
    fn of(server: &Server) -> Self {
        NODES.iter().for_each(|node| server.put("nodes", node, "{}"));
        Self(NODES.map(|node| (node, server.followed(), Compiler::new(node))).into())
    }

    /// Each reads what there is, and reports what becomes of it, until it is so.
    fn until(&mut self, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            for (node, cluster, compiler) in &mut self.0 {
                if let Some((news, _)) = cluster.read() {
                    compiler.hear(news);
                    let world = compiler.world();
                    let FromPools { services, gateways } = FromPools::of(world);
                    cluster.report(Report {
                        node: (*node).to_owned(),
                        nodes: NODES.map(|it| (it.to_owned(), Readiness::Ready)).into(),
                        addresses: services,
                        gateways: Judgement::of(&gateways, world),
                        ..Report::default()
                    });
                }
                cluster.wait(Duration::from_millis(50));
            }
            assert!(Instant::now() < deadline, "what is awaited does not come");
        }
    }
}

/// `Accepted`, or `Accepted=False: Invalid`, of each condition.
fn said(conditions: &Value) -> Vec<String> {
    let text = |it: &Value| {
        let [about, status, reason] = ["type", "status", "reason"].map(|key| it[key].as_str());
        let (about, reason) = (about.expect("a text"), reason.expect("a text"));
        match status {
            Some("True") if about == reason => about.to_owned(),
            status => format!("{about}={}: {reason}", status.expect("a text")),
        }
    };
    conditions.as_array().into_iter().flatten().map(text).collect()
}

#[test]
fn a_gateway_and_its_routes_are_said_to_be_in_force_and_then_nothing_is_written_any_more() {
    let server = Server::start();
    put(&server);
    let mut agents = Agents::of(&server);
    let status = |kind: &str, name: &str| server.status(kind, name);
    let route = || status("tcproutes", "web")["parents"][0]["conditions"].clone();
    agents.until(|| said(&route()) == ["Accepted", "ResolvedRefs"]);
    agents.until(|| said(&status("gatewayclasses", "millrace")["conditions"]) == ["Accepted"]);
    agents.until(|| said(&status("gateways", "edge")["conditions"]) == ["Accepted", "Programmed"]);
    let gateway = status("gateways", "edge");
    assert_eq!(gateway["addresses"], json!([{"type": "IPAddress", "value": ADDRESS}]));
    let listener = &gateway["listeners"][0];
    assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("tcp"), &json!(1)));
    let kind = json!([{"group": "gateway.networking.k8s.io", "kind": "TCPRoute"}]);
    assert_eq!(listener["supportedKinds"], kind);
    let conditions = listener["conditions"].as_array().expect("a list");
    assert!(conditions.iter().all(|it| it["observedGeneration"] == 1), "{conditions:?}");

    let written = || ["gateways/", "tcproutes/"].map(|it| server.written(it).len());
    let before = written();
    server.put(
        "services",
        "other",
        r#"{"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{"port": 80}]}}"#,
    );
    agents.until(|| !server.written("services/other").is_empty());
    assert_eq!(written(), before, "nothing about them has changed");
    // what becomes of a route follows what it names
    server.delete("services", "web");
    agents.until(|| said(&route()) == ["Accepted", "ResolvedRefs=False: BackendNotFound"]);
    server.delete("gateways", "edge");
    agents.until(|| status("tcproutes", "web")["parents"] == json!([]));
}

#[test]
fn what_others_say_of_a_route_stays() {
    let server = Server::start();
    put(&server);
    let theirs = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "other"},
        "controllerName": "example.org/gateway",
        "conditions": [],
    });
    let route =
        ROUTE.replace("}]}]}}", &format!("}}]}}]}}, \"status\": {{\"parents\": [{theirs}]}}}}"));
    assert_ne!(route, ROUTE);
    server.put("tcproutes", "web", &route);
    let mut agents = Agents::of(&server);
    let parents = || server.status("tcproutes", "web")["parents"].clone();
    agents.until(|| parents().as_array().is_some_and(|it| it.len() == 2));
    assert_eq!(parents()[0], theirs);
    assert_eq!(parents()[1]["controllerName"], "millrace.dev/gateway");
    let name = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "sectionName": "tcp"});
    assert_eq!(parents()[1]["parentRef"], name);
}

/// A Gateway of a class of ours, and a route of it to a Service.
fn put(server: &Server) {
    let class = r#"{"spec": {"controllerName": "millrace.dev/gateway"}}"#;
    server.put("gatewayclasses", "millrace", class);
    server.put(
        "addresspools",
        "outside",
        &format!(r#"{{"spec": {{"cidrs": ["{ADDRESS}/32", "192.0.2.0/24"]}}}}"#),
    );
    server.put(
        "services",
        "web",
        r#"{"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}"#,
    );
    let listener = r#"{"name": "tcp", "port": 80, "protocol": "TCP"}"#;
    let address = format!(r#"{{"value": "{ADDRESS}"}}"#);
    let spec = format!(
        r#"{{"gatewayClassName": "millrace", "listeners": [{listener}], "addresses": [{address}]}}"#
    );
    server.put("gateways", "edge", &format!(r#"{{"spec": {spec}}}"#));
    server.put("tcproutes", "web", ROUTE);
}

const NODES: [&str; 2] = ["east", "west"];
const ADDRESS: &str = "203.0.113.7";
const ROUTE: &str = r#"{"spec": {"parentRefs": [{"name": "edge", "sectionName": "tcp"}],
    "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}"#;
