//! What nodes report is in the API server, once.

use std::time::{Duration, Instant};

use millrace_control::manifest::Kind;
use millrace_control::{QualifiedName, Readiness};
use millrace_kube::{Cluster, Report, Standing, State};
use serde_json::json;

use crate::PATIENCE;
use crate::server::Server;

/// The agents of two nodes, which follow one server.
struct Agents(Vec<(&'static str, Cluster)>);

impl Agents {
    fn of(server: &Server) -> Self {
        NODES.iter().for_each(|node| server.put("nodes", node, "{}"));
        Self(NODES.map(|node| (node, server.followed())).into())
    }

    /// Each reads what there is, and reports what it is to, until it is so.
    fn until(&self, report: impl Fn(&str) -> Report, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            for (node, cluster) in &self.0 {
                if cluster.read().is_some() {
                    cluster.report(report(node));
                }
                cluster.wait(Duration::from_millis(50));
            }
            assert!(Instant::now() < deadline, "what is awaited does not come");
        }
    }
}

fn report(node: &str) -> Report {
    let nodes = NODES.iter().map(|it| ((*it).to_owned(), Readiness::Ready)).collect();
    Report { node: node.to_owned(), nodes, ..Report::default() }
}

fn with_filter(node: &str, name: &str, state: State, problem: Option<&str>) -> Report {
    let standing = Standing { state, digest: None, problem: problem.map(str::to_owned) };
    let standings = [((Kind::Filter, name.to_owned()), standing)].into();
    Report { standings, ..report(node) }
}

fn is_programmed(server: &Server, name: &str) -> bool {
    let status = server.status("filters", name);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut programmed = conditions.filter(|it| it["type"] == "Programmed");
    programmed.any(|it| it["status"] == "True") && status["inForce"] == "2/2"
}

#[test]
fn what_has_become_of_a_filter_is_written_and_then_nothing_any_more() {
    let server = Server::start();
    server.put("filters", "first", FILTER);
    let agents = Agents::of(&server);
    let first = |node: &str| with_filter(node, "first", State::InForce, None);
    agents.until(first, || is_programmed(&server, "first"));
    let status = server.status("filters", "first");
    let entry = json!({"state": "InForce", "generation": 1});
    assert_eq!(status["nodes"], json!({"east": entry, "west": entry}));

    let written = server.written("filters/first").len();
    server.put("filters", "second", FILTER);
    let both = |node: &str| {
        let mut report = with_filter(node, "second", State::InForce, None);
        report.standings.extend(first(node).standings);
        report
    };
    agents.until(both, || is_programmed(&server, "second"));
    assert_eq!(server.written("filters/first").len(), written, "nothing about it has changed");
}

#[test]
fn what_is_wrong_on_a_node_is_said_in_an_event_as_well() {
    let server = Server::start();
    server.put("filters", "x", FILTER);
    let agents = Agents::of(&server);
    let missing = |node: &str| with_filter(node, "x", State::Missing, Some("there is no module"));
    let events = || server.written("events/");
    agents.until(missing, || !events().is_empty());
    let [event] = &events()[..] else { panic!("{:?}", events()) };
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("Missing")));
    assert_eq!(event["regarding"]["kind"], "Filter");
    let note = event["note"].as_str().expect("a text");
    assert!(note.ends_with("there is no module"), "{note}");
}

#[test]
fn a_policy_that_cannot_be_read_is_said_to_be_so_by_one_node() {
    let server = Server::start();
    let agents = Agents::of(&server);
    server.put("networkpolicies", "p", r#"{"spec": {"podSelector": {}, "ingress": 7}}"#);
    let events = || server.written("events/default/p.");
    agents.until(report, || !events().is_empty());
    // whatever else was to be written is by then
    server.put("filters", "x", FILTER);
    let filter = |node: &str| with_filter(node, "x", State::InForce, None);
    agents.until(filter, || is_programmed(&server, "x"));
    let [event] = &events()[..] else { panic!("{:?}", events()) };
    assert_eq!(event["reason"], "Invalid");
    assert!(event["note"].as_str().expect("a text").starts_with("spec.ingress"), "{event}");
}

#[test]
fn a_service_gets_its_address_from_one_node() {
    let server = Server::start();
    let spec = r#"{"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}"#;
    server.put("services", "web", spec);
    let agents = Agents::of(&server);
    let giving = |node: &str| {
        let address = "203.0.113.7".parse().expect("it is one");
        let addresses = vec![(QualifiedName::new("default", "web"), vec![address])];
        Report { addresses, ..report(node) }
    };
    let ingress = || server.status("services", "web")["loadBalancer"]["ingress"].clone();
    agents.until(giving, || !ingress().is_null());
    assert_eq!(ingress(), json!([{"ip": "203.0.113.7"}]));
    assert_eq!(server.written("services/web").len(), 1);
}

#[test]
fn what_may_not_be_written_keeps_nothing_else_and_is_written_once_it_may() {
    let server = Server::start();
    server.forbid_writing(Some("filters"));
    server.put("filters", "x", FILTER);
    server.put("addresspools", "p", r#"{"spec": {"cidrs": ["203.0.113.0/24"]}}"#);
    let agents = Agents::of(&server);
    let all = |node: &str| {
        let assigned = [("p".to_owned(), 3)].into();
        Report { assigned, ..with_filter(node, "x", State::InForce, None) }
    };
    let assigned = || server.status("addresspools", "p")["assigned"].clone();
    agents.until(all, || server.refused() > 0 && assigned() == json!(3));
    assert!(server.written("filters/").is_empty());

    server.forbid_writing(None);
    agents.until(all, || is_programmed(&server, "x"));
}

const FILTER: &str = r#"{"spec": {"source": {"builtin": "deny-list"}}}"#;
const NODES: [&str; 2] = ["east", "west"];
