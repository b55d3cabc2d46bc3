//! Objects become a world.
//!
//! Owns what no object can know of itself: that there is another of the same name, that prefixes
//! of two nodes overlap, that a pod's node is not there. Of two that cannot both count, the first
//! by file and line does for names, and the first by name for prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_norway::Value;

use crate::manifest::{FieldError, FieldPath, Kind, Object, Rough};
use crate::source::document::Document;
use crate::source::{Complaint, Fault, Place};
use crate::{Namespace, Node, Pod, World};

/// A world in the making.
#[derive(Default)]
pub(super) struct Assembly {
    world: World,
    /// Where each object was read, if that was in a file.
    origins: BTreeMap<(Kind, String), Option<Origin>>,
    complaints: Vec<Complaint>,
}

/// Where an object was read.
pub(super) struct Origin {
    /// A `List` has many objects.
    document: Rc<Document>,
    /// Where in the document it is: in a `List` not at the root.
    path: FieldPath,
}

impl Origin {
    fn place(&self, field: &FieldPath) -> Place {
        self.document.place(&self.path.join(field))
    }
}

impl Assembly {
    pub(super) fn complain(&mut self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// Adds the objects of a document.
    pub(super) fn add(&mut self, document: Document) {
        match document.parse() {
            Ok(Value::Null) => {}
            Ok(value) => self.add_value(value, &Rc::new(document)),
            Err((place, reason)) => {
                let fault = Fault::Syntax { reason };
                self.complain(Complaint { place: Some(place), object: None, fault });
            }
        }
    }

    /// The world, and what does not count of what was added.
    pub(super) fn finish(mut self) -> (World, Vec<Complaint>) {
        self.part_nodes();
        self.seat_pods();
        for pod in self.world.pods.keys() {
            let name = &pod.namespace;
            let namespaces = &mut self.world.namespaces;
            namespaces.entry(name.clone()).or_insert_with(|| Namespace::named(name));
        }
        self.complaints.sort_by(|a, b| a.place.cmp(&b.place));
        (self.world, self.complaints)
    }

    fn add_value(&mut self, mut value: Value, document: &Rc<Document>) {
        let rough = Rough::of(&value);
        if (rough.api_version, rough.kind) != (Some("v1"), Some("List")) {
            return self.add_object(value, document, FieldPath::root());
        }
        if let Some(Value::Sequence(items)) = value.get_mut("items") {
            for (index, item) in std::mem::take(items).into_iter().enumerate() {
                self.add_object(item, document, FieldPath::root().key("items").index(index));
            }
        }
    }

    fn add_object(&mut self, value: Value, document: &Rc<Document>, path: FieldPath) {
        let origin = Origin { document: Rc::clone(document), path };
        let rough = Rough::of(&value);
        let title = rough.title();
        let complaint = |field: &FieldPath, fault| Complaint {
            place: Some(origin.place(field)),
            object: title.clone(),
            fault,
        };
        let (Some(api_version), Some(kind)) = (rough.api_version, rough.kind) else {
            return self.complain(complaint(&FieldPath::root(), Fault::NoObject));
        };
        let Some(kind) = Kind::find(api_version, kind) else {
            let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
            let fault = Fault::OtherKind { api_version, kind };
            return self.complain(complaint(&FieldPath::root(), fault));
        };
        let (object, error) = kind.read_or_close(value);
        if let Some(FieldError { field, reason }) = error {
            self.complain(complaint(&field.clone(), Fault::Field { field, reason }));
        }
        if let Some(object) = object {
            self.keep(object, Some(origin));
        }
    }

    /// Adds an object; `origin` is where it was read, if that was in a file.
    pub(super) fn keep(&mut self, object: Object, origin: Option<Origin>) {
        let key = (object.kind(), object.name());
        if let Some(first) = self.origins.get(&key) {
            let root = |origin: &Origin| origin.place(&FieldPath::root());
            let fault = Fault::Duplicate { first: first.as_ref().map(root) };
            let (place, object) = (origin.as_ref().map(root), Some(title(&key)));
            return self.complain(Complaint { place, object, fault });
        }
        self.origins.insert(key, origin);
        match object {
            Object::Node(node) => drop(self.world.nodes.insert(node.name.clone(), node)),
            Object::Namespace(namespace) => {
                self.world.namespaces.insert(namespace.name.clone(), namespace);
            }
            Object::Pod(pod) => drop(self.world.pods.insert(pod.name.clone(), pod)),
            Object::Service(service) => {
                self.world.services.services.insert(service.name.clone(), service);
            }
            Object::EndpointSlice(slice) => {
                self.world.services.slices.insert(slice.name.clone(), slice);
            }
            Object::ServiceRange(range) => {
                self.world.services.ranges.insert(range.name.clone(), range);
            }
            Object::AddressPool(pool) => {
                self.world.services.pools.insert(pool.name.clone(), pool);
            }
            Object::NetworkPolicy(policy) => {
                self.world.policies.insert(policy.name.clone(), policy);
            }
            Object::ClusterNetworkPolicy(policy) => {
                self.world.cluster_policies.insert(policy.name.clone(), policy);
            }
            Object::Filter(filter) => {
                self.world.filters.filters.insert(filter.name.clone(), *filter);
            }
            Object::FilterChain(chain) => {
                self.world.filters.chains.insert(chain.name.clone(), chain);
            }
            it @ (Object::GatewayClass(_)
            | Object::Gateway(_)
            | Object::Route(_)
            | Object::ReferenceGrant(_)) => {
                self.world.gateways.put(it);
            }
            Object::Modules(map) => {
                // one without any is of no concern
                if !map.modules.is_empty() {
                    self.world.filters.modules.insert(map.name.clone(), map);
                }
            }
        }
    }

    /// No two nodes have pods of the same address.
    fn part_nodes(&mut self) {
        let mut apart: BTreeMap<String, Node> = BTreeMap::new();
        for (name, node) in std::mem::take(&mut self.world.nodes) {
            match overlap(&node, apart.values()) {
                Some((index, reason)) => {
                    let field = FieldPath::root().key("spec").key("podCIDRs").index(index);
                    self.turn_away((Kind::Node, name), field, reason);
                }
                None => drop(apart.insert(name, node)),
            }
        }
        self.world.nodes = apart;
    }

    /// A pod is on a node that is there, or on none yet.
    fn seat_pods(&mut self) {
        let nodes = self.world.nodes.keys().cloned().collect();
        for (name, pod) in std::mem::take(&mut self.world.pods) {
            match unseated(&pod, &nodes) {
                Some(FieldError { field, reason }) => {
                    self.turn_away((Kind::Pod, name.to_string()), field, reason);
                }
                None => drop(self.world.pods.insert(name, pod)),
            }
        }
    }

    fn turn_away(&mut self, key: (Kind, String), field: FieldPath, reason: String) {
        let place = self.origins[&key].as_ref().map(|origin| origin.place(&field));
        let fault = Fault::Field { field, reason };
        self.complain(Complaint { place, object: Some(title(&key)), fault });
    }
}

/// Why a pod does not count where there are these nodes.
pub(super) fn unseated(pod: &Pod, nodes: &BTreeSet<String>) -> Option<FieldError> {
    let node = pod.node.as_ref().filter(|node| !nodes.contains(*node))?;
    let field = FieldPath::root().key("spec").key("nodeName");
    Some(FieldError { field, reason: format!("there is no node `{node}`") })
}

/// The first prefix of a node that another's overlaps, and what is to be said of it.
fn overlap<'n>(
    node: &Node,
    others: impl Iterator<Item = &'n Node> + Clone,
) -> Option<(usize, String)> {
    let mut prefixes = node.pod_cidrs.iter().enumerate();
    prefixes.find_map(|(index, prefix)| {
        let overlaps = |other: &&Node| {
            let theirs = &mut other.pod_cidrs.iter();
            theirs.any(|it| it.contains(prefix.ip()) || prefix.contains(it.ip()))
        };
        let other = &others.clone().find(overlaps)?.name;
        Some((index, format!("`{prefix}` overlaps with a prefix of node `{other}`")))
    })
}

fn title((kind, name): &(Kind, String)) -> String {
    format!("{} {name}", kind.name())
}
