//! What is to be written into the status of Filters, FilterChains and AddressPools.
//!
//! Owns its form: under `nodes`, what has become of the object on each node that it is for, which that
//! node writes; beside it, what follows from all of these, which one node writes. Nothing is to be
//! written that is there already, so that a cluster in which nothing happens writes nothing.

use std::collections::BTreeMap;

use millrace_control::Verdict;
use millrace_control::manifest::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::about::{About, Heard, Subject};
use crate::conditions::conditions;
use crate::report::{Entry, Key, Report, State};

/// The nodes that say something of an object, as it will be.
pub(crate) fn entries(key: &Key, about: &About, heard: &Heard, report: &Report) -> Entries {
    let mut entries = written(about);
    entries.retain(|node, _| report.nodes.contains_key(node));
    match own(key, heard, report) {
        Some(entry) => drop(entries.insert(report.node.clone(), entry)),
        None => drop(entries.remove(&report.node)),
    }
    entries
}

/// What this node has to change of an object's status, if anything.
pub(crate) fn patch(subject: Subject<'_>) -> Option<Value> {
    let Subject { key, about, generation, heard, report, now } = subject;
    let mut status = Map::new();
    let mut nodes = Map::new();
    let (before, after) = (written(about), entries(key, about, heard, report));
    let has_changed = |node: &&String| before.get(*node) != after.get(*node);
    let this = [&report.node];
    let others = before.keys().filter(|node| **node != report.node);
    let is_speaker = report.speaks_for(key) && generation == about.generation;
    let all = this.into_iter().chain(others.filter(|_| is_speaker));
    for node in all.filter(has_changed) {
        nodes.insert(node.clone(), json!(after.get(node)));
    }
    if !nodes.is_empty() {
        status.insert("nodes".to_owned(), nodes.into());
    }
    if is_speaker {
        let complaint = heard.complaints.get(key).map(String::as_str);
        let verdicts = verdicts(key.0, generation, complaint, &after);
        let conditions = conditions(&about.status["conditions"], generation, &verdicts, now);
        if about.status.get("conditions") != Some(&conditions) {
            status.insert("conditions".to_owned(), conditions);
        }
        let (field, value) = summary(key, &after, report);
        if about.status.get(field) != Some(&value) {
            status.insert(field.to_owned(), value);
        }
    }
    (!status.is_empty()).then(|| json!({ "status": status }))
}

/// What nodes say of an object, by their names.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// What is written; what cannot be read is written anew.
pub(crate) fn written(about: &About) -> Entries {
    let nodes = about.status.get("nodes").and_then(Value::as_object);
    let read =
        |(node, entry): (&String, &Value)| Some((node.clone(), Entry::deserialize(entry).ok()?));
    nodes.into_iter().flatten().filter_map(read).collect()
}

fn own(key: &Key, heard: &Heard, report: &Report) -> Option<Entry> {
    let standing = report.standings.get(key)?;
    Some(Entry {
        state: standing.state,
        generation: *heard.generations.get(key)?,
        digest: standing.digest.clone(),
        problem: standing.problem.as_ref().map(|it| it.chars().take(LONGEST_PROBLEM).collect()),
    })
}

/// A line of what else there is to know, for who lists objects.
fn summary((kind, name): &Key, entries: &Entries, report: &Report) -> (&'static str, Value) {
    if *kind == Kind::AddressPool {
        return ("assigned", json!(report.assigned.get(name).unwrap_or(&0)));
    }
    let in_force = entries.values().filter(|entry| entry.state == State::InForce).count();
    ("inForce", json!(format!("{in_force}/{}", entries.len())))
}

fn verdicts(
    kind: Kind,
    generation: i64,
    complaint: Option<&str>,
    entries: &Entries,
) -> Vec<Verdict> {
    let accepted = Verdict {
        about: "Accepted",
        is_so: complaint.is_none(),
        reason: if complaint.is_none() { "Accepted" } else { "Invalid" },
        message: complaint.unwrap_or("it can be read").to_owned(),
    };
    match kind {
        Kind::Filter => vec![accepted, programmed(generation, complaint, entries)],
        Kind::FilterChain => {
            vec![accepted, conflicted(entries), programmed(generation, complaint, entries)]
        }
        _ => vec![accepted],
    }
}

/// Whether it is in force wherever it is to be.
fn programmed(generation: i64, complaint: Option<&str>, entries: &Entries) -> Verdict {
    let said = |is_so, reason, message| Verdict { about: "Programmed", is_so, reason, message };
    let no = |reason, message| said(false, reason, message);
    if complaint.is_some() {
        return no("Invalid", "what was in force before stays so".to_owned());
    }
    let wanted = || entries.iter().filter(|(_, entry)| entry.state != State::Overridden);
    let count = wanted().count();
    if entries.is_empty() {
        return no("Unused", "no node is to have it".to_owned());
    }
    if count == 0 {
        return no("Overridden", "another FilterChain goes first on each node".to_owned());
    }
    let current = || wanted().filter(|(_, entry)| entry.generation >= generation);
    let faulty = || current().filter(|(_, entry)| entry.state.is_fault());
    if let Some((node, entry)) = faulty().max_by_key(|(_, entry)| entry.state) {
        let why = entry.problem.as_deref().unwrap_or("it does not say why");
        let message = format!("not on {} of {count} nodes; {node}: {why}", faulty().count());
        return no(entry.state.word(), message);
    }
    let done = current().filter(|(_, entry)| entry.state == State::InForce).count();
    match count - done {
        0 => said(true, "Programmed", format!("on {count} of {count} nodes")),
        pending => no("Pending", format!("{pending} of {count} nodes have yet to take it")),
    }
}

/// Whether another one goes first on a node that it is for.
fn conflicted(entries: &Entries) -> Verdict {
    let about = "Conflicted";
    let others = || entries.iter().filter(|(_, entry)| entry.state == State::Overridden);
    match others().next() {
        Some((node, entry)) => {
            let why = entry.problem.as_deref().unwrap_or_default();
            let message =
                format!("on {} of {} nodes; {node}: {why}", others().count(), entries.len());
            Verdict { about, is_so: true, reason: "Overridden", message }
        }
        None => {
            let message = "no other is for the same nodes and goes first".to_owned();
            Verdict { about, is_so: false, reason: "NoConflict", message }
        }
    }
}

/// Characters of what is said of one node.
const LONGEST_PROBLEM: usize = 400;

#[cfg(test)]
mod tests;
