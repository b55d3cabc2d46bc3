//! A load balancer for Kubernetes Services: connections to a Service's address go to one of its
//! endpoints, and those that none can take end here.
//!
//! It has no configuration. What there is of Services it is told by tables; which endpoint a
//! client has got is in the host map `affinity`, for Services that want it (S19), and how many
//! connections each has in `connections`, which the host keeps. The host
//! translates every packet of a connection, and its answers back. Where packets go is for a router
//! behind this filter to say.
//!
//! - `known`: Services, endpoints and ranges, as they were told
//! - `maglev`, `turns`, `least`: which endpoint a connection gets
//! - `affinity`: which one a client has got

mod affinity;
mod known;
mod least;
mod maglev;
mod turns;

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use millrace_filter::prelude::*;
use millrace_filter::tables::{
    Algorithm, Endpoint, EndpointSet, Frontend, FrontendKind, Protocol, Service, TrafficPolicy,
};
use millrace_filter::{Class, Field, PortKind, Served, Tag, TagKind, slot_flag};

use affinity::Affinity;
pub use affinity::{Choice, Client};
use known::{Group, Known};
use least::Least;
use turns::Turns;

/// The load balancer.
pub struct ServiceLb {
    known: Known,
    affinity: Affinity,
    /// Of the sets that take turns. Each worker has its own; they begin anew with every instance.
    turns: HashMap<EndpointSet, Turns, FixedState>,
    least: Least,
    balanced: Counter,
    kept: Counter,
    refused: Counter,
}

/// Why a connection gets no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoEndpoint {
    /// There is none, anywhere.
    Nowhere,
    /// There is none on this node, and others do not count.
    Elsewhere,
}

impl Filter for ServiceLb {
    const MANIFEST: Manifest = Manifest::new("service-lb", env!("CARGO_PKG_VERSION"))
        .describes("Spreads connections to Services over their endpoints.")
        .wants(&[Capability::Drop, Capability::Reject, Capability::Translate])
        .subscribes(&[Table::Services, Table::Endpoints, Table::Ranges, Table::Sources])
        .rules(&[
            SERVICE,
            NO_ENDPOINT,
            NO_LOCAL_ENDPOINT,
            NO_PORT,
            NO_SERVICE,
            NO_CONNECTION,
            SOURCE_RANGE,
        ])
        .map::<Client, Choice>(affinity::MAP)
        .map::<Served, u64>(least::MAP);
    type Config = ();

    fn new((): (), setup: &mut Setup) -> Result<Self, Error> {
        Ok(Self {
            known: Known::default(),
            affinity: Affinity::open(setup)?,
            turns: HashMap::default(),
            least: Least::open(setup)?,
            balanced: setup.counter("balanced")?,
            kept: setup.counter("kept_by_affinity")?,
            refused: setup.counter("refused")?,
        })
    }

    fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        self.known.update(update)?;
        self.turns.retain(|set, _| self.known.group(*set).is_some());
        Ok(())
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        let is_link = matches!(slot.class(), Class::Arp | Class::Nd | Class::NonIp);
        let Some(destination) = slot.destination().filter(|_| !is_link) else { return };
        // whoever has translated it before meant it, and a part without ports follows the first
        if (slot.is_new() && slot.has(Field::To)) || slot.flags & slot_flag::LATER_FRAGMENT != 0 {
            return;
        }
        let protocol = Protocol::from_u8(slot.protocol);
        let frontend = protocol.map(|protocol| Frontend {
            address: destination,
            port: slot.dst_port,
            protocol,
        });
        match frontend.and_then(|it| Some((it, *self.known.service(&it)?))) {
            Some((frontend, service)) => self.serve(slot, &frontend, &service, decision),
            // what is in force for a connection outlives the Service that it was for
            None if is_translated(slot) => keep(slot, decision),
            None => self.turn_away(destination, decision),
        }
    }
}

filter!(ServiceLb: flow, update);

impl ServiceLb {
    /// Decides about a connection to a Service.
    fn serve(
        &mut self,
        slot: &Slot,
        frontend: &Frontend,
        service: &Service,
        decision: &mut Decision,
    ) {
        decision.depends_on(Tag::new(TagKind::Service, service.number));
        if slot.is_new() && frontend.protocol == Protocol::Tcp && !opens(slot.tcp_flags) {
            self.refused.add(1);
            decision.drop(Reason::InvalidState).by_rule(NO_CONNECTION.id).once();
            return;
        }
        // who was let in stays (S16)
        let is_its_own =
            service.kind != FrontendKind::OwnNode || slot.ingress_kind() == PortKind::Host;
        let may = |source| is_its_own && self.known.allows(service.sources, source);
        if !is_translated(slot) && !slot.source().is_some_and(may) {
            self.refused.add(1);
            decision.drop(Reason::SourceRange).by_rule(SOURCE_RANGE.id);
            return;
        }
        let (set, group) = match group(&self.known, slot, service) {
            Ok(found) => found,
            // nobody is better than the endpoint that it has
            Err(_) if is_translated(slot) => return keep(slot, decision),
            Err(NoEndpoint::Nowhere) => {
                self.refused.add(1);
                decision.reject(Reason::NoBackend).by_rule(NO_ENDPOINT.id);
                return;
            }
            Err(NoEndpoint::Elsewhere) => {
                self.refused.add(1);
                decision.drop(Reason::NoLocalBackend).by_rule(NO_LOCAL_ENDPOINT.id);
                return;
            }
        };
        if is_translated(slot) {
            // a datagram's sender does not notice that nobody hears it any more (S20, S21)
            if frontend.protocol != Protocol::Udp || group.has(current(slot)) {
                return keep(slot, decision);
            }
            decision.pick_again();
        }
        let held = (service.affinity_s != 0)
            .then(|| self.affinity.choice(slot, frontend, service))
            .flatten()
            .filter(|endpoint| group.has(*endpoint));
        let endpoint = match held {
            Some(endpoint) => {
                self.kept.add(1);
                endpoint
            }
            None => match service.algorithm {
                Algorithm::Maglev => group.pick(slot.hash),
                Algorithm::SourceHash => group.pick(source_hash(slot)),
                // what nobody is sent to takes no turn
                Algorithm::RoundRobin if !slot.is_new() => group.pick(slot.hash),
                Algorithm::RoundRobin => group.next(self.turns.entry(set).or_default()),
                Algorithm::LeastConnections => group.least(&mut self.least, slot),
            },
        };
        if endpoint == Endpoint::NOBODY {
            self.refused.add(1);
            decision.reject(Reason::NoBackend).by_rule(NO_ENDPOINT.id);
            return;
        }
        if service.affinity_s != 0 {
            self.affinity.note(slot, frontend, service, endpoint);
        }
        decision.translate_destination(endpoint.address, endpoint.port).by_rule(SERVICE.id);
        if hides_source(slot, service, endpoint) {
            decision.masquerade();
        }
        self.balanced.add(1);
    }

    /// Decides about what is sent to a Service's address, but not to the Service.
    fn turn_away(&mut self, destination: IpAddr, decision: &mut Decision) {
        if let Some(number) = self.known.owner(destination) {
            self.refused.add(1);
            let tag = Tag::new(TagKind::Service, number);
            decision.reject(Reason::NoService).by_rule(NO_PORT.id).depends_on(tag);
        } else if self.known.is_reserved(destination) {
            self.refused.add(1);
            // the Service that gets the address has no number yet
            decision.drop(Reason::NoService).by_rule(NO_SERVICE.id).revalidate_after(REVALIDATE_MS);
        }
    }
}

/// A hash of who sends.
fn source_hash(slot: &Slot) -> u32 {
    slot.src_addr.iter().fold(0x811c_9dc5, |hash, octet| {
        // FNV-1a
        (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193)
    })
}

/// The endpoints that a connection may get.
fn group<'k>(
    known: &'k Known,
    slot: &Slot,
    service: &Service,
) -> Result<(EndpointSet, &'k Group), NoEndpoint> {
    // who is within the cluster is not sent away because others are to come by another node (S10)
    let is_inside = is_inside(slot) && service.kind != FrontendKind::ClusterIp;
    let find = |set| known.group(set).map(|group| (set, group));
    let cluster = find(service.cluster);
    match service.policy {
        TrafficPolicy::Local if !is_inside => {
            let none = cluster.map_or(NoEndpoint::Nowhere, |_| NoEndpoint::Elsewhere);
            find(service.local).ok_or(none)
        }
        _ => cluster.ok_or(NoEndpoint::Nowhere),
    }
}

/// Whether a live connection has been given an endpoint.
fn is_translated(slot: &Slot) -> bool {
    !slot.is_new() && (slot.to_addr != slot.dst_addr || slot.to_port != slot.dst_port)
}

/// The endpoint that a live connection has.
fn current(slot: &Slot) -> Endpoint {
    let address = slot.translated_destination().unwrap_or(IpAddr::from([0; 4]));
    Endpoint { address, port: slot.to_port }
}

/// Leaves a live connection the endpoint that it has.
fn keep(slot: &Slot, decision: &mut Decision) {
    let Endpoint { address, port } = current(slot);
    decision.translate_destination(address, port).by_rule(SERVICE.id);
}

/// Whether these flags open a connection (RFC 9293 section 3.5): a Service has no others without
/// one that is known (S21).
fn opens(tcp_flags: u8) -> bool {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    tcp_flags & (FIN | SYN | RST | ACK) == SYN
}

/// Whether a connection comes from a pod or a node.
fn is_inside(slot: &Slot) -> bool {
    matches!(slot.ingress_kind(), PortKind::Pod | PortKind::Host | PortKind::Remote)
}

/// Whether the endpoint must not see whom the connection comes from, for its answers would not come
/// back this way (S11, S12).
fn hides_source(slot: &Slot, service: &Service, endpoint: Endpoint) -> bool {
    if slot.source() == Some(endpoint.address) {
        return true;
    }
    let from = slot.ingress_kind();
    match (service.kind, service.policy) {
        (FrontendKind::ClusterIp, _) => !matches!(from, PortKind::Pod | PortKind::Remote),
        (_, TrafficPolicy::Local) => from == PortKind::Host,
        (_, TrafficPolicy::Cluster) => true,
    }
}

const SERVICE: Rule = Rule::new(1, "service", "A Service's connection goes to an endpoint.");
const NO_ENDPOINT: Rule = Rule::new(2, "no-endpoint", "There is no endpoint for it.");
const NO_LOCAL_ENDPOINT: Rule =
    Rule::new(3, "no-local-endpoint", "The Service has no endpoint here, where it has to be.");
const NO_PORT: Rule = Rule::new(4, "no-port", "The Service has no such port.");
const NO_SERVICE: Rule = Rule::new(5, "no-service", "The address is reserved, and no Service's.");
const NO_CONNECTION: Rule =
    Rule::new(6, "no-connection", "The packet belongs to no connection, and opens none.");

const SOURCE_RANGE: Rule =
    Rule::new(7, "source-range", "The Service is not for connections from there.");

/// How soon an address that was nobody's may be somebody's.
const REVALIDATE_MS: u32 = 1000;

#[cfg(test)]
mod tests;
