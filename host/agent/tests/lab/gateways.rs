//! Gateways: listeners at addresses of a pool, whose routes lead who comes from outside to Services.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use crate::bed::{Bed, NODES, until};
use crate::talk::{Talk, ask};

#[test]
fn routes_of_a_gateway_lead_to_services_by_their_weights_and_what_is_open_stays() {
    let services = [SERVICES, GATEWAY].join("---");
    let routes = |near: u32, far: u32| {
        ROUTES.replace("NEAR", &near.to_string()).replace("FAR", &far.to_string())
    };
    let manifests = [
        ("nodes.yaml", NODES),
        ("pods.yaml", PODS),
        ("services.yaml", &services),
        ("routes.yaml", &routes(1, 1)),
    ];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let outside = bed.outside();
    let who = |place| {
        let mut talk = Talk::open(&outside, place).expect("it is served");
        talk.say("who").expect("it is answered").server
    };
    let mut open = Vec::new();
    for address in ADDRESSES {
        let address: IpAddr = address.parse().expect("an address");
        let tcp = SocketAddr::new(address, 80);
        let both = BTreeSet::from(["default/far".to_owned(), "default/near".to_owned()]);
        let mut seen = BTreeSet::new();
        until(|| {
            seen.insert(who(tcp));
            (seen == both).then_some(())
        });
        // of two listeners with one port each has its own
        let (_, answer) = ask(&outside, SocketAddr::new(address, 80)).expect("it is answered");
        assert_eq!(answer.server, "default/near");
        // a listener without a route, a route without a Service, and a port that nobody listens at
        for port in [81, 82] {
            let refused = Talk::open(&outside, SocketAddr::new(address, port)).map(drop);
            assert_eq!(refused.expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
        }
        let mut talk = Talk::open(&outside, tcp).expect("it is served");
        let server = talk.say("first").expect("it is answered").server;
        open.push((talk, server));
    }

    bed.write(&[("routes.yaml", &routes(0, 1))]);
    bed.done(&["apply", &bed.folder()]);
    for address in ADDRESSES {
        let place = SocketAddr::new(address.parse().expect("an address"), 80);
        for _ in 0..20 {
            assert_eq!(who(place), "default/far");
        }
    }
    for (mut talk, server) in open {
        assert_eq!(talk.say("still").expect("it is open").server, server);
    }
}

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: near, labels: {app: near}},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, labels: {app: far}},
 spec: {nodeName: west, containers: [{name: server, image: none}]}}
";
const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: near},
 spec: {clusterIPs: [10.96.0.10, 'fd96::10'], selector: {app: near},
  ports: [{name: tcp, port: 7}, {name: udp, port: 7, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far},
 spec: {clusterIPs: [10.96.0.11, 'fd96::11'], selector: {app: far}, ports: [{port: 7}]}}
";
/// The pool is of the underlay's own subnets.
const GATEWAY: &str = "
{apiVersion: millrace.dev/v1alpha1, kind: AddressPool, metadata: {name: underlay},
 spec: {cidrs: [172.30.0.192/28, 'fd30::c0/124']}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: millrace},
 spec: {controllerName: millrace.dev/gateway}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge},
 spec: {gatewayClassName: millrace,
  addresses: [{value: 172.30.0.200}, {value: 'fd30::c8'}],
  listeners: [{name: tcp, port: 80, protocol: TCP}, {name: udp, port: 80, protocol: UDP},
   {name: idle, port: 81, protocol: TCP}, {name: lost, port: 82, protocol: TCP}]}}
";
const ROUTES: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: web},
 spec: {parentRefs: [{name: edge, sectionName: tcp}], rules: [{backendRefs: [
  {name: near, port: 7, weight: NEAR}, {name: far, port: 7, weight: FAR}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: lost},
 spec: {parentRefs: [{name: edge, sectionName: lost}],
  rules: [{backendRefs: [{name: gone, port: 7}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {name: web},
 spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: near, port: 7}]}]}}
";
const ADDRESSES: [&str; 2] = ["172.30.0.200", "fd30::c8"];
