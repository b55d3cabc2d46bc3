//! `millrace policies`: the NetworkPolicies and ClusterNetworkPolicies of a node, the pods that they are
//! for, and the addresses of the names that they are about.

use std::collections::BTreeMap;

use clap::Args;
use millrace_control::policy::PolicyMode;

use crate::node::{LearntAddress, PolicyStatus};
use crate::output::{Asking, Heading, Table, age};

/// Show the NetworkPolicies that a node knows, and the ClusterNetworkPolicies, which are in no
/// namespace: for which of its pods they are in force, and since which generation of tables.
///
/// Annotations say how a policy is applied. With `millrace.dev/audit: "true"` what it would deny goes
/// on: the policy filter counts it as `audited`, and `millrace flows` and `trace` name the rule.
/// `millrace.dev/on-refused` says what becomes of connections that there are when it denies them:
/// `keep`, `drop` or `reset`; without it, what the stage says.
///
/// For names of domains (`domainNames`) there are the addresses that pods of the node have learnt they
/// have, and for how long connections may yet be opened to each. Those of which that is over count for
/// the connections that there are, for two days.
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
    table.text() + &domains(policies) + &problems.collect::<String>()
}

/// The names that policies are about, below their own table; nothing if there are none.
fn domains(policies: &BTreeMap<String, PolicyStatus>) -> String {
    let mut table = Table::new([
        Heading::text("policy"),
        Heading::text("domain"),
        Heading::text("address"),
        Heading::text("for"),
    ]);
    for (policy, status) in policies {
        for (domain, addresses) in &status.domains {
            let row =
                |address: String, time: String| [policy.clone(), domain.clone(), address, time];
            if addresses.is_empty() {
                table.row(row("-".to_owned(), "-".to_owned()));
            }
            for LearntAddress { address, ttl_seconds } in addresses {
                let time = match ttl_seconds {
                    0 => "over".to_owned(),
                    seconds => age(seconds.saturating_mul(1000)),
                };
                table.row(row(address.to_string(), time));
            }
        }
    }
    let has_some = policies.values().any(|it| !it.domains.is_empty());
    if has_some { format!("\n\n{}", table.text()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_below_the_policies_with_their_addresses_and_for_how_long_they_have_them() {
        let learnt = |address: &str, ttl_seconds| LearntAddress {
            address: address.parse().unwrap(),
            ttl_seconds,
        };
        let some = vec![learnt("192.0.2.7", 59), learnt("2001:db8::7", 0)];
        let domains = [("*.shop.test".to_owned(), some), ("a.test".to_owned(), Vec::new())].into();
        let status = PolicyStatus { domains, ..PolicyStatus::default() };
        let plain = ("default/web".to_owned(), PolicyStatus::default());
        let said = text(&BTreeMap::from([("names".to_owned(), status), plain.clone()]));
        let below: Vec<Vec<_>> =
            said.lines().skip(4).map(|it| it.split_whitespace().collect()).collect();
        let expected = [
            &["POLICY", "DOMAIN", "ADDRESS", "FOR"][..],
            &["names", "*.shop.test", "192.0.2.7", "59", "s"],
            &["names", "*.shop.test", "2001:db8::7", "over"],
            &["names", "a.test", "-", "-"],
        ];
        assert_eq!(below, expected, "{said}");
        assert!(!text(&BTreeMap::from([plain])).contains("DOMAIN"));
    }
}
