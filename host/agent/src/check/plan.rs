//! Which pod asks what: all that a network plugin owes a cluster, from each node to each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::slice;

use millrace_control::PodName;
use millrace_lab::client::Question;
use millrace_lab::probe::Means;
use serde::Serialize;

use super::objects::{PORT, Role, SERVICE};
use super::survey::Node;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Topic {
    /// Pods of one node, by their addresses.
    SameNode,
    /// Pods of two nodes, by their addresses.
    OtherNode,
    /// From a pod to a Service, by its own addresses.
    Service,
    /// From a pod to a Service, by addresses of nodes.
    NodePort,
    /// From a pod to nodes: their kubelets.
    Node,
    /// From a node to pods.
    FromNode,
    /// From a node to a Service, by its own addresses and those of nodes.
    ServiceFromNode,
    /// The cluster's DNS.
    Names,
    /// What is not in the cluster.
    External,
    /// What a policy lets through.
    Allowed,
    /// What a policy does not let through.
    Denied,
}

/// One question of a client.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) topic: Topic,
    /// Who is asked, for people.
    pub(super) whom: String,
    pub(super) question: Question,
}

/// A pod that asks.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) role: Role,
    pub(super) questions: Vec<Item>,
}

/// A pod that answers.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) pod: PodName,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    pub(super) open: Vec<Server>,
    pub(super) guarded: Vec<Server>,
}

/// The Service that the open ones are behind.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) addresses: Vec<IpAddr>,
    /// For TCP and for UDP.
    pub(super) node_ports: (u16, u16),
}

impl Topic {
    /// What to look at if it is not as it should be.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::SameNode => {
                "`millrace status` and `millrace drops` on that node say what it does with packets"
            }
            Self::OtherNode => {
                "is UDP port 4789 open between nodes? Has each Node an InternalIP that others reach?"
            }
            Self::Service | Self::ServiceFromNode => {
                "`millrace services` on that node says which pods are behind it there"
            }
            Self::NodePort => {
                "does something else filter or take node ports? `--nodeport-addresses` says whose they are"
            }
            Self::Node => "does the node's own firewall take what comes from pods?",
            Self::FromNode => "does the node's own firewall, or rp_filter, stop what goes to pods?",
            Self::Names => "does the cluster's DNS run (Service kube-dns), and is it reached?",
            Self::External => "is it there, and does the node reach it?",
            Self::Allowed | Self::Denied => {
                "`millrace policies` on that node says which there are; `millrace trace`, which decides"
            }
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameNode => "pod to pod, same node",
            Self::OtherNode => "pod to pod, other node",
            Self::Service => "pod to Service",
            Self::NodePort => "pod to node port",
            Self::Node => "pod to node",
            Self::FromNode => "node to pod",
            Self::ServiceFromNode => "node to Service",
            Self::Names => "names",
            Self::External => "pod to outside",
            Self::Allowed => "allowed by a policy",
            Self::Denied => "denied by a policy",
        })
    }
}

/// Who asks, on each node: two pods, and the node itself.
pub(super) fn clients(
    nodes: &[Node],
    servers: &Servers,
    service: &Service,
    external: &[SocketAddr],
) -> Vec<Client> {
    let on_node = |(number, node): (usize, &Node)| {
        let client = |role: Role, questions: Vec<Item>| {
            let (name, node) = (role.name(number), node.name.clone());
            Client { name, node, role, questions }
        };
        let near_or_far = |server: &Server| match server.node == node.name {
            true => Topic::SameNode,
            false => Topic::OtherNode,
        };
        let stranger = [
            to_pods(&servers.open, near_or_far),
            to_service(Topic::Service, service, servers),
            to_node_ports(Topic::NodePort, service, servers, nodes),
            nodes.iter().filter_map(to_kubelet).collect(),
            vec![by_name(service)],
            external.iter().copied().map(to_outside).collect(),
            denied(&servers.guarded),
        ];
        let friend = to_pods(&servers.guarded, |_| Topic::Allowed);
        let host = [
            to_pods(&servers.open, |_| Topic::FromNode),
            to_service(Topic::ServiceFromNode, service, servers),
            to_node_ports(Topic::ServiceFromNode, service, servers, nodes),
        ];
        [
            client(Role::Stranger, stranger.concat()),
            client(Role::Friend, friend),
            client(Role::Host, host.concat()),
        ]
    };
    nodes.iter().enumerate().flat_map(on_node).collect()
}

/// Each address of each pod, both ways.
fn to_pods(servers: &[Server], topic: impl Fn(&Server) -> Topic) -> Vec<Item> {
    let of = |server: &Server| {
        let whom = format!("a pod on {}", server.node);
        behind(topic(server), whom, &server.addresses, (PORT, PORT), slice::from_ref(server))
    };
    servers.iter().flat_map(of).collect()
}

fn denied(servers: &[Server]) -> Vec<Item> {
    let silent = |item: Item| match item.question {
        Question::Echo { by, to, .. } => Item { question: Question::Silence { by, to }, ..item },
        _ => item,
    };
    to_pods(servers, |_| Topic::Denied).into_iter().map(silent).collect()
}

fn to_service(topic: Topic, service: &Service, servers: &Servers) -> Vec<Item> {
    let whom = "the Service".to_owned();
    behind(topic, whom, &service.addresses, (PORT, PORT), &servers.open)
}

/// By each node, whichever pod is behind it.
fn to_node_ports(topic: Topic, service: &Service, servers: &Servers, nodes: &[Node]) -> Vec<Item> {
    let of = |node: &Node| {
        let whom = format!("a node port of {}", node.name);
        // of a family that the Service has
        let addresses = node.addresses.iter().copied();
        let has = |it: &IpAddr| service.addresses.iter().any(|own| own.is_ipv4() == it.is_ipv4());
        let addresses: Vec<_> = addresses.filter(has).collect();
        behind(topic, whom, &addresses, service.node_ports, &servers.open)
    };
    nodes.iter().flat_map(of).collect()
}

/// Each address, both ways: one of these servers is to answer.
fn behind(
    topic: Topic,
    whom: String,
    addresses: &[IpAddr],
    ports: (u16, u16),
    servers: &[Server],
) -> Vec<Item> {
    let pods: Vec<_> = servers.iter().map(|server| server.pod.clone()).collect();
    let question = |(by, to)| Question::Echo { by, to, pods: pods.clone() };
    let questions = both_ways(addresses, ports).into_iter().map(question);
    questions.map(|question| Item { topic, whom: whom.clone(), question }).collect()
}

/// By TCP and by UDP, which have a port each.
fn both_ways(addresses: &[IpAddr], (tcp, udp): (u16, u16)) -> Vec<(Means, SocketAddr)> {
    let both = |to: &IpAddr| {
        [(Means::Tcp, SocketAddr::new(*to, tcp)), (Means::Udp, SocketAddr::new(*to, udp))]
    };
    addresses.iter().flat_map(both).collect()
}

/// Kubelets take both families, a cluster may have one: the first.
fn to_kubelet(node: &Node) -> Option<Item> {
    let to = SocketAddr::new(*node.addresses.first()?, node.kubelet);
    let whom = format!("the kubelet of {}", node.name);
    Some(Item { topic: Topic::Node, whom, question: Question::Connection { to } })
}

fn to_outside(to: SocketAddr) -> Item {
    let question = Question::Connection { to };
    Item { topic: Topic::External, whom: to.to_string(), question }
}

fn by_name(service: &Service) -> Item {
    let (name, addresses) = (SERVICE.to_owned(), service.addresses.clone());
    let whom = format!("the name `{name}`");
    Item { topic: Topic::Names, whom, question: Question::Name { name, addresses } }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn from_each_node_everybody_is_asked_in_each_family_and_strangers_are_to_hear_nothing() {
        let node = |name: &str, last: u8| Node {
            name: name.to_owned(),
            addresses: vec![
                address(&format!("172.30.0.{last}")),
                address(&format!("fd30::{last}")),
            ],
            kubelet: 10250,
        };
        let server = |name: &str, node: &str, last: u8| Server {
            pod: PodName::new("check", name),
            node: node.to_owned(),
            addresses: vec![
                address(&format!("10.244.0.{last}")),
                address(&format!("fd44::{last}")),
            ],
        };
        let servers = Servers {
            open: vec![server("server-0", "east", 2), server("server-1", "west", 3)],
            guarded: vec![server("guarded-0", "east", 4)],
        };
        // a Service of one family has node ports of one
        let service = Service { addresses: vec![address("10.96.0.9")], node_ports: (30001, 30002) };
        let outside = ["192.0.2.1:443".parse().unwrap()];
        let nodes = [node("east", 11), node("west", 12)];
        let clients = clients(&nodes, &servers, &service, &outside);

        let names: Vec<_> = clients.iter().map(|it| &*it.name).collect();
        let of_two = ["stranger-0", "friend-0", "host-0", "stranger-1", "friend-1", "host-1"];
        assert_eq!(names, of_two);
        let count = |client: &Client| {
            let mut topics = BTreeMap::new();
            for item in &client.questions {
                *topics.entry(item.topic).or_insert(0) += 1;
            }
            topics.into_iter().collect::<Vec<_>>()
        };
        let stranger = [
            (Topic::SameNode, 4),
            (Topic::OtherNode, 4),
            (Topic::Service, 2),
            (Topic::NodePort, 4),
            (Topic::Node, 2),
            (Topic::Names, 1),
            (Topic::External, 1),
            (Topic::Denied, 4),
        ];
        assert_eq!(count(&clients[0]), stranger);
        assert_eq!(count(&clients[1]), [(Topic::Allowed, 4)]);
        assert_eq!(count(&clients[2]), [(Topic::FromNode, 8), (Topic::ServiceFromNode, 6)]);
        let of = |topic: Topic| clients[0].questions.iter().find(|it| it.topic == topic).unwrap();
        let to = "10.244.0.4:7007".parse().unwrap();
        assert_eq!(of(Topic::Denied).question, Question::Silence { by: Means::Tcp, to });
        let Question::Echo { to, pods, .. } = &of(Topic::NodePort).question else {
            panic!("an echo")
        };
        assert_eq!((to.to_string().as_str(), pods.len()), ("172.30.0.11:30001", 2));
    }
}
