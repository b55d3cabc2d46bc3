//! Services that are reached from outside the cluster, from the host itself, and from pods by the
//! same addresses: who serves, and whom the server sees (S8 to S11).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, Neighbour, NeighbourState, Route};

use crate::bed::{Bed, NODES, until};
use crate::talk::{Talk, ask};

#[test]
fn s8_s11_s24_who_comes_from_outside_is_masqueraded_unless_local_endpoints_alone_count() {
    let Some(shop) = Shop::open() else { return };
    let (outside, [east, west]) = (shop.bed.outside(), shop.nodes.clone());
    for family in [0, 1] {
        let node_port = SocketAddr::new(east[family], EVERYWHERE);
        let cluster_ip = SocketAddr::new(CLUSTER_IPS[family].parse().unwrap(), 7);
        for place in [node_port, cluster_ip, at(EXTERNAL[family]), at(BALANCED[family])] {
            let seen = shop.served(&outside, place, &["near", "far"]);
            assert_eq!(seen, Seen::Another, "{place}");
        }
        for place in [SocketAddr::new(east[family], HERE), at(NEAR[family])] {
            assert_eq!(shop.served(&outside, place, &["near"]), Seen::Client, "{place}");
        }
        // S9: others are to find that nobody is there, and hear nothing of it
        let place = SocketAddr::new(west[family], ON_EAST);
        let before = shop.dropped("west");
        let any = SocketAddr::new([IpAddr::from([0; 4]), IpAddr::from([0u16; 8])][family], 0);
        let socket = outside.run(|| std::net::UdpSocket::bind(any)).unwrap().unwrap();
        socket.send_to(b"anybody?", place).unwrap();
        until(|| (shop.dropped("west") > before).then_some(()));
    }
    // what the kernel carries of it
    let talk = Talk::open(&outside, SocketAddr::new(east[0], HERE)).unwrap();
    let flow = shop.bed.flow("east", &talk.stream);
    assert_eq!(flow["original"]["ingress"], "underlay", "{flow:#}");
}

#[test]
fn s10_s11_pods_reach_all_endpoints_by_addresses_for_outside() {
    let Some(shop) = Shop::open() else { return };
    let (client, _) = shop.bed.pod("client");
    let east = &shop.nodes[0];
    for family in [0, 1] {
        for place in
            [SocketAddr::new(east[family], EVERYWHERE), at(EXTERNAL[family]), at(BALANCED[family])]
        {
            let seen = shop.served(&client, place, &["near", "far"]);
            assert_eq!(seen, Seen::Another, "{place}");
        }
        for place in [SocketAddr::new(east[family], HERE), at(NEAR[family])] {
            let seen = shop.served(&client, place, &["near", "far"]);
            assert_eq!(seen, Seen::Client, "{place}");
        }
    }
}

#[test]
fn s10_s11_the_host_reaches_all_endpoints_by_all_addresses_and_is_masqueraded() {
    let Some(shop) = Shop::open() else { return };
    let (host, _) = shop.bed.node("east");
    for family in [0, 1] {
        let cluster_ip = SocketAddr::new(CLUSTER_IPS[family].parse().unwrap(), 7);
        for place in [cluster_ip, at(EXTERNAL[family]), at(BALANCED[family]), at(NEAR[family])] {
            let seen = shop.served(&host, place, &["near", "far"]);
            assert_eq!(seen, Seen::Another, "{place}");
        }
    }
}

#[test]
fn addresses_of_a_pool_are_given_and_announced_by_one_node_and_move_when_it_is_not_ready() {
    let services = [POOL, POOLED].concat();
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", &services)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let services = bed.asked("west", &["services"]);
    let frontends = services["default/pooled"]["frontends"].as_array().expect("it is there");
    let texts = frontends.iter().filter_map(|it| it.as_str()?.strip_suffix("/TCP"));
    let (v4, v6) = ("172.30.0.192/28", "fd30::c0/124");
    let pools = [v4, v6].map(|it| it.parse::<IpNetwork>().expect("a prefix"));
    let is_pooled = |it: &SocketAddr| pools.iter().any(|pool| pool.contains(it.ip()));
    let places: Vec<SocketAddr> =
        texts.filter_map(|it| it.parse().ok()).filter(is_pooled).collect();
    assert_eq!(places.len(), 2, "{frontends:?}");
    let outside = bed.outside();
    let macs = ["east", "west"].map(|node| {
        let link = bed.node(node).0.netlink().expect("it is there").link("eth0");
        (node, link.expect("it is there").mac)
    });
    // who it is for the host outside that has the address
    let speaker = |place: &SocketAddr| {
        let neighbours = outside.netlink().expect("it is there").neighbours();
        let mac = neighbours.expect("netlink").into_iter().find(|it| it.address == place.ip())?.mac;
        macs.iter().find(|(_, it)| *it == mac).map(|(node, _)| *node)
    };
    for place in &places {
        until(|| Talk::open(&outside, *place).ok());
        let before = speaker(place).expect("somebody has answered");
        let unready = NODES.replace(
            &format!("name: {before}\n"),
            &format!(
                "name: {before}\nstatus: {{conditions: [{{type: Ready, status: 'False'}}]}}\n"
            ),
        );
        assert_ne!(unready, NODES);
        bed.write(&[("nodes.yaml", &unready)]);
        bed.done(&["apply", &bed.folder()]);
        // without having been asked, others know of it
        until(|| speaker(place).filter(|after| *after != before));
        let mut talk = Talk::open(&outside, *place).expect("it is there");
        assert_eq!(talk.say("moved").expect("it is answered").text, "moved");
        bed.write(&[("nodes.yaml", NODES)]);
        bed.done(&["apply", &bed.folder()]);
    }
}

#[test]
fn neighbours_hear_of_an_announced_address_when_the_link_is_up_again_and_when_it_has_another_address()
 {
    let unready = NODES.replace(
        "name: west\n",
        "name: west\nstatus: {conditions: [{type: Ready, status: 'False'}]}\n",
    );
    assert_ne!(unready, NODES);
    let manifests = [("nodes.yaml", unready.as_str()), ("pods.yaml", PODS), ("pool.yaml", POOL)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let (east, outside) = (bed.node("east").0, bed.outside());
    let [host, beyond] = [&east, &outside].map(|it| it.netlink().expect("it is there"));
    let apply = |services: &str| {
        bed.write(&[("services.yaml", services)]);
        bed.done(&["apply", &bed.folder()]);
    };
    let place = |service: &str| {
        let services = bed.asked("east", &["services"]);
        let frontends = services[service]["frontends"].as_array().cloned().unwrap_or_default();
        let texts = frontends.iter().filter_map(|it| it.as_str()?.strip_suffix("/TCP"));
        let pool: IpNetwork = "172.30.0.192/28".parse().expect("a prefix");
        let mut places = texts.filter_map(|it| it.parse().ok());
        places.find(|it: &SocketAddr| pool.contains(it.ip()))
    };
    apply(POOLED);
    let first = until(|| place("default/pooled"));
    until(|| Talk::open(&outside, first).ok());

    // the kernel forgets for what it answers on a link that goes down
    host.set_down("eth0").expect("it is there");
    apply(&(POOLED.to_owned() + "---" + &POOLED.replace("name: pooled", "name: second")));
    let second = until(|| place("default/second"));
    let problems = || bed.asked("east", &["status"])["refused"].to_string();
    until(|| problems().contains("telling neighbours of").then_some(()));
    // neighbours know somebody else by them, and do not ask
    let mistake = |place: &SocketAddr| {
        let mac = Some([2, 0, 0, 0, 0, 0x99]);
        let (link, state) = ("eth0".to_owned(), NeighbourState::Stale);
        let wrong = Neighbour { link, address: place.ip(), mac, state };
        beyond.replace_neighbour(&wrong).expect("it is let");
    };
    let known = |place: &SocketAddr| {
        let neighbours = beyond.neighbours().expect("netlink");
        neighbours.into_iter().find(|it| it.address == place.ip())?.mac
    };
    let await_known = |place: &SocketAddr| {
        let own = host.link("eth0").expect("it is there").mac;
        until(|| (known(place) == own).then_some(()));
    };
    [first, second].iter().for_each(mistake);
    host.set_up("eth0").expect("it is there");
    [first, second].iter().for_each(await_known);
    until(|| (!problems().contains("telling neighbours of")).then_some(()));
    for place in [first, second] {
        let mut talk = Talk::open(&outside, place).expect("it is there");
        assert_eq!(talk.say("up").expect("it is answered").text, "up");
    }

    [first, second].iter().for_each(mistake);
    host.set_mac("eth0", [2, 0, 0, 0, 0, 0x77]).expect("it is let");
    [first, second].iter().for_each(await_known);
}

/// Two nodes; a client and a server on one, and a server on the other.
pub(crate) struct Shop {
    pub(crate) bed: Bed,
    pub(crate) nodes: [Vec<IpAddr>; 2],
}

/// Whom a server takes the client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The client itself.
    Client,
    /// Whoever will bring the answer back.
    Another,
}

impl Shop {
    pub(crate) fn open() -> Option<Self> {
        let manifests = [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", SERVICES)];
        let bed = Bed::of(&manifests, &[])?;
        let nodes = ["east", "west"].map(|node| bed.node(node).1);
        // as whoever routes outside would be told
        let net = bed.outside().netlink().expect("it is there");
        for (family, node) in nodes[0].iter().enumerate() {
            for address in [EXTERNAL[family], BALANCED[family], NEAR[family], CLUSTER_IPS[family]] {
                let address: IpAddr = address.parse().expect("an address");
                let route = Route::to(IpNetwork::from(address)).via(*node);
                net.add_route(&route).expect("there is none yet");
            }
        }
        Some(Self { bed, nodes })
    }

    /// Asks at a place until these have answered, with both protocols; no other may. Says whom they
    /// have seen.
    pub(crate) fn served(&self, from: &Namespace, place: SocketAddr, servers: &[&str]) -> Seen {
        let servers: BTreeSet<String> = servers.iter().map(|it| format!("default/{it}")).collect();
        let mut all = BTreeSet::new();
        for protocol in ["tcp", "udp"] {
            let mut left = servers.clone();
            for _ in 0..MOST_TRIES {
                let (client, answer) = match protocol {
                    "tcp" => {
                        let mut talk = Talk::open(from, place)
                            .unwrap_or_else(|error| panic!("{place}: {error}"));
                        (talk.client(), talk.say("who").expect("it is answered"))
                    }
                    _ => ask(from, place).unwrap_or_else(|error| panic!("{place}: {error}")),
                };
                assert!(servers.contains(&answer.server), "{place}/{protocol}: {answer:?}");
                left.remove(&answer.server);
                all.insert(client == answer.client);
                if left.is_empty() && servers.len() > 1 {
                    break;
                }
            }
            assert!(left.is_empty(), "{place}/{protocol}: {left:?} did not answer");
        }
        assert_eq!(all.len(), 1, "{place}: some have seen the client, and some have not");
        if all.contains(&true) { Seen::Client } else { Seen::Another }
    }

    /// Packets that a node has dropped because nobody behind a Service is there.
    fn dropped(&self, node: &str) -> u64 {
        let drops = self.bed.asked(node, &["drops"]);
        let ours = drops
            .as_array()
            .expect("a list")
            .iter()
            .filter(|it| it["reason"] == "no-local-backend");
        ours.filter_map(|it| it["packets"].as_u64()).sum()
    }
}

/// Where a Service is reached by an address of its own.
fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 7)
}

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: near, labels: {app: web, side: east}},
 spec: {nodeName: east, containers: [{name: server, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, labels: {app: web}},
 spec: {nodeName: west, containers: [{name: server, image: none}]}}
";
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, 'fd96::10']
  externalIPs: [203.0.113.10, '2001:db8:f::10']
  selector: {app: web}
  ports:
  - {name: echo, port: 7, nodePort: 30080}
  - {name: echo-udp, port: 7, protocol: UDP, nodePort: 30080}
status: {loadBalancer: {ingress: [{ip: 203.0.113.20}, {ip: '2001:db8:f::20'}]}}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.11, 'fd96::11']
  externalTrafficPolicy: Local
  selector: {app: web}
  ports:
  - {name: echo, port: 7, nodePort: 30081}
  - {name: echo-udp, port: 7, protocol: UDP, nodePort: 30081}
status: {loadBalancer: {ingress: [{ip: 203.0.113.21}, {ip: '2001:db8:f::21'}]}}
---
apiVersion: v1
kind: Service
metadata: {name: on-east}
spec:
  type: NodePort
  clusterIPs: [10.96.0.12, 'fd96::12']
  externalTrafficPolicy: Local
  selector: {side: east}
  ports:
  - {port: 7, protocol: UDP, nodePort: 30082}
";
/// Of the underlay's own subnets.
const POOL: &str = "
apiVersion: millrace.dev/v1alpha1
kind: AddressPool
metadata: {name: underlay}
spec: {cidrs: [172.30.0.192/28, 'fd30::c0/124']}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12, 'fd96::/112']}
---
";
const POOLED: &str = "
apiVersion: v1
kind: Service
metadata: {name: pooled}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 7}]
";
const CLUSTER_IPS: [&str; 2] = ["10.96.0.10", "fd96::10"];
const EXTERNAL: [&str; 2] = ["203.0.113.10", "2001:db8:f::10"];
const BALANCED: [&str; 2] = ["203.0.113.20", "2001:db8:f::20"];
/// Of the Service whose local endpoints alone count.
const NEAR: [&str; 2] = ["203.0.113.21", "2001:db8:f::21"];
/// The node ports: of the Service whose endpoints all count; of the one whose local endpoints alone
/// do; and of one that has none but on one node.
pub(crate) const EVERYWHERE: u16 = 30_080;
pub(crate) const HERE: u16 = 30_081;
pub(crate) const ON_EAST: u16 = 30_082;
/// With two servers, one of them is missed so often once in a million times.
const MOST_TRIES: usize = 20;
