//! From NetworkPolicies and ClusterNetworkPolicies to what a node's filter is told of them.
//!
//! - `pods`: who is like whom; `clauses`: what policies say
//!
//! Sets of policies, selectors, blocks and identities have numbers that stay the same for as long
//! as they are used, so that a change is told as what it is. Connections depend on the set that
//! judges them and on the addresses of their ends: [`Facts::tags`] says for which of these something
//! else may hold now (N13, N15).

mod clauses;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use millrace_abi::{Tag, TagKind};
use millrace_tables::{
    Action, Block, Clause, Identity, List, Otherwise, Owner, Place, Policies, PolicySet, Range,
    Row, Selector, Tables,
};

use super::numbers::Numbers;
use crate::policy::{ClusterNetworkPolicy, PolicyDirection, PolicyName};
use crate::{PodName, QualifiedName, World};
use clauses::{BlockKey, Maker, Said, Selection, SetKey};
use pods::{Here, Likeness, Pods};

/// What a node knows of itself, whatever the manifests say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The pods that are attached to it, with their addresses.
    pub pods: BTreeMap<PodName, Vec<IpAddr>>,
    /// Addresses of containers that are no pods, as far as anybody says: no policy is for them.
    pub nameless: Vec<IpAddr>,
    /// Its own addresses, that of its gateway included.
    pub addresses: Vec<IpAddr>,
}

/// A rule that decides about connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One of a policy.
    Of {
        /// The policy.
        policy: PolicyName,
        /// Which of its rules,
        direction: PolicyDirection,
        /// counted from 0.
        index: usize,
        /// What its author calls it.
        name: Option<String>,
    },
    /// That none of these NetworkPolicies' rules allows.
    Denies {
        /// What the policies are asked about.
        direction: PolicyDirection,
        /// The policies that are for the pod.
        policies: Vec<QualifiedName>,
    },
    /// That it is not known yet which policies are for a pod.
    Unknown {
        /// The pod.
        pod: PodName,
        /// What is denied to it.
        direction: PolicyDirection,
    },
}

/// What has become of a policy on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// The pods of the node that it is for.
    pub pods: Vec<PodName>,
}

/// The numbers of things.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    identities: Numbers<Likeness>,
    selections: Numbers<Selection>,
    blocks: Numbers<BlockKey>,
    sets: Numbers<SetKey>,
    rules: Numbers<Rule>,
}

/// What was told of policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    registry: Registry,
    ends: BTreeMap<IpAddr, End>,
    sets: BTreeMap<PolicySet, Set>,
    /// Selectors in use.
    selectors: BTreeSet<Selector>,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    owner: Owner,
    /// What its owner is to selectors.
    selectors: Vec<Selector>,
}

/// What a set of policies says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    otherwise: Otherwise,
    clauses: Vec<Clause>,
}

impl Facts {
    /// What there is to tell of a world.
    pub(super) fn next(&self, world: &World, node: &str, local: &Local) -> (Self, Summaries) {
        let pods = Pods::new(world, node, local);
        let mut next = Self { registry: self.registry.next(), ..Self::default() };
        let names = world.policies.keys().cloned().map(PolicyName::Namespaced);
        let names = names.chain(world.cluster_policies.keys().cloned().map(PolicyName::Cluster));
        let mut summaries: Summaries = names.map(|it| (it, PolicySummary::default())).collect();

        let mut sets = BTreeMap::new();
        for pod in &pods.here {
            let [ingress, egress] =
                PolicyDirection::ALL.map(|it| next.set(&pods, pod, it, &mut summaries));
            sets.insert(pod.name, (ingress, egress));
        }
        let identities = next.identities(&pods);

        for (alike, known) in pods.alike.iter().zip(&identities) {
            let Some((identity, selectors)) = known else { continue };
            let none = PolicySet::NONE;
            let (place, identity) = (Place::Elsewhere, *identity);
            let owner = Owner { place, identity, egress: none, ingress: none };
            let end = End { owner, selectors: selectors.clone() };
            // of two that claim an address, the first counts
            for address in &alike.addresses {
                next.ends.entry(*address).or_insert_with(|| end.clone());
            }
        }
        for pod in &pods.here {
            let (ingress, egress) = sets[pod.name];
            let at = pod.likeness.as_ref().and_then(|it| pods.place_of(it));
            let known = at.and_then(|at| identities[at].clone());
            let (identity, selectors) = known.unwrap_or_default();
            let owner = Owner { place: Place::Here, identity, egress, ingress };
            for address in pod.addresses {
                next.ends.insert(*address, End { owner, selectors: selectors.clone() });
            }
        }
        let none = PolicySet::NONE;
        let mut plain = |place, address: &IpAddr, known: Option<(Identity, Vec<Selector>)>| {
            let (identity, selectors) = known.unwrap_or_default();
            let owner = Owner { place, identity, egress: none, ingress: none };
            next.ends.insert(*address, End { owner, selectors });
        };
        local.nameless.iter().for_each(|address| plain(Place::Here, address, None));
        local.addresses.iter().for_each(|address| plain(Place::Node, address, None));
        if let Some(own) = world.nodes.get(node) {
            let at = pods.place_of(&Likeness::of_node(own));
            for address in own.addresses.iter().chain(&own.external) {
                plain(Place::Node, address, at.and_then(|at| identities[at].clone()));
            }
        }
        next.registry.forget_others();
        (next, summaries)
    }

    /// Puts it into tables.
    pub(super) fn put(&self, tables: &mut Tables) {
        let mut identities = BTreeMap::new();
        for (address, end) in &self.ends {
            tables.put(&Row::Owner(*address, end.owner));
            identities.insert(end.owner.identity, &end.selectors);
        }
        for (identity, selectors) in identities {
            if identity != Identity::NONE {
                let octets = List::encode(selectors);
                let selectors = List::new(&octets).expect("selectors have numbers, no more");
                tables.put(&Row::Identity(identity, selectors));
            }
        }
        for ((prefix, except), number) in self.registry.blocks.iter() {
            let range = |it: &IpNetwork| Range { address: it.network(), len: it.prefix() };
            let ranges: Vec<_> = std::iter::once(prefix).chain(except).map(range).collect();
            let octets = List::encode(&ranges);
            let addresses = List::new(&octets).expect("networks are prefixes");
            tables.put(&Row::Block(Block(number), addresses));
        }
        for (number, set) in &self.sets {
            let octets = List::encode(&set.clauses);
            let clauses = List::new(&octets).expect("ranges of ports were checked when read");
            let policies = Policies { otherwise: set.otherwise, clauses };
            tables.put(&Row::Policies(*number, policies));
        }
    }

    /// The rules that decisions may name, by number.
    pub(super) fn rules(&self) -> BTreeMap<u32, Rule> {
        self.registry.rules.iter().map(|(rule, number)| (number, rule.clone())).collect()
    }

    /// What decisions depend on that may be others now.
    pub(super) fn tags(&self, next: &Self) -> Vec<Tag> {
        // a set of policies that is new judges addresses that have changed
        let sets = self.sets.iter().filter(|(number, set)| next.sets.get(number) != Some(*set));
        let sets = sets.map(|(PolicySet(number), _)| Tag::new(TagKind::PolicySet, *number));
        // a selector that is new, or gone, is one of sets that have changed
        let common: BTreeSet<_> = self.selectors.intersection(&next.selectors).collect();
        let meaning = |end: &End| {
            let Owner { place, egress, ingress, .. } = end.owner;
            let selectors = end.selectors.iter().filter(|it| common.contains(it));
            (place, egress, ingress, selectors.copied().collect::<Vec<_>>())
        };
        let addresses: BTreeSet<_> = self.ends.keys().chain(next.ends.keys()).collect();
        let differs = |address: &&&IpAddr| match (self.ends.get(address), next.ends.get(address)) {
            (Some(before), Some(after)) => meaning(before) != meaning(after),
            (Some(end), None) | (None, Some(end)) => {
                let (place, .., selectors) = meaning(end);
                place != Place::Elsewhere || !selectors.is_empty()
            }
            (None, None) => false,
        };
        let addresses = addresses.iter().filter(differs).map(|address| Tag::of_address(**address));
        sets.chain(addresses).collect()
    }

    /// The set of the policies that are for a pod in a direction.
    fn set(
        &mut self,
        pods: &Pods<'_>,
        pod: &Here<'_>,
        direction: PolicyDirection,
        summaries: &mut Summaries,
    ) -> PolicySet {
        let policies = pods.policies_for(pod, direction);
        if policies.is_empty() {
            return PolicySet::NONE;
        }
        let of_cluster = |tier: &[&ClusterNetworkPolicy]| -> Vec<_> {
            tier.iter().map(|policy| PolicyName::Cluster(policy.name.clone())).collect()
        };
        let namespaced: Vec<_> = policies.namespaced.iter().map(|it| it.name.clone()).collect();
        let mut names = of_cluster(&policies.admin);
        names.extend(namespaced.iter().cloned().map(PolicyName::Namespaced));
        names.extend(of_cluster(&policies.baseline));
        let said: Vec<Said> =
            (policies.admin.iter().flat_map(|it| Said::by_cluster(it, direction)))
                .chain(policies.namespaced.iter().flat_map(|it| Said::by(it, direction)))
                .chain(policies.baseline.iter().flat_map(|it| Said::by_cluster(it, direction)))
                .collect();
        let asks = direction == PolicyDirection::Ingress && said.iter().any(Said::asks_for_names);
        let ports = pod.likeness.as_ref().filter(|_| asks).map(|it| it.ports.clone());
        let key = SetKey {
            direction,
            policies: names.clone(),
            ports: ports.unwrap_or_default(),
            unknown: pod.likeness.is_none().then(|| pod.name.clone()),
        };
        let number = PolicySet(self.registry.sets.number(key));
        let Some(target) = &pod.likeness else {
            let rule = Rule::Unknown { pod: pod.name.clone(), direction };
            let rule = self.registry.rules.number(rule);
            let otherwise = Otherwise { action: Action::Deny, rule };
            self.sets.insert(number, Set { otherwise, clauses: Vec::new() });
            return number;
        };
        for name in names {
            let for_it = &mut summaries.entry(name).or_default().pods;
            if for_it.last() != Some(pod.name) {
                for_it.push(pod.name.clone());
            }
        }
        if !self.sets.contains_key(&number) {
            let registry = &mut self.registry;
            let otherwise = match namespaced.is_empty() {
                // nobody is isolated by a ClusterNetworkPolicy (K2)
                true => Otherwise { action: Action::Allow, rule: 0 },
                false => {
                    let rule = Rule::Denies { direction, policies: namespaced };
                    Otherwise { action: Action::Deny, rule: registry.rules.number(rule) }
                }
            };
            let mut maker = Maker { pods, registry, direction, target };
            let clauses = said.iter().flat_map(|it| maker.clauses(it)).collect();
            self.sets.insert(number, Set { otherwise, clauses });
        }
        number
    }

    /// What kinds of pods are to the selectors in use, as far as they are anything; in the order of
    /// the list.
    fn identities(&mut self, pods: &Pods<'_>) -> Vec<Option<(Identity, Vec<Selector>)>> {
        let mut known: Vec<Option<Vec<Selector>>> = vec![None; pods.alike.len()];
        let mut selections: Vec<_> =
            self.registry.selections.used().map(|(it, number)| (number, it.clone())).collect();
        selections.sort_by_key(|(number, _)| *number);
        for (number, selection) in selections {
            self.selectors.insert(Selector(number));
            for at in selection.of_pods(pods) {
                known[at].get_or_insert_default().push(Selector(number));
            }
        }
        // those that rules are about by themselves
        for (likeness, _) in self.registry.identities.used() {
            if let Some(at) = pods.place_of(likeness) {
                known[at].get_or_insert_default();
            }
        }
        let numbered = pods.alike.iter().zip(known).map(|(alike, selectors)| {
            let selectors = selectors?;
            let number = self.registry.identities.number(alike.likeness.clone());
            Some((Identity(number), selectors))
        });
        numbered.collect()
    }
}

/// What has become of policies.
pub(super) type Summaries = BTreeMap<PolicyName, PolicySummary>;

impl Registry {
    fn next(&self) -> Self {
        Self {
            identities: self.identities.next(),
            selections: self.selections.next(),
            blocks: self.blocks.next(),
            sets: self.sets.next(),
            rules: self.rules.next(),
        }
    }

    fn forget_others(&mut self) {
        self.identities.forget_others();
        self.selections.forget_others();
        self.blocks.forget_others();
        self.sets.forget_others();
        self.rules.forget_others();
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            identities: Numbers::after(0),
            selections: Numbers::after(0),
            blocks: Numbers::after(0),
            sets: Numbers::after(0),
            rules: Numbers::after(RULES_OF_THE_FILTER),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of { policy, direction, index, name } => {
                write!(f, "{policy}, spec.{direction}[{index}]")?;
                name.as_ref().map_or(Ok(()), |name| write!(f, " `{name}`"))
            }
            Self::Denies { direction, policies } => {
                let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
                write!(f, "no {direction} rule of NetworkPolicy {}", names.join(", "))
            }
            Self::Unknown { pod, direction } => {
                write!(f, "no {direction} before the labels of pod {pod} are known")
            }
        }
    }
}

/// The highest number of a rule that the filter's manifest may name.
const RULES_OF_THE_FILTER: u32 = 255;

#[cfg(test)]
mod tests;
