//! The cases of Kubernetes' own suite for NetworkPolicy: every pair of pods.

use std::collections::{BTreeMap, BTreeSet};

use millrace_control::{PodName, World};
use millrace_rehearsal::{End, Rehearsal};
use serde::Deserialize;
use serde_norway::Value;

use super::{traffic, world};

#[derive(Deserialize)]
struct Case {
    case: String,
    rules: Vec<String>,
    #[serde(flatten)]
    first: Step,
    #[serde(default)]
    then: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    on: Option<Vec<String>>,
    policies: Option<Vec<Value>>,
    #[serde(default)]
    pods: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    reach: Vec<String>,
}

/// What there is at a step.
#[derive(Default)]
struct State {
    policies: Vec<Value>,
    pods: BTreeMap<String, BTreeMap<String, String>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

const SPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];

impl State {
    fn change(&mut self, step: &Step) {
        if let Some(policies) = &step.policies {
            self.policies.clone_from(policies);
        }
        self.pods.extend(step.pods.clone());
        self.namespaces.extend(step.namespaces.clone());
    }

    fn world(&self) -> World {
        let mut text = String::new();
        let mut add = |object: String| text.push_str(&(object + "\n---\n"));
        for node in ["east", "west"] {
            add(format!("{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}"));
        }
        for (space, name) in SPACES.iter().enumerate() {
            let more = labels(self.namespaces.get(*name));
            add(format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{ns: {name}{more}}}}}}}"
            ));
            for (number, pod) in PODS.iter().enumerate() {
                let more = labels(self.pods.get(&format!("{name}/{pod}")));
                let node = ["east", "west"][number % 2];
                let (space, number) = (space + 1, number + 1);
                add(format!(
                    "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}, namespace: {name}, \
                     labels: {{pod: {pod}{more}}}}}, spec: {{nodeName: {node}, \
                     containers: [{{name: c, ports: [{}]}}]}}, status: {{podIPs: [\
                     {{ip: 10.1.{space}.{number}}}, {{ip: 'fd01::{space}:{number}'}}]}}}}",
                    ports()
                ));
            }
        }
        for (number, spec) in self.policies.iter().enumerate() {
            let mut spec = spec.clone();
            let spec_of = spec.as_mapping_mut().expect("a policy is a mapping");
            let namespace = spec_of.remove("namespace").unwrap_or_else(|| "x".into());
            let namespace = namespace.as_str().expect("a name").to_owned();
            let spec = serde_norway::to_string(&spec).expect("it was read");
            let spec = spec.replace('\n', "\n  ");
            add(format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{name: n{number}, namespace: {namespace}}}\nspec:\n  {spec}"
            ));
        }
        world(&text)
    }
}

fn labels(more: Option<&BTreeMap<String, String>>) -> String {
    more.into_iter().flatten().map(|(key, value)| format!(", {key}: {value}")).collect()
}

fn ports() -> String {
    let port = |protocol: &str, number| {
        let name = format!("serve-{number}-{}", protocol.to_lowercase());
        format!("{{name: {name}, protocol: {protocol}, containerPort: {number}}}")
    };
    let all = ["TCP", "UDP", "SCTP"].map(|it| [80, 81].map(|number| port(it, number)).join(", "));
    all.join(", ")
}

/// The pods that a pattern is for: `*`, `x/*` or `x/a`.
fn matching(pattern: &str) -> Vec<String> {
    let (space, pod) = pattern.split_once('/').unwrap_or(("*", "*"));
    let is = |pattern: &str, name: &str| pattern == "*" || pattern == name;
    let all = SPACES.into_iter().flat_map(|space| PODS.map(|pod| (space, pod)));
    let ours: Vec<_> = all.filter(|(s, p)| is(space, s) && is(pod, p)).collect();
    assert!(!ours.is_empty(), "{pattern}");
    ours.into_iter().map(|(space, pod)| format!("{space}/{pod}")).collect()
}

/// Who is cut off from whom.
fn cut(lines: &[String]) -> BTreeSet<(String, String)> {
    let mut cut = BTreeSet::new();
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        let [word, from, to] = words[..] else { panic!("{line}") };
        for (from, to) in matching(from)
            .iter()
            .flat_map(|from| matching(to).into_iter().map(move |to| (from, to)))
        {
            let pair = (from.clone(), to);
            match word {
                // N10: nobody is kept from itself
                "deny" if pair.0 != pair.1 => drop(cut.insert(pair)),
                "deny" => {}
                "allow" => drop(cut.remove(&pair)),
                other => panic!("{other}"),
            }
        }
    }
    cut
}

#[test]
fn every_case_of_the_suite_comes_out_as_it_has_to() {
    let cases: Vec<Case> = serde_norway::from_str(TABLE).expect("the table is well-formed");
    assert_eq!(cases.len(), 48, "as many as the suite has");
    let mut cluster = Rehearsal::new(World::default()).expect("filters can be run here");
    let end = |text: &str| End::Pod(text.parse::<PodName>().expect("a name"));
    for Case { case, rules, first, then } in &cases {
        assert!(!rules.is_empty(), "{case}");
        let mut state = State::default();
        let mut on = vec!["80/tcp".to_owned()];
        for (number, step) in std::iter::once(first).chain(then).enumerate() {
            state.change(step);
            on = step.on.clone().unwrap_or(on);
            cluster.learn(state.world()).expect("the filter takes it");
            let expected = cut(&step.reach);
            let all = matching("*");
            for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (from, to))) {
                for what in &on {
                    let answers = cluster.ask(&end(from), &end(to), traffic(what));
                    let answers = answers.expect("it answers");
                    assert_eq!(answers.len(), 2, "both families");
                    for answer in answers {
                        let open = !expected.contains(&(from.clone(), to.clone()));
                        assert_eq!(
                            answer.is_allowed(),
                            open,
                            "{case} {rules:?}, step {number}: {from} to {to} at {what}: {answer:?}"
                        );
                    }
                }
            }
        }
    }
}

const TABLE: &str = include_str!("../../../../tests/conformance/network-policies.yaml");
