//! The connections of cached ports, as they can be seen: what user space knows of each, and what
//! the kernel's entries say of packets that never came here.
//!
//! A reader must not break this: neither the table nor the cache is locked for longer than one
//! step takes, since workers wait for both.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use millrace_abi::{Field, Slot};
use millrace_fastpath::{FlowCache, MapFault};
use millrace_wire::IpProtocol;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::connections::{Connections, Cursor, Direction, Key, State, TcpState, View, Zone};
use crate::control::status::Label;
use crate::control::trace::Connected;
use crate::tracking::kernel;
use crate::verdict::{Decider, Verdict};

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowStatus {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, or the protocol's number.
    pub protocol: Label,
    /// How far it has come.
    pub state: Label,
    /// How long no packet has come, in milliseconds.
    pub idle_ms: u64,
    /// How often something else was decided while it lived.
    pub redecided: u32,
    /// From who opened it.
    pub original: FlowDirection,
    /// The other way.
    pub reply: FlowDirection,
}

/// A direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowDirection {
    /// Where its packets are from, as they come in; an echo has its identifier for a port.
    pub source: SocketAddr,
    /// Where they are for, as they come in.
    pub destination: SocketAddr,
    /// The port they come in by.
    pub ingress: String,
    /// The port they leave by; none if they do not.
    pub egress: Option<String>,
    /// Why they do not leave.
    pub reason: Option<Label>,
    /// The stage that said so; the host itself, if there is none.
    pub by: Option<String>,
    /// That stage's own rule; 0 if it named none.
    pub rule: u32,
    /// The insertion of its entry in the kernel's cache; none while workers carry it.
    pub generation: Option<NonZeroU32>,
    /// Packets, whoever carried them.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Of the packets, those that the entry that is there now has carried.
    pub kernel_packets: u64,
}

/// Which connections are asked for.
#[derive(Clone, Debug)]
pub struct FlowQuery {
    /// Those that come in or leave by this port; all, if there is none.
    pub port: Option<u16>,
    /// Those of this protocol, by its word.
    pub protocol: Option<String>,
    /// Those in this state, by its word.
    pub state: Option<String>,
    /// What those have most of that are wanted; whichever are found first, if there is nothing.
    pub sort: Option<FlowOrder>,
    /// At most so many.
    pub limit: usize,
}

/// What connections are sorted by, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowOrder {
    /// Packets of both ways.
    Packets,
    /// Bytes of both ways.
    Bytes,
    /// Time without a packet.
    Idle,
}

/// What numbers are called.
pub(super) struct Names<'n> {
    pub(super) port: &'n dyn Fn(u16) -> Option<String>,
    pub(super) stage: &'n dyn Fn(Decider) -> Option<String>,
}

/// Reads the connections, and the cache of them.
pub(super) struct FlowReader {
    connections: Arc<Connections>,
    cache: Arc<Mutex<FlowCache>>,
}

impl FlowReader {
    pub(super) fn new(connections: Arc<Connections>, cache: Arc<Mutex<FlowCache>>) -> Self {
        Self { connections, cache }
    }

    /// The connections that are asked for, with the packets that have opened them; in no order, unless
    /// one is.
    pub(super) fn read(
        &self,
        query: &FlowQuery,
        names: &Names<'_>,
        now_ns: u64,
    ) -> Result<Vec<(FlowStatus, Slot)>, MapFault> {
        let mut flows = Vec::new();
        let mut next = Some(Cursor::default());
        while let Some(from) = next {
            let (views, rest) = self.connections.all(from, AT_ONCE);
            next = rest;
            for view in views.iter().filter(|view| goes_by(view, query.port)) {
                if query.sort.is_none() && flows.len() == query.limit {
                    return Ok(flows);
                }
                let status = self.status(view, names, now_ns)?;
                if query.wants(&status) {
                    flows.push((status, view.opening));
                }
            }
            // of a million only the first ones are kept
            if flows.len() > AT_ONCE + query.limit {
                query.cut(&mut flows);
            }
        }
        query.cut(&mut flows);
        Ok(flows)
    }

    /// What was decided for packets with the key.
    pub(super) fn verdict(&self, key: &Key) -> Option<Verdict> {
        let view = self.connections.view_by_key(key)?;
        let side = Direction::BOTH.into_iter().find(|&it| view.keys[it as usize] == *key)?;
        Some(view.ways[side as usize].verdict)
    }

    /// The connection that packets with the key belong to, and which way they go.
    pub(super) fn connected(
        &self,
        key: &Key,
        names: &Names<'_>,
        now_ns: u64,
    ) -> Result<Option<Connected>, MapFault> {
        let Some(view) = self.connections.view_by_key(key) else { return Ok(None) };
        let direction = if view.keys[0] == *key { "original" } else { "reply" };
        let flow = self.status(&view, names, now_ns)?;
        Ok(Some(Connected { direction: direction.into(), flow }))
    }

    fn status(&self, view: &View, names: &Names<'_>, now_ns: u64) -> Result<FlowStatus, MapFault> {
        let (original, seen) = self.direction(view, Direction::Original, names)?;
        let (reply, seen_back) = self.direction(view, Direction::Reply, names)?;
        Ok(FlowStatus {
            protocol: protocol(view.keys[0].protocol),
            state: state(view.state, [original.kernel_packets, reply.kernel_packets]).into(),
            idle_ms: now_ns.saturating_sub(seen.max(seen_back)) / NS_PER_MS,
            redecided: view.revision,
            original,
            reply,
        })
    }

    /// A direction, and when its last packet came.
    fn direction(
        &self,
        view: &View,
        direction: Direction,
        names: &Names<'_>,
    ) -> Result<(FlowDirection, u64), MapFault> {
        let side = direction as usize;
        let (key, verdict) = (&view.keys[side], &view.ways[side].verdict);
        let (traffic, generation) = (view.traffic[side], view.generations[side]);
        let usage = match (generation, kernel::key(key)) {
            (Some(_), Some(key)) => self.cache.lock().usage(&key)?,
            _ => None,
        };
        // what an entry of another insertion says is not of this connection
        let usage = usage.filter(|usage| {
            generation.is_some_and(|known| known.get() == usage.generation.number())
        });
        let (packets, bytes) = usage.map_or((0, 0), |usage| (usage.packets, usage.bytes));
        let seen_ns = usage.map_or(0, |usage| kernel::nanos(usage.last_seen));
        let leaves = verdict.is_open() && verdict.fields.contains(Field::Egress);
        let port = |number| (names.port)(number).unwrap_or_else(|| number.to_string());
        let flow = FlowDirection {
            source: (&key.source).into(),
            destination: (&key.destination).into(),
            ingress: match key.zone {
                Zone::UNDERLAY => "underlay".to_owned(),
                Zone::HOST => "host".to_owned(),
                zone => port(zone.number()),
            },
            egress: leaves.then(|| port(verdict.egress)),
            reason: verdict.reason.map(|reason| reason.label().into()),
            by: (names.stage)(verdict.by),
            rule: verdict.rule,
            // one that brings packets to a worker carries none
            generation: usage.and(generation).filter(|_| verdict.inspect == 0),
            packets: traffic.packets + packets,
            bytes: traffic.bytes + bytes,
            kernel_packets: packets,
        };
        Ok((flow, view.last_seen_ns[side].max(seen_ns)))
    }
}

impl FlowQuery {
    fn wants(&self, flow: &FlowStatus) -> bool {
        let is = |wanted: &Option<String>, word: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == word)
        };
        is(&self.protocol, &flow.protocol) && is(&self.state, &flow.state)
    }

    /// Sorts, and keeps the first ones.
    fn cut(&self, flows: &mut Vec<(FlowStatus, Slot)>) {
        if let Some(order) = self.sort {
            flows.sort_by_key(|(flow, _)| std::cmp::Reverse(order.of(flow)));
        }
        flows.truncate(self.limit);
    }
}

impl FlowOrder {
    fn of(self, flow: &FlowStatus) -> u64 {
        let both = |of: fn(&FlowDirection) -> u64| of(&flow.original) + of(&flow.reply);
        match self {
            Self::Packets => both(|way| way.packets),
            Self::Bytes => both(|way| way.bytes),
            Self::Idle => flow.idle_ms,
        }
    }
}

fn goes_by(view: &View, port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    let comes_in = |key: &Key| key.zone.is_port() && key.zone.number() == port;
    view.keys.iter().any(comes_in) || view.ways.iter().any(|way| way.verdict.egress == port)
}

pub(super) fn protocol(number: u8) -> Label {
    match IpProtocol(number) {
        IpProtocol::TCP => "tcp".into(),
        IpProtocol::UDP => "udp".into(),
        IpProtocol::ICMPV4 => "icmp".into(),
        IpProtocol::ICMPV6 => "icmpv6".into(),
        IpProtocol::SCTP => "sctp".into(),
        _ => number.to_string().into(),
    }
}

/// The word for a state. User space learns only later what the kernel has carried by now.
fn state(state: State, carried: [u64; 2]) -> &'static str {
    let [there, back] = carried.map(|packets| packets > 0);
    match state {
        State::Unreplied if back => "replied",
        State::Unreplied => "unreplied",
        State::Replied => "replied",
        // neither of these packets was the opening SYN, which misses
        State::Tcp(TcpState::SynSent | TcpState::SynReceived) if there && back => "established",
        State::Tcp(TcpState::SynSent | TcpState::SynSent2) => "syn-sent",
        State::Tcp(TcpState::SynReceived) => "syn-received",
        State::Tcp(TcpState::Established) => "established",
        State::Tcp(TcpState::FinWait) => "fin-wait",
        State::Tcp(TcpState::CloseWait) => "close-wait",
        State::Tcp(TcpState::LastAck) => "last-ack",
        State::Tcp(TcpState::TimeWait) => "time-wait",
        State::Tcp(TcpState::Reset(_)) => "reset",
        State::Tcp(TcpState::Close) => "closed",
    }
}

/// Connections that are looked at together.
const AT_ONCE: usize = 1024;
const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_that_the_kernel_carried_is_over() {
        let state = |of, carried| super::state(State::Tcp(of), carried);
        assert_eq!(state(TcpState::SynSent, [0, 0]), "syn-sent");
        // the SYN-ACK alone
        assert_eq!(state(TcpState::SynSent, [0, 1]), "syn-sent");
        assert_eq!(state(TcpState::SynSent, [1, 1]), "established");
        assert_eq!(state(TcpState::FinWait, [9, 9]), "fin-wait");
    }

    fn flow(protocol: &'static str, packets: u64, idle_ms: u64) -> FlowStatus {
        let way = FlowDirection {
            source: ([10, 0, 0, 1], 1).into(),
            destination: ([10, 0, 0, 2], 2).into(),
            ingress: "a".into(),
            egress: Some("b".into()),
            by: None,
            reason: None,
            rule: 0,
            generation: None,
            packets,
            bytes: 1000 / packets,
            kernel_packets: 0,
        };
        let state = "replied".into();
        FlowStatus {
            protocol: protocol.into(),
            state,
            idle_ms,
            redecided: 0,
            original: way.clone(),
            reply: way,
        }
    }

    #[test]
    fn flows_are_picked_by_word_and_sorted_with_the_most_first() {
        let any =
            FlowQuery { port: None, protocol: None, state: None, sort: None, limit: usize::MAX };
        let all = [flow("tcp", 5, 30), flow("udp", 7, 10), flow("tcp", 1, 20)];
        let picked = |query: &FlowQuery| all.iter().filter(|flow| query.wants(flow)).count();
        assert_eq!(picked(&any), 3);
        assert_eq!(picked(&FlowQuery { protocol: Some("tcp".into()), ..any.clone() }), 2);
        assert_eq!(picked(&FlowQuery { state: Some("unreplied".into()), ..any.clone() }), 0);
        for (sort, first) in
            [(FlowOrder::Packets, "udp"), (FlowOrder::Bytes, "tcp"), (FlowOrder::Idle, "tcp")]
        {
            let query = FlowQuery { sort: Some(sort), limit: 1, ..any.clone() };
            let mut flows = all.iter().map(|flow| (flow.clone(), Slot::ZERO)).collect();
            query.cut(&mut flows);
            assert_eq!((flows.len(), &*flows[0].0.protocol), (1, first), "{sort:?}");
        }
    }

    #[test]
    fn what_the_kernel_brought_back_is_a_reply() {
        assert_eq!(super::state(State::Unreplied, [5, 0]), "unreplied");
        assert_eq!(super::state(State::Unreplied, [0, 1]), "replied");
    }

    #[test]
    fn protocols_without_a_name_have_their_number() {
        let names = [6, 17, 1, 58, 132, 47].map(protocol);
        assert_eq!(names, ["tcp", "udp", "icmp", "icmpv6", "sctp", "47"]);
    }
}
