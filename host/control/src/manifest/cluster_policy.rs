//! `policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy`.
//!
//! A reader must not break this: what of a policy cannot be understood allows nothing (K6). A rule with
//! a field that is wrong, or a peer that has no name here, is about nothing if it accepts, and denies
//! everything if it does not. Where it is not even clear whom the policy is for, or when it is asked,
//! all its rules are like that, for every pod.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::Protocol;
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::policy::{is_port_name, prefix};
use crate::manifest::policy_terms::PolicyAnnotations;
use crate::manifest::selector::SelectorSpec;
use crate::manifest::{FieldError, FieldPath, decode, is_default, policy_terms};
use crate::policy::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPort, ClusterRule, ClusterTier,
    ClusterTraffic, DomainName, PodSelector, PolicyDirection, PolicyPort, PortRange, Selector,
};

#[derive(Serialize, Deserialize)]
pub(super) struct ClusterPolicyManifest {
    metadata: Metadata<Subdomain, PolicyAnnotations>,
    spec: ClusterPolicySpec,
}

#[derive(Serialize, Deserialize)]
struct ClusterPolicySpec {
    tier: TierWord,
    priority: u16,
    subject: SubjectSpec,
    #[serde(default, skip_serializing_if = "is_default")]
    ingress: Vec<RuleSpec>,
    #[serde(default, skip_serializing_if = "is_default")]
    egress: Vec<RuleSpec>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum TierWord {
    Admin,
    Baseline,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct SubjectSpec {
    #[serde(skip_serializing_if = "is_default")]
    namespaces: Option<SelectorSpec>,
    #[serde(skip_serializing_if = "is_default")]
    pods: Option<PodsSpec>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodsSpec {
    namespace_selector: SelectorSpec,
    pod_selector: SelectorSpec,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct RuleSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    name: Option<String>,
    action: ActionWord,
    #[serde(default, skip_serializing_if = "is_default")]
    from: Vec<PeerSpec>,
    #[serde(default, skip_serializing_if = "is_default")]
    to: Vec<PeerSpec>,
    #[serde(default, skip_serializing_if = "is_default")]
    protocols: Vec<ProtocolSpec>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum ActionWord {
    Accept,
    Deny,
    Pass,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerSpec {
    #[serde(skip_serializing_if = "is_default")]
    namespaces: Option<SelectorSpec>,
    #[serde(skip_serializing_if = "is_default")]
    pods: Option<PodsSpec>,
    #[serde(skip_serializing_if = "is_default")]
    nodes: Option<SelectorSpec>,
    #[serde(skip_serializing_if = "is_default")]
    networks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    domain_names: Option<Vec<String>>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProtocolSpec {
    #[serde(skip_serializing_if = "is_default")]
    tcp: Option<PortsSpec>,
    #[serde(skip_serializing_if = "is_default")]
    udp: Option<PortsSpec>,
    #[serde(skip_serializing_if = "is_default")]
    sctp: Option<PortsSpec>,
    #[serde(skip_serializing_if = "is_default")]
    destination_named_port: Option<String>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortsSpec {
    destination_port: PortSpec,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PortSpec {
    #[serde(skip_serializing_if = "is_default")]
    number: Option<NonZeroU16>,
    #[serde(skip_serializing_if = "is_default")]
    range: Option<RangeSpec>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct RangeSpec {
    start: NonZeroU16,
    end: NonZeroU16,
}

/// What counts of a policy that is not understood as a whole, if it says what it is called.
pub(super) fn closed(object: &Value) -> Option<ClusterNetworkPolicy> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata<Subdomain>,
    }
    let Named { metadata } = decode(object.clone()).ok()?;
    let spec = object.get("spec").cloned().unwrap_or_default();
    let mut head = spec.clone();
    if let Some(fields) = head.as_mapping_mut() {
        fields.retain(|key, _| !RULES.iter().any(|it| key.as_str() == Some(it)));
    }
    let head = decode::<ClusterPolicySpec>(head).and_then(|it| it.head(&FieldPath::root())).ok();
    let rules = |direction: PolicyDirection| {
        let rules = match spec.get(direction.to_string()) {
            None | Some(Value::Null) => &[],
            Some(Value::Sequence(rules)) => &rules[..],
            Some(other) => std::slice::from_ref(other),
        };
        let rule = |rule: &Value| {
            let read = decode::<RuleSpec>(rule.clone());
            let read = read.and_then(|it| it.read(direction, &FieldPath::root()));
            read.ok().filter(|_| head.is_some()).unwrap_or_else(|| closed_rule(rule))
        };
        rules.iter().map(rule).collect()
    };
    let (ingress, egress) = (rules(PolicyDirection::Ingress), rules(PolicyDirection::Egress));
    let everybody = (ClusterTier::Admin, 0, PodSelector::default());
    let (tier, priority, subject) = head.unwrap_or(everybody);
    let (name, terms) = (metadata.name.0, policy_terms::terms(object));
    Some(ClusterNetworkPolicy { name, tier, priority, subject, ingress, egress, terms })
}

/// What counts of a rule that is not understood.
fn closed_rule(rule: &Value) -> ClusterRule {
    let text = |key| rule.get(key).and_then(Value::as_str);
    let action = match text("action") {
        Some("Accept") => ClusterAction::Accept,
        _ => ClusterAction::Deny,
    };
    let name = text("name").map(str::to_owned);
    ClusterRule { name, action, about: ClusterTraffic::NotUnderstood }
}

impl TryFrom<ClusterPolicyManifest> for ClusterNetworkPolicy {
    type Error = FieldError;

    fn try_from(manifest: ClusterPolicyManifest) -> Result<Self, FieldError> {
        let ClusterPolicyManifest { metadata, spec } = manifest;
        let field = FieldPath::root().key("spec");
        let (tier, priority, subject) = spec.head(&field)?;
        let rules = |rules: Vec<RuleSpec>, direction: PolicyDirection| {
            let field = field.clone().key(&direction.to_string());
            at_most(MOST, rules.len(), "rules", &field)?;
            let rules = rules.into_iter().enumerate();
            let rules = rules.map(|(at, it)| it.read(direction, &field.clone().index(at)));
            rules.collect::<Result<_, FieldError>>()
        };
        Ok(Self {
            name: metadata.name.0,
            tier,
            priority,
            subject,
            ingress: rules(spec.ingress, PolicyDirection::Ingress)?,
            egress: rules(spec.egress, PolicyDirection::Egress)?,
            terms: metadata.annotations.into(),
        })
    }
}

impl ClusterPolicySpec {
    /// What all its rules have in common.
    fn head(&self, field: &FieldPath) -> Result<(ClusterTier, u16, PodSelector), FieldError> {
        if self.priority > MOST_OF_PRIORITIES {
            let reason = format!("{} is above {MOST_OF_PRIORITIES}", self.priority);
            return Err(FieldError { field: field.clone().key("priority"), reason });
        }
        let tier = match self.tier {
            TierWord::Admin => ClusterTier::Admin,
            TierWord::Baseline => ClusterTier::Baseline,
        };
        let field = field.clone().key("subject");
        let SubjectSpec { namespaces, pods } = self.subject.clone();
        let subject = match (namespaces, pods) {
            (Some(namespaces), None) => of_namespaces(namespaces, &field)?,
            (None, Some(pods)) => pods.read(&field.key("pods"))?,
            _ => {
                let reason = "state one of `namespaces` and `pods`".to_owned();
                return Err(FieldError { field, reason });
            }
        };
        Ok((tier, self.priority, subject))
    }
}

fn of_namespaces(spec: SelectorSpec, field: &FieldPath) -> Result<PodSelector, FieldError> {
    let namespaces = spec.read(&field.clone().key("namespaces"))?;
    Ok(PodSelector { namespaces, pods: Selector::default() })
}

impl PodsSpec {
    fn read(self, field: &FieldPath) -> Result<PodSelector, FieldError> {
        Ok(PodSelector {
            namespaces: self.namespace_selector.read(&field.clone().key("namespaceSelector"))?,
            pods: self.pod_selector.read(&field.clone().key("podSelector"))?,
        })
    }
}

impl RuleSpec {
    fn read(
        self,
        direction: PolicyDirection,
        field: &FieldPath,
    ) -> Result<ClusterRule, FieldError> {
        let (who, specs) = match direction {
            PolicyDirection::Ingress => ("from", self.from),
            PolicyDirection::Egress => ("to", self.to),
        };
        let wrong = |key, reason: &str| {
            Err(FieldError { field: field.clone().key(key), reason: reason.to_owned() })
        };
        if self.name.as_ref().is_some_and(|name| name.chars().count() > MOST_OF_A_NAME) {
            return wrong("name", "it has more than 100 characters");
        }
        if specs.is_empty() {
            return wrong(who, "state one peer at least");
        }
        at_most(MOST, specs.len(), "peers", &field.clone().key(who))?;
        at_most(MOST, self.protocols.len(), "protocols", &field.clone().key("protocols"))?;
        let mut peers = Vec::new();
        for (at, spec) in specs.into_iter().enumerate() {
            let field = field.clone().key(who).index(at);
            let peer = spec.read(direction, &field)?;
            // whoever is not known to have a name may have it all the same
            if matches!(peer, ClusterPeer::Domains(_)) && self.action != ActionWord::Accept {
                let reason = "rules that accept alone can be about names of domains".to_owned();
                return Err(FieldError { field: field.key("domainNames"), reason });
            }
            peers.push(peer);
        }
        let mut ports = Vec::new();
        for (at, spec) in self.protocols.into_iter().enumerate() {
            let field = field.clone().key("protocols").index(at);
            let port = spec.read(&field)?;
            let has_names = |peer: &ClusterPeer| matches!(peer, ClusterPeer::Pods(_));
            if matches!(port, ClusterPort::Named(_)) && !peers.iter().all(has_names) {
                let field = field.key("destinationNamedPort");
                let reason = "pods alone have ports with names, and not all peers are".to_owned();
                return Err(FieldError { field, reason });
            }
            ports.push(port);
        }
        let action = match self.action {
            ActionWord::Accept => ClusterAction::Accept,
            ActionWord::Deny => ClusterAction::Deny,
            ActionWord::Pass => ClusterAction::Pass,
        };
        let about = ClusterTraffic::With { peers, ports };
        Ok(ClusterRule { name: self.name, action, about })
    }
}

impl PeerSpec {
    fn read(
        self,
        direction: PolicyDirection,
        field: &FieldPath,
    ) -> Result<ClusterPeer, FieldError> {
        let wrong = |reason: &str| FieldError { field: field.clone(), reason: reason.to_owned() };
        let is_egress = direction == PolicyDirection::Egress;
        match (self.namespaces, self.pods, self.nodes, self.networks, self.domain_names) {
            (Some(namespaces), None, None, None, None) => {
                of_namespaces(namespaces, field).map(ClusterPeer::Pods)
            }
            (None, Some(pods), None, None, None) => {
                pods.read(&field.clone().key("pods")).map(ClusterPeer::Pods)
            }
            (None, None, Some(nodes), None, None) if is_egress => {
                nodes.read(&field.clone().key("nodes")).map(ClusterPeer::Nodes)
            }
            (None, None, None, Some(networks), None) if is_egress => {
                let field = field.clone().key("networks");
                one_to(MOST, networks.len(), "prefixes", &field)?;
                let each = networks.iter().enumerate();
                let each = each.map(|(at, text)| prefix(text, || field.clone().index(at)));
                Ok(ClusterPeer::Networks(each.collect::<Result<_, _>>()?))
            }
            (None, None, None, None, Some(names)) if is_egress => {
                let field = field.clone().key("domainNames");
                one_to(MOST, names.len(), "names", &field)?;
                let name = |(at, text): (usize, &String)| {
                    DomainName::new(text).ok_or_else(|| FieldError {
                        field: field.clone().index(at),
                        reason: format!(
                            "`{text}` is no name: write `www.example.com`, or `*.example.com` for \
                             all that are below one"
                        ),
                    })
                };
                let each = names.iter().enumerate().map(name);
                Ok(ClusterPeer::Domains(each.collect::<Result<_, _>>()?))
            }
            _ if is_egress => Err(wrong(
                "state one of `namespaces`, `pods`, `nodes`, `networks` and `domainNames`",
            )),
            _ => Err(wrong("state one of `namespaces` and `pods`")),
        }
    }
}

impl ProtocolSpec {
    fn read(self, field: &FieldPath) -> Result<ClusterPort, FieldError> {
        let (protocol, key, spec) =
            match (self.tcp, self.udp, self.sctp, self.destination_named_port) {
                (Some(ports), None, None, None) => (Protocol::Tcp, "tcp", ports),
                (None, Some(ports), None, None) => (Protocol::Udp, "udp", ports),
                (None, None, Some(ports), None) => (Protocol::Sctp, "sctp", ports),
                (None, None, None, Some(name)) if is_port_name(&name) => {
                    return Ok(ClusterPort::Named(name));
                }
                (None, None, None, Some(name)) => {
                    let reason = format!("`{name}` is no port's name");
                    return Err(FieldError {
                        field: field.clone().key("destinationNamedPort"),
                        reason,
                    });
                }
                _ => {
                    let reason = "state one of `tcp`, `udp`, `sctp` and `destinationNamedPort`";
                    return Err(FieldError { field: field.clone(), reason: reason.to_owned() });
                }
            };
        let field = field.clone().key(key).key("destinationPort");
        let ports = match (spec.destination_port.number, spec.destination_port.range) {
            (Some(number), None) => PortRange::Numbers(number.get(), number.get()),
            (None, Some(RangeSpec { start, end })) if start < end => {
                PortRange::Numbers(start.get(), end.get())
            }
            (None, Some(RangeSpec { start, end })) => {
                let reason = format!("{end} is not behind `start`, {start}");
                return Err(FieldError { field: field.key("range").key("end"), reason });
            }
            _ => {
                let reason = "state one of `number` and `range`".to_owned();
                return Err(FieldError { field, reason });
            }
        };
        Ok(ClusterPort::Of(PolicyPort { protocol, ports }))
    }
}

fn one_to(most: usize, count: usize, what: &str, field: &FieldPath) -> Result<(), FieldError> {
    if count > 0 {
        return at_most(most, count, what, field);
    }
    Err(FieldError { field: field.clone(), reason: format!("there are no {what}: state one") })
}

fn at_most(most: usize, count: usize, what: &str, field: &FieldPath) -> Result<(), FieldError> {
    if count <= most {
        return Ok(());
    }
    let reason = format!("there are {count} {what}, {most} are the most");
    Err(FieldError { field: field.clone(), reason })
}

impl From<&ClusterNetworkPolicy> for ClusterPolicyManifest {
    fn from(policy: &ClusterNetworkPolicy) -> Self {
        let name = Subdomain(policy.name.clone());
        let tier = match policy.tier {
            ClusterTier::Admin => TierWord::Admin,
            ClusterTier::Baseline => TierWord::Baseline,
        };
        let subject = SubjectSpec { namespaces: None, pods: Some((&policy.subject).into()) };
        let rules = |direction| {
            let rules = policy.rules(direction).iter();
            rules.map(|rule| RuleSpec::of(rule, direction)).collect()
        };
        Self {
            metadata: Metadata::new(name, None, &<_>::default(), policy.terms.into()),
            spec: ClusterPolicySpec {
                tier,
                priority: policy.priority,
                subject,
                ingress: rules(PolicyDirection::Ingress),
                egress: rules(PolicyDirection::Egress),
            },
        }
    }
}

impl From<&PodSelector> for PodsSpec {
    fn from(selector: &PodSelector) -> Self {
        Self {
            namespace_selector: (&selector.namespaces).into(),
            pod_selector: (&selector.pods).into(),
        }
    }
}

impl RuleSpec {
    fn of(rule: &ClusterRule, direction: PolicyDirection) -> Self {
        let (peers, ports) = match &rule.about {
            ClusterTraffic::With { peers, ports } => {
                (peers.iter().map(PeerSpec::from).collect(), &ports[..])
            }
            // nobody understands a peer that says nothing
            ClusterTraffic::NotUnderstood => (vec![PeerSpec::default()], &[][..]),
        };
        let (from, to) = match direction {
            PolicyDirection::Ingress => (peers, Vec::new()),
            PolicyDirection::Egress => (Vec::new(), peers),
        };
        let action = match rule.action {
            ClusterAction::Accept => ActionWord::Accept,
            ClusterAction::Deny => ActionWord::Deny,
            ClusterAction::Pass => ActionWord::Pass,
        };
        let protocols = ports.iter().map(ProtocolSpec::from).collect();
        Self { name: rule.name.clone(), action, from, to, protocols }
    }
}

impl From<&ClusterPeer> for PeerSpec {
    fn from(peer: &ClusterPeer) -> Self {
        match peer {
            ClusterPeer::Pods(pods) => Self { pods: Some(pods.into()), ..Self::default() },
            ClusterPeer::Nodes(nodes) => Self { nodes: Some(nodes.into()), ..Self::default() },
            ClusterPeer::Networks(prefixes) => {
                let networks = Some(prefixes.iter().map(ToString::to_string).collect());
                Self { networks, ..Self::default() }
            }
            ClusterPeer::Domains(names) => {
                let domain_names = Some(names.iter().map(ToString::to_string).collect());
                Self { domain_names, ..Self::default() }
            }
        }
    }
}

impl From<&ClusterPort> for ProtocolSpec {
    fn from(port: &ClusterPort) -> Self {
        let (protocol, ports) = match port {
            ClusterPort::Named(name) => {
                return Self { destination_named_port: Some(name.clone()), ..Self::default() };
            }
            ClusterPort::Of(PolicyPort { protocol, ports }) => (protocol, ports),
        };
        let PortRange::Numbers(first, last) = ports else {
            unreachable!("ports of a protocol have numbers, as they were read")
        };
        let port = |it| NonZeroU16::new(it).expect("port 0 is never read");
        let (start, end) = (port(*first), port(*last));
        let destination_port = match start == end {
            true => PortSpec { number: Some(start), range: None },
            false => PortSpec { number: None, range: Some(RangeSpec { start, end }) },
        };
        let ports = Some(PortsSpec { destination_port });
        match protocol {
            Protocol::Tcp => Self { tcp: ports, ..Self::default() },
            Protocol::Udp => Self { udp: ports, ..Self::default() },
            Protocol::Sctp => Self { sctp: ports, ..Self::default() },
        }
    }
}

/// The fields that have rules.
const RULES: [&str; 2] = ["ingress", "egress"];
/// The most rules of a direction, peers and protocols of a rule, and prefixes or names of a peer.
const MOST: usize = 25;
const MOST_OF_PRIORITIES: u16 = 1000;
const MOST_OF_A_NAME: usize = 100;

#[cfg(test)]
mod tests;
