//! What who asks has to be allowed, looked at before anything is made.

use anyhow::bail;
use millrace_kube::{Right, Session};

/// Says which rights are missing, all at once.
pub(super) fn check(session: &Session) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for (verb, group, resource) in NEEDED {
        let right = Right { verb, group, resource, namespace: "" };
        if !session.may(right)? {
            missing.push(right.to_string());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "it may not {}: have somebody grant this for the whole cluster, or check as somebody else, by \
         another kubeconfig or context",
        missing.join(", ")
    )
}

/// Verb, API group and resource; for all namespaces, as there is no namespace of its own yet.
const NEEDED: [(&str, &str, &str); 9] = [
    ("list", "", "nodes"),
    ("create", "", "namespaces"),
    ("get", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("create", "", "pods"),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("create", "", "services"),
    ("create", "networking.k8s.io", "networkpolicies"),
];
