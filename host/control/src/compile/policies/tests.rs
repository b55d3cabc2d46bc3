//! What is told of policies, and when. What it means is shown where the filter judges by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use millrace_abi::{Tag, TagKind};
use millrace_tables::{Change, Owner, Place, PolicySet, Row, Table, Update};

use super::super::{Compiler, Local, Publication, Rule};
use crate::policy::{PolicyName, RefusedConnections};
use crate::source::Manifests;
use crate::{PodName, World};

fn world(manifests: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), manifests).expect("the folder is there");
    let (world, complaints) =
        Manifests::open(folder.path()).and_then(|it| it.read()).expect("the folder is there");
    assert!(complaints.is_empty(), "{complaints:?}");
    world
}

const NODES: &str = "
{apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
---
";

fn pod(name: &str, node: &str, address: &str, labels: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{nodeName: {node}, \
         containers: [{{name: c, ports: [{{name: http, containerPort: 80}}]}}]}}, \
         status: {{podIPs: [{{ip: '{address}'}}]}}}}\n---\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}}}, \
         spec: {{{spec}}}}}\n---\n"
    )
}

/// A server and a client here, and a friend and a stranger elsewhere.
fn cluster(friend: &str) -> String {
    NODES.to_owned()
        + &pod("server", "a", "10.1.0.2", "app: web")
        + &pod("client", "a", "10.1.0.3", "app: shop")
        + &pod("friend", "b", "10.1.1.2", friend)
        + &pod("stranger", "b", "10.1.1.3", "")
}

const FRIENDS: &str = "podSelector: {matchLabels: {app: web}}, \
                       ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What node `a` makes of the manifests.
fn compiled(manifests: &str) -> Compiler {
    let mut compiler = Compiler::new("a");
    next(&mut compiler, manifests);
    compiler
}

/// What is to be told when the manifests are these.
fn next<'c>(compiler: &'c mut Compiler, manifests: &str) -> &'c Publication {
    compiler.learn(world(manifests));
    compiler.compile()
}

fn owners(compiler: &Compiler) -> BTreeMap<String, Owner> {
    let all = compiler.draft.tables().whole(&[Table::Owners], 1, usize::MAX).concat();
    let owner = |change| match change {
        Ok(Change::Upsert(Row::Owner(address, owner))) => Some((address.to_string(), owner)),
        _ => None,
    };
    Update::new(&all).changes().filter_map(owner).collect()
}

fn tags(publication: &Publication) -> BTreeSet<u32> {
    publication.tags.iter().map(|tag| tag.bits()).collect()
}

fn of(addresses: &[&str]) -> BTreeSet<u32> {
    addresses.iter().map(|it| Tag::of_address(address(it)).bits()).collect()
}

#[test]
fn n1_n12_pods_here_are_told_with_their_sets_and_the_node_itself() {
    let host = pod("host", "a", "192.0.2.1", "app: web")
        .replace("containers", "hostNetwork: true, containers");
    let all = cluster("role: friend") + &host + &policy("web", FRIENDS);
    let owners = owners(&compiled(&all));
    let places: Vec<_> = owners.iter().map(|(address, it)| (address.as_str(), it.place)).collect();
    assert_eq!(
        places,
        [
            ("10.1.0.2", Place::Here),
            ("10.1.0.3", Place::Here),
            // the stranger is nothing to any policy
            ("10.1.1.2", Place::Elsewhere),
            ("192.0.2.1", Place::Node),
        ]
    );
    let isolated = |address: &str| {
        [owners[address].ingress, owners[address].egress].map(|set| set != PolicySet::NONE)
    };
    assert_eq!(isolated("10.1.0.2"), [true, false]);
    assert_eq!(isolated("10.1.0.3"), [false, false]);
    // on another node they are others'
    let mut other = Compiler::new("b");
    let elsewhere = next(&mut other, &all).policies.values();
    assert!(elsewhere.flatten().all(|it| it.pods.is_empty()));
}

#[test]
fn n13_n15_a_change_names_what_decisions_depend_on_that_may_be_others_now() {
    let first = cluster("role: friend") + &policy("web", FRIENDS);
    let mut compiler = compiled(&first);
    let server = owners(&compiler)["10.1.0.2"];
    let set = Tag::new(TagKind::PolicySet, server.ingress.0).bits();
    compiler.adopt();

    let same = next(&mut compiler, &first);
    assert!(same.delta.is_empty() && same.tags.is_empty(), "{same:?}");
    let other_rule = FRIENDS.replace("friend", "other");
    let udp = FRIENDS.replace("{from", "{ports: [{protocol: UDP}], from");
    let for_clients = "podSelector: {matchLabels: {app: shop}}, policyTypes: [Egress]";
    let about_strangers = "podSelector: {matchLabels: {app: none}}, \
                           ingress: [{from: [{podSelector: {}}]}]";
    for (text, expected) in [
        // a rule of a policy
        (cluster("role: friend") + &policy("web", &other_rule), BTreeSet::from([set])),
        (cluster("role: friend") + &policy("web", &udp), BTreeSet::from([set])),
        // a label that a selector asks for, and one that none does
        (cluster("role: foe") + &policy("web", FRIENDS), of(&["10.1.1.2"])),
        (cluster("role: friend, x: y") + &policy("web", FRIENDS), BTreeSet::new()),
        // a policy for others, and one for nobody
        (first.clone() + &policy("shop", for_clients), of(&["10.1.0.3"])),
        (first.clone() + &policy("none", about_strangers), BTreeSet::new()),
        // an address that another has
        (first.replace("10.1.1.2", "10.1.1.9"), of(&["10.1.1.2", "10.1.1.9"])),
        // no policy any more: the set is gone, and the pod has none
        (cluster("role: friend"), &of(&["10.1.0.2"]) | &BTreeSet::from([set])),
    ] {
        assert_eq!(tags(next(&mut compiler.clone(), &text)), expected, "{text}");
    }
}

#[test]
fn n6_n15_a_named_port_that_moves_is_another_clause_of_the_set() {
    let named = "podSelector: {matchLabels: {app: shop}}, policyTypes: [Egress], \
                 egress: [{ports: [{port: http}]}]";
    let first = cluster("role: friend") + &policy("shop", named);
    let mut compiler = compiled(&first);
    let set = owners(&compiler)["10.1.0.3"].egress;
    compiler.adopt();
    let moved = first.replacen("containerPort: 80", "containerPort: 81", 1);
    assert!(
        tags(next(&mut compiler, &moved)).contains(&Tag::new(TagKind::PolicySet, set.0).bits())
    );
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
         metadata: {{name: {name}}}, spec: {{tier: Admin, priority: 5, subject: {{pods: \
         {{podSelector: {{matchLabels: {{app: web}}}}}}}}, {spec}}}}}\n---\n"
    )
}

const TO_NODES: &str = "egress: [{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}]";

#[test]
fn k4_nodes_are_told_by_their_addresses_once_a_rule_is_about_them() {
    let nodes = NODES.replace("name: b}", "name: b, labels: {role: edge}}").replace(
        "192.0.2.2}]",
        "192.0.2.2}, {type: ExternalIP, address: 198.51.100.2}, {type: Hostname, address: b}]",
    );
    let web = pod("server", "a", "10.1.0.2", "app: web");
    let told = |policies: &str| owners(&compiled(&(nodes.clone() + &web + policies)));
    assert_eq!(told("").len(), 2, "a pod, and this node");
    let owners = told(&cluster_policy("edge", TO_NODES));
    let edge = owners["192.0.2.2"];
    assert_eq!(edge.place, Place::Elsewhere);
    assert_eq!(edge.identity, owners["198.51.100.2"].identity);
    assert_ne!(edge.identity, owners["192.0.2.1"].identity);
    assert_eq!(owners["192.0.2.1"].place, Place::Node);
}

#[test]
fn k1_n15_what_changes_of_a_cluster_network_policy_names_the_pods_that_it_is_for() {
    let to_all = TO_NODES.replace("{matchLabels: {role: edge}}", "{}");
    let first = cluster("role: friend") + &cluster_policy("edge", TO_NODES);
    let mut compiler = compiled(&first);
    let edge = PolicyName::Cluster("edge".to_owned());
    let edge = compiler.publication().policies[&edge].as_ref();
    assert_eq!(edge.expect("it is there").pods, [PodName::new("default", "server")]);
    let server = owners(&compiler)["10.1.0.2"];
    assert_eq!(server.ingress, PolicySet::NONE, "it says nothing of ingress");
    let set = Tag::new(TagKind::PolicySet, server.egress.0).bits();
    compiler.adopt();
    for (text, expected) in [
        (first.clone(), BTreeSet::new()),
        (first.replace(TO_NODES, &to_all), BTreeSet::from([set])),
        (first.replace("action: Deny", "action: Pass"), BTreeSet::from([set])),
        (first.replace("priority: 5", "priority: 6"), BTreeSet::new()),
        // before a NetworkPolicy it stays, and behind one it has nothing to say
        (
            first.clone() + &policy("web", "podSelector: {}, policyTypes: [Egress]"),
            // the client is isolated, too
            &of(&["10.1.0.2", "10.1.0.3"]) | &BTreeSet::from([set]),
        ),
        // a node that is what the rule is about
        (first.replace("name: b}", "name: b, labels: {role: edge}}"), of(&["192.0.2.2"])),
    ] {
        assert_eq!(tags(next(&mut compiler.clone(), &text)), expected, "{text}");
    }
}

#[test]
fn n13_what_becomes_of_live_connections_is_what_the_strictest_of_the_policies_that_deny_says() {
    let denies = "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]";
    let said = |word: &str| format!(", annotations: {{millrace.dev/on-refused: {word}}}}}");
    let one = |word: &str| policy("one", denies).replacen('}', &said(word), 1);
    let two = |word: &str| policy("two", denies).replacen('}', &said(word), 1);
    let silent = policy("two", denies);
    for (policies, expected) in [
        (silent.clone(), None),
        (one("keep"), Some(RefusedConnections::Keep)),
        (one("keep") + &two("keep"), Some(RefusedConnections::Keep)),
        (one("keep") + &two("drop"), Some(RefusedConnections::Drop)),
        (one("reset") + &two("keep"), Some(RefusedConnections::Reset)),
        // who says nothing leaves it to the stage, which may not keep them
        (one("keep") + &silent, None),
        (one("reset") + &silent, Some(RefusedConnections::Reset)),
    ] {
        let compiler = compiled(&(cluster("role: friend") + &policies));
        let rules = compiler.publication().rules.values().flatten();
        let refusals: Vec<_> = rules.filter_map(Rule::on_refused).collect();
        assert_eq!(refusals, Vec::from_iter(expected), "{policies}");
    }
    let keeps = cluster_policy("edge", TO_NODES).replacen('}', &said("keep"), 1);
    let compiler = compiled(&(cluster("role: friend") + &keeps));
    let rules: Vec<_> = compiler.publication().rules.values().flatten().collect();
    let [rule] = rules[..] else { panic!("{rules:?}") };
    assert_eq!(rule.to_string(), "ClusterNetworkPolicy edge, spec.egress[0]");
    assert_eq!(rule.on_refused(), Some(RefusedConnections::Keep));
}

#[test]
fn n14_a_pod_that_is_attached_before_its_manifest_comes_is_closed_if_any_policy_may_be_for_it() {
    let pods = BTreeMap::from([(PodName::new("default", "new"), vec![address("10.1.0.9")])]);
    let nameless = vec![address("10.1.0.8")];
    let local = Local { pods, nameless, addresses: vec![address("10.1.0.1")], ..Local::default() };
    for (policies, closed) in [
        (String::new(), [false, false]),
        (policy("web", FRIENDS), [true, false]),
        (
            policy("web", "podSelector: {matchLabels: {app: x}}, policyTypes: [Egress]"),
            [false, true],
        ),
    ] {
        let mut compiler = Compiler::new("a");
        compiler.note(local.clone());
        next(&mut compiler, &(NODES.to_owned() + &policies));
        let owners = owners(&compiler);
        let new = owners["10.1.0.9"];
        assert_eq!(new.place, Place::Here);
        assert_eq!([new.ingress, new.egress].map(|set| set != PolicySet::NONE), closed);
        assert_eq!(owners["10.1.0.1"].place, Place::Node);
        // no policy can be for what is no pod
        let nameless = owners["10.1.0.8"];
        assert_eq!((nameless.place, nameless.ingress), (Place::Here, PolicySet::NONE));
        let rules = compiler.publication().rules.values().flatten();
        let said: Vec<_> = rules.map(ToString::to_string).collect();
        assert_eq!(said.iter().any(|it| it.contains("pod default/new")), closed != [false; 2]);
    }
    // the address that the node has given it counts, not the one of its manifest
    let known = NODES.to_owned() + &pod("new", "a", "10.1.0.77", "");
    let mut compiler = Compiler::new("a");
    compiler.note(local);
    next(&mut compiler, &known);
    let owners = owners(&compiler);
    assert!(owners.contains_key("10.1.0.9") && !owners.contains_key("10.1.0.77"));
}

#[test]
fn pods_with_the_same_policies_share_a_set_and_rules_say_whose_they_are() {
    let all = cluster("role: friend")
        + &pod("twin", "a", "10.1.0.4", "app: web, x: y")
        + &policy("web", FRIENDS)
        + &policy("all", "podSelector: {}, egress: [{}]");
    let compiler = compiled(&all);
    let publication = compiler.publication();
    let owners = owners(&compiler);
    let sets = |address: &str| (owners[address].ingress, owners[address].egress);
    assert_eq!(sets("10.1.0.2"), sets("10.1.0.4"));
    assert_ne!(sets("10.1.0.2").0, sets("10.1.0.3").0, "one policy more is another set");
    assert_eq!(sets("10.1.0.2").1, sets("10.1.0.3").1);
    let said: BTreeSet<_> = publication.rules.values().flatten().map(ToString::to_string).collect();
    for expected in [
        "NetworkPolicy default/web, spec.ingress[0]",
        "NetworkPolicy default/all, spec.egress[0]",
        "no ingress rule of NetworkPolicy default/all, default/web",
    ] {
        assert!(said.contains(expected), "{said:?}");
    }
    let web = PolicyName::Namespaced(crate::QualifiedName::new("default", "web"));
    let web = publication.policies[&web].as_ref();
    let pods = &web.expect("it is not gone").pods;
    assert_eq!(
        pods.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["default/server", "default/twin"]
    );
}

#[test]
fn k4_names_of_domains_are_told_once_each_and_go_with_the_last_policy_that_is_about_them() {
    let about = |name: &str, names: &str| {
        format!(
            "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
             metadata: {{name: {name}}}, spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, \
             egress: [{{action: Accept, to: [{{domainNames: [{names}]}}]}}]}}}}\n---\n"
        )
    };
    let told = |compiler: &Compiler| -> BTreeMap<u32, String> {
        let all = compiler.draft.tables().whole(&[Table::Domains], 1, usize::MAX).concat();
        let domain = |change| match change {
            Ok(Change::Upsert(Row::Domain(domain, it))) => Some((domain.0, it.text().to_owned())),
            _ => None,
        };
        Update::new(&all).changes().filter_map(domain).collect()
    };
    let cluster = cluster("");
    let one = about("one", "WWW.example.com., '*.example.com'");
    let mut compiler = compiled(&(cluster.clone() + &one + &about("two", "www.example.com")));
    let before = told(&compiler);
    let mut names: Vec<_> = before.values().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["*.example.com", "www.example.com"]);
    let summary = compiler.publication().policies[&PolicyName::Cluster("one".to_owned())].as_ref();
    let of_one: Vec<_> =
        summary.expect("it is not gone").domains.iter().map(ToString::to_string).collect();
    assert_eq!(of_one, names);

    compiler.adopt();
    next(&mut compiler, &(cluster.clone() + &about("two", "www.example.com")));
    let www = before.iter().filter(|(_, name)| *name == "www.example.com");
    assert_eq!(told(&compiler), www.map(|(number, name)| (*number, name.clone())).collect());
    next(&mut compiler, &cluster);
    assert_eq!(told(&compiler), BTreeMap::new());
}
