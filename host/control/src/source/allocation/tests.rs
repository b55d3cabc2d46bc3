use std::collections::BTreeMap;

use super::*;
use crate::source::Manifests;
use crate::{AddressPool, QualifiedName};

const RANGE: &str = "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, \
     metadata: {name: kubernetes}, spec: {cidrs: [10.96.0.0/28, 'fd96::/112']}}\n---\n";
const POOL: &str = "{apiVersion: millrace.dev/v1alpha1, kind: AddressPool, \
     metadata: {name: outside}, spec: {cidrs: [203.0.113.0/29, 'fd99::/120']}}\n---\n";

fn services(manifests: &str) -> BTreeMap<QualifiedName, Service> {
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join("a.yaml"), manifests).expect("the folder is there");
    let (world, complaints) = Manifests::open(directory.path()).unwrap().read().unwrap();
    assert_eq!(complaints.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    world.services.services
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
         spec: {{ports: [{{port: 80}}], {spec}}}}}\n---\n"
    )
}

fn addresses(service: &Service) -> Vec<String> {
    cluster_addresses(service).iter().map(ToString::to_string).collect()
}

fn the<'s>(services: &'s BTreeMap<QualifiedName, Service>, name: &str) -> &'s Service {
    &services[&QualifiedName::new("default", name)]
}

#[test]
fn each_service_gets_an_address_of_its_own_and_keeps_it_when_others_come_and_go() {
    let all: String = (0..13).map(|n| service(&format!("s{n}"), "type: ClusterIP")).collect();
    let stated = service("stated", "clusterIP: 10.96.0.7");
    let full = services(&format!("{RANGE}{stated}{all}"));
    let given: BTreeSet<String> = full.values().flat_map(addresses).collect();
    assert_eq!(given.len(), 14, "the network's own address and the last are nobody's: {given:?}");
    assert_eq!(addresses(the(&full, "stated")), ["10.96.0.7"]);
    assert!(!given.contains("10.96.0.0") && !given.contains("10.96.0.15"));
    assert_eq!(full, services(&format!("{RANGE}{all}{stated}")), "their order does not matter");

    let two = service("s3", "type: ClusterIP") + &service("s4", "type: ClusterIP");
    let few = services(&format!("{RANGE}{two}"));
    let fewer = services(&format!("{RANGE}{}", service("s4", "type: ClusterIP")));
    assert_eq!(the(&few, "s4"), the(&fewer, "s4"));

    let one_more = services(&format!("{RANGE}{stated}{all}{}", service("z", "type: ClusterIP")));
    assert_eq!(the(&one_more, "z").cluster_ips, ClusterIps::Unallocated, "there is none left");
}

#[test]
fn s23_the_families_are_those_that_are_asked_for() {
    for (spec, families) in [
        ("type: ClusterIP", "4"),
        ("ipFamilies: [IPv6]", "6"),
        ("ipFamilyPolicy: PreferDualStack", "46"),
        ("ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]", "64"),
        ("ipFamilyPolicy: PreferDualStack, clusterIP: 'fd96::7'", "64"),
        ("clusterIP: 'fd96::7'", "6"),
    ] {
        let services = services(&(RANGE.to_owned() + &service("web", spec)));
        let given = addresses(the(&services, "web"));
        let found: String =
            given.iter().map(|it| if it.contains(':') { '6' } else { '4' }).collect();
        assert_eq!(found, families, "{spec}: {given:?}");
    }
    let headless = services(&(RANGE.to_owned() + &service("web", "clusterIP: None")));
    assert_eq!(the(&headless, "web").cluster_ips, ClusterIps::Headless);
    let name = service("web", "type: ExternalName, externalName: example.com");
    let names = services(&(RANGE.to_owned() + &name));
    assert_eq!(the(&names, "web").cluster_ips, ClusterIps::Unallocated);
    let none = services(&service("web", "type: ClusterIP"));
    assert_eq!(the(&none, "web").cluster_ips, ClusterIps::Unallocated, "there is no range");
}

#[test]
fn s17_s18_node_ports_are_given_to_whom_they_are_due() {
    let ports = "ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}, \
                 {name: c, port: 80, nodePort: 30080}]";
    let service = |spec: &str| {
        let text = format!(
            "{RANGE}{{apiVersion: v1, kind: Service, metadata: {{name: web}}, \
             spec: {{{ports}, {spec}}}}}\n---\n"
        );
        services(&text).into_values().next().expect("it is there")
    };
    let node_ports = |service: &Service| -> Vec<u16> {
        service.ports.iter().filter_map(|port| port.node_port).collect()
    };
    let given = node_ports(&service("type: NodePort"));
    assert!(NODE_PORTS.contains(&given[0]) && given[0] != 30_080, "{given:?}");
    assert_eq!(given, [given[0], given[0], 30_080], "one number with both protocols");
    assert_eq!(node_ports(&service("type: LoadBalancer")), given);
    assert_eq!(node_ports(&service("type: ClusterIP")), [30_080]);
    let stated = service("type: LoadBalancer, allocateLoadBalancerNodePorts: false");
    assert_eq!(node_ports(&stated), [30_080]);

    let checked = service("type: LoadBalancer, externalTrafficPolicy: Local");
    let port = checked.health_check_node_port.expect("it has one");
    assert!(NODE_PORTS.contains(&port) && !node_ports(&checked).contains(&port));
    assert_eq!(
        service("type: NodePort, externalTrafficPolicy: Local").health_check_node_port,
        None
    );
}

#[test]
fn load_balancers_get_addresses_of_pools_unless_somebody_has_given_them_one() {
    let text = [
        RANGE,
        POOL,
        &service("web", "type: LoadBalancer, ipFamilyPolicy: PreferDualStack"),
        &service("plain", "type: NodePort"),
    ];
    let all = services(&text.concat());
    let given: Vec<IpNetwork> =
        the(&all, "web").load_balancer.iter().map(|it| it.address.into()).collect();
    let pools = ["203.0.113.0/29", "fd99::/120"].map(|it| it.parse::<IpNetwork>().unwrap());
    assert_eq!(given.len(), 2, "{given:?}");
    assert!(given.iter().zip(pools).all(|(it, pool)| pool.contains(it.ip())), "{given:?}");
    assert_eq!(the(&all, "plain").load_balancer, []);

    let web = service("web", "type: LoadBalancer");
    let web = web.replace("}}\n", "}, status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}}\n");
    let stated = services(&[RANGE, POOL, &web].concat());
    let given: Vec<_> = the(&stated, "web").load_balancer.iter().map(|it| it.address).collect();
    assert_eq!(given, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_cluster_s_services_get_the_same_addresses_of_pools_and_those_of_another_class_none() {
    let balanced = |name: &str, more: &str| {
        service(name, &format!("type: LoadBalancer, clusterIP: 10.96.0.1{more}"))
    };
    let theirs = ", loadBalancerClass: example.org/theirs";
    let ours = format!(", loadBalancerClass: {}", Service::POOL_CLASS);
    let manifests = balanced("a", "") + &balanced("b", theirs) + &balanced("c", &ours);
    let full = services(&format!("{POOL}{manifests}"));
    let given =
        |name| the(&full, name).load_balancer.iter().map(|it| it.address).collect::<Vec<_>>();
    assert_eq!((given("a").len(), given("b").len(), given("c").len()), (1, 0, 1));

    // an API server gives none
    let mut cluster = World::default();
    let pools = vec!["203.0.113.0/29".parse().unwrap(), "fd99::/120".parse().unwrap()];
    let pool =
        AddressPool { name: "outside".into(), prefixes: pools, announcement: <_>::default() };
    cluster.services.services = full.clone();
    for service in cluster.services.services.values_mut() {
        service.load_balancer.clear();
    }
    assert_eq!(FromPools::of(&cluster).services, [], "there are no pools");
    cluster.services.pools.insert(pool.name.clone(), pool);
    let expected = ["a", "c"].map(|it| (QualifiedName::new("default", it), given(it)));
    assert_eq!(FromPools::of(&cluster).services, expected);
    cluster.services.services = full;
    assert_eq!(FromPools::of(&cluster).services, [], "they have theirs");
}
