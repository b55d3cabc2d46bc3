use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    Bandwidth, BitRate, Container, ContainerPort, HostPort, Life, Namespace, Node, Pod, PodName,
    PodNetwork, Protocol, Readiness, Tenure, Weight, manifest,
};

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn read(files: &[(&str, &str)]) -> (World, Vec<String>) {
    let directory = directory(files);
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    (world, complaints.iter().map(ToString::to_string).collect())
}

fn pods(world: &World) -> Vec<String> {
    world.pods.keys().map(ToString::to_string).collect()
}

const NODE: &str = "
apiVersion: v1
kind: Node
metadata:
  name: a
spec:
  podCIDRs: [10.1.0.0/24]
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  nodeName: a
  containers:
  - name: web
";

#[test]
fn objects_of_all_files_make_one_world() {
    let side = POD.replace("web", "side");
    let list = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: \
                {name: shop}}, {apiVersion: v1, kind: Node, metadata: {name: b}}]}";
    let (world, complaints) = read(&[
        ("a.yaml", &format!("{NODE}---{POD}---\n# nothing\n---{side}")),
        ("b.json", list),
        ("c.yml", ""),
    ]);
    assert_eq!(complaints, [""; 0]);
    assert_eq!(world.nodes.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(pods(&world), ["default/side", "default/web"]);
    assert_eq!(world.pods_on("a").count(), 2);
}

#[test]
fn n4_a_namespace_that_only_pods_speak_of_has_its_label() {
    let (world, _) = read(&[("a.yaml", &format!("{NODE}---{POD}"))]);
    assert_eq!(world.namespaces["default"], Namespace::named("default"));
}

#[test]
fn files_of_other_names_folders_and_pipes_are_passed_over() {
    let directory = directory(&[("a.yaml", NODE), (".b.yaml", "{"), ("README.md", "{")]);
    fs::create_dir(directory.path().join("c.yaml")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.path().join("d.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!((world.nodes.len(), complaints), (1, Vec::new()));
}

#[test]
fn a_link_is_a_file_as_in_a_mounted_config_map() {
    let target = directory(&[("data", NODE)]);
    let links = directory(&[]);
    symlink(target.path().join("data"), links.path().join("a.yaml")).unwrap();
    let (world, _) = Manifests::open(links.path()).unwrap().read().unwrap();
    assert_eq!(world.nodes.len(), 1);
}

#[test]
fn a_bad_field_is_reported_with_file_line_and_path_and_the_rest_counts() {
    let bad = POD.replace("- name: web", "- {name: web,\n     ports: [{containerPort: 99999}]}");
    let (world, complaints) =
        read(&[("a.yaml", &format!("{NODE}---{bad}---{}", POD.replace("web", "side")))]);
    assert_eq!(pods(&world), ["default/side"]);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    let wanted = "a.yaml:17: Pod web: spec.containers[0].ports[0].containerPort: invalid value";
    assert!(complaint.starts_with(wanted), "{complaint}");
}

#[test]
fn a_bad_item_of_a_list_is_reported_where_it_is_and_the_others_count() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    \
                name: a\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: B\n";
    let (world, complaints) = read(&[("a.yaml", list)]);
    assert_eq!(world.nodes.keys().collect::<Vec<_>>(), ["a"]);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.starts_with("a.yaml:11: Node B: metadata.name: `B` is no"), "{complaint}");
}

#[test]
fn a_missing_field_is_reported_where_it_should_be() {
    let (_, complaints) =
        read(&[("a.yaml", "apiVersion: v1\nkind: Node\nmetadata:\n  labels: {}\n")]);
    assert_eq!(complaints, ["a.yaml:4: metadata: missing field `name`"]);
}

#[test]
fn a_document_that_is_no_yaml_is_reported_and_the_others_of_its_file_count() {
    let (world, complaints) = read(&[("a.yaml", &format!("{NODE}---\nx: [1,\n---{POD}"))]);
    assert_eq!(pods(&world), ["default/web"]);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.starts_with("a.yaml:10: this is no YAML: "), "{complaint}");
}

#[test]
fn a_file_that_is_no_text_is_reported_and_the_others_count() {
    let directory = directory(&[("b.yaml", NODE)]);
    fs::write(directory.path().join("a.yaml"), b"\xff\xfe").unwrap();
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!(world.nodes.len(), 1);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.to_string().starts_with("a.yaml:1: cannot be read: "), "{complaint}");
    assert!(!complaint.is_note());
}

#[test]
fn what_is_no_object_is_reported() {
    let (_, complaints) = read(&[("a.yaml", "- 1\n---\nkind: Pod\n---\n\njust: text\n")]);
    let reason = "this is no object: give it `apiVersion` and `kind`";
    let wanted = [1, 3, 6].map(|line| format!("a.yaml:{line}: {reason}"));
    assert_eq!(complaints, wanted);
}

#[test]
fn a_kind_that_does_not_count_is_noted() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n";
    let directory = directory(&[("a.yaml", text)]);
    let (_, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.is_note());
    assert_eq!(
        complaint.to_string(),
        "a.yaml:1: Deployment shop/web: not looked at: apps/v1 Deployment is no kind that counts \
         here"
    );
}

#[test]
fn of_two_objects_with_one_name_the_first_by_file_and_line_counts() {
    let second = POD.replace("  nodeName: a\n", "");
    let (world, complaints) = read(&[("b.yaml", &second), ("a.yaml", &format!("{NODE}---{POD}"))]);
    assert_eq!(world.pods[&PodName::new("default", "web")].node.as_deref(), Some("a"));
    let wanted = "b.yaml:2: Pod default/web: there is one already at a.yaml:9, which counts";
    assert_eq!(complaints, [wanted]);
}

#[test]
fn of_two_nodes_with_overlapping_prefixes_the_first_by_name_counts() {
    let other = NODE
        .replace("name: a", "name: b")
        .replace("10.1.0.0/24", "\n  - fd01::/64\n  - 10.1.0.0/16");
    let other = other.replace("podCIDRs: [", "podCIDRs:").replace("/16]", "/16");
    let (world, complaints) = read(&[("a.yaml", &other), ("b.yaml", NODE)]);
    assert_eq!(world.nodes.keys().collect::<Vec<_>>(), ["a"]);
    let wanted =
        "a.yaml:9: Node b: spec.podCIDRs[1]: `10.1.0.0/16` overlaps with a prefix of node `a`";
    assert_eq!(complaints, [wanted]);
}

#[test]
fn a_pod_of_a_node_that_is_not_there_is_reported() {
    let (world, complaints) = read(&[("a.yaml", POD)]);
    assert_eq!(world, World::default());
    let wanted = "a.yaml:7: Pod default/web: spec.nodeName: there is no node `a`";
    assert_eq!(complaints, [wanted]);
}

#[test]
fn what_is_deleted_is_gone_from_the_next_world() {
    let directory = directory(&[("a.yaml", NODE), ("b.yaml", POD)]);
    let manifests = Manifests::open(directory.path()).unwrap();
    assert_eq!(pods(&manifests.read().unwrap().0), ["default/web"]);
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    assert_eq!(pods(&manifests.read().unwrap().0), [""; 0]);
}

#[test]
fn a_directory_that_is_not_there_is_no_empty_world() {
    let directory = directory(&[]);
    let path = directory.path().to_owned();
    let manifests = Manifests::open(&path).unwrap();
    drop(directory);
    let errors = [manifests.read().unwrap_err(), Manifests::open(&path).unwrap_err()];
    for error in errors {
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_bomb_of_aliases_is_no_more_than_a_complaint() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{alias}]\n");
    }
    let (_, complaints) = read(&[("a.yaml", &bomb)]);
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(complaint.contains("this is no YAML: repetition limit exceeded"), "{complaint}");
}

#[test]
fn a_watch_sees_what_is_written_moved_and_deleted_and_nothing_else() {
    let directory = directory(&[("a.yaml", NODE)]);
    let manifests = Manifests::open(directory.path()).unwrap();
    let mut watch = manifests.watch().unwrap();
    let file = |name| directory.path().join(name);
    let long = Some(Duration::from_secs(60));

    manifests.read().unwrap();
    assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), Waited::Unchanged);

    fs::write(file("a.yaml"), POD).unwrap();
    fs::write(file("b.yaml"), NODE).unwrap();
    assert_eq!(watch.wait(long).unwrap(), Waited::Changed);
    // both were one change
    assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), Waited::Unchanged);

    fs::rename(file("b.yaml"), file("c.yaml")).unwrap();
    assert_eq!(watch.wait(long).unwrap(), Waited::Changed);
    fs::remove_file(file("c.yaml")).unwrap();
    assert_eq!(watch.wait(long).unwrap(), Waited::Changed);
    symlink(file("a.yaml"), file("d.yaml")).unwrap();
    assert_eq!(watch.wait(long).unwrap(), Waited::Changed);
}

#[test]
fn a_watch_wakes_up_whoever_waits() {
    let directory = directory(&[]);
    let mut watch = Manifests::open(directory.path()).unwrap().watch().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| watch.wait(None).unwrap());
        fs::write(directory.path().join("a.yaml"), NODE).unwrap();
        assert_eq!(waiter.join().unwrap(), Waited::Changed);
    });
}

#[test]
fn a_watch_says_that_its_directory_is_gone() {
    let directory = directory(&[]);
    let mut watch = Manifests::open(directory.path()).unwrap().watch().unwrap();
    drop(directory);
    assert_eq!(watch.wait(None).unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// Worlds without contradictions: `n` nodes, and pods on them or on none yet.
fn worlds() -> impl Strategy<Value = World> {
    let name = "[a-z]([a-z0-9-]{0,8}[a-z0-9])?";
    let labels = || proptest::collection::btree_map("[a-z./]{1,8}", "[ -~]{0,12}", 0..3);
    let port =
        (proptest::option::of("[a-z]{1,5}"), 1u16.., 0..3usize).prop_map(|(name, port, at)| {
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][at];
            let host = (port % 2 == 0).then_some(HostPort { address: None, port });
            ContainerPort { name, protocol, port, host }
        });
    let container =
        (proptest::collection::vec("\\PC{1,8}", 0..3), proptest::collection::vec(port, 0..3));
    let rate = || proptest::option::of((1000..1_000_000_000u64).prop_map(BitRate));
    let pod = (
        (name, name, labels()),
        proptest::option::of(any::<proptest::sample::Index>()),
        any::<bool>(),
        (rate(), rate()),
        proptest::collection::vec(container, 1..3),
    );
    let nodes = proptest::collection::btree_map(name, labels(), 1..5);
    (nodes, proptest::collection::vec(pod, 0..6)).prop_map(|(nodes, pods)| {
        let mut world = World::default();
        for (n, (name, labels)) in nodes.into_iter().enumerate() {
            let pod_cidrs = [format!("10.{n}.0.0/24"), format!("fd00:{n}::/64")];
            let pod_cidrs = pod_cidrs.map(|prefix| prefix.parse().unwrap()).into();
            let addresses = vec![format!("192.0.2.{}", n + 1).parse().unwrap()];
            let readiness = [Readiness::Ready, Readiness::NotReady][n % 2];
            let external = Vec::new();
            let tenure = [Tenure::Stays, Tenure::Leaves][usize::from(name.len() % 2 == 0)];
            let node = Node { name, labels, pod_cidrs, addresses, external, readiness, tenure };
            world.nodes.insert(node.name.clone(), node);
        }
        let nodes: Vec<_> = world.nodes.keys().cloned().collect();
        for ((namespace, name, labels), node, host, (ingress, egress), containers) in pods {
            let containers = containers
                .into_iter()
                .enumerate()
                .map(|(n, (command, ports))| Container { name: format!("c{n}"), command, ports });
            let name = PodName::new(namespace.clone(), name);
            let pod = Pod {
                name: name.clone(),
                labels,
                node: node.map(|at| at.get(&nodes).clone()),
                network: if host { PodNetwork::Host } else { PodNetwork::Own },
                bandwidth: Bandwidth { ingress, egress },
                weight: Weight(1 + (name.name.len() % 3) as u16),
                containers: containers.collect(),
                status: <_>::default(),
            };
            world.pods.insert(name, pod);
            world.namespaces.insert(namespace.clone(), Namespace::named(&namespace));
        }
        world
    })
}

proptest! {
    #[test]
    fn a_world_reads_back_as_it_was_written(world in worlds()) {
        let (read, complaints) = read(&[("a.yaml", &manifest::write(&world))]);
        prop_assert_eq!(complaints, [""; 0]);
        prop_assert_eq!(read, world);
    }

    #[test]
    fn it_does_not_matter_which_object_is_in_which_file(
        world in worlds(),
        files in proptest::collection::vec(0..4usize, 32),
        names in Just(["a.yaml", "b.yml", "c.json", "d.yaml"]).prop_shuffle(),
    ) {
        let written = manifest::write(&world);
        let mut texts = [const { String::new() }; 4];
        for (object, file) in written.split("---\n").zip(files.iter().cycle()) {
            texts[*file].insert_str(0, &format!("---\n{object}"));
        }
        let files: Vec<_> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let (read, complaints) = read(&files);
        prop_assert_eq!(complaints, [""; 0]);
        prop_assert_eq!(read, world);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(apiVersion|kind|metadata|name|v1|Pod|List|items|spec|[-:{}\\[\\]\n &*!|'\", ]|\\PC){0,40}") {
        read(&[("a.yaml", &text)]);
    }
}

#[test]
fn complaints_are_sorted_by_file_and_line() {
    let bad = "kind: x\n---\nkind: y\n";
    let (_, complaints) = read(&[("b.yaml", bad), ("a.yaml", bad)]);
    let places: Vec<_> = complaints.iter().map(|it| it.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.yaml:1", "a.yaml:3", "b.yaml:1", "b.yaml:3"]);
    assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len());
}

#[test]
fn services_and_slices_read_back_as_they_were_written() {
    let text = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, labels: {a: b}}, spec: {
  type: LoadBalancer, clusterIPs: [10.96.0.10, 'fd96::10'], selector: {app: web},
  ports: [{name: http, port: 80, targetPort: web, nodePort: 30080},
          {name: dns, port: 53, protocol: UDP, targetPort: 5353}, {name: sctp, port: 9, protocol: SCTP}],
  externalIPs: [203.0.113.1], internalTrafficPolicy: Local, externalTrafficPolicy: Local,
  sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}},
  publishNotReadyAddresses: true},
 status: {loadBalancer: {ingress: [{ip: 203.0.113.2, ipMode: Proxy}, {ip: '2001:db8::1'}]}}}
---
{apiVersion: v1, kind: Service, metadata: {name: none, namespace: shop}, spec: {clusterIP: None}}
---
{apiVersion: v1, kind: Service, metadata: {name: name, namespace: shop}, spec: {type: ExternalName}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv6,
 metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
 ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}],
 endpoints: [{addresses: ['fd01::2'], nodeName: a, hints: {forZones: [{name: z}], forNodes: [{name: a}]}},
             {addresses: ['fd01::3'], conditions: {ready: false, terminating: true, serving: true}}]}
---
{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: all}, spec: {cidrs: [10.96.0.0/12]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, deletionTimestamp: '2026-01-01T00:00:00Z'},
 spec: {containers: [{name: c}]},
 status: {podIPs: [{ip: 10.1.0.2}, {ip: 'fd01::2'}], conditions: [{type: Ready, status: Unknown}]}}
";
    let (world, complaints) = read(&[("a.yaml", text)]);
    assert_eq!(complaints, [""; 0]);
    let services = &world.services;
    assert_eq!((services.services.len(), services.slices.len(), services.ranges.len()), (3, 1, 1));
    let pod = world.pods.values().next().expect("a pod");
    assert_eq!((pod.status.life, pod.status.addresses.len()), (Life::Ending, 2));
    assert_eq!(pod.status.readiness, Readiness::NotReady);
    let (again, complaints) = read(&[("b.yaml", &manifest::write(&world))]);
    assert_eq!(complaints, [""; 0]);
    // a namespace that nobody wrote is written
    assert_eq!(again, world);
}
