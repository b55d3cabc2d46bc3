//! When a node takes the next version of a filter that is rolled out node by node.
//!
//! Owns that nobody leads: nodes have an order, which all find alike, and what each has taken is in the
//! Filter's status. A node waits while as many before it as may have yet to take the version; it waits
//! for good once the version did not work on one of these. What is said late keeps a node waiting, and
//! never has it go too early.

use std::cmp::Reverse;

use millrace_control::filter::ModuleDigest;
use millrace_control::rendezvous;
use millrace_kube::{Rollout, State};

/// Whether it is this node's turn to take the next version of a filter, whose module all nodes know by the
/// digest if they have the same; if not, why. At most `most` nodes may be on their way at a time; those
/// that are not ready do not count.
pub(super) fn turn(
    node: &str,
    filter: &str,
    digest: Option<ModuleDigest>,
    most: u16,
    rollout: &Rollout,
    is_ready: impl Fn(&str) -> bool,
) -> Result<(), String> {
    // names decide where hashes are alike
    let place = |node: &str| Reverse((rendezvous::rank(filter, node), node.to_owned()));
    let here = place(node);
    let digest = digest.map(|digest| digest.to_string());
    let mut pending: u16 = 0;
    for (other, entry) in &rollout.nodes {
        if place(other) >= here || !is_ready(other) {
            continue;
        }
        let is_current = entry.generation >= rollout.generation;
        match entry.state {
            state if is_current && state.is_fault() => {
                let why = entry.problem.as_deref().unwrap_or("it does not say why");
                return Err(format!("the next version did not work on {other}: {why}"));
            }
            State::InForce if is_current && (digest.is_none() || entry.digest == digest) => {}
            _ => pending = pending.saturating_add(1),
        }
    }
    // how many there are is no part of what is said: it would be another with each of them
    (pending < most)
        .then_some(())
        .ok_or_else(|| "other nodes take the next version first".to_owned())
}

#[cfg(test)]
mod tests {
    use millrace_kube::Entry;

    use super::*;

    const NODES: [&str; 4] = ["a", "b", "c", "d"];

    fn digest(version: u8) -> ModuleDigest {
        ModuleDigest::of(&[version])
    }

    /// What nodes say of a filter, in the order in which they take it.
    fn said(entries: [(State, i64, u8); 4]) -> (Vec<&'static str>, Rollout) {
        let mut order = NODES.to_vec();
        order.sort_by_key(|node| Reverse(rendezvous::rank("x", node)));
        let entry = |(state, generation, version): (State, i64, u8)| {
            let problem = (state == State::Failed).then(|| "a trap".to_owned());
            Entry { state, generation, digest: Some(digest(version).to_string()), problem }
        };
        let nodes = order.iter().map(|it| (*it).to_owned()).zip(entries.map(entry)).collect();
        (order, Rollout { generation: 2, nodes })
    }

    /// Those whose turn it is to take the second version.
    fn turns(entries: [(State, i64, u8); 4], most: u16) -> Vec<usize> {
        let (order, rollout) = said(entries);
        let next = Some(digest(2));
        let is_turn = |at: &usize| turn(order[*at], "x", next, most, &rollout, |_| true).is_ok();
        (0..4).filter(is_turn).collect()
    }

    #[test]
    fn one_after_the_other_takes_the_next_version_and_as_many_at_once_as_may() {
        let (old, new) = ((State::InForce, 1, 1), (State::InForce, 2, 2));
        let (trying, waiting) = ((State::Trying, 2, 2), (State::Waiting, 2, 1));
        assert_eq!(turns([old; 4], 1), [0]);
        assert_eq!(turns([trying, waiting, waiting, old], 1), [0], "it has yet to last");
        assert_eq!(turns([new, waiting, waiting, old], 1), [0, 1]);
        assert_eq!(turns([new, new, new, waiting], 1), [0, 1, 2, 3]);
        assert_eq!(turns([old; 4], 2), [0, 1]);
        assert_eq!(turns([new, trying, waiting, waiting], 2), [0, 1, 2]);
        // the ConfigMap has another module, and the Filter is the same
        assert_eq!(turns([(State::InForce, 2, 1); 4], 1), [0]);
    }

    #[test]
    fn nobody_takes_a_version_that_did_not_work_on_one_before() {
        let (new, failed) = ((State::InForce, 2, 2), (State::Failed, 2, 2));
        let waiting = (State::Waiting, 2, 1);
        for most in [1, 2, 4] {
            assert_eq!(turns([new, failed, waiting, waiting], most), [0, 1]);
        }
        // the next one may work: the first tries
        let again = (State::Failed, 1, 1);
        assert_eq!(turns([again, again, waiting, waiting], 1), [0]);
        let (order, rollout) = said([failed, waiting, waiting, waiting]);
        let why = turn(order[3], "x", None, 1, &rollout, |_| true);
        assert_eq!(why, Err(format!("the next version did not work on {}: a trap", order[0])));
    }

    #[test]
    fn a_node_that_is_not_ready_keeps_nobody_waiting() {
        let (order, rollout) = said([(State::InForce, 1, 1); 4]);
        let turn = |at: usize| turn(order[at], "x", None, 1, &rollout, |it| it != order[0]);
        assert!(turn(1).is_ok() && turn(2).is_err());
    }
}
