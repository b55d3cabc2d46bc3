//! `networking.k8s.io/v1 NetworkPolicy`.
//!
//! A reader must not break this: what of a policy cannot be understood allows nothing. A policy with
//! a field that is wrong is [closed](closed): it is for the pods that it selects, or if that is not
//! clear for all of its namespace, and lets nobody through.

use std::num::NonZeroU16;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::policy_terms::PolicyAnnotations;
use crate::manifest::selector::SelectorSpec;
use crate::manifest::{FieldError, FieldPath, decode, is_default, policy_terms};
use crate::policy::{
    NetworkPolicy, Peers, PolicyDirection, PolicyPeer, PolicyPort, PolicyRule, PortRange, Ports,
    Selector,
};
use crate::{Protocol, QualifiedName};

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyManifest {
    metadata: Metadata<Subdomain, PolicyAnnotations>,
    #[serde(default, skip_serializing_if = "is_default")]
    spec: PolicySpec,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicySpec {
    #[serde(skip_serializing_if = "is_default")]
    pod_selector: SelectorSpec,
    #[serde(skip_serializing_if = "is_default")]
    policy_types: Vec<Type>,
    #[serde(skip_serializing_if = "is_default")]
    ingress: Vec<IngressSpec>,
    #[serde(skip_serializing_if = "is_default")]
    egress: Vec<EgressSpec>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Type {
    Ingress,
    Egress,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct IngressSpec {
    #[serde(skip_serializing_if = "is_default")]
    from: Vec<PeerSpec>,
    #[serde(skip_serializing_if = "is_default")]
    ports: Vec<PortSpec>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct EgressSpec {
    #[serde(skip_serializing_if = "is_default")]
    to: Vec<PeerSpec>,
    #[serde(skip_serializing_if = "is_default")]
    ports: Vec<PortSpec>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerSpec {
    #[serde(skip_serializing_if = "is_default")]
    pod_selector: Option<SelectorSpec>,
    #[serde(skip_serializing_if = "is_default")]
    namespace_selector: Option<SelectorSpec>,
    #[serde(skip_serializing_if = "is_default")]
    ip_block: Option<BlockSpec>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct BlockSpec {
    cidr: String,
    #[serde(default, skip_serializing_if = "is_default")]
    except: Vec<String>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "is_default")]
    port: Option<Number>,
    #[serde(default, skip_serializing_if = "is_default")]
    end_port: Option<NonZeroU16>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port's number, 1 to 65535, or its name")]
enum Number {
    Is(NonZeroU16),
    Named(String),
}

/// What counts of a policy that is not understood, if it says whose it is: it allows nothing.
pub(super) fn closed(object: &Value) -> Option<NetworkPolicy> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata<Subdomain>,
    }
    let Named { mut metadata } = decode(object.clone()).ok()?;
    let spec = |key| object.get("spec").and_then(|spec| spec.get(key)).cloned();
    let pods = spec("podSelector").map(decode::<SelectorSpec>);
    let pods = pods.and_then(|it| it.ok()?.read(&FieldPath::root()).ok());
    let types = spec("policyTypes").and_then(|it| decode::<Vec<Type>>(it).ok());
    // what it does not say clearly it says of both directions
    let types = types.filter(|types| !types.is_empty());
    let isolates = |word| types.as_ref().is_none_or(|types| types.contains(&word));
    Some(NetworkPolicy {
        name: QualifiedName::new(metadata.take_namespace(), metadata.name.0),
        pods: pods.unwrap_or_default(),
        ingress: isolates(Type::Ingress).then(Vec::new),
        egress: isolates(Type::Egress).then(Vec::new),
        terms: policy_terms::terms(object),
    })
}

impl TryFrom<PolicyManifest> for NetworkPolicy {
    type Error = FieldError;

    fn try_from(manifest: PolicyManifest) -> Result<Self, FieldError> {
        let PolicyManifest { mut metadata, spec } = manifest;
        let field = FieldPath::root().key("spec");
        // where it is not said, egress counts if there is something to it (N1)
        let types = match spec.policy_types.is_empty() {
            true if spec.egress.is_empty() => vec![Type::Ingress],
            true => vec![Type::Ingress, Type::Egress],
            false => spec.policy_types,
        };
        let ingress = spec.ingress.into_iter().map(|it| (it.from, it.ports)).collect();
        let ingress = rules(ingress, &field.clone().key("ingress"), "from")?;
        let egress = spec.egress.into_iter().map(|it| (it.to, it.ports)).collect();
        let egress = rules(egress, &field.clone().key("egress"), "to")?;
        Ok(Self {
            name: QualifiedName::new(metadata.take_namespace(), metadata.name.0),
            pods: spec.pod_selector.read(&field.key("podSelector"))?,
            ingress: types.contains(&Type::Ingress).then_some(ingress),
            egress: types.contains(&Type::Egress).then_some(egress),
            terms: metadata.annotations.into(),
        })
    }
}

fn rules(
    specs: Vec<(Vec<PeerSpec>, Vec<PortSpec>)>,
    field: &FieldPath,
    who: &str,
) -> Result<Vec<PolicyRule>, FieldError> {
    let rule = |(at, (peers, ports)): (usize, (Vec<PeerSpec>, Vec<PortSpec>))| {
        let field = field.clone().index(at);
        let within = |key: &str, at| field.clone().key(key).index(at);
        let peers = peers.into_iter().enumerate().map(|(at, it)| it.read(&within(who, at)));
        let ports = ports.into_iter().enumerate().map(|(at, it)| it.read(&within("ports", at)));
        Ok(PolicyRule {
            peers: Peers::of(peers.collect::<Result<_, _>>()?),
            ports: Ports::of(ports.collect::<Result<_, _>>()?),
        })
    };
    specs.into_iter().enumerate().map(rule).collect()
}

impl Peers {
    /// Nobody in particular is everybody (N3).
    fn of(peers: Vec<PolicyPeer>) -> Self {
        if peers.is_empty() { Self::All } else { Self::AnyOf(peers) }
    }
}

impl Ports {
    /// Likewise.
    fn of(ports: Vec<PolicyPort>) -> Self {
        if ports.is_empty() { Self::All } else { Self::AnyOf(ports) }
    }
}

impl PeerSpec {
    fn read(self, field: &FieldPath) -> Result<PolicyPeer, FieldError> {
        let wrong = |reason: &str| FieldError { field: field.clone(), reason: reason.to_owned() };
        let read = |spec: SelectorSpec, key| spec.read(&field.clone().key(key));
        match (self.ip_block, self.namespace_selector, self.pod_selector) {
            (Some(block), None, None) => block.read(&field.clone().key("ipBlock")),
            (Some(_), ..) => Err(wrong("`ipBlock` is no selector's company: state it alone")),
            (None, None, None) => {
                Err(wrong("state one of `podSelector`, `namespaceSelector` and `ipBlock`"))
            }
            (None, namespaces, pods) => Ok(PolicyPeer::Pods {
                namespaces: namespaces.map(|it| read(it, "namespaceSelector")).transpose()?,
                pods: read(pods.unwrap_or_default(), "podSelector")?,
            }),
        }
    }
}

impl BlockSpec {
    fn read(self, field: &FieldPath) -> Result<PolicyPeer, FieldError> {
        let prefix = prefix(&self.cidr, || field.clone().key("cidr"))?;
        let mut except = Vec::new();
        for (at, text) in self.except.iter().enumerate() {
            let field = || field.clone().key("except").index(at);
            let part = self::prefix(text, field)?;
            let is_part = part.is_ipv4() == prefix.is_ipv4()
                && part.prefix() > prefix.prefix()
                && prefix.contains(part.network());
            if !is_part {
                let reason = format!("`{text}` is no part of {prefix}");
                return Err(FieldError { field: field(), reason });
            }
            except.push(part);
        }
        Ok(PolicyPeer::Block { prefix, except })
    }
}

/// A prefix; bits behind its length do not count.
pub(super) fn prefix(text: &str, field: impl Fn() -> FieldPath) -> Result<IpNetwork, FieldError> {
    // an address alone would be taken for one of full length
    let parsed = text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
    let Some(prefix) = parsed else {
        let reason = format!("`{text}` is no prefix: write `10.1.0.0/24` or `fd01::/64`");
        return Err(FieldError { field: field(), reason });
    };
    let is_mapped = matches!(prefix, IpNetwork::V6(v6) if v6.network().to_ipv4_mapped().is_some());
    if is_mapped {
        let reason = format!("`{text}` is IPv4 within IPv6, which no packet has: write it as IPv4");
        return Err(FieldError { field: field(), reason });
    }
    Ok(IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length is that of a prefix"))
}

impl PortSpec {
    fn read(self, field: &FieldPath) -> Result<PolicyPort, FieldError> {
        let wrong = |key, reason: String| FieldError { field: field.clone().key(key), reason };
        let ports = match (self.port, self.end_port.map(NonZeroU16::get)) {
            (None, None) => PortRange::All,
            (None, Some(_)) => {
                return Err(wrong("endPort", "there is no `port` that it ends".to_owned()));
            }
            (Some(Number::Named(name)), None) => match is_port_name(&name) {
                true => PortRange::Named(name),
                false => return Err(wrong("port", format!("`{name}` is no port's name"))),
            },
            (Some(Number::Named(name)), Some(_)) => {
                let reason = format!("`port` is a name, `{name}`: ports have no last one then");
                return Err(wrong("endPort", reason));
            }
            (Some(Number::Is(first)), last) => {
                let first = first.get();
                let last = last.unwrap_or(first);
                if last < first {
                    return Err(wrong("endPort", format!("{last} is before `port`, {first}")));
                }
                PortRange::Numbers(first, last)
            }
        };
        Ok(PolicyPort { protocol: self.protocol, ports })
    }
}

/// Whether ports are called so (RFC 6335 section 5.1, in lower case).
pub(super) fn is_port_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(fine)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

impl From<&NetworkPolicy> for PolicyManifest {
    fn from(policy: &NetworkPolicy) -> Self {
        let name = Subdomain(policy.name.name.clone());
        let namespace = Some(&*policy.name.namespace);
        let rules = |direction| policy.rules(direction);
        let each = |direction| rules(direction).into_iter().flatten();
        let types =
            [(PolicyDirection::Ingress, Type::Ingress), (PolicyDirection::Egress, Type::Egress)];
        let ingress = |it: &PolicyRule| IngressSpec { from: peers(it), ports: ports(it) };
        let egress = |it: &PolicyRule| EgressSpec { to: peers(it), ports: ports(it) };
        let types = types.into_iter().filter(|(direction, _)| rules(*direction).is_some());
        Self {
            metadata: Metadata::new(name, namespace, &<_>::default(), policy.terms.into()),
            spec: PolicySpec {
                pod_selector: (&policy.pods).into(),
                policy_types: types.map(|(_, word)| word).collect(),
                ingress: each(PolicyDirection::Ingress).map(ingress).collect(),
                egress: each(PolicyDirection::Egress).map(egress).collect(),
            },
        }
    }
}

fn peers(rule: &PolicyRule) -> Vec<PeerSpec> {
    let Peers::AnyOf(peers) = &rule.peers else { return Vec::new() };
    let peer = |peer: &PolicyPeer| match peer {
        PolicyPeer::Pods { namespaces, pods } => PeerSpec {
            namespace_selector: namespaces.as_ref().map(SelectorSpec::from),
            pod_selector: (namespaces.is_none() || *pods != Selector::default())
                .then(|| pods.into()),
            ip_block: None,
        },
        PolicyPeer::Block { prefix, except } => PeerSpec {
            ip_block: Some(BlockSpec {
                cidr: prefix.to_string(),
                except: except.iter().map(ToString::to_string).collect(),
            }),
            ..PeerSpec::default()
        },
    };
    peers.iter().map(peer).collect()
}

fn ports(rule: &PolicyRule) -> Vec<PortSpec> {
    let Ports::AnyOf(ports) = &rule.ports else { return Vec::new() };
    let number = |it| NonZeroU16::new(it).expect("port 0 is never read");
    let port = |port: &PolicyPort| {
        let (first, end_port) = match &port.ports {
            PortRange::All => (None, None),
            PortRange::Numbers(first, last) => {
                (Some(Number::Is(number(*first))), (first != last).then(|| number(*last)))
            }
            PortRange::Named(name) => (Some(Number::Named(name.clone())), None),
        };
        PortSpec { protocol: port.protocol, port: first, end_port }
    };
    ports.iter().map(port).collect()
}

#[cfg(test)]
mod tests;
