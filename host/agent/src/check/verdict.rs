//! What came of it, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write;

use millrace_lab::client::{Answer, Question};
use millrace_lab::probe::{Means, Outcome};
use serde::Serialize;

use super::ground::Said;
use super::plan::{Client, Item, Topic};
use crate::lab::probe::said;
use crate::output::{Heading, Table};

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// Whether everything is as it should be.
    pub(super) right: bool,
    nodes: Vec<String>,
    questions: Vec<Asked>,
}

/// What came of a question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    topic: Topic,
    right: bool,
    /// The node that was asked from.
    node: String,
    /// The pod that asked.
    from: String,
    /// Who was asked, for people.
    to: String,
    /// Their address, or name.
    address: String,
    by: &'static str,
    said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
}

impl Verdict {
    /// Of what clients were told to ask, and what they have said.
    pub(super) fn of(nodes: Vec<String>, clients: &[Client], said: &[Said]) -> Self {
        let of_client = |(client, said): (&Client, &Said)| {
            let items = client.questions.iter().enumerate();
            let asked = items.map(|(number, item)| asked(client, item, said, number));
            asked.collect::<Vec<_>>()
        };
        let mut questions: Vec<_> = clients.iter().zip(said).flat_map(of_client).collect();
        questions.sort_by_key(|it| it.topic);
        Self { right: questions.iter().all(|it| it.right), nodes, questions }
    }

    /// As a table, with what is not as it should be below.
    pub(super) fn text(&self) -> String {
        let headings = [
            Heading::text("what"),
            Heading::number("tried"),
            Heading::number("right"),
            Heading::number("slowest"),
        ];
        let mut table = Table::new(headings);
        let topics: BTreeSet<_> = self.questions.iter().map(|it| it.topic).collect();
        for topic in &topics {
            let of = || self.questions.iter().filter(|it| it.topic == *topic);
            // what does not come is waited for
            let slowest = of().filter_map(|it| it.milliseconds).max();
            let slowest = slowest.filter(|_| *topic != Topic::Denied);
            table.row([
                topic.to_string(),
                of().count().to_string(),
                of().filter(|it| it.right).count().to_string(),
                slowest.map_or_else(|| "-".to_owned(), |it| format!("{it} ms")),
            ]);
        }
        let mut text = table.text();
        for topic in topics {
            let wrong = self.questions.iter().filter(|it| it.topic == topic && !it.right);
            let mut is_any = false;
            for Asked { node, from, to, address, by, said, .. } in wrong {
                write!(
                    text,
                    "\n! {topic}: from {from} on {node} to {to} ({address}, {by}): {said}"
                )
                .expect("a String takes everything");
                is_any = true;
            }
            if is_any {
                write!(text, "\n  {}", topic.remedy()).expect("a String takes everything");
            }
        }
        let nodes = self.nodes.join(", ");
        let end = if self.right { "all is as it should be" } else { "not all is as it should be" };
        write!(text, "\n\n{end}, from and to: {nodes}").expect("a String takes everything");
        text
    }
}

fn asked(client: &Client, item: &Item, said_by: &Said, number: usize) -> Asked {
    let answer = said_by.answers.get(&number);
    let (right, said) = match answer {
        Some(answer) => judge(item, answer, said_by),
        None => (false, "the client has ended without an answer".to_owned()),
    };
    let (address, by) = match &item.question {
        Question::Echo { by: Means::Tcp, to, .. } | Question::Silence { by: Means::Tcp, to } => {
            (to.to_string(), "TCP")
        }
        Question::Echo { to, .. } | Question::Silence { to, .. } => (to.to_string(), "UDP"),
        Question::Connection { to } => (to.to_string(), "TCP"),
        Question::Name { name, .. } => (name.clone(), "DNS"),
    };
    Asked {
        topic: item.topic,
        right,
        node: client.node.clone(),
        from: client.name.clone(),
        to: item.whom.clone(),
        address,
        by,
        said,
        milliseconds: answer.map(|it| it.milliseconds),
    }
}

/// Whether it is right, and what was said. Pods know each other by their own addresses.
fn judge(item: &Item, answer: &Answer, said_by: &Said) -> (bool, String) {
    let is_between_pods = matches!(item.topic, Topic::SameNode | Topic::OtherNode | Topic::Allowed);
    match &answer.outcome {
        Outcome::Reached { seen_as: Some(address) }
            if is_between_pods && !said_by.addresses.contains(address) =>
        {
            (false, format!("reached, but seen as {address}, which is not the pod's own address"))
        }
        Outcome::Reached { .. } if !answer.is_right => (false, "reached all the same".to_owned()),
        Outcome::Stranger { .. } if item.topic == Topic::Denied => {
            (false, "reached all the same".to_owned())
        }
        outcome => (answer.is_right, said(outcome)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_control::PodName;

    use super::super::objects::Role;
    use super::*;

    fn item(topic: Topic, question: Question) -> Item {
        Item { topic, whom: "a pod on west".to_owned(), question }
    }

    fn answer(number: usize, is_right: bool, outcome: Outcome) -> (usize, Answer) {
        (number, Answer { number, is_right, outcome, milliseconds: 7 })
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named_with_a_remedy() {
        let to = "10.244.1.2:7007".parse().unwrap();
        let pods = vec![PodName::new("check", "server-1")];
        let echo = || Question::Echo { by: Means::Tcp, to, pods: pods.clone() };
        let silence = Question::Silence { by: Means::Udp, to };
        let client = Client {
            name: "stranger-0".to_owned(),
            node: "east".to_owned(),
            role: Role::Stranger,
            questions: vec![
                item(Topic::OtherNode, echo()),
                item(Topic::OtherNode, echo()),
                item(Topic::Denied, silence),
                item(Topic::OtherNode, echo()),
            ],
        };
        let own: std::net::IpAddr = "10.244.0.9".parse().unwrap();
        let seen = |address: &str| Outcome::Reached { seen_as: Some(address.parse().unwrap()) };
        let answers = BTreeMap::from([
            answer(0, true, seen("10.244.0.9")),
            answer(1, true, seen("172.30.0.11")),
            answer(2, false, Outcome::Stranger { said: "check/guarded-0".to_owned() }),
        ]);
        let said = Said { addresses: vec![own], answers };
        let verdict = Verdict::of(vec!["east".to_owned()], &[client], &[said]);
        assert!(!verdict.right);
        let text = verdict.text();
        for line in [
            "pod to pod, other node      3      1     7 ms",
            "denied by a policy          1      0        -",
            "! pod to pod, other node: from stranger-0 on east to a pod on west (10.244.1.2:7007, TCP): \
             reached, but seen as 172.30.0.11",
            "(10.244.1.2:7007, TCP): the client has ended without an answer",
            "(10.244.1.2:7007, UDP): reached all the same",
            "UDP port 4789",
            "not all is as it should be",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
