//! `millrace policy test`: manifests in a folder, and nothing else.

use std::fs;
use std::process::{Command, Output};

const MANIFESTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, labels: {app: db}}, spec: {containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other}, spec: {containers: [{name: c}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db}, spec: {
  podSelector: {matchLabels: {app: db}},
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}}
";

/// Runs `millrace policy test` over these manifests.
fn run(manifests: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("all.yaml"), manifests).expect("the folder is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(["policy", "test"]).arg(folder.path()).args(arguments);
    command.output().expect("the program is there")
}

fn said(output: &Output) -> (bool, String) {
    let text = String::from_utf8(output.stdout.clone()).expect("it is text");
    (output.status.success(), text)
}

#[test]
fn the_rule_that_decides_is_named_and_the_exit_code_says_what_it_says() {
    for (from, to, allowed, by) in [
        ("web", "db:5432", true, "allowed by NetworkPolicy default/db, spec.ingress[0]"),
        ("web", "db:5433", false, "denied by no ingress rule of NetworkPolicy default/db"),
        ("other", "db:5432", false, "denied by no ingress rule of NetworkPolicy default/db"),
        ("db", "other:80/udp", true, "no policy is against it"),
        ("198.51.100.1", "db:5432", false, "denied by no ingress rule of NetworkPolicy default/db"),
        ("web", "db/icmp", false, "denied by no ingress rule of NetworkPolicy default/db"),
    ] {
        let (success, text) = said(&run(MANIFESTS, &["--from", from, "--to", to]));
        assert_eq!(success, allowed, "{from} to {to}: {text}");
        assert!(text.contains(by), "{from} to {to}: {text}");
    }
}

#[test]
fn a_matrix_shows_every_pair_and_how_many_each_rule_denies() {
    let (success, text) = said(&run(MANIFESTS, &["--matrix", "--on", "5432/tcp"]));
    assert!(!success);
    assert!(
        text.contains("1 pair is denied by no ingress rule of NetworkPolicy default/db"),
        "{text}"
    );
    assert_eq!(text.matches("ok").count(), 8, "{text}");
}

#[test]
fn k1_k6_a_cluster_network_policy_comes_first_and_what_of_it_is_not_understood_denies() {
    let of_cluster = |to: &str| {
        format!(
            "{MANIFESTS}---
{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: all}},
 spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}},
  ingress: [{{action: Accept, from: [{{pods: {{podSelector: {{matchLabels: {{app: db}}}}}}}}]}}],
  egress: [{{name: closed, action: Deny, to: [{to}], protocols: [{{tcp: {{destinationPort: {{number: 22}}}}}}]}}]}}}}
"
        )
    };
    let all = of_cluster("{networks: [0.0.0.0/0]}");
    for (from, to, allowed, by) in [
        ("web", "db:22", false, "denied by ClusterNetworkPolicy all, spec.egress[0] `closed`"),
        ("db", "db:5433", true, "no policy is against it"),
        ("db", "web:80", true, "allowed by ClusterNetworkPolicy all, spec.ingress[0]"),
        ("other", "db:5432", false, "denied by no ingress rule of NetworkPolicy default/db"),
        ("web", "db:5432", true, "allowed by NetworkPolicy default/db, spec.ingress[0]"),
    ] {
        let (success, text) = said(&run(&all, &["--from", from, "--to", to]));
        assert_eq!(success, allowed, "{from} to {to}: {text}");
        assert!(text.contains(by), "{from} to {to}: {text}");
    }
    let unclear = of_cluster("{domainNames: [example.com]}");
    let output = run(&unclear, &["--from", "web", "--to", "db:5432"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let names =
        "all.yaml:15: ClusterNetworkPolicy all: spec.egress[0].to[0].domainNames: rules that";
    assert!(complaint.contains(names), "{complaint}");
    let (success, text) = said(&output);
    assert!(!success && text.contains("denied by ClusterNetworkPolicy all"), "{text}");
}

#[test]
fn k4_it_is_said_that_names_of_domains_are_nobodys_here() {
    let policy = "
---
{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: all},
 spec: {tier: Admin, priority: 1, subject: {namespaces: {}},
  egress: [{action: Accept, to: [{domainNames: [example.com]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]}}
";
    let output = run(&[MANIFESTS, policy].concat(), &["--from", "web", "--to", "192.0.2.1:443"]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("`domainNames`"), "{note}");
    let (success, text) = said(&output);
    assert!(
        !success && text.contains("denied by ClusterNetworkPolicy all, spec.egress[1]"),
        "{text}"
    );
    let output = run(MANIFESTS, &["--from", "web", "--to", "db:5432"]);
    assert!(output.stderr.is_empty(), "where nothing is about names there is nothing to say");
}

#[test]
fn a_field_that_is_wrong_is_said_with_its_line_and_the_policy_denies() {
    let wrong = MANIFESTS.replace("port: 5432", "port: 0");
    let output = run(&wrong, &["--from", "web", "--to", "db:5432"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("all.yaml:10: NetworkPolicy db: spec.ingress[0].ports[0].port"),
        "{complaint}"
    );
    let (success, text) = said(&output);
    assert!(!success && text.contains("denied by"), "{text}");
}

#[test]
fn an_end_that_is_not_there_is_named() {
    let output = run(MANIFESTS, &["--from", "nobody", "--to", "db:5432"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("pod `default/nobody`"), "{error}");
}
