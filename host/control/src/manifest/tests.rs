use super::*;

fn read(yaml: &str) -> Result<Object, FieldError> {
    let value: Value = serde_norway::from_str(yaml).unwrap();
    let rough = Rough::of(&value);
    let kind = Kind::find(rough.api_version.unwrap(), rough.kind.unwrap()).unwrap();
    kind.read(value)
}

fn complaint(yaml: &str) -> String {
    read(yaml).unwrap_err().to_string()
}

#[test]
fn the_fields_of_a_pod_that_count_are_read_and_all_others_passed_over() {
    let Object::Pod(pod) = read(
        "{apiVersion: v1, kind: Pod,
          metadata: {namespace: shop, name: web.0, labels: {app: web}, uid: 1234,
            annotations: {kubernetes.io/ingress-bandwidth: 10M, other/one: {}}},
          spec: {nodeName: a, hostNetwork: true, volumes: [],
            containers: [
              {name: web, image: nginx, command: [sh], args: [-c, env],
               ports: [{containerPort: 80, name: http}, {containerPort: 53, protocol: UDP}]},
              {name: side, args: [-v], ports: null}]}}",
    )
    .unwrap() else {
        panic!("it is a pod")
    };
    assert_eq!(pod.name, PodName::new("shop", "web.0"));
    assert_eq!(pod.labels["app"], "web");
    assert_eq!((pod.node.as_deref(), pod.network), (Some("a"), crate::PodNetwork::Host));
    assert_eq!(pod.bandwidth.ingress, Some(crate::BitRate(10_000_000)));
    assert_eq!(pod.bandwidth.egress, None);
    assert_eq!(pod.containers[0].command, ["sh", "-c", "env"]);
    let ports = &pod.containers[0].ports;
    assert_eq!((ports[0].port, ports[0].protocol), (80, crate::Protocol::Tcp));
    assert_eq!((ports[0].name.as_deref(), ports[1].protocol), (Some("http"), crate::Protocol::Udp));
    assert_eq!(pod.containers[1], crate::Container { name: "side".into(), ..<_>::default() });
}

#[test]
fn a_node_has_prefixes_and_the_addresses_that_other_nodes_use() {
    let Object::Node(node) = read(
        "{apiVersion: v1, kind: Node, metadata: {name: a, labels: null},
          spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd01::/64']},
          status: {addresses: [{type: Hostname, address: a}, {type: InternalIP, address: fd00::1},
            {type: InternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 192.0.2.9}]}}",
    )
    .unwrap() else {
        panic!("it is a node")
    };
    assert_eq!(node.pod_cidrs, ["10.1.0.0/24".parse().unwrap(), "fd01::/64".parse().unwrap()]);
    let addresses: [std::net::IpAddr; 2] =
        ["fd00::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    assert_eq!(node.addresses, addresses);
}

#[test]
fn a_node_may_say_its_one_prefix_in_the_old_way() {
    let node =
        read("{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.1.0.0/24}}");
    let Ok(Object::Node(node)) = node else { panic!("it is a node") };
    assert_eq!(node.pod_cidrs, ["10.1.0.0/24".parse().unwrap()]);
}

#[test]
fn n4_a_namespace_has_its_name_as_a_label_whatever_it_says_itself() {
    let namespace = read(
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a, \
         kubernetes.io/metadata.name: forged}}}",
    );
    let Ok(Object::Namespace(namespace)) = namespace else { panic!("it is a namespace") };
    assert_eq!(namespace.labels["team"], "a");
    assert_eq!(namespace.labels["kubernetes.io/metadata.name"], "shop");
}

#[test]
fn a_field_that_is_wrong_is_named_with_what_is_wrong() {
    for (object, wanted) in [
        ("Node, metadata: {}", "metadata: missing field `name`"),
        ("Node, metadata: {name: 'A'}", "metadata.name: `A` is no name: use"),
        ("Node, metadata: {name: a..b}", "metadata.name: `a..b` is no name: use"),
        (
            "Node, metadata: {name: 7}",
            "metadata.name: invalid type: integer `7`, expected a string",
        ),
        ("Node, metadata: {name: a, labels: {b: 1}}", "metadata.labels.b: invalid type: integer"),
        (
            "Node, metadata: {name: a}, spec: {podCIDRs: [10.1.0.0/24, 10.2.0.0/33]}",
            "spec.podCIDRs[1]: `10.2.0.0/33` is no prefix: write",
        ),
        (
            "Node, metadata: {name: a}, spec: {podCIDRs: [10.1.0.0]}",
            "spec.podCIDRs[0]: `10.1.0.0` is no prefix: write",
        ),
        (
            "Node, metadata: {name: a}, spec: {podCIDRs: [10.1.0.1/24]}",
            "spec.podCIDRs[0]: `10.1.0.1/24` has bits behind its length: write 10.1.0.0/24",
        ),
        (
            "Node, metadata: {name: a}, spec: {podCIDRs: [10.1.0.0/24, 10.2.0.0/24]}",
            "spec.podCIDRs[1]: `10.2.0.0/24` is the second IPv4 prefix, one is the most",
        ),
        (
            "Node, metadata: {name: a}, spec: {podCIDR: 10.2.0.0/24, podCIDRs: [10.1.0.0/24]}",
            "spec.podCIDR: `10.2.0.0/24` is not the first of `podCIDRs`, which is 10.1.0.0/24",
        ),
        (
            "Service, metadata: {name: a}, spec: {clusterIP: a}",
            "spec.clusterIP: `a` is no IP address",
        ),
        (
            "Service, metadata: {name: a}, spec: {clusterIPs: [10.96.0.1, 10.96.0.2]}",
            "spec.clusterIPs[1]: `10.96.0.2` is the second address of its family",
        ),
        (
            "Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.1]}",
            "spec.clusterIP: `10.96.0.2` is not the first of `clusterIPs`, which is 10.96.0.1",
        ),
        (
            "Service, metadata: {name: a}, spec: {clusterIP: 127.0.0.1}",
            "spec.clusterIP: `127.0.0.1` is no address that anybody can have",
        ),
        (
            "Service, metadata: {name: a}, spec: {ports: [{port: 1, name: x}, {port: 2}]}",
            "spec.ports[1].name: of several ports each has a name",
        ),
        (
            "Service, metadata: {name: a}, spec: {ports: [{port: 1, name: x}, {port: 2, name: x}]}",
            "spec.ports[1].name: `x` is another port",
        ),
        (
            "Service, metadata: {name: a}, spec: {ports: [{port: 1, name: x}, {port: 1, name: y}]}",
            "spec.ports[1].port: 1/TCP is there already",
        ),
        (
            "Service, metadata: {name: a}, spec: {ports: [{port: 1, targetPort: 0}]}",
            "spec.ports[0].targetPort: expected a port's number, 1 to 65535, or its name",
        ),
        (
            "Service, metadata: {name: a}, spec: {sessionAffinity: ClientIP, \
             sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not within 1 and 86400",
        ),
        (
            "Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: a}]}",
            "status.addresses[0].address: `a` is no IP address",
        ),
        ("Namespace, metadata: {name: a.b}", "metadata.name: `a.b` is no name: use"),
        ("Pod, metadata: {name: a}", "missing field `spec`"),
        ("Pod, metadata: {name: a}, spec: {}", "spec: missing field `containers`"),
        (
            "Pod, metadata: {name: a}, spec: {containers: []}",
            "spec.containers: a pod has one container at least",
        ),
        (
            "Pod, metadata: {name: a, namespace: ''}, spec: {containers: [{name: b}]}",
            "metadata.namespace: `` is no name",
        ),
        (
            "Pod, metadata: {name: a}, spec: {containers: [{name: b}, {name: c}, {name: b}]}",
            "spec.containers[2].name: `b` is another container",
        ),
        (
            "Pod, metadata: {name: a}, spec: {containers: [{name: b, ports: [{containerPort: 0}]}]}",
            "spec.containers[0].ports[0].containerPort: invalid value: integer `0`",
        ),
        (
            "Pod, metadata: {name: a}, spec: {containers: [{name: b, ports: [{containerPort: 1, \
             protocol: tcp}]}]}",
            "spec.containers[0].ports[0].protocol: unknown variant `tcp`, expected one of",
        ),
        (
            "Pod, metadata: {name: a, annotations: {kubernetes.io/egress-bandwidth: fast}}, spec: \
             {containers: [{name: b}]}",
            "metadata.annotations[kubernetes.io/egress-bandwidth]: `fast` is no bit rate: begin",
        ),
        (
            "Pod, metadata: {name: a, annotations: {millrace.dev/weight: '101'}}, spec: \
             {containers: [{name: b}]}",
            "metadata.annotations[millrace.dev/weight]: `101` is no weight: it is a number from 1",
        ),
        (
            "Service, metadata: {name: a, annotations: {millrace.dev/algorithm: least}}, spec: \
             {ports: [{port: 80}]}",
            "metadata.annotations[millrace.dev/algorithm]: unknown variant `least`, expected one of",
        ),
    ] {
        let complaint = complaint(&format!("{{apiVersion: v1, kind: {object}}}"));
        let found = complaint.trim_start_matches(": ");
        assert!(found.starts_with(wanted), "{object}\nwanted {wanted}\nfound  {found}");
    }
}
