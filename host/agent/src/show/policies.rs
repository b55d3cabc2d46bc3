//! `millrace policies`: the NetworkPolicies and ClusterNetworkPolicies of a node, and the pods that
//! they are for.

use std::collections::BTreeMap;

use clap::Args;
use millrace_control::policy::PolicyMode;

use crate::node::PolicyStatus;
use crate::output::{Asking, Heading, Table};

/// Show the NetworkPolicies that a node knows, and the ClusterNetworkPolicies, which are in no
/// namespace: for which of its pods they are in force, and since which generation of tables.
///
/// Annotations say how a policy is applied. With `millrace.dev/audit: "true"` what it would deny goes
/// on: the policy filter counts it as `audited`, and `millrace flows` and `trace` name the rule.
/// `millrace.dev/on-refused` says what becomes of connections that there are when it denies them:
/// `keep`, `drop` or `reset`; without it, what the stage says.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace policies
  millrace policies -o json | jq '.[\"shop/web\"].generation'")]
pub(crate) struct PoliciesArgs {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &PoliciesArgs) -> anyhow::Result<()> {
    let policies: BTreeMap<String, PolicyStatus> = args.asking.client()?.get("/v1/policies")?;
    args.asking.print(&policies, text)
}

fn text(policies: &BTreeMap<String, PolicyStatus>) -> String {
    if policies.is_empty() {
        return "there are no policies".to_owned();
    }
    let mut table = Table::new([
        Heading::text("policy"),
        Heading::number("generation"),
        Heading::text("mode"),
        Heading::text("pods here"),
    ]);
    for (name, policy) in policies {
        let generation = policy.generation.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let mode = match policy.mode {
            PolicyMode::Enforce => "enforce",
            PolicyMode::Audit => "audit",
        };
        table.row([name.clone(), generation, mode.to_owned(), policy.pods.join(", ")]);
    }
    let problems = policies.iter().flat_map(|(name, policy)| {
        policy.problems.iter().map(move |problem| format!("\n! {name}: {problem}"))
    });
    table.text() + &problems.collect::<String>()
}
