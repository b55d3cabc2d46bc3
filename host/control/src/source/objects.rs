//! Objects that come one by one, as an API server tells of them.
//!
//! Owns what was told last of each. One that cannot be read is complained of, and does not count:
//! neither as it is, nor as it was before. A policy that cannot be read is closed.

use std::collections::BTreeMap;

use serde_norway::Value;

use crate::World;
use crate::manifest::{FieldError, Kind, Object, Rough};
use crate::source::assembly::Assembly;
use crate::source::{Complaint, Fault};

/// The objects that there are.
#[derive(Debug, Default)]
pub struct Objects {
    /// By kind and title.
    known: BTreeMap<(Kind, String), (Option<Object>, Option<FieldError>)>,
}

impl Objects {
    /// Of a kind there are these, and no others.
    pub fn replace(&mut self, kind: Kind, objects: impl IntoIterator<Item = Value>) {
        self.known.retain(|(of, _), _| *of != kind);
        objects.into_iter().for_each(|object| self.put(kind, object));
    }

    /// There is this one, whatever it was before.
    pub fn put(&mut self, kind: Kind, object: Value) {
        let key = (kind, title(kind, &object));
        self.known.insert(key, kind.read_or_close(object));
    }

    /// There is none like this any more.
    pub fn remove(&mut self, kind: Kind, object: &Value) {
        self.known.remove(&(kind, title(kind, object)));
    }

    /// The world of these objects, and what of them does not count.
    pub fn world(&self) -> (World, Vec<Complaint>) {
        let mut assembly = Assembly::default();
        for ((_, title), (object, error)) in &self.known {
            if let Some(FieldError { field, reason }) = error {
                assembly.complain(Complaint {
                    place: None,
                    object: Some(title.clone()),
                    fault: Fault::Field { field: field.clone(), reason: reason.clone() },
                });
            }
            if let Some(object) = object {
                assembly.keep(object.clone(), None);
            }
        }
        assembly.finish()
    }
}

/// What an object is called. In a list it does not say what kind it is of.
fn title(kind: Kind, object: &Value) -> String {
    let name = Rough::of(object).name();
    format!("{} {}", kind.name(), name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
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

    fn names(world: &World) -> Vec<String> {
        let nodes = world.nodes.keys().cloned();
        nodes.chain(world.pods.keys().map(ToString::to_string)).collect()
    }

    #[test]
    fn a_world_is_of_the_objects_that_were_told_of_last() {
        let mut objects = Objects::default();
        objects.replace(Kind::Node, [node("a", "10.1.0.0/24"), node("b", "10.2.0.0/24")]);
        objects.put(Kind::Pod, pod("web", "a"));
        objects.put(Kind::Pod, pod("web", "b"));
        objects.put(Kind::Pod, pod("db", "a"));
        let (world, complaints) = objects.world();
        assert_eq!(complaints, []);
        assert_eq!(names(&world), ["a", "b", "shop/db", "shop/web"]);
        assert_eq!(world.pods.values().next_back().unwrap().node.as_deref(), Some("b"));

        objects.remove(Kind::Pod, &pod("db", "a"));
        objects.replace(Kind::Node, [node("b", "10.2.0.0/24")]);
        assert_eq!(names(&objects.world().0), ["b", "shop/web"]);
    }

    #[test]
    fn one_that_cannot_be_read_is_named_and_does_not_count_until_it_can() {
        let mut objects = Objects::default();
        objects.put(Kind::Node, node("a", "10.1.0.0/24"));
        objects.put(Kind::Node, node("a", "10.1.0.1/24"));
        let (world, complaints) = objects.world();
        assert_eq!(names(&world), [""; 0]);
        let complaint = complaints[0].to_string();
        assert!(
            complaint.starts_with("Node a: spec.podCIDRs[0]: `10.1.0.1/24` has"),
            "{complaint}"
        );
        objects.put(Kind::Node, node("a", "10.1.0.0/24"));
        assert_eq!(objects.world().1, []);
    }

    #[test]
    fn what_a_service_does_not_state_the_api_server_has_yet_to_give() {
        let mut objects = Objects::default();
        let range = "{metadata: {name: all}, spec: {cidrs: [10.96.0.0/16]}}";
        objects.put(Kind::ServiceRange, object(range));
        let service = "{metadata: {namespace: shop, name: web}, spec: {ports: [{port: 80}]}}";
        objects.put(Kind::Service, object(service));
        let (world, _) = objects.world();
        let [service] = &Vec::from_iter(world.services.services.values())[..] else { panic!() };
        assert_eq!(service.cluster_ips, ClusterIps::Unallocated);
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_named_and_closed() {
        let mut objects = Objects::default();
        let policy = "{metadata: {namespace: shop, name: p}, spec: {podSelector: {}, ingress: 7}}";
        objects.put(Kind::NetworkPolicy, object(policy));
        let (world, complaints) = objects.world();
        assert_eq!((world.policies.len(), complaints.len()), (1, 1));
    }

    #[test]
    fn objects_that_do_not_fit_together_are_named_without_a_file() {
        let mut objects = Objects::default();
        objects.put(Kind::Pod, pod("web", "nowhere"));
        let (world, complaints) = objects.world();
        assert_eq!(names(&world), [""; 0]);
        let complaint = complaints[0].to_string();
        assert_eq!(complaint, "Pod shop/web: spec.nodeName: there is no node `nowhere`");
    }
}
