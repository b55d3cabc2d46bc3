//! Which of several nodes does what one of them is to do (rendezvous hashing).
//!
//! Owns that all find the same without asking each other, that each has about as much to do, and that
//! when one is gone nobody but who relied on it relies on another.

/// The node that does it: of those who could, by their names, the one with the highest hash of its name
/// and of what is to be done.
pub fn first<'n>(nodes: impl IntoIterator<Item = &'n str>, task: &str) -> Option<&'n str> {
    nodes.into_iter().max_by_key(|node| rank(task, node))
}

/// FNV-1a, with its bits spread over each other: the names of nodes are much alike.
pub fn rank(task: &str, node: &str) -> u64 {
    let key = task.bytes().chain([b' ']).chain(node.bytes());
    let mut hash = key.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for _ in 0..2 {
        hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_has_its_share_and_who_goes_leaves_nothing_but_that_to_others() {
        let nodes = ["one", "two", "three"];
        let tasks: Vec<String> = (0..600).map(|n| format!("task {n}")).collect();
        let mut shares = BTreeMap::<_, usize>::new();
        for task in &tasks {
            let who = first(nodes, task).unwrap();
            *shares.entry(who).or_default() += 1;
            for gone in nodes {
                let now = first(nodes.into_iter().filter(|it| *it != gone), task).unwrap();
                assert!(who == gone || now == who, "{task}");
            }
        }
        assert!(shares.values().all(|share| (150..250).contains(share)), "{shares:?}");
        assert_eq!(first([], "task"), None);
    }
}
