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
use super::gateways::{self, Reached};
use super::host_ports::Mapped;
use super::index::Index;
use super::node_ports::NodePortAddresses;
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
    /// Which of the node's addresses had node ports last.
    node_ports: NodePortAddresses,
    pub(super) sets: Numbered,
    compiled: BTreeMap<Claimant, Compiled>,
    /// Who would be reached at a place. The first of them is.
    claims: BTreeMap<Frontend, Vec<(Claimant, Service)>>,
    /// Containers whose runtime wants ports of the node.
    mapped: BTreeMap<String, Mapped>,
    ranges: BTreeSet<Range>,
    /// The addresses that the node answers its neighbours for, and for how many Services.
    announced: BTreeMap<IpAddr, usize>,
    gateways: Reached,
    /// What of pods, containers and Gateways does not count, and why.
    complaints: BTreeMap<Claimant, Vec<String>>,
}

/// Who is reached somewhere: Services before all others, and pods before what runtimes want, which say
/// the same of most pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claimant {
    Service(QualifiedName),
    Gateway(QualifiedName),
    Pod(PodName),
    Container(String),
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
        mapped: &BTreeMap<String, Mapped>,
        changes: &Changes,
        draft: &mut Draft,
        publication: &mut Publication,
    ) {
        let mut concerned = self.remap(mapped);
        concerned.extend(self.concerned(world, this, changes));
        let backing = Backing::new(world, this, &self.index, self.nodes.agents());
        let (sets, gateways) = (&mut self.sets, &self.gateways);
        let compiled: Vec<_> = concerned
            .into_iter()
            .map(|claimant| {
                let compiled = match &claimant {
                    Claimant::Service(name) => {
                        let service = world.services.services.get(name);
                        service.map(|it| services::compile(it, &backing, sets))
                    }
                    Claimant::Gateway(name) => {
                        let gateway = gateways.get(name);
                        gateway.map(|it| gateways::compile(name, it, world, &backing, sets))
                    }
                    Claimant::Pod(name) => {
                        let pod = world.pods.get(name);
                        pod.and_then(|it| host_ports::compile(it, &backing, sets))
                    }
                    Claimant::Container(id) => {
                        let compile = |it| host_ports::compile_mapped(id, it, &backing, sets);
                        mapped.get(id).and_then(compile)
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

    /// What of the ports that a container's runtime wants does not lead there, and why.
    pub(super) fn unmapped(&self, container: &str) -> Vec<String> {
        let claimant = Claimant::Container(container.to_owned());
        let (_, mut problems) = self.standing(&claimant);
        let rows = self.compiled.get(&claimant).map_or(&[][..], |it| &it.rows);
        for port in self.mapped.get(container).iter().flat_map(|it| &it.ports) {
            let Some(host) = port.host else { continue };
            let leads = rows.iter().any(|(frontend, _)| {
                frontend.port == host.port && frontend.protocol == services::protocol(port.protocol)
            });
            if !leads {
                let place = host.address.map_or_else(|| "address".to_owned(), |it| it.to_string());
                let (port, protocol) = (host.port, port.protocol);
                problems.push(format!("port {port}/{protocol}: the node has no {place} for it"));
            }
        }
        problems
    }

    /// Takes note of which containers want ports, and says for which that is news.
    fn remap(&mut self, mapped: &BTreeMap<String, Mapped>) -> BTreeSet<Claimant> {
        let known = self.mapped.keys().chain(mapped.keys());
        let is_other = |id: &&String| self.mapped.get(*id) != mapped.get(*id);
        let others = known.filter(is_other).cloned().map(Claimant::Container).collect();
        self.mapped.clone_from(mapped);
        others
    }

    /// Those that have to be compiled anew.
    fn concerned(
        &mut self,
        world: &World,
        this: ThisNode<'_>,
        changes: &Changes,
    ) -> BTreeSet<Claimant> {
        let services = self.index.follow(world, changes);
        let gateways = self.gateways.follow(world, changes, &services);
        let gateways = gateways.into_iter().map(Claimant::Gateway);
        let services = services.into_iter().map(Claimant::Service);
        let pods = changes.pods.iter().cloned().map(Claimant::Pod);
        let mut concerned: BTreeSet<Claimant> = services.chain(gateways).chain(pods).collect();
        let services = world.services.services.values();
        let gateways = self.gateways.names().cloned().map(Claimant::Gateway);
        let Concerned { everybody, announced, moved } =
            self.nodes.follow(world, this.name, changes);
        let are_elsewhere = self.node_ports != *this.ports;
        if are_elsewhere {
            self.node_ports.clone_from(this.ports);
        }
        if everybody || are_elsewhere {
            let services = services.map(|it| Claimant::Service(it.name.clone()));
            let pods = world.pods.keys().cloned().map(Claimant::Pod);
            let containers = self.mapped.keys().cloned().map(Claimant::Container);
            concerned.extend(services.chain(gateways).chain(pods).chain(containers));
            return concerned;
        }
        // nodes and pools say who answers for which address
        if announced || !changes.pools.is_empty() {
            let balanced = services.filter(|it| !it.load_balancer.is_empty());
            let balanced = balanced.map(|it| Claimant::Service(it.name.clone()));
            concerned.extend(balanced.chain(gateways));
        }
        // pods in a node's network have its addresses (S22)
        let is_moved = |pod: &&Pod| {
            pod.network == PodNetwork::Host
                && pod.node.as_ref().is_some_and(|node| moved.contains(node))
        };
        let pods = world.pods.values().filter(|_| !moved.is_empty()).filter(is_moved);
        let asking = |Pod { name, labels, .. }: &Pod| {
            self.index.who_asks_for(world, &name.namespace, labels).collect::<Vec<_>>()
        };
        let asking: BTreeSet<_> = pods.flat_map(asking).collect();
        concerned.extend(self.gateways.before(&asking).map(Claimant::Gateway));
        concerned.extend(asking.into_iter().map(Claimant::Service));
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

    /// Where somebody is reached, and where not, and why.
    fn standing(&self, claimant: &Claimant) -> (Vec<Frontend>, Vec<String>) {
        let compiled = self.compiled.get(claimant);
        let mapped = match claimant {
            Claimant::Container(id) => self.mapped.get(id).and_then(|it| it.pod.clone()),
            _ => None,
        };
        let same = mapped.map(Claimant::Pod);
        let (mut held, mut problems) = (Vec::new(), Vec::new());
        let rows = compiled.map_or(&[][..], |it| &it.rows).iter();
        // the node's processes mean others than those that stand in
        for (frontend, service) in rows.filter(|(_, it)| it.kind != FrontendKind::OwnNode) {
            let holder = self.claims.get(frontend).and_then(|claims| claims.first());
            let (who, what) = holder.expect("who is compiled claims what it has rows for");
            let is_same = who == claimant || Some(who) == same.as_ref();
            match is_same && what == service && !held.contains(frontend) {
                true => held.push(*frontend),
                false => problems.push(format!("{frontend} is {who}'s already")),
            }
        }
        (held, problems)
    }

    /// Says what has become of somebody.
    fn speak_of(&mut self, claimant: Claimant, publication: &mut Publication) {
        let (held, problems) = self.standing(&claimant);
        let compiled = self.compiled.get(&claimant);
        match claimant {
            Claimant::Service(name) => {
                let summary = compiled.map(|it| {
                    let mut summary = ServiceSummary { frontends: held, ..it.summary.clone() };
                    summary.problems.extend(problems);
                    summary
                });
                publication.services.insert(name, summary);
            }
            other if problems.is_empty() => drop(self.complaints.remove(&other)),
            other => {
                let complaint = |problem| format!("{other}: {problem}");
                let complaints = problems.into_iter().map(complaint).collect();
                self.complaints.insert(other, complaints);
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
            Self::Gateway(name) => write!(f, "Gateway {name}"),
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Container(id) => write!(f, "container {id}"),
        }
    }
}
