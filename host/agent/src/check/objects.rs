//! What is made in the cluster, as the API server takes it.

use serde_json::{Value, json};

/// An image, and when it is pulled.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) pull_policy: String,
}

/// What a pod is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It answers everybody, and is behind the Service.
    Server,
    /// It answers friends alone: the policy is for it.
    Guarded,
    /// It asks, and no policy names it.
    Stranger,
    /// It asks, and the policy lets it in.
    Friend,
    /// It asks from the network of its node.
    Host,
}

impl Role {
    /// What its pods are called, and labelled with.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Guarded => "guarded",
            Self::Stranger => "stranger",
            Self::Friend => "friend",
            Self::Host => "host",
        }
    }

    /// What its pod on a node is called, the nodes counted from 0.
    pub(super) fn name(self, node: usize) -> String {
        format!("{}-{node}", self.word())
    }
}

/// The namespace: pods on their node's network are not for every one.
pub(super) fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "generateName": "millrace-check-",
            "labels": {
                "app.kubernetes.io/managed-by": "millrace-check",
                "pod-security.kubernetes.io/enforce": "privileged",
                "pod-security.kubernetes.io/warn": "privileged",
            },
        },
    })
}

/// A pod on a node, whose scheduler is not part of what is tried. It ends by itself, should whoever has
/// made it be gone.
pub(super) fn pod(
    name: &str,
    role: Role,
    node: &str,
    image: &Image,
    arguments: &[String],
) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: role.word()}},
        "spec": {
            "nodeName": node,
            "hostNetwork": role == Role::Host,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": ENDS_AFTER,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "check",
                "image": image.name,
                "imagePullPolicy": image.pull_policy,
                "command": ["/usr/bin/millrace"],
                "args": arguments,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// The Service that servers are behind, with node ports.
pub(super) fn service() -> Value {
    let port = |name, protocol| json!({"name": name, "protocol": protocol, "port": PORT});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": SERVICE},
        "spec": {
            "type": "NodePort",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {LABEL: Role::Server.word()},
            "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        },
    })
}

/// The policy of who is guarded.
pub(super) fn policy() -> Value {
    let of = |role: Role| json!({"matchLabels": {LABEL: role.word()}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {
            "podSelector": of(Role::Guarded),
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": of(Role::Friend)}]}],
        },
    })
}

/// What pods of these roles are listed by.
pub(super) fn labels(roles: &[Role]) -> String {
    let words: Vec<_> = roles.iter().map(|role| role.word()).collect();
    format!("{LABEL} in ({})", words.join(","))
}

/// What the Service is called.
pub(super) const SERVICE: &str = "servers";
/// Where servers answer: a port that needs no privilege.
pub(super) const PORT: u16 = 7007;
const LABEL: &str = "millrace.dev/check";
/// Seconds that its pods may be there.
pub(super) const ENDS_AFTER: u64 = 3600;
/// Who owns nothing.
const NOBODY: u32 = 65534;
