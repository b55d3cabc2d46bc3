use json_patch::merge;
use millrace_control::Readiness;

use super::*;
use crate::report::Standing;

const NOW: &str = "2026-01-02T03:04:05Z";

/// An object, and what nodes say of it.
struct Case {
    key: Key,
    about: About,
    heard: Heard,
}

impl Case {
    fn of(kind: Kind) -> Self {
        let key = (kind, "x".to_owned());
        let heard = Heard { generations: [(key.clone(), 1)].into(), ..Heard::default() };
        Self { key, about: About { generation: 1, ..About::default() }, heard }
    }

    /// There is a next version, which is read.
    fn change(&mut self) {
        self.about.generation += 1;
        self.heard.generations.insert(self.key.clone(), self.about.generation);
    }

    /// A node writes what it has to, if anything.
    fn write(&mut self, node: &str, standing: Option<(State, Option<&str>)>) -> Option<Value> {
        let standing = standing.map(|(state, problem)| Standing {
            state,
            digest: None,
            problem: problem.map(str::to_owned),
        });
        let report = Report {
            node: node.to_owned(),
            standings: standing.into_iter().map(|it| (self.key.clone(), it)).collect(),
            nodes: NODES.iter().map(|it| ((*it).to_owned(), Readiness::Ready)).collect(),
            assigned: [("x".to_owned(), 3)].into(),
            ..Report::default()
        };
        let Self { key, about, heard } = &*self;
        let generation = heard.generations[key];
        let subject = Subject { key, about, generation, heard, report: &report, now: NOW };
        let patch = patch(subject)?;
        merge(&mut self.about.status, &patch["status"]);
        Some(patch)
    }

    /// All nodes write until nobody has to.
    fn settle(&mut self, standings: [Option<(State, Option<&str>)>; 3]) {
        for _ in 0..3 {
            for (node, standing) in NODES.iter().zip(standings) {
                self.write(node, standing);
            }
        }
        for (node, standing) in NODES.iter().zip(standings) {
            assert_eq!(self.write(node, standing), None, "{node} has said everything");
        }
    }

    /// Status, reason and message of a condition.
    fn condition(&self, of: &str) -> [&str; 3] {
        let conditions = self.about.status["conditions"].as_array().expect("a list");
        let found = conditions.iter().find(|it| it["type"] == of).expect("it is there");
        assert_eq!(found["observedGeneration"], self.about.generation);
        ["status", "reason", "message"].map(|field| found[field].as_str().expect("a text"))
    }
}

const NODES: [&str; 3] = ["east", "north", "west"];
const GOOD: Option<(State, Option<&str>)> = Some((State::InForce, None));

#[test]
fn a_filter_is_programmed_once_it_is_in_force_wherever_it_is_to_be() {
    let mut case = Case::of(Kind::Filter);
    case.settle([None, None, None]);
    assert_eq!(case.condition("Accepted")[..2], ["True", "Accepted"]);
    assert_eq!(case.condition("Programmed")[..2], ["False", "Unused"]);
    assert_eq!(case.about.status["inForce"], "0/0");

    case.settle([GOOD, None, GOOD]);
    assert_eq!(case.condition("Programmed"), ["True", "Programmed", "on 2 of 2 nodes"]);
    assert_eq!(case.about.status["inForce"], "2/2");

    case.settle([GOOD, None, Some((State::Behind, Some("it is no module")))]);
    let message = "not on 1 of 2 nodes; west: it is no module";
    assert_eq!(case.condition("Programmed"), ["False", "Behind", message]);
    assert_eq!(case.about.status["nodes"]["west"]["problem"], "it is no module");

    case.settle([GOOD, None, GOOD]);
    assert_eq!(case.condition("Programmed")[0], "True");
    assert_eq!(case.about.status["nodes"]["west"].get("problem"), None, "nothing is left of it");
}

#[test]
fn the_next_generation_is_pending_until_the_last_node_has_taken_it() {
    let mut case = Case::of(Kind::Filter);
    case.settle([GOOD, GOOD, GOOD]);
    case.change();
    let speaker = NODES.into_iter().filter_map(|node| case.write(node, GOOD).map(|it| (node, it)));
    let written: Vec<_> = speaker.collect();
    assert_eq!(written.len(), 3, "each writes its own entry");
    for (node, patch) in &written {
        let nodes = patch["status"]["nodes"].as_object().expect("its own entry is another");
        assert_eq!(nodes.keys().collect::<Vec<_>>(), [node]);
    }
    let speaking = written.iter().filter(|(_, patch)| patch["status"].get("conditions").is_some());
    assert_eq!(speaking.count(), 1, "one of them speaks for all");
    case.settle([GOOD, GOOD, GOOD]);
    assert_eq!(case.condition("Programmed")[0], "True");

    // what is not read yet is not judged yet
    case.about.generation += 1;
    for node in NODES {
        assert_eq!(case.write(node, GOOD), None);
    }
}

#[test]
fn a_rollout_is_pending_until_the_version_has_lasted_on_all_nodes() {
    let mut case = Case::of(Kind::Filter);
    let waiting = Some((State::Waiting, Some("other nodes take the next version first")));
    let trying = Some((State::Trying, None));
    case.settle([GOOD, trying, waiting]);
    let message = "2 of 3 nodes have yet to take it";
    assert_eq!(case.condition("Programmed"), ["False", "Pending", message]);
    assert_eq!(case.about.status["inForce"], "1/3");
    case.settle([GOOD, Some((State::Failed, Some("a trap"))), waiting]);
    let message = "not on 1 of 3 nodes; north: a trap";
    assert_eq!(case.condition("Programmed"), ["False", "Failed", message]);
}

#[test]
fn one_that_cannot_be_read_says_what_is_wrong_with_it() {
    let mut case = Case::of(Kind::FilterChain);
    case.settle([GOOD, GOOD, None]);
    case.change();
    let fault = "spec.stages[0]: say either `before` or `after`".to_owned();
    case.heard.complaints.insert(case.key.clone(), fault.clone());
    case.settle([None, None, None]);
    assert_eq!(case.condition("Accepted"), ["False", "Invalid", &fault]);
    assert_eq!(case.condition("Programmed")[..2], ["False", "Invalid"]);
}

#[test]
fn a_chain_that_another_one_overrides_is_conflicted() {
    let mut case = Case::of(Kind::FilterChain);
    let other = Some((State::Overridden, Some("FilterChain `a` goes first")));
    case.settle([GOOD, other, None]);
    assert_eq!(case.condition("Programmed"), ["True", "Programmed", "on 1 of 1 nodes"]);
    let message = "on 1 of 2 nodes; north: FilterChain `a` goes first";
    assert_eq!(case.condition("Conflicted"), ["True", "Overridden", message]);
    case.settle([None, other, None]);
    assert_eq!(case.condition("Programmed")[..2], ["False", "Overridden"]);
    case.settle([GOOD, GOOD, None]);
    assert_eq!(case.condition("Conflicted")[..2], ["False", "NoConflict"]);
}

#[test]
fn a_condition_keeps_its_time_for_as_long_as_it_is_so() {
    let mut case = Case::of(Kind::Filter);
    case.settle([GOOD, None, None]);
    let programmed = |case: &Case| case.about.status["conditions"][1].clone();
    let before = "2020-01-01T00:00:00Z";
    case.about.status["conditions"][1]["lastTransitionTime"] = json!(before);
    case.settle([GOOD, GOOD, None]);
    assert_eq!(programmed(&case)["message"], "on 2 of 2 nodes");
    assert_eq!(programmed(&case)["lastTransitionTime"], before);
    case.settle([Some((State::Missing, Some("gone"))), GOOD, None]);
    assert_eq!(programmed(&case)["lastTransitionTime"], NOW);
}

#[test]
fn a_node_that_is_gone_is_spoken_of_no_more() {
    let mut case = Case::of(Kind::Filter);
    case.settle([GOOD, None, None]);
    let entry = case.about.status["nodes"]["east"].clone();
    case.about.status["nodes"]["south"] = entry;
    case.settle([GOOD, None, None]);
    assert_eq!(case.about.status["nodes"].as_object().map(Map::len), Some(1));
}

#[test]
fn a_pool_says_how_many_of_its_addresses_are_in_use() {
    let mut case = Case::of(Kind::AddressPool);
    case.settle([None, None, None]);
    assert_eq!(case.about.status["assigned"], 3);
    assert_eq!(case.condition("Accepted")[0], "True");
    assert_eq!(case.about.status.get("nodes"), None);
}
