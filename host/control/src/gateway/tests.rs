use std::collections::BTreeMap;

use crate::gateway::Judgement;
use crate::source::{FromPools, Manifests};
use crate::{Verdict, World};

/// A world of manifests, on top of what all of these tests have.
fn world(manifests: &[&str]) -> World {
    let directory = tempfile::tempdir().expect("a folder");
    let text = [BASE, &manifests.join("\n---\n")].join("\n---\n");
    std::fs::write(directory.path().join("a.yaml"), text).expect("the folder is there");
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!(complaints.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    world
}

fn judged(manifests: &[&str]) -> Judgement {
    let world = world(manifests);
    Judgement::of(&world.gateways, &world)
}

/// `Accepted`, or `Accepted=False: Invalid`, of each.
fn said(verdicts: &[Verdict]) -> Vec<String> {
    let text = |it: &Verdict| match it.is_so {
        true if it.about == it.reason => it.about.to_owned(),
        is_so => format!("{}={is_so}: {}", it.about, it.reason),
    };
    verdicts.iter().map(text).collect()
}

/// What is said of the only Gateway.
fn of_gateway(judgement: &Judgement) -> Vec<String> {
    said(&judgement.gateways.values().next().expect("there is one").verdicts)
}

/// What is said of its listeners, by their names.
fn of_listeners(judgement: &Judgement) -> BTreeMap<&str, Vec<String>> {
    let gateway = judgement.gateways.values().next().expect("there is one");
    gateway.listeners.iter().map(|it| (&*it.name, said(&it.verdicts))).collect()
}

/// The routes of its listeners, likewise.
fn attached(judgement: &Judgement) -> BTreeMap<&str, Vec<String>> {
    let gateway = judgement.gateways.values().next().expect("there is one");
    let names = |it: &super::JudgedListener| it.routes.iter().map(ToString::to_string).collect();
    gateway.listeners.iter().map(|it| (&*it.name, names(it))).collect()
}

/// What is said of routes at their only parent, by their names.
fn of_routes(judgement: &Judgement) -> BTreeMap<String, Vec<String>> {
    let routes = judgement.routes.iter();
    routes.map(|(name, it)| (name.name.to_string(), said(&it[0].verdicts))).collect()
}

fn gateway(listeners: &str, more: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: edge}}, \
         spec: {{gatewayClassName: millrace, listeners: [{listeners}], {more}}}}}"
    )
}

fn route(name: &str, parent: &str, backends: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {{{name}}}, \
         spec: {{parentRefs: [{{name: edge, {parent}}}], rules: [{{backendRefs: [{backends}]}}]}}}}"
    )
}

const BASE: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: millrace},
 spec: {controllerName: millrace.dev/gateway}}
---
{apiVersion: millrace.dev/v1alpha1, kind: AddressPool, metadata: {name: outside},
 spec: {cidrs: [203.0.113.0/28, 'fd99::/120']}}
---
{apiVersion: v1, kind: Service, metadata: {name: web},
 spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: a, port: 80},
   {name: b, port: 53, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop},
 spec: {clusterIP: 10.96.0.2, selector: {app: db}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
";
const TCP: &str = "{name: tcp, port: 80, protocol: TCP}";
const UDP: &str = "{name: udp, port: 80, protocol: UDP}";
const WEB: &str = "{name: web, port: 80}";

#[test]
fn a_gateway_gets_an_address_of_each_family_and_its_listeners_have_the_routes_that_name_them() {
    let listeners = format!("{TCP}, {UDP}, {{name: other, port: 81, protocol: TCP}}");
    let judgement = judged(&[
        &gateway(&listeners, ""),
        &route("name: all", "", WEB),
        &route("name: one", "sectionName: other", WEB),
        &route("name: port", "port: 81", WEB),
        &route("name: both", "port: 80, sectionName: other", WEB),
        &route("name: udp", "sectionName: udp", WEB),
    ]);
    assert_eq!(said(&judgement.classes["millrace"]), ["Accepted"]);
    assert_eq!(of_gateway(&judgement), ["Accepted", "Programmed"]);
    let gateway = judgement.gateways.values().next().expect("there is one");
    assert_eq!(gateway.addresses.iter().map(|it| it.is_ipv4()).collect::<Vec<_>>(), [true, false]);
    let expected = ["Accepted", "ResolvedRefs", "Conflicted=false: NoConflicts", "Programmed"];
    assert!(of_listeners(&judgement).values().all(|it| *it == expected));
    let attached = attached(&judgement);
    assert_eq!(attached["tcp"], ["TCPRoute default/all"]);
    assert_eq!(attached["udp"], [""; 0]);
    assert_eq!(
        attached["other"],
        ["TCPRoute default/all", "TCPRoute default/one", "TCPRoute default/port"]
    );
    let routes = of_routes(&judgement);
    assert_eq!(routes["default/all"], ["Accepted", "ResolvedRefs"]);
    assert_eq!(routes["default/both"], ["Accepted=false: NoMatchingParent", "ResolvedRefs"]);
    assert_eq!(routes["default/udp"], ["Accepted=false: NotAllowedByListeners", "ResolvedRefs"]);
}

#[test]
fn the_example_is_in_force_as_it_stands() {
    let directory = tempfile::tempdir().expect("a folder");
    for (file, text) in [
        ("a.yaml", include_str!("../../../../examples/lab/services.yaml")),
        ("b.yaml", include_str!("../../../../examples/gateway/edge.yaml")),
    ] {
        std::fs::write(directory.path().join(file), text).expect("the folder is there");
    }
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!(complaints, []);
    let judgement = Judgement::of(&world.gateways, &world);
    assert_eq!(of_gateway(&judgement), ["Accepted", "Programmed"]);
    let routes: Vec<_> = judgement.routes.values().map(|it| said(&it[0].verdicts)).collect();
    assert_eq!(routes, [["Accepted", "ResolvedRefs"]; 2]);
}

#[test]
fn the_oldest_route_of_a_listener_goes_first_and_the_others_are_its_routes_as_well() {
    let judgement = judged(&[
        &gateway(TCP, ""),
        &route("name: a, creationTimestamp: '2026-01-02T00:00:00Z'", "", WEB),
        &route("name: b, creationTimestamp: '2026-01-01T00:00:00Z'", "", WEB),
        &route("name: c, creationTimestamp: '2026-01-01T00:00:00Z'", "", WEB),
    ]);
    let expected = ["b", "c", "a"].map(|it| format!("TCPRoute default/{it}"));
    assert_eq!(attached(&judgement)["tcp"], expected);
    assert!(of_routes(&judgement).values().all(|it| it[0] == "Accepted"));
}

#[test]
fn a_listener_takes_routes_of_the_namespaces_and_kinds_that_it_says() {
    let names = ["name: here", "name: there, namespace: shop"];
    let listener = |allowed: &str| format!("{{name: tcp, port: 80, protocol: TCP, {allowed}}}");
    for (allowed, taken) in [
        ("", &["default/here"][..]),
        ("allowedRoutes: {namespaces: {from: Same}}", &["default/here"]),
        ("allowedRoutes: {namespaces: {from: All}}", &["default/here", "shop/there"]),
        (
            "allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
            &["shop/there"],
        ),
        ("allowedRoutes: {kinds: [{kind: TCPRoute}]}", &["default/here"]),
        ("allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: HTTPRoute}]}", &["default/here"]),
        ("allowedRoutes: {kinds: [{kind: UDPRoute}]}", &[]),
        ("allowedRoutes: {kinds: [{group: example.org, kind: TCPRoute}]}", &[]),
    ] {
        let routes = names.map(|name| route(name, "namespace: default", ""));
        let judgement = judged(&[&gateway(&listener(allowed), ""), &routes[0], &routes[1]]);
        let expected: Vec<_> = taken.iter().map(|it| format!("TCPRoute {it}")).collect();
        assert_eq!(attached(&judgement)["tcp"], expected, "{allowed}");
        let strange = allowed.contains("HTTPRoute") || taken.is_empty();
        let resolved = ["ResolvedRefs", "ResolvedRefs=false: InvalidRouteKinds"];
        assert_eq!(of_listeners(&judgement)["tcp"][1], resolved[usize::from(strange)], "{allowed}");
    }
}

#[test]
fn a_backend_that_cannot_be_named_is_said_to_be_so_and_the_route_counts() {
    let grant = |from: &str, to: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, \
             metadata: {{name: g, namespace: shop}}, spec: {{\
             from: [{{group: gateway.networking.k8s.io, {from}}}], to: [{{group: '', {to}}}]}}}}"
        )
    };
    let theirs = "{name: db, namespace: shop, port: 80}";
    let ours = "kind: TCPRoute, namespace: default";
    for (backend, grant, why) in [
        (WEB, String::new(), ""),
        ("{name: gone, port: 80}", String::new(), "BackendNotFound"),
        ("{name: web, port: 81}", String::new(), "BackendNotFound"),
        // of another protocol
        ("{name: web, port: 53}", String::new(), "BackendNotFound"),
        ("{name: web}", String::new(), "BackendNotFound"),
        ("{name: web, port: 80, kind: Pod}", String::new(), "InvalidKind"),
        ("{name: web, port: 80, group: example.org}", String::new(), "InvalidKind"),
        (theirs, String::new(), "RefNotPermitted"),
        (theirs, grant(ours, "kind: Service"), ""),
        (theirs, grant(ours, "kind: Service, name: db"), ""),
        (theirs, grant(ours, "kind: Service, name: web"), "RefNotPermitted"),
        (theirs, grant(ours, "kind: Secret"), "RefNotPermitted"),
        (theirs, grant("kind: UDPRoute, namespace: default", "kind: Service"), "RefNotPermitted"),
        (theirs, grant("kind: TCPRoute, namespace: shop", "kind: Service"), "RefNotPermitted"),
    ] {
        let judgement = judged(&[&gateway(TCP, ""), &route("name: r", "", backend), &grant]);
        let resolved = match why {
            "" => "ResolvedRefs".to_owned(),
            why => format!("ResolvedRefs=false: {why}"),
        };
        assert_eq!(
            of_routes(&judgement)["default/r"],
            ["Accepted", &*resolved],
            "{backend} {grant}"
        );
    }
}

#[test]
fn listeners_that_cannot_be_served_leave_the_others_so() {
    let http = "{name: http, port: 81, protocol: HTTP}";
    let tls = "{name: tls, port: 82, protocol: TCP, tls: {mode: Terminate}}";
    let judgement = judged(&[&gateway(&[TCP, UDP, http, tls].join(", "), "")]);
    assert_eq!(of_gateway(&judgement), ["Accepted=true: ListenersNotValid", "Programmed"]);
    let listeners = of_listeners(&judgement);
    assert_eq!((&*listeners["tcp"][0], &*listeners["udp"][0]), ("Accepted", "Accepted"));
    assert_eq!(listeners["http"][0], "Accepted=false: UnsupportedProtocol");
    assert_eq!(listeners["http"][3], "Programmed=false: Invalid");
    assert_eq!(listeners["tls"][0], "Accepted=false: UnsupportedValue");

    let judgement = judged(&[&gateway(http, "")]);
    let expected = ["Accepted=false: ListenersNotValid", "Programmed=false: Invalid"];
    assert_eq!(of_gateway(&judgement), expected);

    // nobody wins
    let rival = "{name: rival, port: 80, protocol: TLS}";
    let judgement = judged(&[&gateway(&[TCP, UDP, rival].join(", "), "")]);
    let listeners = of_listeners(&judgement);
    assert_eq!(listeners["tcp"][0], "Accepted=false: ProtocolConflict");
    for name in ["tcp", "rival"] {
        assert_eq!(listeners[name][2], "Conflicted=true: ProtocolConflict");
    }
    assert_eq!(listeners["udp"][0], "Accepted");
}

#[test]
fn a_gateway_has_addresses_of_pools_that_nobody_else_has() {
    let balanced = "{apiVersion: v1, kind: Service, metadata: {name: lb}, spec: {type: LoadBalancer, \
        clusterIP: 10.96.0.3, ports: [{port: 80}]}, \
        status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}}";
    for (addresses, given, why) in [
        ("{value: 203.0.113.9}", 1, ""),
        ("{value: 203.0.113.9}, {value: 'fd99::9'}", 2, ""),
        ("{type: IPAddress}", 2, ""),
        ("{value: 203.0.113.9}, {value: ''}", 2, ""),
        ("{value: 203.0.113.5}", 0, "AddressNotUsable"),
        ("{value: 192.0.2.1}", 0, "AddressNotUsable"),
        ("{value: nonsense}", 0, "AddressNotUsable"),
        ("{value: 203.0.113.9}, {value: 192.0.2.1}", 1, "AddressNotUsable"),
        ("{type: Hostname, value: example.org}", 0, "Invalid"),
    ] {
        let judgement = judged(&[balanced, &gateway(TCP, &format!("addresses: [{addresses}]"))]);
        let gateway = judgement.gateways.values().next().expect("there is one");
        assert_eq!(gateway.addresses.len(), given, "{addresses}");
        let programmed = match why {
            "" => "Programmed".to_owned(),
            why => format!("Programmed=false: {why}"),
        };
        let accepted = match why {
            "Invalid" => "Accepted=false: UnsupportedAddress",
            _ => "Accepted",
        };
        assert_eq!(of_gateway(&judgement), [accepted, &*programmed], "{addresses}");
    }
}

#[test]
fn of_two_gateways_that_state_one_address_the_first_by_name_has_it() {
    let stated = gateway(TCP, "addresses: [{value: 203.0.113.9}]");
    let judgement = judged(&[&stated, &stated.replace("name: edge", "name: core")]);
    let addresses = judgement.gateways.iter();
    let addresses: Vec<_> = addresses.map(|(name, it)| (&*name.name, it.addresses.len())).collect();
    assert_eq!(addresses, [("core", 1), ("edge", 0)]);
}

#[test]
fn what_is_of_another_controller_is_left_alone() {
    let class = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, \
        metadata: {name: theirs}, spec: {controllerName: example.org/gateway}}";
    let theirs = gateway(TCP, "").replace("gatewayClassName: millrace", "gatewayClassName: theirs");
    let world = world(&[class, &theirs, &route("name: r", "", WEB)]);
    let judgement = Judgement::of(&world.gateways, &world);
    assert_eq!(judgement.classes.keys().collect::<Vec<_>>(), ["millrace"]);
    assert!(judgement.gateways.is_empty() && judgement.routes.is_empty());
    let given = world.gateways.gateways.values().flat_map(|it| &it.given);
    assert_eq!(given.count(), 0, "they get no address of ours");
}

#[test]
fn a_class_with_parameters_is_not_accepted_and_its_gateways_are_nobodys() {
    let class = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: x}, \
        spec: {controllerName: millrace.dev/gateway, \
          parametersRef: {group: '', kind: ConfigMap, name: c, namespace: d}}}";
    let edge = gateway(TCP, "").replace("gatewayClassName: millrace", "gatewayClassName: x");
    let judgement = judged(&[class, &edge]);
    assert_eq!(said(&judgement.classes["x"]), ["Accepted=false: InvalidParameters"]);
    assert!(judgement.gateways.is_empty());
}

#[test]
fn in_a_cluster_a_gateway_is_to_get_what_manifests_would_give_it_and_keeps_it() {
    let full = world(&[&gateway(TCP, "")]);
    let mut bare = full.clone();
    bare.gateways.gateways.values_mut().for_each(|it| it.given.clear());
    assert_eq!(FromPools::of(&bare).gateways, full.gateways);
    let judgement = Judgement::of(&bare.gateways, &bare);
    let expected = ["Accepted", "Programmed=false: AddressNotAssigned"];
    assert_eq!(of_gateway(&judgement), expected);
    // whatever becomes of the pool
    let mut poor = full.clone();
    poor.services.pools.clear();
    assert_eq!(FromPools::of(&poor).gateways, full.gateways);
    assert_eq!(of_gateway(&Judgement::of(&poor.gateways, &poor)), ["Accepted", "Programmed"]);
}
