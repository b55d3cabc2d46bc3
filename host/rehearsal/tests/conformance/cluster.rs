//! The subtests of network-policy-api's suite for ClusterNetworkPolicy.

use std::collections::BTreeMap;

use millrace_control::World;
use millrace_rehearsal::{End, Rehearsal};
use serde::Deserialize;
use serde_norway::{Mapping, Value};

use super::{traffic, world};

#[derive(Deserialize)]
struct Suite {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    group: String,
    rules: Vec<String>,
    policies: Vec<Mapping>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    #[serde(default)]
    swap: Vec<Swap>,
    #[serde(default)]
    set: BTreeMap<String, Mapping>,
    #[serde(default)]
    first: BTreeMap<String, Value>,
    without: Option<String>,
    #[serde(default)]
    open: Vec<String>,
    #[serde(default)]
    shut: Vec<String>,
}

/// Two rules that change places.
#[derive(Deserialize)]
struct Swap {
    of: String,
    ingress: Option<(usize, usize)>,
    egress: Option<(usize, usize)>,
}

const SPACES: [&str; 4] = ["g", "h", "r", "s"];
const NODES: [&str; 2] = ["east", "west"];

impl Case {
    /// Changes policies as the case says.
    fn change(&self, policies: &mut Vec<Mapping>) {
        let find = |policies: &mut Vec<Mapping>, name: &str| {
            policies.iter().position(|it| it["name"] == name).expect("there is such a policy")
        };
        for Swap { of, ingress, egress } in &self.swap {
            for (key, places) in [("ingress", ingress), ("egress", egress)] {
                if let Some((a, b)) = places {
                    let at = find(policies, of);
                    policies[at][key].as_sequence_mut().expect("it has rules").swap(*a, *b);
                }
            }
        }
        for (name, fields) in &self.set {
            let at = find(policies, name);
            policies[at].extend(fields.clone());
        }
        for (name, rule) in &self.first {
            let at = find(policies, name);
            policies[at]["egress"].as_sequence_mut().expect("it has rules").insert(0, rule.clone());
        }
        if let Some(name) = &self.without {
            let at = find(policies, name);
            policies.remove(at);
        }
    }
}

fn cluster(policies: &[Mapping]) -> World {
    let mut text = String::new();
    let mut add = |object: &str| text.push_str(&format!("{object}\n---\n"));
    for (number, name) in NODES.iter().enumerate() {
        let number = number + 1;
        add(&format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{os: linux}}}}, status: \
             {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}, {{type: InternalIP, \
             address: 'fd00::{number}'}}]}}}}"
        ));
    }
    for (space, name) in SPACES.iter().enumerate() {
        let space = space + 1;
        add(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{team: {name}}}}}}}"
        ));
        for (pod, node) in NODES.iter().enumerate() {
            let number = pod + 1;
            add(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: '{pod}', namespace: {name}, labels: \
                 {{team: {name}}}}}, spec: {{nodeName: {node}, containers: [{{name: c, ports: \
                 [{{name: web, containerPort: 80}}, {{name: dns, containerPort: 53, protocol: UDP}}]}}]}}, \
                 status: {{podIPs: [{{ip: 10.1.{space}.{number}}}, {{ip: 'fd01::{space}:{number}'}}]}}}}"
            ));
        }
    }
    for policy in policies {
        let mut spec = policy.clone();
        let name = spec.remove("name").expect("it has a name");
        let (version, kind, namespace, spec) = match spec.remove("networkPolicy") {
            Some(spec) => ("networking.k8s.io/v1", "NetworkPolicy", "g", spec),
            None => {
                let version = "policy.networking.k8s.io/v1alpha2";
                (version, "ClusterNetworkPolicy", "", Value::Mapping(spec))
            }
        };
        let mut metadata = Mapping::from_iter([("name".into(), name)]);
        if !namespace.is_empty() {
            metadata.insert("namespace".into(), namespace.into());
        }
        let object = Mapping::from_iter([
            ("apiVersion".into(), version.into()),
            ("kind".into(), kind.into()),
            ("metadata".into(), metadata.into()),
            ("spec".into(), spec),
        ]);
        add(&serde_norway::to_string(&object).expect("it was read"));
    }
    world(&text)
}

/// The ends that a pattern is for: `g/*`, `g/0` or a node's name.
fn matching(pattern: &str) -> Vec<End> {
    match pattern.strip_suffix("/*") {
        Some(space) => [0, 1].map(|pod| pod_end(&format!("{space}/{pod}"))).to_vec(),
        None if NODES.contains(&pattern) => vec![End::Node(pattern.to_owned())],
        None => vec![pod_end(pattern)],
    }
}

fn pod_end(name: &str) -> End {
    End::Pod(name.parse().expect("a name"))
}

#[test]
fn k1_to_k5_every_subtest_of_the_suite_comes_out_as_it_has_to() {
    let suite: Suite = serde_norway::from_str(TABLE).expect("the table is well-formed");
    let count: usize = suite.groups.iter().map(|group| group.cases.len()).sum();
    assert_eq!(count, 92, "as many as the suite has");
    let mut rehearsal = Rehearsal::new(World::default()).expect("filters can be run here");
    for Group { group, rules, policies, cases } in &suite.groups {
        assert!(!rules.is_empty(), "{group}");
        let mut policies = policies.clone();
        for case in cases {
            case.change(&mut policies);
            rehearsal.learn(cluster(&policies)).expect("the filter takes it");
            assert!(!case.open.is_empty() || !case.shut.is_empty(), "{group}: {}", case.case);
            let open = case.open.iter().map(|line| (line, true));
            for (line, open) in open.chain(case.shut.iter().map(|line| (line, false))) {
                let words: Vec<_> = line.split(' ').collect();
                let [from, to, what] = words[..] else { panic!("{line}") };
                for (from, to) in matching(from)
                    .iter()
                    .flat_map(|from| matching(to).into_iter().map(move |to| (from, to)))
                {
                    let answers = rehearsal.ask(from, &to, traffic(what)).expect("it answers");
                    assert_eq!(answers.len(), 2, "both families");
                    for answer in answers {
                        let case = &case.case;
                        assert_eq!(
                            answer.is_allowed(),
                            open,
                            "{group}: {case}: {line}: {answer:?}"
                        );
                    }
                }
            }
        }
    }
}

const TABLE: &str = include_str!("../../../../tests/conformance/cluster-network-policies.yaml");
