//! `v1 Node`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::condition::Condition;
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::{Node, Tenure};

#[derive(Serialize, Deserialize)]
pub(super) struct NodeManifest {
    metadata: Metadata<Subdomain>,
    #[serde(default, skip_serializing_if = "is_default")]
    spec: NodeSpec,
    #[serde(default, skip_serializing_if = "is_default")]
    status: NodeStatus,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct NodeSpec {
    /// The first of `podCIDRs`, from before there could be two.
    #[serde(rename = "podCIDR", default, skip_serializing_if = "is_default")]
    pod_cidr: Option<Prefix>,
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "is_default")]
    pod_cidrs: Vec<Prefix>,
    #[serde(default, skip_serializing_if = "is_default")]
    taints: Vec<Taint>,
}

/// What keeps pods off a node.
#[derive(PartialEq, Serialize, Deserialize)]
struct Taint {
    key: String,
    #[serde(default)]
    effect: String,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
    #[serde(default, skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct NodeAddress {
    r#type: String,
    /// Of type `InternalIP` and `ExternalIP` an IP address, of others a name.
    address: String,
}

/// A prefix without host bits.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(extend("maxLength" = 43, "x-kubernetes-validations" = [{
    "rule": "isCIDR(self)",
    "message": "it has to be a prefix, as 192.0.2.0/24 or 2001:db8::/112",
}]))]
pub(super) struct Prefix(pub(super) IpNetwork);

impl TryFrom<NodeManifest> for Node {
    type Error = FieldError;

    fn try_from(manifest: NodeManifest) -> Result<Self, FieldError> {
        let NodeManifest { metadata, spec, status } = manifest;
        let addresses = status.addresses(INTERNAL)?;
        let external = status.addresses(EXTERNAL)?;
        let readiness = Condition::readiness(&status.conditions);
        let is_tainted = spec.taints.iter().any(|taint| taint.key == LEAVES);
        let tenure = match metadata.deletion.is_some() || is_tainted {
            true => Tenure::Leaves,
            false => Tenure::Stays,
        };
        let pod_cidrs = spec.pod_cidrs()?;
        let (name, labels) = (metadata.name.0, metadata.labels);
        Ok(Self { name, labels, pod_cidrs, addresses, external, readiness, tenure })
    }
}

impl From<&Node> for NodeManifest {
    fn from(node: &Node) -> Self {
        let name = Subdomain(node.name.clone());
        let address = |word: &'static str| {
            move |it: &IpAddr| NodeAddress { r#type: word.to_owned(), address: it.to_string() }
        };
        let addresses = node.addresses.iter().map(address(INTERNAL));
        Self {
            metadata: Metadata::new(name, None, &node.labels, <_>::default()),
            spec: NodeSpec {
                pod_cidr: node.pod_cidrs.first().copied().map(Prefix),
                pod_cidrs: node.pod_cidrs.iter().copied().map(Prefix).collect(),
                taints: match node.tenure {
                    Tenure::Stays => Vec::new(),
                    Tenure::Leaves => {
                        vec![Taint { key: LEAVES.to_owned(), effect: "NoSchedule".to_owned() }]
                    }
                },
            },
            status: NodeStatus {
                addresses: addresses.chain(node.external.iter().map(address(EXTERNAL))).collect(),
                conditions: Condition::of(node.readiness),
            },
        }
    }
}

impl NodeSpec {
    fn pod_cidrs(self) -> Result<Vec<IpNetwork>, FieldError> {
        let field = |key| FieldPath::root().key("spec").key(key);
        let prefixes: Vec<IpNetwork> = self.pod_cidrs.into_iter().map(|prefix| prefix.0).collect();
        for (index, prefix) in prefixes.iter().enumerate() {
            if prefixes[..index].iter().any(|other| other.is_ipv4() == prefix.is_ipv4()) {
                let family = if prefix.is_ipv4() { "IPv4" } else { "IPv6" };
                let reason = format!("`{prefix}` is the second {family} prefix, one is the most");
                return Err(FieldError { field: field("podCIDRs").index(index), reason });
            }
        }
        match (self.pod_cidr, prefixes.first()) {
            (Some(Prefix(only)), None) => Ok(vec![only]),
            (Some(Prefix(other)), Some(first)) if other != *first => {
                let reason = format!("`{other}` is not the first of `podCIDRs`, which is {first}");
                Err(FieldError { field: field("podCIDR"), reason })
            }
            _ => Ok(prefixes),
        }
    }
}

impl NodeStatus {
    fn addresses(&self, word: &str) -> Result<Vec<IpAddr>, FieldError> {
        let of_type = |(_, it): &(usize, &NodeAddress)| it.r#type == word;
        let parse = |(index, it): (usize, &NodeAddress)| {
            it.address.parse().map_err(|_| FieldError {
                field: FieldPath::root().key("status").key("addresses").index(index).key("address"),
                reason: format!("`{}` is no IP address", it.address),
            })
        };
        self.addresses.iter().enumerate().filter(of_type).map(parse).collect()
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // without a length it would be a single address, which nobody means
        let prefix = text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
        let Some(prefix) = prefix else {
            return Err(format!("`{text}` is no prefix: write `10.1.0.0/24` or `fd01::/64`"));
        };
        if prefix.ip() != prefix.network() {
            let (network, length) = (prefix.network(), prefix.prefix());
            return Err(format!("`{text}` has bits behind its length: write {network}/{length}"));
        }
        Ok(Self(prefix))
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0.to_string()
    }
}

/// What the cluster's autoscaler taints a node with that it takes away.
const LEAVES: &str = "ToBeDeletedByClusterAutoscaler";
/// The type of the addresses that other nodes use.
const INTERNAL: &str = "InternalIP";
/// That of those that the world outside uses.
const EXTERNAL: &str = "ExternalIP";
