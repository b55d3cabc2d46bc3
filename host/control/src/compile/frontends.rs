//! Where Services and pods are reached: what each has become, and which of those that claim the same
//! place has it.
//!
//! Owns what was compiled of each object, so that a change compiles those objects anew that it
//! concerns. What it says then is what it would say of the same world if it had known no other,
//! but for the numbers of sets.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use millrace_abi::{Tag, TagKind};
use millrace_tables::{
    Backend, Draft, EndpointSet, Endpoints, Frontend, FrontendKind, Key, Range, Row, Service,
    Source, SourceSet,
};

use super::endpoints::{Backing, Usable};
use super::index::Index;
use super::nodes::{Concerned, Nodes};
use super::numbers::{Numbers, Settled};
use super::services::Compiled;
use super::{Publication, ServiceSummary, ThisNode, host_ports, range, services};
use crate::changes::Changes;
use crate::{Pod, PodName, PodNetwork, QualifiedName, World};

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Frontends {
    index: Index,
    nodes: Nodes,
    pub(super) sets: Numbered,
    compiled: BTreeMap<Claimant, Compiled>,
    /// Who would be reached at a place. The first of them is.
    claims: BTreeMap<Frontend, Vec<(Claimant, Service)>>,
    ranges: BTreeSet<Range>,
    /// The addresses that the node answers its neighbours for, and for how many Services.
    announced: BTreeMap<IpAddr, usize>,
    /// What of pods does not count, and why.
    complaints: BTreeMap<PodName, Vec<String>>,
}

/// Who is reached somewhere: Services before pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claimant {
    Service(QualifiedName),
    Pod(PodName),
}

/// What Services have in common with others, by number.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) endpoints: Numbers<[Backend]>,
    pub(super) sources: Numbers<[Range]>,
}

/// The numbers that a Service uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    endpoints: Vec<u32>,
    sources: Vec<u32>,
}

impl Frontends {
    /// Follows changes of a world.
    pub(super) fn follow(
        &mut self,
        world: &World,
        this: ThisNode<'_>,
        changes: &Changes,
        draft: &mut Draft,
        publication: &mut Publication,
    ) {
        let concerned = self.concerned(world, this, changes);
        let backing = Backing::new(world, this, &self.index);
        let sets = &mut self.sets;
        let compiled: Vec<_> = concerned
            .into_iter()
            .map(|claimant| {
                let compiled = match &claimant {
                    Claimant::Service(name) => {
                        let service = world.services.services.get(name);
                        service.map(|it| services::compile(it, &backing, sets))
                    }
                    Claimant::Pod(name) => {
                        let pod = world.pods.get(name);
                        pod.and_then(|it| host_ports::compile(it, &backing, sets))
                    }
                };
                (claimant, compiled)
            })
            .collect();

        let mut touched: BTreeMap<Frontend, Option<Service>> = BTreeMap::new();
        let mut spoken_of = BTreeSet::new();
        for (claimant, compiled) in compiled {
            self.replace(&claimant, compiled, &mut touched);
            spoken_of.insert(claimant);
        }
        for (frontend, before) in touched {
            let claims = self.claims.get(&frontend).map_or(&[][..], Vec::as_slice);
            let now = claims.first().map(|(_, service)| *service);
            // whoever is left has it now, and whoever came later has to hear whose it is
            spoken_of.extend(claims.iter().map(|(claimant, _)| claimant.clone()));
            if before == now {
                continue;
            }
            match now {
                Some(service) => draft.put(&Row::Service(frontend, service)),
                None => draft.remove(&Key::Service(frontend)),
            }
            publication.place(frontend, before.is_some(), now.is_some());
            let numbers: BTreeSet<u32> = before.iter().chain(&now).map(|it| it.number).collect();
            let tags = numbers.into_iter().map(|number| Tag::new(TagKind::Service, number));
            publication.tags.extend(tags);
        }
        for claimant in spoken_of {
            self.speak_of(claimant, publication);
        }
        publication.complaints = self.complaints.values().flatten().cloned().collect();
        self.sets.settle(draft);
        if !(changes.ranges.is_empty() && changes.pools.is_empty()) {
            self.reserve(world, draft);
        }
    }

    /// Where they are reached.
    pub(super) fn places(&self) -> impl Iterator<Item = Frontend> {
        self.claims.keys().copied()
    }

    /// The addresses that the node answers its neighbours for.
    pub(super) fn announced(&self) -> BTreeSet<IpAddr> {
        self.announced.keys().copied().collect()
    }

    /// Those that have to be compiled anew.
    fn concerned(
        &mut self,
        world: &World,
        this: ThisNode<'_>,
        changes: &Changes,
    ) -> BTreeSet<Claimant> {
        let services = self.index.follow(world, changes).into_iter().map(Claimant::Service);
        let pods = changes.pods.iter().cloned().map(Claimant::Pod);
        let mut concerned: BTreeSet<Claimant> = services.chain(pods).collect();
        let services = world.services.services.values();
        let Concerned { everybody, announced, moved } =
            self.nodes.follow(world, this.name, changes);
        if everybody {
            let services = services.map(|it| Claimant::Service(it.name.clone()));
            let pods = world.pods.keys().cloned().map(Claimant::Pod);
            concerned.extend(services.chain(pods));
            return concerned;
        }
        // nodes and pools say who answers for which address
        if announced || !changes.pools.is_empty() {
            let balanced = services.filter(|it| !it.load_balancer.is_empty());
            concerned.extend(balanced.map(|it| Claimant::Service(it.name.clone())));
        }
        // pods in a node's network have its addresses (S22)
        let is_moved = |pod: &&Pod| {
            pod.network == PodNetwork::Host
                && pod.node.as_ref().is_some_and(|node| moved.contains(node))
        };
        let pods = world.pods.values().filter(|_| !moved.is_empty()).filter(is_moved);
        for Pod { name, labels, .. } in pods {
            let asking = self.index.who_asks_for(world, &name.namespace, labels);
            concerned.extend(asking.map(Claimant::Service));
        }
        concerned
    }

    /// Has somebody claim what it is reached at now, and nothing else.
    fn replace(
        &mut self,
        claimant: &Claimant,
        compiled: Option<Compiled>,
        touched: &mut BTreeMap<Frontend, Option<Service>>,
    ) {
        let before = match compiled {
            Some(compiled) => self.compiled.insert(claimant.clone(), compiled),
            None => self.compiled.remove(claimant),
        };
        let now = self.compiled.get(claimant).map_or(&[][..], |it| &it.rows);
        let gone = before.as_ref().map_or(&[][..], |it| &it.rows);
        let mut touch = |frontend: Frontend, claims: &[(Claimant, Service)]| {
            touched.entry(frontend).or_insert_with(|| claims.first().map(|(_, it)| *it));
        };
        if gone != now {
            for (frontend, _) in gone {
                let claims = self.claims.entry(*frontend).or_default();
                touch(*frontend, claims);
                claims.retain(|(who, _)| who != claimant);
            }
            for (frontend, service) in now {
                let claims = self.claims.entry(*frontend).or_insert_with(|| Vec::with_capacity(1));
                touch(*frontend, claims);
                // of the same Service the first counts
                if let Err(at) = claims.binary_search_by(|(who, _)| who.cmp(claimant)) {
                    claims.insert(at, (claimant.clone(), *service));
                }
            }
            for (frontend, _) in gone {
                if self.claims.get(frontend).is_some_and(Vec::is_empty) {
                    self.claims.remove(frontend);
                }
            }
        }
        for address in self.compiled.get(claimant).iter().flat_map(|it| &it.announced) {
            *self.announced.entry(*address).or_default() += 1;
        }
        let Some(before) = before else { return };
        self.sets.give_back(before.uses);
        for address in before.announced {
            if let Entry::Occupied(mut services) = self.announced.entry(address) {
                *services.get_mut() -= 1;
                if *services.get() == 0 {
                    services.remove();
                }
            }
        }
    }

    /// Says what has become of somebody.
    fn speak_of(&mut self, claimant: Claimant, publication: &mut Publication) {
        let compiled = self.compiled.get(&claimant);
        let (mut held, mut problems) = (Vec::new(), Vec::new());
        let rows = compiled.map_or(&[][..], |it| &it.rows).iter();
        // the node's processes mean others than those that stand in
        for (frontend, service) in rows.filter(|(_, it)| it.kind != FrontendKind::OwnNode) {
            let holder = self.claims.get(frontend).and_then(|claims| claims.first());
            let (who, what) = holder.expect("who is compiled claims what it has rows for");
            match *who == claimant && what == service && !held.contains(frontend) {
                true => held.push(*frontend),
                false => problems.push(format!("{frontend} is {who}'s already")),
            }
        }
        match claimant {
            Claimant::Service(name) => {
                let summary = compiled.map(|it| {
                    let mut summary = ServiceSummary { frontends: held, ..it.summary.clone() };
                    summary.problems.extend(problems);
                    summary
                });
                publication.services.insert(name, summary);
            }
            Claimant::Pod(name) if problems.is_empty() => drop(self.complaints.remove(&name)),
            Claimant::Pod(name) => {
                let complaint = |problem| format!("pod {name}: {problem}");
                let complaints = problems.into_iter().map(complaint).collect();
                self.complaints.insert(name, complaints);
            }
        }
    }

    /// Reserves what is for Services alone.
    fn reserve(&mut self, world: &World, draft: &mut Draft) {
        let pools = world.services.pools.values().flat_map(|it| &it.prefixes);
        let ranges = world.services.ranges.values().flat_map(|it| &it.prefixes);
        let now: BTreeSet<Range> = ranges.chain(pools).map(range).collect();
        now.difference(&self.ranges).for_each(|it| draft.put(&Row::Range(*it)));
        self.ranges.difference(&now).for_each(|it| draft.remove(&Key::Range(*it)));
        self.ranges = now;
    }
}

impl Numbered {
    fn give_back(&mut self, uses: Uses) {
        uses.endpoints.into_iter().for_each(|it| self.endpoints.give_back(it));
        uses.sources.into_iter().for_each(|it| self.sources.give_back(it));
    }

    /// Has a draft know the sets that are used, and no others.
    fn settle(&mut self, draft: &mut Draft) {
        for (number, settled) in self.endpoints.settle() {
            let set = EndpointSet(number);
            match settled {
                Settled::New(endpoints) => {
                    let octets = Backend::encode_all(&endpoints);
                    let endpoints = Endpoints::new(&octets);
                    let endpoints = endpoints.expect("a set is sorted, and not empty");
                    draft.put(&Row::Endpoints(set, endpoints));
                }
                Settled::Gone(_) => draft.remove(&Key::Endpoints(set)),
            }
        }
        for (number, settled) in self.sources.settle() {
            let source = |range: &Range| Source { set: SourceSet(number), range: *range };
            match settled {
                Settled::New(ranges) => {
                    ranges.iter().for_each(|it| draft.put(&Row::Source(source(it))));
                }
                Settled::Gone(ranges) => {
                    ranges.iter().for_each(|it| draft.remove(&Key::Source(source(it))));
                }
            }
        }
    }
}

impl Default for Numbered {
    fn default() -> Self {
        // the empty set has 0
        Self { endpoints: Numbers::after(0), sources: Numbers::after(0) }
    }
}

impl Uses {
    /// The number of a set of endpoints.
    pub(super) fn endpoints(&mut self, of: Vec<Backend>, sets: &mut Numbered) -> u32 {
        if of.is_empty() {
            return EndpointSet::NONE.0;
        }
        let number = sets.endpoints.take(of);
        self.endpoints.push(number);
        number
    }

    /// The numbers of those that count.
    pub(super) fn both(
        &mut self,
        usable: Usable,
        sets: &mut Numbered,
    ) -> (EndpointSet, EndpointSet) {
        let mut number = |endpoints| EndpointSet(self.endpoints(endpoints, sets));
        (number(usable.cluster), number(usable.local))
    }

    /// The number of a set of prefixes.
    pub(super) fn sources(&mut self, of: Vec<Range>, sets: &mut Numbered) -> u32 {
        if of.is_empty() {
            return SourceSet::NONE.0;
        }
        let number = sets.sources.take(of);
        self.sources.push(number);
        number
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Pod(name) => write!(f, "pod {name}"),
        }
    }
}
