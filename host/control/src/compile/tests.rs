//! Each test names the rule of Kubernetes that it shows. Worlds are written as manifests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use millrace_abi::TagKind;
use millrace_tables::{
    Change, Endpoint, EndpointSet, Frontend, FrontendKind, Protocol, Row, Service, SourceSet,
    Table, TrafficPolicy, Update,
};
use proptest::prelude::*;

use super::*;
use crate::source::Manifests;

const NODES: &str = "
{apiVersion: v1, kind: Node, metadata: {name: a, labels: {topology.kubernetes.io/zone: east}},
 status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: 'fd00::1'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
";

/// What the manifests say; nothing of them may be wrong.
fn world(manifests: &str) -> World {
    let directory = tempfile::tempdir().expect("a folder");
    let text = format!("{NODES}---\n{manifests}");
    std::fs::write(directory.path().join("a.yaml"), text).expect("the folder is there");
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!(complaints.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    world
}

/// What a node makes of the manifests.
fn compiled(node: &str, manifests: &str) -> Compiler {
    let mut compiler = Compiler::new(node);
    compiler.learn(world(manifests));
    compiler.compile();
    compiler
}

/// What node `a` does.
fn compile(manifests: &str) -> Compiler {
    compiled("a", manifests)
}

/// What is said of the only Service.
fn summary(compiler: &Compiler) -> &ServiceSummary {
    let services = &compiler.publication().services;
    let summary = services.values().next().expect("there is a Service");
    summary.as_ref().expect("it is not gone")
}

fn pod(name: &str, node: &str, address: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}}}, \
         spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{name: http, containerPort: 80{name}}}]}}]}}, \
         status: {{podIPs: [{{ip: '{address}'}}]{more}}}}}\n---\n"
    )
}

/// A Service `web` with one port, and this besides.
fn service(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{app: web}}, \
         ports: [{{port: 80, targetPort: 8080, nodePort: 30080}}], {spec}}}}}\n---\n"
    )
}

const VIP: &str = "clusterIP: 10.96.0.10";

/// A slice of the Service `web`.
fn slice(name: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}, \
         ports: [{{port: 8080}}], endpoints: [{endpoints}]}}\n---\n"
    )
}

fn endpoint(address: &str, more: &str) -> String {
    format!("{{addresses: [{address}]{more}}}, ")
}

/// The rows of Services: where they are reached, and what is behind them.
fn rows(compiler: &Compiler) -> BTreeMap<String, Service> {
    let mut rows = all_rows(compiler);
    rows.retain(|_, row| row.kind != FrontendKind::OwnNode);
    rows
}

/// Those for the node's own processes included.
fn all_rows(compiler: &Compiler) -> BTreeMap<String, Service> {
    let updates = compiler.draft.tables().whole(&[Table::Services], 1, usize::MAX).concat();
    let changes = Update::new(&updates).changes();
    let rows = changes.filter_map(|change| match change {
        Ok(Change::Upsert(Row::Service(frontend, service))) => Some((frontend, service)),
        _ => None,
    });
    rows.map(|(frontend, service)| (frontend.to_string(), service)).collect()
}

/// The endpoints of a set, without their ports.
fn members(compiler: &Compiler, set: EndpointSet) -> Vec<String> {
    let them = compiler.frontends.sets.endpoints.thing(set.0);
    them.into_iter().flatten().map(|it| it.endpoint.address.to_string()).collect()
}

/// The endpoints behind the only frontend: of the cluster, and of this node.
fn behind(compiler: &Compiler) -> (Vec<String>, Vec<String>) {
    let rows = rows(compiler);
    let row = rows.get("10.96.0.10:80/TCP").unwrap_or_else(|| panic!("{rows:?}"));
    (members(compiler, row.cluster), members(compiler, row.local))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn s1_headless_services_names_and_those_of_others_are_not_told() {
    for spec in ["clusterIP: None", "type: ExternalName, clusterIP: 10.96.0.10"] {
        let compiler = compile(&service(spec));
        assert!(rows(&compiler).is_empty(), "{spec}");
        assert_eq!(compiler.publication().services.len(), 1, "{spec}");
    }
    let other = service(VIP)
        .replace("name: web}", "name: web, labels: {service.kubernetes.io/service-proxy-name: x}}");
    assert!(rows(&compile(&other)).is_empty());
    let headless = slice("s", &endpoint("10.1.0.2", ""))
        .replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    assert_eq!(behind(&compile(&(service(VIP) + &headless))).0, [""; 0]);
}

#[test]
fn a_service_without_an_address_says_so() {
    let compiler = compile(&service("type: ClusterIP"));
    let summary = summary(&compiler);
    assert!(summary.problems[0].contains("clusterIP"), "{:?}", summary.problems);
}

#[test]
fn s16_sources_are_limited_at_the_addresses_of_load_balancers_alone() {
    let spec = "type: LoadBalancer, clusterIP: 10.96.0.10, externalIPs: [203.0.113.1], \
                loadBalancerSourceRanges: [' 192.0.2.0/24 ', '198.51.100.7/24']";
    let status = "}, status: {loadBalancer: {ingress: [{ip: 203.0.113.20}]}}}\n---\n";
    let limited = service(spec).replace("}}\n---\n", status);
    let cidr = "{apiVersion: v1, kind: Node, metadata: {name: c}, spec: {podCIDR: 10.3.0.0/24}, \
        status: {addresses: [{type: InternalIP, address: 192.0.2.3}]}}\n---\n";
    for (node, extra) in [("a", None), ("c", Some("10.3.0.1/32"))] {
        let compiler = compiled(node, &(cidr.to_owned() + &limited));
        let rows = rows(&compiler);
        let set = rows["203.0.113.20:80/TCP"].sources;
        assert_ne!(set, SourceSet::NONE);
        let mut others = rows.iter().filter(|(at, _)| !at.starts_with("203.0.113.20"));
        assert!(others.clone().count() >= 2 && others.all(|it| it.1.sources.0 == 0));
        let ranges = compiler.frontends.sets.sources.thing(set.0).expect("it is there");
        let said: Vec<String> =
            ranges.iter().map(|it| format!("{}/{}", it.address, it.len)).collect();
        let stated = ["192.0.2.0/24", "198.51.100.0/24"];
        let expected: Vec<&str> = extra.into_iter().chain(stated).collect();
        assert_eq!(said, expected, "as node {node}");
    }
}

#[test]
fn s27_a_port_of_the_node_leads_to_one_pod_and_another_address_or_protocol_to_another() {
    let pod = |name: &str, node: &str, port: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, \
             containers: [{{name: c, ports: [{{containerPort: 80, hostPort: 8080, {port}}}]}}]}}, \
             status: {{podIPs: [{{ip: 10.1.0.{}}}, {{ip: 'fd01::2'}}]}}}}\n---\n",
            name.len()
        )
    };
    let pods = [
        pod("a", "a", "hostIP: 192.0.2.1"),
        pod("bb", "a", "hostIP: 'fd00::1'"),
        pod("ccc", "a", "protocol: UDP, hostIP: 0.0.0.0"),
        pod("dddd", "b", ""),
        // of two that cannot both have it, the first does
        pod("eeeee", "a", "protocol: UDP"),
    ];
    let compiler = compile(&pods.concat());
    let stand_ins = compiler.stand_ins();
    let places = compiler.places().filter(|it| stand_ins.values().all(|own| *own != it.address));
    assert_eq!(
        places.map(|it| it.to_string()).collect::<Vec<_>>(),
        ["192.0.2.1:8080/TCP", "192.0.2.1:8080/UDP", "[fd00::1]:8080/TCP", "[fd00::1]:8080/UDP"]
    );
    let rows = rows(&compiler);
    for (place, pod) in [("192.0.2.1:8080/TCP", "10.1.0.1"), ("192.0.2.1:8080/UDP", "10.1.0.3")] {
        let row = rows[place];
        assert_eq!((row.kind, row.policy), (FrontendKind::NodePort, TrafficPolicy::Local));
        assert_eq!(members(&compiler, row.local), [pod]);
        assert_eq!(row.cluster, row.local);
    }
    let left_out = ["192.0.2.1:8080/UDP", "[fd00::1]:8080/UDP"];
    let left_out =
        left_out.map(|it| format!("pod default/eeeee: {it} is pod default/ccc's already"));
    assert_eq!(compiler.publication().complaints, left_out);
}

#[test]
fn s11_s27_what_stands_in_for_an_address_of_the_node_has_its_ports_for_the_node_alone() {
    let pod = |name: &str, host: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: a, \
             containers: [{{name: c, ports: [{{containerPort: 80, {host}}}]}}]}}, \
             status: {{podIPs: [{{ip: 10.1.0.{}}}]}}}}\n---\n",
            name.len()
        )
    };
    let pods = [
        pod("a", "hostPort: 8080, hostIP: 127.0.0.1"),
        pod("bb", "hostPort: 8080, hostIP: 192.0.2.1"),
        pod("ccc", "hostPort: 8081"),
    ];
    let node_port = service("clusterIP: 10.96.0.10, type: NodePort, externalTrafficPolicy: Local");
    let compiler = compile(&(pods.concat() + &node_port));
    let stand_ins = compiler.stand_ins();
    let of = |own: &str, port: u16| {
        let address = stand_ins[&own.parse::<std::net::IpAddr>().expect("an address")];
        format!("{}/TCP", std::net::SocketAddr::new(address, port))
    };
    let mut rows = all_rows(&compiler);
    rows.retain(|_, row| row.kind == FrontendKind::OwnNode);
    for (place, pod) in [
        (of("127.0.0.1", 8080), "10.1.0.1"),
        (of("192.0.2.1", 8080), "10.1.0.2"),
        (of("127.0.0.1", 8081), "10.1.0.3"),
        (of("192.0.2.1", 8081), "10.1.0.3"),
    ] {
        let row = rows.remove(&place).unwrap_or_else(|| panic!("{place}: {rows:?}"));
        assert_eq!(members(&compiler, row.cluster), [pod], "{place}");
        let sources = compiler.frontends.sets.sources.thing(row.sources.0);
        let sources = sources.into_iter().flatten().map(|it| format!("{}/{}", it.address, it.len));
        assert!(sources.collect::<Vec<_>>().contains(&"192.0.2.1/32".to_owned()), "{place}");
    }
    let places = [of("127.0.0.1", 30080), of("192.0.2.1", 30080)];
    assert_eq!(rows.keys().collect::<Vec<_>>(), places.iter().collect::<Vec<_>>());
    assert!(rows.values().all(|row| row.policy == TrafficPolicy::Local), "for S9");
    // people are told of the addresses that they know
    let told = &summary(&compiler).frontends;
    assert!(told.iter().all(|it| stand_ins.values().all(|own| *own != it.address)), "{told:?}");
}

#[test]
fn s18_a_node_is_asked_for_the_endpoints_it_has() {
    let spec = "type: LoadBalancer, clusterIP: 10.96.0.10, externalTrafficPolicy: Local, \
                healthCheckNodePort: 32000";
    let pods = pod("1", "a", "10.1.0.2", "") + &pod("2", "b", "10.1.1.2", "");
    let pods = pods.replace("name: 1", "name: p1").replace("name: 2", "name: p2");
    let check = |text: &str| summary(&compile(text)).health_check;
    assert_eq!(check(&(service(spec) + &pods)), Some(HealthCheck { port: 32000, local: 1 }));
    assert_eq!(check(&service(spec)), Some(HealthCheck { port: 32000, local: 0 }));
    let cluster = spec.replace("Local", "Cluster");
    assert_eq!(check(&(service(&cluster) + &pods)), None);
    // what is about to go serves as long as there is nothing else, and is no reason to send more here
    for (ready, local) in [(true, 1), (false, 0)] {
        let conditions =
            format!("conditions: {{ready: {ready}, serving: true, terminating: {}}}", !ready);
        let ending = slice("s", &format!("{{addresses: [10.1.0.2], nodeName: a, {conditions}}}"));
        let compiler = compile(&(service(spec) + &ending));
        assert_eq!(summary(&compiler).local.len(), 1);
        assert_eq!(summary(&compiler).health_check, Some(HealthCheck { port: 32000, local }));
    }
}

#[test]
fn s2_ports_are_known_by_name_and_protocol_and_each_has_its_own_target() {
    let spec = "clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP, targetPort: 5353}, \
                {name: dns-tcp, port: 53, targetPort: 5300}, {name: web, port: 80, targetPort: http}]";
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{app: web}}, {spec}}}}}\n---\n"
    );
    let pods = pod("1", "a", "10.1.0.2", "") + &pod("2", "b", "10.1.1.2", "");
    let pods = pods.replace("name: 1", "name: p1").replace("name: 2", "name: p2");
    let compiler = compile(&(service + &pods.replace("80p", "80")));
    let endpoints = &summary(&compiler).endpoints;
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    // the named port is another in each pod
    let expected = [
        "10.1.0.2:801",
        "10.1.0.2:5300",
        "10.1.0.2:5353",
        "10.1.1.2:802",
        "10.1.1.2:5300",
        "10.1.1.2:5353",
    ];
    assert_eq!(endpoints, expected);
    let rows = rows(&compiler);
    let keys: Vec<_> = rows.keys().map(String::as_str).collect();
    assert_eq!(keys, ["10.96.0.10:53/TCP", "10.96.0.10:53/UDP", "10.96.0.10:80/TCP"]);
    let sets: std::collections::BTreeSet<_> = rows.values().map(|row| row.cluster).collect();
    assert_eq!(sets.len(), 3, "other ports are other endpoints");
    let numbers: std::collections::BTreeSet<_> = rows.values().map(|row| row.number).collect();
    assert_eq!(numbers.len(), 1, "they are one Service's");
}

#[test]
fn s3_slices_are_merged_and_an_endpoint_in_two_of_them_counts_once() {
    let first = endpoint("10.1.0.2", "") + &endpoint("10.1.0.3", "");
    let second = endpoint("10.1.0.3", "") + &endpoint("10.1.0.4", "");
    let manifests = service(VIP) + &slice("s1", &first) + &slice("s2", &second);
    // pods are not looked at where slices say who is there
    let compiler =
        compile(&(manifests + &pod("9", "a", "10.1.0.9", "").replace("name: 9", "name: p")));
    assert_eq!(behind(&compiler).0, ["10.1.0.2", "10.1.0.3", "10.1.0.4"]);
}

#[test]
fn s3_slices_of_other_ports_protocols_services_and_families_do_not_count() {
    let right = slice("right", &endpoint("10.1.0.2", ""));
    for (from, to) in [
        ("{port: 8080}", "{port: 8080, protocol: UDP}"),
        ("{port: 8080}", "{port: 8080, name: other}"),
        ("service-name: web", "service-name: other"),
        ("metadata: {name: wrong,", "metadata: {name: wrong, namespace: other,"),
    ] {
        let wrong = slice("wrong", &endpoint("10.1.0.3", "")).replace(from, to);
        let compiler = compile(&(service(VIP) + &right + &wrong));
        assert_eq!(behind(&compiler).0, ["10.1.0.2"], "{to}");
    }
}

#[test]
fn s4_s5_who_is_ending_counts_when_nobody_is_ready_here_and_anywhere_apart() {
    let here = ", nodeName: a";
    let ending = ", conditions: {ready: false, serving: true, terminating: true}";
    let gone = ", conditions: {ready: false, serving: false, terminating: true}";
    let unready = ", conditions: {ready: false}";
    for (endpoints, cluster, local) in [
        // `ready` is so unless it is said otherwise
        (
            vec![("10.1.0.2", here, ""), ("10.1.1.2", "", ending)],
            vec!["10.1.0.2"],
            vec!["10.1.0.2"],
        ),
        (
            vec![("10.1.0.2", here, ending), ("10.1.1.2", "", "")],
            vec!["10.1.1.2"],
            vec!["10.1.0.2"],
        ),
        (
            vec![("10.1.0.2", here, ending), ("10.1.1.2", "", ending), ("10.1.1.3", "", gone)],
            vec!["10.1.0.2", "10.1.1.2"],
            vec!["10.1.0.2"],
        ),
        (vec![("10.1.0.2", here, unready), ("10.1.1.2", "", gone)], vec![], vec![]),
        (vec![("10.1.0.2", here, unready), ("10.1.1.2", "", "")], vec!["10.1.1.2"], vec![]),
    ] {
        let endpoints: String =
            endpoints.iter().map(|(ip, node, how)| endpoint(ip, &format!("{node}{how}"))).collect();
        let compiler = compile(&(service(VIP) + &slice("s", &endpoints)));
        assert_eq!(behind(&compiler), (strings(&cluster), strings(&local)), "{endpoints}");
    }
}

#[test]
fn s6_hints_keep_connections_near_if_every_endpoint_has_some() {
    let node = |names: &str| format!(", hints: {{forNodes: [{names}]}}");
    let zone = |names: &str| format!(", hints: {{forZones: [{names}]}}");
    let both =
        |zones: &str, nodes: &str| format!(", hints: {{forZones: [{zones}], forNodes: [{nodes}]}}");
    let (a, b) = ("{name: a}", "{name: b}");
    let (east, west) = ("{name: east}", "{name: west}");
    let all = &["10.1.0.2", "10.1.0.3"][..];
    for (first, second, expected) in [
        (node(a), node(b), &["10.1.0.2"][..]),
        (node(b), node(b), all),
        (node(a), String::new(), all),
        (zone(east), zone(west), &["10.1.0.2"]),
        (zone(west), zone("{name: west}, {name: east}"), &["10.1.0.3"]),
        (zone(west), zone(west), all),
        (both(west, a), both(east, b), &["10.1.0.2"]),
        (both(west, b), both(east, b), &["10.1.0.3"]),
    ] {
        let here = ", nodeName: a";
        let endpoints = endpoint("10.1.0.2", &format!("{here}{first}"))
            + &endpoint("10.1.0.3", &format!("{here}{second}"));
        let compiler = compile(&(service(VIP) + &slice("s", &endpoints)));
        let (cluster, local) = behind(&compiler);
        assert_eq!(cluster, expected, "{first} {second}");
        assert_eq!(local, all, "hints say nothing of a policy that is local");
    }
}

#[test]
fn s7_s8_each_policy_is_for_its_own_frontends() {
    use TrafficPolicy::{Cluster, Local};
    let spec = "clusterIP: 10.96.0.10, type: LoadBalancer, externalIPs: [203.0.113.1], \
                internalTrafficPolicy: INTERNAL, externalTrafficPolicy: EXTERNAL";
    for (internal, external) in [(Cluster, Local), (Local, Cluster)] {
        let spec = spec.replace("INTERNAL", &format!("{internal:?}"));
        let spec = spec.replace("EXTERNAL", &format!("{external:?}"));
        let rows = rows(&compile(&service(&spec)));
        for (frontend, kind, policy) in [
            ("10.96.0.10:80/TCP", FrontendKind::ClusterIp, internal),
            ("203.0.113.1:80/TCP", FrontendKind::ExternalIp, external),
            ("192.0.2.1:30080/TCP", FrontendKind::NodePort, external),
        ] {
            let row = rows.get(frontend).unwrap_or_else(|| panic!("{rows:?}"));
            assert_eq!((row.kind, row.policy, row.port), (kind, policy, 80), "{frontend}");
        }
        assert_eq!(rows.len(), 3);
    }
}

#[test]
fn s17_addresses_of_a_load_balancer_count_unless_it_is_its_proxy() {
    let status = "status: {loadBalancer: {ingress: [{ip: 203.0.113.5}, {ip: 203.0.113.6, ipMode: Proxy}, {hostname: x}]}}";
    let balanced = service("clusterIP: 10.96.0.10, type: LoadBalancer");
    let balanced = balanced.replacen("}}\n---", &format!("}}, {status}}}\n---"), 1);
    let rows = rows(&compile(&balanced));
    let kinds: Vec<_> = rows.iter().map(|(place, row)| (place.as_str(), row.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("10.96.0.10:80/TCP", FrontendKind::ClusterIp),
            ("192.0.2.1:30080/TCP", FrontendKind::NodePort),
            ("203.0.113.5:80/TCP", FrontendKind::LoadBalancer),
        ]
    );
}

#[test]
fn s19_affinity_lasts_three_hours_unless_it_is_said() {
    for (spec, seconds) in [
        ("", 0),
        (", sessionAffinity: ClientIP", 10_800),
        (", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}", 5),
    ] {
        let rows = rows(&compile(&service(&format!("{VIP}{spec}"))));
        assert_eq!(rows["10.96.0.10:80/TCP"].affinity_s, seconds);
    }
}

#[test]
fn s22_a_pod_of_its_nodes_network_is_an_endpoint_with_the_nodes_address() {
    let host = pod("1", "b", "10.1.0.9", "").replace("name: 1", "name: p");
    let host = host.replace("nodeName: b", "nodeName: b, hostNetwork: true");
    assert_eq!(behind(&compile(&(service(VIP) + &host))), (strings(&["192.0.2.2"]), vec![]));
}

#[test]
fn s23_each_family_has_frontends_and_endpoints_of_its_own() {
    let spec = "clusterIPs: [10.96.0.10, 'fd96::10'], type: NodePort, externalIPs: ['2001:db8::1']";
    let pods = pod("1", "a", "10.1.0.2", "").replace("name: 1", "name: p");
    let pods = pods.replace("{ip: '10.1.0.2'}", "{ip: 10.1.0.2}, {ip: 'fd01::2'}");
    let compiler = compile(&(service(spec) + &pods));
    let rows = rows(&compiler);
    for (frontend, member) in [
        ("10.96.0.10:80/TCP", "10.1.0.2"),
        ("192.0.2.1:30080/TCP", "10.1.0.2"),
        ("[2001:db8::1]:80/TCP", "fd01::2"),
        ("[fd00::1]:30080/TCP", "fd01::2"),
        ("[fd96::10]:80/TCP", "fd01::2"),
    ] {
        let row = rows.get(frontend).unwrap_or_else(|| panic!("{frontend}: {rows:?}"));
        assert_eq!(members(&compiler, row.cluster), [member], "{frontend}");
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn pods_count_when_they_are_ready_have_an_address_and_are_of_the_services_namespace() {
    let right = pod("1", "a", "10.1.0.2", "").replace("name: 1", "name: right");
    let unready = ", conditions: [{type: Ready, status: 'False'}]";
    for (more, from, to) in [
        (unready, "", ""),
        (", phase: Succeeded", "", ""),
        (", phase: Failed", "", ""),
        ("", "app: web", "app: other"),
        ("", "metadata: {", "metadata: {namespace: other, "),
        ("", "metadata: {", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', "),
        ("", "podIPs: [{ip: '10.1.0.3'}]", "phase: Pending"),
    ] {
        let wrong = pod("1", "a", "10.1.0.3", more).replace("name: 1", "name: wrong");
        let wrong = if from.is_empty() { wrong } else { wrong.replacen(from, to, 1) };
        let compiler = compile(&(service(VIP) + &right + &wrong));
        assert_eq!(behind(&compiler).0, ["10.1.0.2"], "{more} {to}");
    }
    let wrong = pod("1", "a", "10.1.0.3", unready).replace("name: 1", "name: wrong");
    let all = format!("{VIP}, publishNotReadyAddresses: true");
    assert_eq!(behind(&compile(&(service(&all) + &wrong))).0, ["10.1.0.3"]);
    let nobody = service(VIP).replace("selector: {app: web}", "selector: {}");
    assert_eq!(behind(&compile(&(nobody + &right))).0, [""; 0], "nobody is selected by nothing");
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_counts_and_the_other_says_so() {
    let other = service(VIP).replace("name: web", "name: zoo");
    let compiler = compile(&(service(VIP) + &other));
    assert_eq!(rows(&compiler).len(), 1);
    let problems: Vec<_> = compiler
        .publication()
        .services
        .iter()
        .filter_map(|(name, it)| Some((name.to_string(), it.as_ref()?.problems.clone())))
        .collect();
    let expected = "10.96.0.10:80/TCP is Service default/web's already".to_owned();
    assert_eq!(problems, [("default/web".into(), vec![]), ("default/zoo".into(), vec![expected])]);
}

#[test]
fn one_change_is_one_change_and_names_what_it_touches() {
    let services: String = (0..50)
        .map(|n| {
            service(&format!("clusterIP: 10.96.1.{n}")).replace("name: web", &format!("name: s{n}"))
        })
        .collect();
    let before =
        world(&(services.clone() + &service(VIP) + &slice("s", &endpoint("10.1.0.2", ""))));
    let mut compiler = Compiler::new("a");
    compiler.learn(before.clone());
    let generation = compiler.compile().generation;
    compiler.adopt();
    compiler.learn(before);
    let same = compiler.compile();
    assert!(same.delta.is_empty() && same.tags.is_empty());

    let more = endpoint("10.1.0.2", "") + &endpoint("10.1.0.3", "");
    compiler.learn(world(&(services + &service(VIP) + &slice("s", &more))));
    let after = compiler.compile();
    assert_eq!(after.generation, generation + 1);
    let update = after.delta.updates(&Table::ALL, 2, usize::MAX).concat();
    let changes: Vec<_> = Update::new(&update).changes().collect();
    // the Service, its new set, the old one's end, the commit
    assert_eq!(changes.len(), 4, "{changes:?}");
    let number = services::number(&QualifiedName::new("default", "web"));
    assert_eq!(after.tags, [Tag::new(TagKind::Service, number)]);
}

#[test]
fn endpoints_that_services_share_are_one_set() {
    let other = service("clusterIP: 10.96.0.11").replace("name: web", "name: zoo");
    let pods = pod("1", "a", "10.1.0.2", "").replace("name: 1", "name: p");
    let rows = rows(&compile(&(service(VIP) + &other + &pods)));
    assert_eq!(rows["10.96.0.10:80/TCP"].cluster, rows["10.96.0.11:80/TCP"].cluster);
    // here is anywhere
    assert_eq!(rows["10.96.0.10:80/TCP"].cluster, rows["10.96.0.10:80/TCP"].local);
}

#[test]
fn ranges_are_told_as_they_are() {
    let range = "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes}, \
                 spec: {cidrs: [10.96.0.0/12, 'fd96::/112']}}";
    assert_eq!(compile(range).draft.tables().rows_of(Table::Ranges), 2);
}

#[test]
fn too_many_endpoints_are_said_to_be_and_the_rest_counts() {
    let endpoints: String = (0..=u32::from(u16::MAX))
        .map(|n| endpoint(&std::net::Ipv4Addr::from(0x0a10_0000 + n).to_string(), ""))
        .collect();
    let other = service("clusterIP: 10.96.0.11").replace("name: web", "name: zoo");
    let compiler = compile(&(service(VIP) + &slice("s", &endpoints) + &other));
    assert_eq!(rows(&compiler).keys().collect::<Vec<_>>(), ["10.96.0.11:80/TCP"]);
    let web = compiler.publication().services[&QualifiedName::new("default", "web")].as_ref();
    let web = web.expect("it is not gone");
    assert!(web.problems[0].contains("65536"), "{:?}", web.problems);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever was told before, and however sets are numbered by now.
    #[test]
    fn a_node_that_was_told_changes_knows_what_a_new_one_does(
        steps in prop::collection::vec(prop::collection::btree_set(2..8u8, 0..5), 1..6),
    ) {
        let mut compiler = Compiler::new("a");
        for members in steps {
            let endpoints: String =
                members.iter().map(|n| endpoint(&format!("10.1.0.{n}"), "")).collect();
            let world = world(&(service(VIP) + &slice("s", &endpoints)));
            compiler.learn(world);
            compiler.compile();
            let expected: Vec<_> = members.iter().map(|n| format!("10.1.0.{n}")).collect();
            prop_assert_eq!(&behind(&compiler).0, &expected);
            compiler.adopt();
        }
    }
}

#[test]
fn frontends_and_endpoints_are_shown_as_people_write_them() {
    let place: SocketAddr = "[fd96::10]:80".parse().expect("an address and a port");
    let frontend = Frontend { address: place.ip(), port: 80, protocol: Protocol::Sctp };
    assert_eq!(frontend.to_string(), "[fd96::10]:80/SCTP");
    assert_eq!(Endpoint { address: place.ip(), port: 80 }.to_string(), "[fd96::10]:80");
}
