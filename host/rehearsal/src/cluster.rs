//! A cluster's nodes, each with its filter, and questions about pods.
//!
//! A pod that has no address gets one here: of its node's prefixes or, without any, of those that
//! are for benchmarks (RFC 2544). One without a node is on a node of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_control::compile::Local;
use millrace_control::{PodName, PodNetwork, World};

use crate::{Bench, Connection, Judge, RehearsalError, Verdict};

/// A cluster.
pub struct Rehearsal {
    bench: Bench,
    world: World,
    judges: BTreeMap<String, Judge>,
}

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A pod.
    Pod(PodName),
    /// A node itself.
    Node(String),
    /// Whoever has this address.
    Address(IpAddr),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The protocol's number.
    pub protocol: u8,
    /// The destination port; 0 for protocols without.
    pub port: u16,
}

/// What becomes of a connection, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its ends.
    pub ends: (IpAddr, IpAddr),
    /// What was said, by node: first where the connection begins. The last one decides.
    pub said: Vec<(String, Verdict)>,
}

impl Rehearsal {
    /// The cluster that is this world.
    ///
    /// # Errors
    /// If this machine cannot run filters.
    pub fn new(world: World) -> Result<Self, RehearsalError> {
        let bench = Bench::new()?;
        Ok(Self { bench, world: with_addresses(world), judges: BTreeMap::new() })
    }

    /// Has it be another world; filters are told what has changed.
    ///
    /// # Errors
    /// If a filter does not take it.
    pub fn learn(&mut self, world: World) -> Result<(), RehearsalError> {
        self.world = with_addresses(world);
        let mut judges = self.judges.values_mut();
        judges.try_for_each(|judge| judge.learn(&self.world, Local::default()))
    }

    /// The pods that have a network of their own, in order.
    pub fn pods(&self) -> impl Iterator<Item = &PodName> {
        let own = self.world.pods.iter().filter(|(_, pod)| pod.network == PodNetwork::Own);
        own.map(|(name, _)| name)
    }

    /// What becomes of a connection, for each IP version that both ends have.
    ///
    /// # Errors
    /// If there is no such end, or a filter fails.
    pub fn ask(
        &mut self,
        from: &End,
        to: &End,
        traffic: Traffic,
    ) -> Result<Vec<Answer>, RehearsalError> {
        let (from, to) = (&self.as_judged(from), &self.as_judged(to));
        let (sources, destinations) = (self.addresses(from)?, self.addresses(to)?);
        let mut answers = Vec::new();
        for source in sources {
            let same = |it: &&IpAddr| it.is_ipv4() == source.is_ipv4();
            if let Some(destination) = destinations.iter().find(same) {
                let said = self.said((from, source), (to, *destination), traffic)?;
                answers.push(Answer { ends: (source, *destination), said });
            }
        }
        Ok(answers)
    }

    /// What each node on a connection's way says.
    fn said(
        &mut self,
        (from, source): (&End, IpAddr),
        (to, destination): (&End, IpAddr),
        Traffic { protocol, port }: Traffic,
    ) -> Result<Vec<(String, Verdict)>, RehearsalError> {
        let connection = |from| Connection { from, source, destination, protocol, port };
        let (here, there) = (self.node_of(from), self.node_of(to));
        let mut said = Vec::new();
        if let (End::Pod(_), Some(node)) = (from, &here) {
            let verdict = self.judge(node)?.judge(&connection(PortKind::Pod))?;
            let is_over = matches!(verdict, Verdict::Denied(_)) || here == there;
            said.push((node.clone(), verdict));
            if is_over {
                return Ok(said);
            }
        }
        if let (End::Pod(_), Some(node)) = (to, &there) {
            let by = match from {
                End::Node(name) if name == node => PortKind::Host,
                End::Address(_) => PortKind::Uplink,
                End::Pod(_) | End::Node(_) => PortKind::Remote,
            };
            said.push((node.clone(), self.judge(node)?.judge(&connection(by))?));
        }
        Ok(said)
    }

    fn judge(&mut self, node: &str) -> Result<&mut Judge, RehearsalError> {
        if !self.judges.contains_key(node) {
            let mut judge = self.bench.judge(node)?;
            judge.learn(&self.world, Local::default())?;
            self.judges.insert(node.to_owned(), judge);
        }
        Ok(self.judges.get_mut(node).expect("it was put in"))
    }

    /// The node that an end is on, or is.
    fn node_of(&self, end: &End) -> Option<String> {
        match end {
            End::Pod(name) => self.world.pods.get(name)?.node.clone(),
            End::Node(name) => Some(name.clone()),
            End::Address(_) => None,
        }
    }

    /// What an end is to policies: a pod in its node's network is that node (N12).
    fn as_judged(&self, end: &End) -> End {
        let End::Pod(name) = end else { return end.clone() };
        let pod = self.world.pods.get(name).filter(|pod| pod.network == PodNetwork::Host);
        pod.and_then(|pod| pod.node.clone()).map_or_else(|| end.clone(), End::Node)
    }

    fn addresses(&self, end: &End) -> Result<Vec<IpAddr>, RehearsalError> {
        let unknown = |what: &dyn std::fmt::Display| RehearsalError::Unknown(what.to_string());
        match end {
            End::Address(address) => Ok(vec![*address]),
            End::Node(name) => {
                let node = self.world.nodes.get(name);
                node.map(|it| it.addresses.clone())
                    .ok_or_else(|| unknown(&format!("node `{name}`")))
            }
            End::Pod(name) => {
                let pod = self.world.pods.get(name);
                let addresses = pod.map(|it| it.status.addresses.clone());
                addresses.ok_or_else(|| unknown(&format!("pod `{name}`")))
            }
        }
    }
}

impl Answer {
    /// Whether the connection is made.
    pub fn is_allowed(&self) -> bool {
        !self.said.iter().any(|(_, verdict)| matches!(verdict, Verdict::Denied(_)))
    }
}

/// The world with an address, and a node, for every pod.
fn with_addresses(mut world: World) -> World {
    let nodes = world.nodes.clone();
    for (number, (name, pod)) in world.pods.iter_mut().enumerate() {
        if pod.network == PodNetwork::Host {
            continue;
        }
        let node = pod.node.get_or_insert_with(|| format!("(of {name})"));
        if pod.status.addresses.is_empty() {
            // behind the gateway
            let number = number as u32 + 2;
            let prefixes = nodes.get(node).map_or(&[][..], |node| &node.pod_cidrs);
            pod.status.addresses = prefixes.iter().map(|it| numbered(*it, number)).collect();
            if prefixes.is_empty() {
                pod.status.addresses.push(Ipv4Addr::from_bits(FOR_BENCHMARKS + number).into());
            }
        }
    }
    world
}

fn numbered(prefix: IpNetwork, number: u32) -> IpAddr {
    match prefix {
        IpNetwork::V4(v4) => {
            let hosts = (1u64 << (32 - v4.prefix())) - 1;
            let host = u64::from(number) & hosts;
            Ipv4Addr::from_bits(v4.network().to_bits() + host as u32).into()
        }
        IpNetwork::V6(v6) => {
            Ipv6Addr::from_bits(v6.network().to_bits() + u128::from(number)).into()
        }
    }
}

/// 198.18.0.0/15.
const FOR_BENCHMARKS: u32 = 0xc612_0000;
