//! Who may be behind which Service, by labels: so that of what has changed those Services alone are
//! asked that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Changes;
use crate::service::{EndpointSlice, QualifiedName};
use crate::{Labels, Pod, PodName, Weight, World};

/// What refers to what.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The slices of a Service.
    slices: BTreeMap<QualifiedName, BTreeSet<QualifiedName>>,
    /// The Service of a slice.
    services: BTreeMap<QualifiedName, QualifiedName>,
    /// Pods by each of their labels.
    pods: Labelled<PodName>,
    /// Of the pods that do not have the usual one.
    weights: BTreeMap<PodName, Weight>,
    /// Services by the first of the labels that they ask for.
    asking: Labelled<QualifiedName>,
}

/// Things of namespaces, by their labels.
#[derive(Clone, Debug)]
struct Labelled<K> {
    with: BTreeMap<Label, BTreeSet<K>>,
    labels: BTreeMap<K, Labels>,
}

/// A label of something in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    namespace: String,
    key: String,
    value: String,
}

impl Index {
    /// Takes note of changes, and says which Services they concern.
    pub(super) fn follow(&mut self, world: &World, changes: &Changes) -> BTreeSet<QualifiedName> {
        let mut concerned = changes.services.clone();
        for name in &changes.services {
            self.asking.remove(name, &name.namespace);
            if let Some(service) = world.services.services.get(name) {
                let first = service.selector.iter().take(1);
                let first = first.map(|(key, value)| (key.clone(), value.clone())).collect();
                self.asking.put(name, &name.namespace, first);
            }
        }
        for name in &changes.slices {
            if let Some(service) = self.services.remove(name) {
                if let Some(slices) = self.slices.get_mut(&service) {
                    slices.remove(name);
                    if slices.is_empty() {
                        self.slices.remove(&service);
                    }
                }
                concerned.insert(service);
            }
            if let Some(service) = world.services.slices.get(name).and_then(service_of) {
                self.slices.entry(service.clone()).or_default().insert(name.clone());
                self.services.insert(name.clone(), service.clone());
                concerned.insert(service);
            }
        }
        for name in &changes.pods {
            let before = self.pods.remove(name, &name.namespace);
            let now = world.pods.get(name).map(|pod| &pod.labels);
            let weight = world.pods.get(name).map_or_else(Weight::default, |pod| pod.weight);
            let usual = Weight::default();
            let is_usual = self.weigh(name, weight) == usual && weight == usual;
            for labels in before.iter().chain(now) {
                let asking = self.who_asks_for(world, &name.namespace, labels);
                // slices say who is behind a Service, and pods what they weigh
                concerned.extend(asking.filter(|it| !is_usual || !self.slices.contains_key(it)));
            }
            if let Some(labels) = now {
                self.pods.put(name, &name.namespace, labels.clone());
            }
        }
        concerned
    }

    /// Takes note of what a pod weighs, and says what it did before.
    fn weigh(&mut self, pod: &PodName, weight: Weight) -> Weight {
        let before = match weight == Weight::default() {
            true => self.weights.remove(pod),
            false => self.weights.insert(pod.clone(), weight),
        };
        before.unwrap_or_default()
    }

    /// The slices of a Service, if anybody says who is behind it.
    pub(super) fn slices<'w>(
        &self,
        world: &'w World,
        service: &QualifiedName,
    ) -> Option<Vec<&'w EndpointSlice>> {
        let names = self.slices.get(service)?;
        Some(names.iter().filter_map(|name| world.services.slices.get(name)).collect())
    }

    /// The pods of a namespace that have all of these labels, of which there is one.
    pub(super) fn pods<'w>(
        &self,
        world: &'w World,
        namespace: &str,
        labels: &Labels,
    ) -> Vec<&'w Pod> {
        let with = |(key, value): (&String, &String)| self.pods.with(namespace, key, value);
        let fewest = labels.iter().map(with).min_by_key(|with| with.map_or(0, BTreeSet::len));
        let names = fewest.flatten().into_iter().flatten();
        let pods = names.filter_map(|name| world.pods.get(name));
        pods.filter(|pod| has_all(&pod.labels, labels)).collect()
    }

    /// The Services that ask for such a pod.
    pub(super) fn who_asks_for<'i>(
        &'i self,
        world: &'i World,
        namespace: &'i str,
        labels: &'i Labels,
    ) -> impl Iterator<Item = QualifiedName> + 'i {
        let with = |(key, value): (&String, &String)| self.asking.with(namespace, key, value);
        let services = labels.iter().filter_map(with).flatten();
        let asks = |name: &&QualifiedName| {
            let service = world.services.services.get(*name);
            service.is_some_and(|it| has_all(labels, &it.selector))
        };
        services.filter(asks).cloned()
    }
}

impl<K: Clone + Ord> Labelled<K> {
    /// Puts something in that is not there.
    fn put(&mut self, name: &K, namespace: &str, labels: Labels) {
        for label in Label::all(namespace, &labels) {
            self.with.entry(label).or_default().insert(name.clone());
        }
        self.labels.insert(name.clone(), labels);
    }

    fn with(&self, namespace: &str, key: &str, value: &str) -> Option<&BTreeSet<K>> {
        self.with.get(&Label {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Takes something out, and says which labels it had.
    fn remove(&mut self, name: &K, namespace: &str) -> Option<Labels> {
        let labels = self.labels.remove(name)?;
        for label in Label::all(namespace, &labels) {
            if let Some(names) = self.with.get_mut(&label) {
                names.remove(name);
                if names.is_empty() {
                    self.with.remove(&label);
                }
            }
        }
        Some(labels)
    }
}

impl<K> Default for Labelled<K> {
    fn default() -> Self {
        Self { with: BTreeMap::new(), labels: BTreeMap::new() }
    }
}

impl Label {
    fn all(namespace: &str, labels: &Labels) -> impl Iterator<Item = Self> {
        let of = |(key, value): (&String, &String)| Self {
            namespace: namespace.to_owned(),
            key: key.clone(),
            value: value.clone(),
        };
        labels.iter().map(of)
    }
}

/// The Service that a slice says who is behind; those for names alone are nobody's to serve (S1).
fn service_of(slice: &EndpointSlice) -> Option<QualifiedName> {
    if slice.labels.contains_key(EndpointSlice::HEADLESS_LABEL) {
        return None;
    }
    let service = slice.labels.get(EndpointSlice::SERVICE_LABEL)?;
    Some(QualifiedName::new(slice.name.namespace.clone(), service.clone()))
}

/// Whether all labels are there that are asked for.
pub(super) fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
