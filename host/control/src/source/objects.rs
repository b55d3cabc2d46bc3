//! Objects that come one by one, as an API server tells of them.
//!
//! Owns what was told last of each, and what of it nobody was told yet. One that cannot be read is
//! complained of, and does not count: neither as it is, nor as it was before. A policy that cannot
//! be read is closed.

use std::collections::{BTreeMap, BTreeSet};

use serde_norway::Value;

use crate::changes::{Change, Changes};
use crate::manifest::{FieldError, FieldPath, Kind, Object, Rough};
use crate::source::assembly::{Assembly, unseated};
use crate::source::{Complaint, Fault};
use crate::{Namespace, Pod, World};

/// The objects that there are.
#[derive(Debug, Default)]
pub struct Objects {
    known: BTreeMap<Key, (Option<Object>, Option<FieldError>)>,
    /// Those that may be others than were told.
    touched: BTreeSet<Key>,
    /// What was told, unless it was nothing yet.
    told: Option<Told>,
}

/// What there is to tell.
#[derive(Debug)]
pub enum News {
    /// All there is.
    World(Box<World>),
    /// What is to be changed of the world that was told before.
    Changes(Vec<Change>),
}

impl News {
    /// Makes of the world that was told before what it is now, and remembers what is another.
    pub(crate) fn make(self, world: &mut World, changes: &mut Changes) {
        match self {
            Self::World(next) => {
                changes.extend(Changes::between(world, &next));
                *world = *next;
            }
            Self::Changes(news) => news.into_iter().for_each(|it| changes.make(world, it)),
        }
    }
}

/// By kind and name.
type Key = (Kind, String);

/// What others know.
#[derive(Debug, Default)]
struct Told {
    nodes: BTreeSet<String>,
    /// By object.
    complaints: BTreeMap<Option<String>, Complaint>,
}

impl Objects {
    /// Of a kind there are these, and no others.
    pub fn replace(&mut self, kind: Kind, objects: impl IntoIterator<Item = Value>) {
        let of_kind = self.known.keys().filter(|(of, _)| *of == kind);
        self.touched.extend(of_kind.cloned());
        self.known.retain(|(of, _), _| *of != kind);
        objects.into_iter().for_each(|object| self.put(kind, object));
    }

    /// There is this one, whatever it was before.
    pub fn put(&mut self, kind: Kind, object: Value) {
        let key = key(kind, &object);
        self.touched.insert(key.clone());
        self.known.insert(key, kind.read_or_close(object));
    }

    /// There is none like this any more.
    pub fn remove(&mut self, kind: Kind, object: &Value) {
        let key = key(kind, object);
        self.known.remove(&key);
        self.touched.insert(key);
    }

    /// What there is to tell since the last time, and all that does not count.
    pub fn news(&mut self) -> (News, Vec<Complaint>) {
        let touched = std::mem::take(&mut self.touched);
        // others stand on nodes
        let is_about_nodes = touched.iter().any(|(kind, _)| *kind == Kind::Node);
        let news = match self.told.take().filter(|_| !is_about_nodes) {
            Some(told) => News::Changes(self.changes(touched, told)),
            None => {
                let (world, complaints) = self.world();
                let complaints = complaints.into_iter().map(|it| (it.object.clone(), it)).collect();
                let nodes = world.nodes.keys().cloned().collect();
                self.told = Some(Told { nodes, complaints });
                News::World(Box::new(world))
            }
        };
        let told = self.told.as_ref().expect("it was told just now");
        (news, told.complaints.values().cloned().collect())
    }

    /// The world of these objects, and what of them does not count.
    fn world(&self) -> (World, Vec<Complaint>) {
        let mut assembly = Assembly::default();
        for (key, (object, error)) in &self.known {
            error.iter().for_each(|error| assembly.complain(complaint(key, error)));
            if let Some(object) = object {
                assembly.keep(object.clone(), None);
            }
        }
        assembly.finish()
    }

    fn changes(&mut self, touched: BTreeSet<Key>, mut told: Told) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut namespaces = BTreeSet::new();
        for key in touched {
            let (object, error) = self.known.get(&key).map_or((None, None), |(object, error)| {
                (object.as_ref(), error.as_ref().map(|error| complaint(&key, error)))
            });
            let refused = match object {
                Some(Object::Pod(pod)) => unseated(pod, &told.nodes),
                _ => None,
            };
            let is_refused = refused.is_some();
            told.complaints.remove(&Some(title(&key)));
            let refused = refused.map(|error| complaint(&key, &error));
            told.complaints.extend(error.or(refused).map(|it| (it.object.clone(), it)));
            match &key {
                (Kind::Namespace, name) => drop(namespaces.insert(name.clone())),
                (kind, name) => {
                    if *kind == Kind::Pod {
                        let namespace = name.split_once('/').map(|(namespace, _)| namespace);
                        namespaces.extend(namespace.map(str::to_owned));
                    }
                    changes.push(match object.filter(|_| !is_refused) {
                        Some(object) => Change::Put(Box::new(object.clone())),
                        None => Change::Remove(*kind, name.clone()),
                    });
                }
            }
        }
        changes.extend(namespaces.into_iter().map(|name| self.namespace(name, &told.nodes)));
        self.told = Some(told);
        changes
    }

    /// A namespace, as it is or as its pods have it.
    fn namespace(&self, name: String, nodes: &BTreeSet<String>) -> Change {
        let key = (Kind::Namespace, name);
        if let Some((Some(object), _)) = self.known.get(&key) {
            return Change::Put(Box::new(object.clone()));
        }
        let (_, name) = key;
        let prefix = format!("{name}/");
        let pods = self.known.range((Kind::Pod, prefix.clone())..);
        let pods = pods
            .take_while(|((kind, name), _)| *kind == Kind::Pod && name.starts_with(&prefix))
            .filter_map(|(_, (object, _))| object.as_ref());
        let is_seated = |pod: &Pod| unseated(pod, nodes).is_none();
        let is_there = |object: &Object| matches!(object, Object::Pod(pod) if is_seated(pod));
        match pods.into_iter().any(is_there) {
            true => Change::Put(Box::new(Object::Namespace(Namespace::named(&name)))),
            false => Change::Remove(Kind::Namespace, name),
        }
    }
}

fn complaint(key: &Key, FieldError { field, reason }: &FieldError) -> Complaint {
    let fault = Fault::Field { field: FieldPath::clone(field), reason: reason.clone() };
    Complaint { place: None, object: Some(title(key)), fault }
}

/// What an object is called. In a list it does not say what kind it is of.
fn key(kind: Kind, object: &Value) -> Key {
    (kind, Rough::of(object).name().unwrap_or_default())
}

fn title((kind, name): &Key) -> String {
    format!("{} {name}", kind.name())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::ClusterIps;

    fn object(text: &str) -> Value {
        serde_norway::from_str(text).unwrap()
    }

    fn node(name: &str, prefix: &str) -> Value {
        object(&format!("{{metadata: {{name: {name}}}, spec: {{podCIDRs: [{prefix}]}}}}"))
    }

    fn pod(name: &str, node: &str) -> Value {
        object(&format!(
            "{{metadata: {{namespace: shop, name: {name}}}, \
             spec: {{nodeName: {node}, containers: [{{name: a}}]}}}}"
        ))
    }

    /// Objects, and the world as whoever is told of them has it.
    #[derive(Default)]
    struct Followed {
        objects: Objects,
        world: World,
    }

    impl Followed {
        fn read(&mut self) -> (&World, Vec<Complaint>) {
            let (news, complaints) = self.objects.news();
            news.make(&mut self.world, &mut Changes::default());
            (&self.world, complaints)
        }
    }

    fn names(world: &World) -> Vec<String> {
        let nodes = world.nodes.keys().cloned();
        nodes.chain(world.pods.keys().map(ToString::to_string)).collect()
    }

    #[test]
    fn a_world_is_of_the_objects_that_were_told_of_last() {
        let mut followed = Followed::default();
        followed.objects.replace(Kind::Node, [node("a", "10.1.0.0/24"), node("b", "10.2.0.0/24")]);
        followed.objects.put(Kind::Pod, pod("web", "a"));
        followed.objects.put(Kind::Pod, pod("web", "b"));
        followed.objects.put(Kind::Pod, pod("db", "a"));
        let (world, complaints) = followed.read();
        assert_eq!(complaints, []);
        assert_eq!(names(world), ["a", "b", "shop/db", "shop/web"]);
        assert_eq!(world.pods.values().next_back().unwrap().node.as_deref(), Some("b"));

        followed.objects.remove(Kind::Pod, &pod("db", "a"));
        followed.objects.replace(Kind::Node, [node("b", "10.2.0.0/24")]);
        assert_eq!(names(followed.read().0), ["b", "shop/web"]);
    }

    #[test]
    fn one_that_cannot_be_read_is_named_and_does_not_count_until_it_can() {
        let mut followed = Followed::default();
        followed.objects.put(Kind::Node, node("a", "10.1.0.0/24"));
        followed.objects.put(Kind::Node, node("a", "10.1.0.1/24"));
        let (world, complaints) = followed.read();
        assert_eq!(names(world), [""; 0]);
        let complaint = complaints[0].to_string();
        assert!(
            complaint.starts_with("Node a: spec.podCIDRs[0]: `10.1.0.1/24` has"),
            "{complaint}"
        );
        followed.objects.put(Kind::Node, node("a", "10.1.0.0/24"));
        assert_eq!(followed.read().1, []);
    }

    #[test]
    fn what_a_service_does_not_state_the_api_server_has_yet_to_give() {
        let mut followed = Followed::default();
        let range = "{metadata: {name: all}, spec: {cidrs: [10.96.0.0/16]}}";
        followed.objects.put(Kind::ServiceRange, object(range));
        let service = "{metadata: {namespace: shop, name: web}, spec: {ports: [{port: 80}]}}";
        followed.objects.put(Kind::Service, object(service));
        let (world, _) = followed.read();
        let [service] = &Vec::from_iter(world.services.services.values())[..] else { panic!() };
        assert_eq!(service.cluster_ips, ClusterIps::Unallocated);
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_named_and_closed() {
        let mut followed = Followed::default();
        let policy = "{metadata: {namespace: shop, name: p}, spec: {podSelector: {}, ingress: 7}}";
        followed.objects.put(Kind::NetworkPolicy, object(policy));
        let (world, complaints) = followed.read();
        assert_eq!((world.policies.len(), complaints.len()), (1, 1));
    }

    #[test]
    fn objects_that_do_not_fit_together_are_named_without_a_file() {
        let mut followed = Followed::default();
        followed.objects.put(Kind::Pod, pod("web", "nowhere"));
        let (world, complaints) = followed.read();
        assert_eq!(names(world), [""; 0]);
        let complaint = complaints[0].to_string();
        assert_eq!(complaint, "Pod shop/web: spec.nodeName: there is no node `nowhere`");
    }

    proptest! {
        /// Whatever came before, and in whichever pieces it is told.
        #[test]
        fn who_is_told_of_changes_knows_what_somebody_new_is_told(
            steps in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 0..4usize, 0..3usize, 0..3usize), 1..5), 1..8),
        ) {
            let mut followed = Followed::default();
            let (names, nodes) = (["web", "db", "cache"], ["a", "b", "nowhere"]);
            for step in steps {
                for (is_there, what, name, more) in step {
                    let (kind, object) = match what {
                        0 => (Kind::Pod, pod(names[name], nodes[more])),
                        // not all are prefixes, and some overlap
                        1 => (Kind::Node, node(nodes[name], ["10.1.0.0/24", "10.1.0.1/24", "10.2.0.0/16"][more])),
                        2 => (Kind::Namespace, object(&format!("{{metadata: {{name: {}, labels: {{a: b{more}}}}}}}", ["shop", "other", "x"][name]))),
                        _ => (Kind::Service, object(&format!(
                            "{{metadata: {{namespace: shop, name: {}}}, spec: {{ports: [{{port: {more}}}]}}}}", names[name]))),
                    };
                    match is_there {
                        true => followed.objects.put(kind, object),
                        false => followed.objects.remove(kind, &object),
                    }
                }
                let (world, mut complaints) = followed.read();
                let world = world.clone();
                let (whole, mut all) = followed.objects.world();
                prop_assert_eq!(&world, &whole);
                for complaints in [&mut complaints, &mut all] {
                    complaints.sort_by_key(ToString::to_string);
                }
                prop_assert_eq!(complaints, all);
            }
        }
    }
}
