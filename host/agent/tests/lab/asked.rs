//! What load balancers outside ask nodes, and whom Services let in: real packets for S16, S18, S22.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, Route};

use crate::bed::{Bed, NODES, PATIENCE, until};
use crate::talk::{Talk, ask};

#[test]
fn s18_load_balancers_are_told_who_has_endpoints_and_which_nodes_are_well_and_stay() {
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", SERVICES)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let outside = bed.outside();
    let asked = |node: &str, port: u16, path: &str| {
        let answers =
            bed.node(node).1.into_iter().map(|it| page(&outside, (it, port).into(), path));
        let mut answers: Vec<_> = answers.map(|it| it.expect("it is answered")).collect();
        // who asks later is told a later time
        for body in answers.iter_mut().filter_map(|(_, body)| body.as_object_mut()) {
            body.retain(|name, _| !["lastUpdated", "currentTime"].contains(&name.as_str()));
        }
        assert_eq!(answers[0], answers[1], "by both families");
        answers[0].clone()
    };
    let (status, body) = asked("east", HEALTH_CHECK, "/");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["localEndpoints"], 1, "{body}");
    assert_eq!(asked("west", HEALTH_CHECK, "/").0, 503);
    for node in ["east", "west"] {
        for path in ["/healthz", "/livez"] {
            assert_eq!(asked(node, HEALTH, path).0, 200, "{node}{path}");
        }
    }

    // the pod moves behind another Service, and the node is to be taken away
    let tainted = NODES.replacen(
        "name: east\nspec:\n",
        "name: east\nspec:\n  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]\n",
        1,
    );
    assert_ne!(tainted, NODES);
    bed.write(&[("nodes.yaml", &tainted), ("pods.yaml", &PODS.replace("side: east", "side: no"))]);
    bed.done(&["apply", &bed.folder()]);
    assert_eq!(asked("east", HEALTH_CHECK, "/").0, 503);
    let (status, body) = asked("east", HEALTH, "/healthz");
    assert_eq!((status, &body["nodeEligible"]), (503, &false.into()), "{body}");
    assert_eq!(asked("east", HEALTH, "/livez").0, 200);
    assert_eq!(asked("west", HEALTH, "/healthz").0, 200);

    // nobody asks for a Service that does not say so any more
    bed.write(&[("services.yaml", &SERVICES.replace("externalTrafficPolicy: Local", ""))]);
    bed.done(&["apply", &bed.folder()]);
    let gone = SocketAddr::new(bed.node("east").1[0], HEALTH_CHECK);
    until(|| page(&outside, gone, "/").is_err().then_some(()));
}

#[test]
fn s16_a_load_balancer_is_for_some_and_the_other_addresses_of_its_service_for_all() {
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", SERVICES)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let (outside, east) = (bed.outside(), bed.node("east"));
    let net = outside.netlink().expect("it is there");
    let places = ["203.0.113.30", "10.96.0.20"];
    for place in places {
        let to = IpNetwork::from(place.parse::<IpAddr>().expect("an address"));
        net.add_route(&Route::to(to).via(east.1[0])).expect("there is none yet");
    }
    // its address on the underlay may, and what is behind it may not
    let [near, far] = ["addresses", "worldWide"].map(|kind| {
        let address = bed.state()["outside"][kind][0].clone();
        address.as_str().expect("an address").parse::<IpAddr>().expect("it is one")
    });
    let limited = bed.limit(&near);
    let balanced: SocketAddr = "203.0.113.30:7".parse().expect("a place");
    assert_eq!(datagram(&outside, near, balanced).expect("it may"), balanced, "{limited}");
    let before = bed.kept_out();
    assert_eq!(datagram(&outside, far, balanced).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(bed.kept_out(), before + 1);
    // pods are as others are
    let (client, _) = bed.pod("client");
    let any = IpAddr::from([0; 4]);
    assert_eq!(datagram(&client, any, balanced).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(bed.kept_out(), before + 2);

    // what is not the load balancer's is for everybody
    for place in ["10.96.0.20:7".parse().expect("a place"), SocketAddr::new(east.1[0], NODE_PORT)] {
        assert_eq!(datagram(&outside, far, place).expect("it may"), place);
        assert_eq!(datagram(&client, any, place).expect("it may"), place);
    }
}

#[test]
fn s22_a_pod_in_its_nodes_network_serves_and_sees_clients_of_its_own_node() {
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", SERVICES)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    for place in ["10.96.0.30:7", "[fd96::30]:7"] {
        let place: SocketAddr = place.parse().expect("a place");
        let (client, _) = bed.pod("client");
        let mut talk = Talk::open(&client, place).expect("it serves");
        let answer = talk.say("who").expect("it is answered");
        assert_eq!((&*answer.server, answer.client), ("default/host", talk.client()));
        let (source, answer) = ask(&client, place).expect("it is answered");
        assert_eq!((&*answer.server, answer.client), ("default/host", source));
        // and so it is from another node
        let (other, _) = bed.pod("other");
        let mut talk = Talk::open(&other, place).expect("it serves");
        let answer = talk.say("who").expect("it is answered");
        assert_eq!((&*answer.server, answer.client), ("default/host", talk.client()));
        // and who is in that network, too, by an address that is not its own
        let (host, own) = bed.node("east");
        let mut talk = Talk::open(&host, place).expect("it serves");
        let answer = talk.say("who").expect("it is answered");
        assert_eq!(answer.server, "default/host");
        assert!(!own.contains(&answer.client.ip()), "{}", answer.client);
        assert_eq!(ask(&host, place).expect("it is answered").1.server, "default/host");
    }
}

impl Bed {
    /// Has the load balancer be for one address alone.
    fn limit(&self, address: &IpAddr) -> String {
        let ranges = format!("loadBalancerSourceRanges: [' {address}/32 ']");
        let services = SERVICES.replace("loadBalancerSourceRanges: []", &ranges);
        self.write(&[("services.yaml", &services)]);
        self.done(&["apply", &self.folder()]);
        ranges
    }

    /// Packets that a node has dropped because of where they come from.
    fn kept_out(&self) -> u64 {
        let drops = self.asked("east", &["drops"]);
        let drops = drops.as_array().expect("a list").iter();
        drops
            .filter(|it| it["reason"] == "source-range")
            .filter_map(|it| it["packets"].as_u64())
            .sum()
    }
}

/// Asks with a datagram from an address; who has answered.
fn datagram(from: &Namespace, own: IpAddr, to: SocketAddr) -> io::Result<SocketAddr> {
    let socket = from.run(|| UdpSocket::bind((own, 0))).expect("a namespace")?;
    socket.set_read_timeout(Some(std::time::Duration::from_millis(500)))?;
    socket.send_to(b"who", to)?;
    socket.recv_from(&mut [0; 512]).map(|(_, from)| from)
}

/// What is answered at a place: the status, and what it says as JSON.
fn page(from: &Namespace, at: SocketAddr, path: &str) -> io::Result<(u16, serde_json::Value)> {
    let connect = || TcpStream::connect_timeout(&at, PATIENCE);
    let mut stream = from.run(connect).expect("a namespace")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    Ok((status.ok_or(ErrorKind::InvalidData)?, serde_json::from_str(body)?))
}

const HEALTH: u16 = 10_256;
const HEALTH_CHECK: u16 = 32_000;
const NODE_PORT: u16 = 30_090;
const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other},
 spec: {nodeName: west, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: near, labels: {side: east}},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host, labels: {app: host}},
 spec: {nodeName: east, hostNetwork: true, containers: [{name: server, image: none}]}}
";
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, 'fd96::10']
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  selector: {side: east}
  ports: [{port: 7, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: limited}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.20
  loadBalancerSourceRanges: []
  selector: {side: east}
  ports: [{port: 7, protocol: UDP, nodePort: 30090}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.30}]}}
---
apiVersion: v1
kind: Service
metadata: {name: host}
spec:
  clusterIPs: [10.96.0.30, 'fd96::30']
  selector: {app: host}
  ports:
  - {name: echo, port: 7}
  - {name: echo-udp, port: 7, protocol: UDP}
";
