//! What differs between two worlds, by name.
//!
//! Owns no objects: whoever is told of changes looks into the world as it is now, and knows itself
//! what it made of the one before. So a change may be named that is none, and none may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::manifest::{Kind, Object};
use crate::{PodName, QualifiedName, World};

/// The objects that are there, are gone, or are others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) pods: BTreeSet<PodName>,
    pub(crate) services: BTreeSet<QualifiedName>,
    pub(crate) slices: BTreeSet<QualifiedName>,
    pub(crate) ranges: BTreeSet<String>,
    pub(crate) pools: BTreeSet<String>,
    pub(crate) policies: BTreeSet<QualifiedName>,
    pub(crate) cluster_policies: BTreeSet<String>,
    /// Whether anything of the Gateway API is another.
    pub(crate) gateways: bool,
}

/// One object that is there now in place of what was, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there.
    Put(Box<Object>),
    /// The one of this kind with this name is gone.
    Remove(Kind, String),
}

impl Changes {
    /// What makes `after` of `before`.
    pub fn between(before: &World, after: &World) -> Self {
        Self {
            nodes: differing(&before.nodes, &after.nodes),
            namespaces: differing(&before.namespaces, &after.namespaces),
            pods: differing(&before.pods, &after.pods),
            services: differing(&before.services.services, &after.services.services),
            slices: differing(&before.services.slices, &after.services.slices),
            ranges: differing(&before.services.ranges, &after.services.ranges),
            pools: differing(&before.services.pools, &after.services.pools),
            policies: differing(&before.policies, &after.policies),
            cluster_policies: differing(&before.cluster_policies, &after.cluster_policies),
            gateways: before.gateways != after.gateways,
        }
    }

    /// Whether policies may mean something else.
    pub(crate) fn concern_policies(&self) -> bool {
        let Self { nodes, namespaces, pods, policies, cluster_policies, .. } = self;
        let are_same = nodes.is_empty() && namespaces.is_empty() && pods.is_empty();
        !(are_same && policies.is_empty() && cluster_policies.is_empty())
    }

    /// Adds others.
    pub(crate) fn extend(&mut self, others: Self) {
        let Self { nodes, namespaces, pods, services, slices, ranges, pools, .. } = others;
        let Self { policies, cluster_policies, gateways, .. } = others;
        self.nodes.extend(nodes);
        self.namespaces.extend(namespaces);
        self.pods.extend(pods);
        self.services.extend(services);
        self.slices.extend(slices);
        self.ranges.extend(ranges);
        self.pools.extend(pools);
        self.policies.extend(policies);
        self.cluster_policies.extend(cluster_policies);
        self.gateways |= gateways;
    }

    /// Makes a change of a world, and remembers it.
    pub(crate) fn make(&mut self, world: &mut World, change: Change) {
        match change {
            Change::Put(object) => self.put(world, *object),
            Change::Remove(kind, name) => self.remove(world, kind, &name),
        }
    }

    fn put(&mut self, world: &mut World, object: Object) {
        let services = &mut world.services;
        let filters = &mut world.filters;
        match object {
            // who keeps the chain looks at the world's itself
            Object::Filter(it) => {
                put(&mut filters.filters, it.name.clone(), *it);
            }
            Object::FilterChain(it) => {
                put(&mut filters.chains, it.name.clone(), it);
            }
            Object::Modules(it) if it.modules.is_empty() => drop(filters.modules.remove(&it.name)),
            Object::Modules(it) => {
                put(&mut filters.modules, it.name.clone(), it);
            }
            Object::Node(it) => note(&mut world.nodes, it.name.clone(), it, &mut self.nodes),
            Object::Namespace(it) => {
                note(&mut world.namespaces, it.name.clone(), it, &mut self.namespaces);
            }
            Object::Pod(it) => note(&mut world.pods, it.name.clone(), it, &mut self.pods),
            Object::Service(it) => {
                note(&mut services.services, it.name.clone(), it, &mut self.services);
            }
            Object::EndpointSlice(it) => {
                note(&mut services.slices, it.name.clone(), it, &mut self.slices);
            }
            Object::ServiceRange(it) => {
                note(&mut services.ranges, it.name.clone(), it, &mut self.ranges);
            }
            Object::AddressPool(it) => {
                note(&mut services.pools, it.name.clone(), it, &mut self.pools);
            }
            Object::NetworkPolicy(it) => {
                note(&mut world.policies, it.name.clone(), it, &mut self.policies);
            }
            Object::ClusterNetworkPolicy(it) => {
                let changed = &mut self.cluster_policies;
                note(&mut world.cluster_policies, it.name.clone(), it, changed);
            }
            it @ (Object::GatewayClass(_)
            | Object::Gateway(_)
            | Object::Route(_)
            | Object::ReferenceGrant(_)) => self.gateways |= world.gateways.put(it),
        }
    }

    fn remove(&mut self, world: &mut World, kind: Kind, name: &str) {
        let services = &mut world.services;
        let filters = &mut world.filters;
        match kind {
            Kind::Filter => {
                remove(&mut filters.filters, name);
            }
            Kind::FilterChain => {
                remove(&mut filters.chains, name);
            }
            Kind::Modules => {
                remove(&mut filters.modules, name);
            }
            Kind::Node => forget(&mut world.nodes, name, &mut self.nodes),
            Kind::Namespace => forget(&mut world.namespaces, name, &mut self.namespaces),
            Kind::Pod => forget(&mut world.pods, name, &mut self.pods),
            Kind::Service => forget(&mut services.services, name, &mut self.services),
            Kind::EndpointSlice => forget(&mut services.slices, name, &mut self.slices),
            Kind::ServiceRange => forget(&mut services.ranges, name, &mut self.ranges),
            Kind::AddressPool => forget(&mut services.pools, name, &mut self.pools),
            Kind::NetworkPolicy => forget(&mut world.policies, name, &mut self.policies),
            Kind::ClusterNetworkPolicy => {
                forget(&mut world.cluster_policies, name, &mut self.cluster_policies);
            }
            Kind::GatewayClass
            | Kind::Gateway
            | Kind::TcpRoute
            | Kind::UdpRoute
            | Kind::ReferenceGrant => self.gateways |= world.gateways.remove(kind, name),
        }
    }
}

/// The keys of what is in one alone, or is another in each.
fn differing<K: Clone + Ord, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeSet<K> {
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    changed.map(|(key, _)| key).chain(gone).cloned().collect()
}

/// Puts something in, and says whether that changes anything.
pub(crate) fn put<K: Ord, V: PartialEq>(there: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let is_other = there.get(&key) != Some(&value);
    if is_other {
        there.insert(key, value);
    }
    is_other
}

/// Takes what is called so out, and says whether it was there.
pub(crate) fn remove<K: FromStr + Ord, V>(there: &mut BTreeMap<K, V>, name: &str) -> bool {
    // what nobody can be called is not there
    name.parse().is_ok_and(|key| there.remove(&key).is_some())
}

/// Puts something in, and takes note of its key if that changes anything.
fn note<K: Clone + Ord, V: PartialEq>(
    there: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    changed: &mut BTreeSet<K>,
) {
    if put(there, key.clone(), value) {
        changed.insert(key);
    }
}

/// Takes what is called so out, and takes note of its key if it was there.
fn forget<K: FromStr + Ord, V>(there: &mut BTreeMap<K, V>, name: &str, changed: &mut BTreeSet<K>) {
    if remove(there, name) {
        changed.extend(name.parse());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;

    fn node(name: &str, address: &str) -> Change {
        let addresses = vec![address.parse().unwrap()];
        Change::Put(Box::new(Object::Node(Node {
            name: name.into(),
            addresses,
            ..Node::default()
        })))
    }

    #[test]
    fn what_is_put_in_as_it_is_there_is_no_change() {
        let (mut world, mut changes) = (World::default(), Changes::default());
        changes.make(&mut world, node("a", "192.0.2.1"));
        let first = std::mem::take(&mut changes);
        assert_eq!(first, Changes::between(&World::default(), &world));
        assert_eq!(first.nodes, ["a".to_owned()].into());
        changes.make(&mut world, node("a", "192.0.2.1"));
        changes.make(&mut world, Change::Remove(Kind::Node, "b".into()));
        changes.make(&mut world, Change::Remove(Kind::Pod, "a/b/c".into()));
        assert_eq!(changes, Changes::default());
    }

    #[test]
    fn objects_that_come_change_and_go_are_named() {
        let (mut before, mut changes) = (World::default(), Changes::default());
        for name in ["a", "b", "c"] {
            changes.make(&mut before, node(name, "192.0.2.1"));
        }
        let (mut after, mut changes) = (before.clone(), Changes::default());
        changes.make(&mut after, node("b", "192.0.2.2"));
        changes.make(&mut after, node("d", "192.0.2.3"));
        changes.make(&mut after, Change::Remove(Kind::Node, "c".into()));
        assert_eq!(changes.nodes, ["b", "c", "d"].map(str::to_owned).into());
        assert_eq!(changes, Changes::between(&before, &after));
    }
}
