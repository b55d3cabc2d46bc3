//! Who of the nodes answers for the addresses of load balancers, to those who ask their neighbours
//! for them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::endpoints::Backing;
use crate::service::{Family, IpMode, Service, ServiceKind, TrafficPolicy};
use crate::{Node, Readiness, rendezvous};

/// The addresses of a Service that this node answers for. Of those nodes that could, it is for each
/// address the one with the highest hash of both (rendezvous hashing): all find the same, and when one
/// fails nobody but who had an address of it is asked elsewhere.
pub(super) fn announced(service: &Service, backing: &Backing<'_>) -> BTreeSet<IpAddr> {
    let is_served = service.kind == ServiceKind::LoadBalancer
        && !service.labels.contains_key(Service::PROXY_NAME_LABEL);
    let vips = service.load_balancer.iter().filter(|it| is_served && it.mode == IpMode::Vip);
    let is_ours = |address: &IpAddr| {
        // who has no endpoint would drop what comes there
        let local = (service.external_policy == TrafficPolicy::Local)
            .then(|| backing.nodes_of(service, Family::of(*address)));
        let can = |it: &Node| local.as_ref().is_none_or(|nodes| nodes.contains(&*it.name));
        answers(*address, backing, can)
    };
    vips.map(|it| it.address).filter(is_ours).collect()
}

/// Whether this node is the one of those that could and can that answers for an address.
pub(super) fn answers(address: IpAddr, backing: &Backing<'_>, can: impl Fn(&Node) -> bool) -> bool {
    let able = backing.nodes().filter(|it| is_able(it) && can(it)).map(|it| &*it.name);
    backing.is_of_neighbours(address)
        && rendezvous::first(able, &address.to_string()) == Some(backing.node())
}

/// Whether a node may answer for addresses at all.
pub(super) fn is_able(node: &Node) -> bool {
    node.readiness == Readiness::Ready && !node.labels.contains_key(EXCLUDED_LABEL)
}

/// The label of nodes that nothing from outside is to be sent to.
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::World;
    use crate::compile::Compiler;
    use crate::source::Manifests;

    const POOL: &str = "{apiVersion: millrace.dev/v1alpha1, kind: AddressPool, \
        metadata: {name: outside}, spec: {cidrs: [203.0.113.0/24]}}\n---\n";

    fn world(manifests: &str) -> World {
        let directory = tempfile::tempdir().expect("a folder");
        let text = format!("{POOL}{manifests}");
        std::fs::write(directory.path().join("a.yaml"), text).expect("the folder is there");
        let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
        assert_eq!(complaints.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        world
    }

    fn nodes(names: &[&str], unready: &str) -> String {
        let node = |name: &&str| {
            let ready = if *name == unready { "False" } else { "True" };
            format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, \
                 status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}\n---\n"
            )
        };
        names.iter().map(node).collect()
    }

    fn service(name: &str, address: &str, spec: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: LoadBalancer, \
             clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{port: 80}}], {spec}}}, \
             status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}}}\n---\n"
        )
    }

    fn announced(world: &World, node: &str) -> BTreeSet<IpAddr> {
        let mut compiler = Compiler::new(node);
        compiler.learn(world.clone());
        compiler.compile();
        compiler.announced()
    }

    /// Who answers for each address.
    fn speakers(world: &World) -> BTreeMap<IpAddr, Vec<&str>> {
        let mut speakers = BTreeMap::<_, Vec<_>>::new();
        for name in world.nodes.keys() {
            for address in announced(world, name) {
                speakers.entry(address).or_default().push(&**name);
            }
        }
        speakers
    }

    #[test]
    fn one_ready_node_answers_for_each_address_and_when_it_fails_nobody_elses_moves() {
        let services: String = (0..60)
            .map(|n| service(&format!("s{n}"), &format!("203.0.113.{}", n + 1), ""))
            .collect();
        let names = ["one", "two", "three"];
        let before = world(&(nodes(&names, "") + &services));
        let before = speakers(&before);
        assert_eq!(before.len(), 60);
        assert!(before.values().all(|nodes| nodes.len() == 1), "{before:?}");
        for name in names {
            let count = before.values().filter(|nodes| nodes[0] == name).count();
            assert!((8..35).contains(&count), "{name} answers for {count} of 60");
            let after = world(&(nodes(&names, name) + &services));
            let after = speakers(&after);
            assert_eq!(after.len(), 60);
            for (address, nodes) in &after {
                assert_eq!(nodes.len(), 1);
                assert_ne!(nodes[0], name);
                assert!(before[address][0] == name || before[address] == *nodes, "{address}");
            }
        }
    }

    #[test]
    fn a_node_without_an_agent_answers_for_nothing_where_agents_are_known() {
        let agent = |node: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: agent-{node}, labels: \
                 {{app.kubernetes.io/name: millrace}}}}, spec: {{nodeName: {node}, hostNetwork: true, \
                 containers: [{{name: c}}]}}}}\n---\n"
            )
        };
        let services: String =
            (1..40).map(|n| service(&format!("s{n}"), &format!("203.0.113.{n}"), "")).collect();
        let world = world(
            &(nodes(&["one", "two", "three"], "") + &agent("one") + &agent("two") + &services),
        );
        for name in ["one", "two"] {
            assert!(!announced(&world, name).is_empty());
        }
        let both = announced(&world, "one").into_iter().chain(announced(&world, "two"));
        assert_eq!(both.collect::<BTreeSet<_>>().len(), 39, "none is left for the one that cannot");
    }

    #[test]
    fn s8_who_has_no_endpoint_does_not_answer_where_local_ones_alone_count() {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, \
            spec: {nodeName: two, containers: [{name: c}]}, status: {podIPs: [{ip: 10.1.0.2}]}}\n---\n";
        let nodes = nodes(&["one", "two", "three", "four"], "");
        for last in 1..20 {
            let address = format!("203.0.113.{last}");
            let local = service("web", &address, "externalTrafficPolicy: Local");
            let world = world(&format!("{nodes}{pod}{local}"));
            assert_eq!(speakers(&world).into_values().collect::<Vec<_>>(), [["two"]]);
        }
    }

    #[test]
    fn s17_other_addresses_are_not_answered_for() {
        let elsewhere = service("web", "192.0.2.1", "");
        let proxied = service("web", "203.0.113.1, ipMode: Proxy", "");
        for text in [elsewhere, proxied] {
            let world = world(&(nodes(&["one"], "") + &text));
            assert_eq!(announced(&world, "one"), BTreeSet::new(), "{text}");
        }
    }
}
