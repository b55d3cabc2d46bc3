//! Which pod is on which node, where the pod does not say.
//!
//! In a cluster a scheduler sees to that. Here each pod goes to the node that has the fewest by
//! then, in the order of names, so that the same world is always spread in the same way.

use std::collections::BTreeMap;

use millrace_control::World;

use crate::LabError;

/// Gives every pod a node.
pub(crate) fn spread(world: &mut World) -> Result<(), LabError> {
    if world.nodes.is_empty() {
        return Err(LabError::NoNodes);
    }
    let mut load: BTreeMap<String, usize> =
        world.nodes.keys().map(|node| (node.clone(), 0)).collect();
    for pod in world.pods.values() {
        if let Some(node) = &pod.node {
            let pods = load.get_mut(node).ok_or_else(|| LabError::NoSuchNode {
                pod: pod.name.clone(),
                node: node.clone(),
            })?;
            *pods += 1;
        }
    }
    for pod in world.pods.values_mut().filter(|pod| pod.node.is_none()) {
        let (node, pods) = load.iter_mut().min_by_key(|(_, pods)| **pods).expect("there is a node");
        pod.node = Some(node.clone());
        *pods += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use millrace_control::{Node, Pod, PodName};

    use super::*;

    fn world(nodes: &[&str], pods: &[(&str, Option<&str>)]) -> World {
        let mut world = World::default();
        for name in nodes {
            let node = Node { name: (*name).to_owned(), ..Node::default() };
            world.nodes.insert(node.name.clone(), node);
        }
        for (name, node) in pods {
            let name = PodName::new("default", *name);
            let pod = Pod {
                name: name.clone(),
                labels: <_>::default(),
                node: node.map(str::to_owned),
                network: <_>::default(),
                bandwidth: <_>::default(),
                weight: <_>::default(),
                containers: Vec::new(),
                status: <_>::default(),
            };
            world.pods.insert(name, pod);
        }
        world
    }

    fn seats(world: &World) -> Vec<&str> {
        world.pods.values().map(|pod| pod.node.as_deref().unwrap()).collect()
    }

    #[test]
    fn pods_go_where_the_fewest_are_and_stay_where_they_say() {
        let mut world =
            world(&["a", "b"], &[("p", None), ("q", Some("a")), ("r", None), ("s", None)]);
        spread(&mut world).unwrap();
        assert_eq!(seats(&world), ["b", "a", "a", "b"]);
    }

    #[test]
    fn a_world_without_nodes_is_refused_and_so_is_a_pod_of_another_node() {
        let error = spread(&mut world(&[], &[("p", None)])).unwrap_err();
        assert!(matches!(error, LabError::NoNodes), "{error}");
        let error = spread(&mut world(&["a"], &[("p", Some("b"))])).unwrap_err();
        assert_eq!(error.to_string(), "pod default/p: there is no node `b`");
    }
}
