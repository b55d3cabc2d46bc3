//! Events: what a user of an object should know who asks for it by `kubectl describe`.
//!
//! Owns that a thing is said once, for as long as it is so, and that however much is wrong, only so many
//! are written in a while. What is passed over is said later, if it is still so.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use millrace_control::rendezvous;

use crate::about::{About, Heard};
use crate::report::{Key, Report};
use crate::status::Entries;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trouble {
    pub(crate) object: Key,
    reason: &'static str,
    note: String,
}

/// What was said already.
#[derive(Debug)]
pub(crate) struct Said {
    troubles: BTreeSet<Trouble>,
    /// How many may be written at once.
    left: u32,
    since: Instant,
}

impl Trouble {
    /// Whatever is wrong that this node is to speak of. Of what is wrong on many nodes alike one is named.
    pub(crate) fn all(
        heard: &Heard,
        report: &Report,
        entries: impl Fn(&Key) -> Entries,
    ) -> BTreeSet<Self> {
        let invalid = heard.complaints.iter().map(|(key, note)| Self {
            object: key.clone(),
            reason: "Invalid",
            note: note.clone(),
        });
        let problems = report.problems.iter().flat_map(|(key, notes)| {
            notes.iter().map(|note| Self {
                object: key.clone(),
                reason: "NotInForce",
                note: note.clone(),
            })
        });
        let of_nodes = heard.generations.iter().flat_map(|(key, generation)| {
            let entries = entries(key);
            let current = entries.into_iter().filter(|(_, entry)| entry.generation >= *generation);
            let mut known = BTreeSet::new();
            let wrong = current.filter(|(_, entry)| entry.state.is_fault());
            let troubles = wrong.filter_map(|(node, entry)| {
                let problem = entry.problem?;
                let note = format!("on {node}: {problem}");
                let object = key.clone();
                let is_new = known.insert(problem);
                is_new.then_some(Self { object, reason: entry.state.word(), note })
            });
            troubles.collect::<Vec<_>>()
        });
        let all = invalid.chain(problems).chain(of_nodes);
        all.filter(|it| report.speaks_for(&it.object)).collect()
    }

    /// The event that says so, and the namespace that it goes into.
    pub(crate) fn event(&self, about: &About, node: &str) -> (String, Event) {
        let (kind, name) = &self.object;
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, &**name),
        };
        // who says it again after a restart finds it there
        let number = rendezvous::rank(&format!("{} {}", about.uid, self.reason), &self.note);
        let stem: String = name.chars().take(LONGEST_STEM).collect();
        let of = namespace.clone().unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{number:016x}", stem.trim_end_matches(['.', '-']))),
                namespace: Some(of.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(node.chars().take(LONGEST_INSTANCE).collect()),
            action: Some("Programming".to_owned()),
            reason: Some(self.reason.to_owned()),
            type_: Some("Warning".to_owned()),
            note: Some(self.note.chars().take(LONGEST_NOTE).collect()),
            regarding: Some(ObjectReference {
                api_version: Some(kind.api_version().to_owned()),
                kind: Some(kind.name().to_owned()),
                name: Some(name.to_owned()),
                namespace,
                uid: Some(about.uid.clone()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        (of, event)
    }
}

impl Said {
    /// Nothing was, up to now.
    pub(crate) fn nothing(now: Instant) -> Self {
        Self { troubles: BTreeSet::new(), left: AT_ONCE, since: now }
    }

    /// What is to be said now of all that is so; and whether that is all of it.
    pub(crate) fn due(&mut self, all: BTreeSet<Trouble>, now: Instant) -> (Vec<Trouble>, bool) {
        self.troubles.retain(|trouble| all.contains(trouble));
        let regained = now.duration_since(self.since).as_secs() / EACH.as_secs();
        self.since += EACH * u32::try_from(regained).unwrap_or(u32::MAX);
        self.left = AT_ONCE.min(self.left.saturating_add(regained as u32));
        let mut due: Vec<_> = all.into_iter().filter(|it| !self.troubles.contains(it)).collect();
        let is_all = due.len() <= self.left as usize;
        due.truncate(self.left as usize);
        (due, is_all)
    }

    /// Takes note of what was said.
    pub(crate) fn note(&mut self, trouble: Trouble) {
        self.left = self.left.saturating_sub(1);
        self.troubles.insert(trouble);
    }
}

/// Whose word it is.
const CONTROLLER: &str = "millrace.dev/agent";
/// How many may be written at once.
const AT_ONCE: u32 = 40;
/// How long it takes until one more may.
const EACH: Duration = Duration::from_secs(10);
/// Characters that the API server takes of each.
const LONGEST_NOTE: usize = 1000;
const LONGEST_INSTANCE: usize = 128;
/// Characters of an object's name in that of an event, which has 17 more and at most 253.
const LONGEST_STEM: usize = 236;

#[cfg(test)]
mod tests {
    use millrace_control::manifest::Kind;

    use super::*;

    fn trouble(note: usize) -> Trouble {
        let object = (Kind::NetworkPolicy, "shop/deny".to_owned());
        Trouble { object, reason: "Invalid", note: format!("{note}") }
    }

    #[test]
    fn a_trouble_is_said_once_and_again_when_it_comes_back() {
        let now = Instant::now();
        let mut said = Said::nothing(now);
        let all = BTreeSet::from([trouble(1), trouble(2)]);
        let (due, is_all) = said.due(all.clone(), now);
        assert!(due.len() == 2 && is_all);
        due.into_iter().for_each(|it| said.note(it));
        assert_eq!(said.due(all.clone(), now), (vec![], true));
        assert_eq!(said.due(BTreeSet::from([trouble(1)]), now), (vec![], true));
        assert_eq!(said.due(all, now), (vec![trouble(2)], true));
    }

    #[test]
    fn however_much_is_wrong_so_many_are_said_and_the_others_by_and_by() {
        let start = Instant::now();
        let mut said = Said::nothing(start);
        let all: BTreeSet<_> = (0..100).map(trouble).collect();
        let mut count = 0;
        for (seconds, expected) in [(0, 40), (9, 40), (10, 41), (30, 43), (10_000, 83)] {
            let (due, is_all) = said.due(all.clone(), start + Duration::from_secs(seconds));
            assert!(!is_all, "after {seconds} s");
            count += due.len();
            due.into_iter().for_each(|it| said.note(it));
            assert_eq!(count, expected, "after {seconds} s");
        }
    }

    #[test]
    fn an_event_is_in_the_namespace_of_its_object_under_a_name_that_says_what_it_is() {
        let about = About { uid: "1-2".to_owned(), ..About::default() };
        let (namespace, event) = trouble(1).event(&about, "east");
        assert_eq!(namespace, "shop");
        let name = event.metadata.name.clone().unwrap();
        assert!(name.starts_with("deny.") && name.len() == 21, "{name}");
        let regarding = event.regarding.unwrap();
        assert_eq!(regarding.uid.as_deref(), Some("1-2"));
        assert_eq!(regarding.api_version.as_deref(), Some("networking.k8s.io/v1"));
        assert_eq!(trouble(1).event(&about, "west").1.metadata.name, Some(name.clone()));
        assert_ne!(trouble(2).event(&about, "east").1.metadata.name, Some(name));
        // one of the whole cluster
        let object = (Kind::Filter, "x".repeat(300));
        let (namespace, event) = Trouble { object, ..trouble(1) }.event(&about, "east");
        assert_eq!((&*namespace, event.metadata.name.unwrap().len()), ("default", 253));
    }
}
