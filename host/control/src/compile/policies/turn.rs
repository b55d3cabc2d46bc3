//! From changes of the cluster to what is told of policies: step by step, each of which looks at what
//! the ones before have touched.
//!
//! people → who judges pods here → who is selected → identities → rows
//!
//! A reader must not break this: whose an address was is remembered before anything changes that it
//! follows from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use millrace_abi::{Tag, TagKind};
use millrace_tables::{
    Action, Clause, Domain, Draft, Identity, Key, List, Otherwise, Owner, Place, Policies,
    PolicySet, Range, Row, Selector,
};

use super::chosen::{Chosen, Counted};
use super::clauses::{Maker, Role, Said, SetKey};
use super::people::{Holder, Likeness, Member, Moved, Person};
use super::registry::Uses;
use super::{Facts, Judged, Local, PolicySummary, Rule, Set};
use crate::changes::Changes;
use crate::compile::Publication;
use crate::compile::numbers::Settled;
use crate::policy::{ClusterNetworkPolicy, PolicyDirection, PolicyName};
use crate::{PodName, World};

/// What is made of some changes.
pub(super) struct Turn<'t> {
    facts: &'t mut Facts,
    world: &'t World,
    /// Selectors behind this one are new.
    last: u32,
    /// Whose addresses were that may be another's now.
    ends: BTreeMap<IpAddr, Option<End>>,
    /// What sets said that may say something else now.
    sets: BTreeMap<PolicySet, Option<(Otherwise, Vec<Clause>)>>,
    /// The kinds whose selectors have to be found.
    unknown: BTreeSet<Arc<Likeness>>,
    /// Those whose selectors are others.
    selected: BTreeSet<Arc<Likeness>>,
    /// The pods here that may be judged by others.
    judged: BTreeSet<PodName>,
    policies: BTreeSet<PolicyName>,
}

/// Whose an address is.
#[derive(Debug)]
struct End {
    owner: Owner,
    /// What its owner is to selectors.
    selectors: Vec<Selector>,
}

impl<'t> Turn<'t> {
    pub(super) fn new(facts: &'t mut Facts, world: &'t World) -> Self {
        let last = facts.registry.selections.last();
        Self {
            facts,
            world,
            last,
            ends: BTreeMap::new(),
            sets: BTreeMap::new(),
            unknown: BTreeSet::new(),
            selected: BTreeSet::new(),
            judged: BTreeSet::new(),
            policies: BTreeSet::new(),
        }
    }

    /// Takes all steps.
    pub(super) fn take(
        mut self,
        node: &str,
        local: &Local,
        changes: &Changes,
        draft: &mut Draft,
        publication: &mut Publication,
    ) {
        self.meet(node, local, changes);
        self.find_judged(changes);
        for pod in std::mem::take(&mut self.judged) {
            self.judge(pod);
        }
        self.settle_sets();
        self.select(changes);
        self.identify(draft);
        self.tell(draft, publication);
    }

    /// People come, go and become others.
    fn meet(&mut self, node: &str, local: &Local, changes: &Changes) {
        let before = &self.facts.local;
        let attached = before.pods.keys().chain(local.pods.keys());
        let attached = attached.filter(|pod| before.pods.get(*pod) != local.pods.get(*pod));
        let pods = changes.pods.iter().chain(attached).cloned().map(Member::Pod);
        let nodes = changes.nodes.iter().cloned().map(Member::Node);
        let mut has_changed = false;
        for member in nodes.chain(pods).collect::<BTreeSet<_>>() {
            let now = match &member {
                Member::Node(name) => self.world.nodes.get(name).map(Person::node),
                Member::Pod(name) => Person::pod(name, self.world, node, local),
            };
            if self.facts.people.person(&member) == now.as_ref() {
                continue;
            }
            has_changed = true;
            let concerned = self.facts.people.concerned(&member, now.as_ref());
            concerned.into_iter().for_each(|address| self.remember(address));
            let Moved { new, gone, number } = self.facts.people.replace(&member, now);
            self.unknown.extend(new);
            if let Some(likeness) = gone {
                self.unknown.remove(&likeness);
            }
            number.into_iter().for_each(|it| self.facts.registry.identities.give_back(it));
            if let Member::Pod(name) = member {
                self.judged.insert(name);
            }
        }
        // what pods call their ports is another for some policies
        if has_changed {
            let ask = self.facts.judged.iter().filter(|(_, judged)| judged.asks_for_names);
            self.judged.extend(ask.map(|(pod, _)| pod.clone()));
        }

        let as_node = self.world.nodes.get(node).into_iter();
        let as_node = as_node.flat_map(|it| it.addresses.iter().chain(&it.external));
        let own = as_node.map(|it| (*it, Holder::ThisNode));
        let own = own.chain(local.addresses.iter().map(|it| (*it, Holder::Gateway)));
        let own = own.chain(local.nameless.iter().map(|it| (*it, Holder::Nameless))).collect();
        let others = self.facts.people.other_own(&own);
        others.into_iter().for_each(|address| self.remember(address));
        self.facts.people.replace_own(own);
        self.facts.local.clone_from(local);
        self.facts.node = Member::Node(node.to_owned());
    }

    /// Finds the pods here that other policies may be for, or policies that say something else.
    fn find_judged(&mut self, changes: &Changes) {
        let people = &self.facts.people;
        for name in &changes.policies {
            let policy = self.world.policies.get(name);
            let named = PolicyName::Namespaced(name.clone());
            let is_concerned = |pod: &&PodName| {
                let person = people.person(&Member::Pod((*pod).clone()));
                let likeness = person.and_then(|person| person.likeness.as_ref());
                let selects =
                    policy.is_some_and(|it| likeness.is_none_or(|of| it.pods.selects(&of.labels)));
                let judged = self.facts.judged.get(*pod);
                selects || judged.is_some_and(|judged| judged.policies.contains(&named))
            };
            self.judged.extend(people.here_in(&name.namespace).filter(is_concerned).cloned());
            self.policies.insert(named);
        }
        for namespace in &changes.namespaces {
            self.judged.extend(people.here_in(namespace).cloned());
        }
        if !changes.cluster_policies.is_empty() {
            self.judged.extend(people.here().cloned());
            let names = changes.cluster_policies.iter().cloned();
            self.policies.extend(names.map(PolicyName::Cluster));
        }
    }

    /// Finds the policies that are for a pod.
    fn judge(&mut self, pod: PodName) {
        let member = Member::Pod(pod.clone());
        let person = self.facts.people.person(&member).cloned();
        for address in person.iter().flat_map(|person| &person.addresses) {
            self.remember(*address);
        }
        let now = person.filter(|person| person.is_here).map(|person| {
            let mut judged = Judged::default();
            let likeness = person.likeness.as_deref();
            judged.audits =
                PolicyDirection::ALL.map(|it| self.audit(&pod, likeness, it, &mut judged));
            let [ingress, egress] = judged.audits;
            judged.sets = [(PolicyDirection::Ingress, ingress), (PolicyDirection::Egress, egress)]
                .map(|(it, audit)| self.enforced(&pod, likeness, it, audit, &mut judged));
            judged
        });
        let before = self.facts.judged.remove(&pod).unwrap_or_default();
        for PolicySet(number) in before.sets.into_iter().chain(before.audits) {
            self.facts.registry.sets.give_back(number);
        }
        let none = BTreeSet::new();
        let (was_for, is_for) = (&before.policies, now.as_ref().map_or(&none, |it| &it.policies));
        for name in was_for.difference(is_for) {
            if let Some(pods) = self.facts.pods.get_mut(name) {
                pods.remove(&pod);
                if pods.is_empty() {
                    self.facts.pods.remove(name);
                }
            }
        }
        for name in is_for.difference(was_for) {
            self.facts.pods.entry(name.clone()).or_default().insert(pod.clone());
        }
        self.policies.extend(was_for.symmetric_difference(is_for).cloned());
        self.facts.judged.extend(now.map(|judged| (pod, judged)));
    }

    /// The set of all policies that are for a pod in a direction, if some are audited.
    fn audit(
        &mut self,
        pod: &PodName,
        likeness: Option<&Likeness>,
        direction: PolicyDirection,
        judged: &mut Judged,
    ) -> PolicySet {
        let all = Chosen::of(self.world, pod, likeness, direction, Counted::All);
        match likeness.is_some() && all.has_audited() {
            true => self.set(pod, likeness, (direction, Role::Audited), &all, judged),
            false => PolicySet::NONE,
        }
    }

    /// The set of those that are enforced.
    fn enforced(
        &mut self,
        pod: &PodName,
        likeness: Option<&Likeness>,
        direction: PolicyDirection,
        audit: PolicySet,
        judged: &mut Judged,
    ) -> PolicySet {
        let chosen = Chosen::of(self.world, pod, likeness, direction, Counted::Enforced);
        match chosen.is_empty() && audit == PolicySet::NONE {
            true => PolicySet::NONE,
            false => self.set(pod, likeness, (direction, Role::Enforced(audit)), &chosen, judged),
        }
    }

    /// The set of policies that are for a pod, for one more pod.
    fn set(
        &mut self,
        pod: &PodName,
        likeness: Option<&Likeness>,
        (direction, role): (PolicyDirection, Role),
        chosen: &Chosen<'_>,
        judged: &mut Judged,
    ) -> PolicySet {
        let of_cluster = |tier: &[&ClusterNetworkPolicy]| -> Vec<_> {
            tier.iter().map(|policy| PolicyName::Cluster(policy.name.clone())).collect()
        };
        let namespaced: Vec<_> = chosen.namespaced.iter().map(|it| it.name.clone()).collect();
        let mut names = of_cluster(&chosen.admin);
        names.extend(namespaced.iter().cloned().map(PolicyName::Namespaced));
        names.extend(of_cluster(&chosen.baseline));
        let said: Vec<Said> = (chosen.admin.iter().flat_map(|it| Said::by_cluster(it, direction)))
            .chain(chosen.namespaced.iter().flat_map(|it| Said::by(it, direction)))
            .chain(chosen.baseline.iter().flat_map(|it| Said::by_cluster(it, direction)))
            .collect();
        let asks = said.iter().any(Said::asks_for_names);
        let own = asks && direction == PolicyDirection::Ingress;
        let ports = likeness.filter(|_| own).map(|it| it.ports.clone());
        let key = SetKey {
            direction,
            policies: names.clone(),
            role,
            ports: ports.unwrap_or_default(),
            unknown: likeness.is_none().then(|| pod.clone()),
        };
        let number = self.facts.registry.sets.take(key);
        if likeness.is_some() {
            judged.policies.extend(names);
            judged.asks_for_names |= asks && direction == PolicyDirection::Egress;
        }
        // whatever other pod of this turn has it found the same
        if !self.sets.contains_key(&PolicySet(number)) {
            let mut uses = Uses::default();
            let registry = &mut self.facts.registry;
            let otherwise = match (likeness, namespaced.is_empty()) {
                (None, _) => {
                    let rule = Rule::Unknown { pod: pod.clone(), direction };
                    Otherwise { action: Action::Deny, rule: uses.rule(rule, registry) }
                }
                // nobody is isolated by a ClusterNetworkPolicy (K2)
                (_, true) => Otherwise { action: Action::Allow, rule: 0 },
                (_, false) => {
                    let on_refused = chosen.on_refused();
                    let (rule, action) = (
                        Rule::Denies { direction, policies: namespaced, on_refused },
                        Action::Deny,
                    );
                    Otherwise { action, rule: uses.rule(role.rule(rule, action), registry) }
                }
            };
            let clauses = likeness.map_or_else(Vec::new, |target| {
                let (world, people) = (self.world, &self.facts.people);
                let uses = &mut uses;
                let mut maker = Maker { world, people, registry, uses, direction, role, target };
                said.iter().flat_map(|it| maker.clauses(it)).collect()
            });
            let audit = match role {
                Role::Enforced(audit) => audit,
                Role::Audited => PolicySet::NONE,
            };
            let set = Set { otherwise, audit, clauses, uses };
            let before = self.facts.sets.insert(PolicySet(number), set);
            let before = before.map(|Set { otherwise, clauses, uses, .. }| {
                uses.give_back(&mut self.facts.registry);
                (otherwise, clauses)
            });
            self.sets.insert(PolicySet(number), before);
        }
        PolicySet(number)
    }

    /// Forgets sets that are no pod's any more.
    fn settle_sets(&mut self) {
        for (number, settled) in self.facts.registry.sets.settle() {
            let Settled::Gone(_) = settled else { continue };
            let Some(set) = self.facts.sets.remove(&PolicySet(number)) else { continue };
            set.uses.give_back(&mut self.facts.registry);
            self.sets.entry(PolicySet(number)).or_insert(Some((set.otherwise, set.clauses)));
        }
    }

    /// Finds who is selected by what is asked for now.
    fn select(&mut self, changes: &Changes) {
        for (number, settled) in self.facts.registry.selections.settle() {
            let (Settled::New(selection) | Settled::Gone(selection)) = &settled;
            for likeness in selection.kinds(self.world, &self.facts.people) {
                let Some(kind) = self.facts.people.kind_mut(&likeness) else { continue };
                match settled {
                    Settled::New(_) => kind.selectors.insert(Selector(number)),
                    Settled::Gone(_) => kind.selectors.remove(&Selector(number)),
                };
                self.selected.insert(likeness);
            }
        }
        for namespace in &changes.namespaces {
            let kinds: Vec<_> = self.facts.people.kinds_in(namespace).collect();
            let addresses: Vec<_> =
                kinds.iter().flat_map(|(_, kind)| self.facts.people.addresses(kind)).collect();
            self.unknown.extend(kinds.into_iter().map(|(likeness, _)| Arc::clone(likeness)));
            addresses.into_iter().for_each(|address| self.remember(address));
        }
        for likeness in std::mem::take(&mut self.unknown) {
            let selectors = self.facts.registry.selectors_of(self.world, &likeness).collect();
            if let Some(kind) = self.facts.people.kind_mut(&likeness) {
                kind.selectors = selectors;
            }
            self.selected.insert(likeness);
        }
    }

    /// Gives numbers to kinds that are anything to policies, and to no others.
    fn identify(&mut self, draft: &mut Draft) {
        let Facts { people, registry, .. } = &mut *self.facts;
        for likeness in &self.selected {
            let Some(kind) = people.kind_mut(likeness) else { continue };
            match (kind.selectors.is_empty(), kind.number) {
                (false, None) => kind.number = Some(registry.identities.take(Arc::clone(likeness))),
                (true, Some(number)) => {
                    registry.identities.give_back(number);
                    kind.number = None;
                }
                _ => {}
            }
        }
        for (number, settled) in registry.identities.settle() {
            let (Settled::New(likeness) | Settled::Gone(likeness)) = &settled;
            self.selected.insert(Arc::clone(likeness));
            if let Settled::Gone(_) = settled {
                draft.remove(&Key::Identity(Identity(number)));
            }
        }
        for likeness in std::mem::take(&mut self.selected) {
            let now = self.facts.registry.identities.number(&likeness).map(Identity);
            let Some(kind) = self.facts.people.kind(&likeness) else { continue };
            if kind.identity != now {
                let addresses: Vec<_> = self.facts.people.addresses(kind).collect();
                addresses.into_iter().for_each(|address| self.remember(address));
            }
            let kind = self.facts.people.kind_mut(&likeness).expect("it is there");
            kind.identity = now;
            if let Some(identity) = now {
                let selectors: Vec<_> = kind.selectors.iter().copied().collect();
                let octets = List::encode(&selectors);
                let selectors = List::new(&octets).expect("selectors have numbers, no more");
                draft.put(&Row::Identity(identity, selectors));
            }
        }
    }

    /// Says what is another now.
    fn tell(self, draft: &mut Draft, publication: &mut Publication) {
        let Self { facts, world, last, ends, sets, policies, .. } = self;
        let mut audits = BTreeSet::new();
        for (number, before) in sets {
            let now = facts.sets.get(&number);
            if before.as_ref().map(|(otherwise, clauses)| (otherwise, clauses))
                == now.map(|set| (&set.otherwise, &set.clauses))
            {
                continue;
            }
            match now {
                Some(set) => {
                    let octets = List::encode(&set.clauses);
                    let clauses = List::new(&octets).expect("ports were checked when read");
                    let Set { otherwise, audit, .. } = *set;
                    let policies = Policies { otherwise, audit, clauses };
                    draft.put(&Row::Policies(number, policies));
                }
                None => draft.remove(&Key::Policies(number)),
            }
            // a set of policies that is new judges addresses that have changed
            let tag = before.map(|_| Tag::new(TagKind::PolicySet, number.0));
            publication.tags.extend(tag);
            audits.insert(number);
        }
        // decisions depend on the set that has another one audited
        let audit = facts.sets.iter().filter(|(_, set)| audits.contains(&set.audit));
        let audit = audit.map(|(number, _)| Tag::new(TagKind::PolicySet, number.0));
        publication.tags.extend(audit);
        // a selector that is new, or gone, is one of sets that have changed
        let is_common =
            |it: &&Selector| it.0 <= last && facts.registry.selections.thing(it.0).is_some();
        for (address, before) in ends {
            let now = facts.end(address);
            let differs = match (&before, &now) {
                (Some(before), Some(now)) => {
                    let meaning = |it: &Owner| (it.place, it.egress, it.ingress);
                    let selectors = |it: &'_ End| -> Vec<Selector> {
                        it.selectors.iter().filter(is_common).copied().collect()
                    };
                    meaning(&before.owner) != meaning(&now.owner)
                        || selectors(before) != selectors(now)
                }
                (Some(end), None) | (None, Some(end)) => {
                    end.owner.place != Place::Elsewhere
                        || end.selectors.iter().any(|it| is_common(&it))
                }
                (None, None) => false,
            };
            publication.tags.extend(differs.then(|| Tag::of_address(address)));
            match now {
                Some(end) => draft.put(&Row::Owner(address, end.owner)),
                None => draft.remove(&Key::Owner(address)),
            }
        }
        for (number, settled) in facts.registry.blocks.settle() {
            let block = millrace_tables::Block(number);
            match settled {
                Settled::New(it) => {
                    let (prefix, except) = &*it;
                    let all = std::iter::once(prefix).chain(except);
                    let ranges: Vec<_> =
                        all.map(|it| Range { address: it.network(), len: it.prefix() }).collect();
                    let octets = List::encode(&ranges);
                    let addresses = List::new(&octets).expect("networks are prefixes");
                    draft.put(&Row::Block(block, addresses));
                }
                Settled::Gone(_) => draft.remove(&Key::Block(block)),
            }
        }
        for (number, settled) in facts.registry.domains.settle() {
            let domain = Domain(number);
            match settled {
                Settled::New(name) => draft.put(&Row::Domain(domain, name.pattern())),
                Settled::Gone(_) => draft.remove(&Key::Domain(domain)),
            }
        }
        for (number, settled) in facts.registry.rules.settle() {
            let rule = match settled {
                Settled::New(rule) => Some(Rule::clone(&rule)),
                Settled::Gone(_) => None,
            };
            publication.rules.insert(number, rule);
        }
        for name in policies {
            let said = match &name {
                PolicyName::Namespaced(name) => {
                    world.policies.get(name).map(|it| (&it.terms, BTreeSet::new()))
                }
                PolicyName::Cluster(name) => {
                    let policy = world.cluster_policies.get(name);
                    policy.map(|it| (&it.terms, it.domains().cloned().collect()))
                }
            };
            let pods = facts.pods.get(&name).into_iter().flatten().cloned().collect();
            let summary =
                said.map(|(terms, domains)| PolicySummary { pods, mode: terms.mode, domains });
            publication.policies.insert(name, summary);
        }
    }

    /// Remembers whose an address was, before something changes of that.
    fn remember(&mut self, address: IpAddr) {
        if !self.ends.contains_key(&address) {
            let end = self.facts.end(address);
            self.ends.insert(address, end);
        }
    }
}

impl Facts {
    /// Whose an address is, as far as that is anybody's.
    fn end(&self, address: IpAddr) -> Option<End> {
        self.people.holders(address).iter().find_map(|holder| self.end_of(holder))
    }

    fn end_of(&self, holder: &Holder) -> Option<End> {
        let known = |member: &Member| {
            let likeness = self.people.person(member)?.likeness.as_ref()?;
            let kind = self.people.kind(likeness)?;
            Some((kind.identity?, kind.selectors.iter().copied().collect::<Vec<_>>()))
        };
        let [mut ingress, mut egress] = [PolicySet::NONE; 2];
        let (place, known) = match holder {
            Holder::ThisNode => (Place::Node, known(&self.node)),
            Holder::Gateway => (Place::Node, None),
            Holder::Nameless => (Place::Here, None),
            Holder::Here(pod) => {
                if let Some(judged) = self.judged.get(pod) {
                    [ingress, egress] = judged.sets;
                }
                (Place::Here, known(&Member::Pod(pod.clone())))
            }
            Holder::Elsewhere(member) => (Place::Elsewhere, Some(known(member)?)),
        };
        let (identity, selectors) = known.unwrap_or((Identity::NONE, Vec::new()));
        Some(End { owner: Owner { place, identity, egress, ingress }, selectors })
    }
}
