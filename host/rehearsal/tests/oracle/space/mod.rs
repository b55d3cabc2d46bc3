//! All of a space of NetworkPolicies, one after the other: what network-policy-api's policy-assistant
//! varies, 230 cases. Most vary one thing of a policy that says something of everything.
//!
//! - `town`: the pods, and how they are described; `vary`: targets, rules, peers, ports, conflicts;
//!   `change`: cases of several steps, with pods, namespaces and policies that come and go

mod change;
mod town;
mod vary;

use millrace_control::World;

/// A case.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The world at each step.
    pub(crate) steps: Vec<World>,
}

/// How many cases vary what.
pub(crate) const COUNTS: [(&str, usize); 9] = [
    ("target", 6),
    ("rules", 4),
    ("peers", 112),
    ("ports", 70),
    ("conflict", 16),
    ("namespace", 2),
    ("change", 6),
    ("example", 1),
    ("suite", 13),
];

/// Every case; a name begins with what is varied.
pub(crate) fn cases() -> Vec<Case> {
    vary::cases().chain(change::cases()).collect()
}
