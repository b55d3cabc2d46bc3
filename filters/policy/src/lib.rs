//! Kubernetes NetworkPolicy and ClusterNetworkPolicy: a connection goes on if the policies of the pod
//! that opens it allow that, and those of the pod that it is for. Policies that are audited deny
//! nothing: what they would deny goes on, is counted, and has the rule's name.
//!
//! What policies allow, and whose addresses are, it is told by tables. Judged is the connection as
//! it is once a Service's address is translated, with the client that has opened it (N5). Of pods,
//! those on this node are judged for: their own connections where they begin, others' where they end.
//! The host carries the answers of a connection, and ICMP errors about it, without asking (N8).
//!
//! Whatever is not known to be allowed to a pod that policies are for is dropped. Protocols that
//! policies have no word for (ICMP and others) are what rules without ports alone are about (N9). A
//! pod always reaches itself, and its own node reaches it; what it opens to that node, or to itself by
//! way of a Service, is what ClusterNetworkPolicies alone are about (N10, N11).
//!
//! Which addresses a name has (K4), it learns from what resolvers answer to pods with policies about
//! names: it looks into those connections, and no others.
//!
//! - `known`: what it was told, `domains`: names among that; `names`: which addresses those have
//! - `streams`: what resolvers answer over TCP

mod domains;
mod known;
mod names;
mod streams;

use std::net::IpAddr;

use millrace_filter::prelude::*;
use millrace_filter::tables::{Owner, Place, PolicySet};
use millrace_filter::wire::{IpProtocol, dns, tcp, udp};
use millrace_filter::{Class, Field, INSPECT_ALL, PortKind, Tag, TagKind};

use known::{Ends, Known, Ruling, Subject};
use names::Names;
use streams::Streams;

/// The policies.
pub struct Policy {
    known: Known,
    names: Names,
    streams: Streams,
    allowed: Counter,
    denied_egress: Counter,
    denied_ingress: Counter,
    denied_unknown: Counter,
    audited: Counter,
}

impl Filter for Policy {
    const MANIFEST: Manifest = Manifest::new("policy", env!("CARGO_PKG_VERSION"))
        .describes("Allows connections of pods as NetworkPolicies and ClusterNetworkPolicies say.")
        .wants(&[Capability::Drop, Capability::Inspect])
        .snap(MOST_OF_AN_ANSWER)
        .subscribes(&[
            Table::Owners,
            Table::Identities,
            Table::Blocks,
            Table::Policies,
            Table::Domains,
            Table::Resolvers,
        ])
        .rules(&[UNKNOWN_SOURCE, TO_MANY, UNTOLD])
        .map::<names::Asked, names::Asker>(names::ASKED)
        .map::<names::Called, names::Until>(names::LEARNT)
        .map::<streams::Opening, streams::Opener>(streams::OPENING)
        .map::<streams::Ends, streams::Stream>(streams::READ);
    type Config = ();

    fn new((): (), setup: &mut Setup) -> Result<Self, Error> {
        Ok(Self {
            known: Known::default(),
            names: Names::open(setup)?,
            streams: Streams::open(setup)?,
            allowed: setup.counter("allowed")?,
            denied_egress: setup.counter("denied_egress")?,
            denied_ingress: setup.counter("denied_ingress")?,
            denied_unknown: setup.counter("denied_unknown")?,
            audited: setup.counter("audited")?,
        })
    }

    fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        self.known.update(update)
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        let is_link = matches!(slot.class(), Class::Arp | Class::Nd | Class::NonIp);
        let ends = slot.source().zip(slot.translated_destination());
        let Some((source, destination)) = ends.filter(|_| !is_link) else { return };
        if !self.known.is_told() {
            self.denied_unknown.add(1);
            decision.drop(Reason::Isolated).by_rule(UNTOLD.id).once();
            return;
        }
        // nobody keeps a pod from itself, unless it goes by way of a Service (N10, N11)
        let is_hairpin = source == destination;
        if is_hairpin && slot.destination() == Some(destination) {
            return;
        }
        let (from, to) = (self.known.owner(source), self.known.owner(destination));
        let is_from_pod = slot.ingress_kind() == PortKind::Pod;
        let is_from_node = slot.ingress_kind() == PortKind::Host && is(from, Place::Node);
        if is_from_pod && !is(from, Place::Here) {
            // whatever it may do is not known, and it has no other address (N14)
            self.denied_unknown.add(1);
            decision.drop(Reason::Isolated).by_rule(UNKNOWN_SOURCE.id);
            decision.depends_on(Tag::of_address(source));
            return;
        }
        if goes_to_many(slot, destination) && self.known.guards_somebody() {
            self.denied_ingress.add(1);
            decision.drop(Reason::Isolated).by_rule(TO_MANY.id);
            return;
        }
        // a node reaches its own pods (N10)
        let egress = set(from, |owner| owner.egress);
        let ingress = set(to, |owner| owner.ingress).filter(|_| !is_from_node);
        let ends = if is_hairpin || is(to, Place::Node) { Ends::Own } else { Ends::Strangers };
        decision.depends_on(Tag::of_address(source)).depends_on(Tag::of_address(destination));
        let mut audited = None;
        for (set, peer, denied) in [
            (egress, destination, &mut self.denied_egress),
            (ingress, source, &mut self.denied_ingress),
        ] {
            let Some(set) = set else { continue };
            let subject = Subject { peer, ends, names: &self.names, slot };
            decision.depends_on(Tag::new(TagKind::PolicySet, set.0));
            match self.known.judge(set, subject) {
                Ruling::Allowed(rule) => {
                    audited = audited.or_else(|| self.known.audit(set, subject));
                    decision.by_rule(rule)
                }
                Ruling::Denied(rule) => {
                    denied.add(1);
                    decision.drop(Reason::Isolated).by_rule(rule);
                    if self.known.asks_for_names(set) {
                        // an answer may allow it at any time
                        decision.revalidate_after(ASKED_AGAIN_MS);
                    }
                    return;
                }
            };
        }
        if let Some(rule) = audited {
            self.audited.add(1);
            decision.by_rule(rule);
        }
        self.allowed.add(1);
        if egress.is_some_and(|set| self.known.asks_for_names(set)) && is_for_names(slot) {
            self.listen(slot, decision);
        }
    }

    fn packet(&mut self, slot: &Slot, packet: &mut Packet<'_>) {
        let Self { known, names, streams, .. } = self;
        // packets are those of connections to resolvers: what does not go there comes from there
        let to = slot.destination().filter(|_| is_for_names(slot));
        let asks = to.is_some_and(|server| known.is_resolver(server));
        let read = |octets: &[u8]| match dns::Message::new(octets) {
            Some(message) if asks => names.ask(slot, message),
            Some(message) => names.hear(slot, message, known.domains()),
            None => {}
        };
        if slot.protocol == IpProtocol::UDP.0 {
            udp::payload_in(packet.bytes()).into_iter().for_each(read);
        } else if let Some(segment) = tcp::segment_in(packet.bytes()) {
            match asks {
                true => streams.ask(slot, segment, read),
                false => streams.hear(slot, segment, read),
            }
        }
    }
}

impl Policy {
    /// Looks into a connection to a resolver.
    fn listen(&self, slot: &Slot, decision: &mut Decision) {
        let Some(server) = slot.destination() else { return };
        decision.depends_on(Tag::of_address(server));
        if self.known.is_resolver(server) {
            decision.inspect(INSPECT_ALL);
        }
    }
}

filter!(Policy: flow, packet, update);

fn is(owner: Option<&Owner>, place: Place) -> bool {
    owner.is_some_and(|owner| owner.place == place)
}

/// The set of policies that a pod of this node has in a direction, if it has one.
fn set(owner: Option<&Owner>, of: fn(&Owner) -> PolicySet) -> Option<PolicySet> {
    owner.filter(|owner| owner.place == Place::Here).map(of).filter(|set| *set != PolicySet::NONE)
}

/// Whether it is for whoever answers questions about names there.
fn is_for_names(slot: &Slot) -> bool {
    let carries = [IpProtocol::UDP, IpProtocol::TCP].contains(&IpProtocol(slot.protocol));
    carries && slot.dst_port == dns::PORT
}

/// Whether several are to get the packet: some of them may be pods with policies.
fn goes_to_many(slot: &Slot, destination: IpAddr) -> bool {
    let is_broadcast = matches!(destination, IpAddr::V4(v4) if v4.is_broadcast());
    slot.has(Field::Flood) || destination.is_multicast() || is_broadcast
}

const UNKNOWN_SOURCE: Rule = Rule::new(
    1,
    "unknown-source",
    "The address is of no pod that policies are known of: none has it, or its manifest has not come yet.",
);
const TO_MANY: Rule = Rule::new(
    2,
    "to-many",
    "The packet is for all of the segment, and policies do not let everybody to some of them.",
);
const UNTOLD: Rule = Rule::new(3, "untold", "The host has not said yet which policies there are.");

/// Octets of a frame with an answer: clients ask for 4096 over UDP at most, and networks carry less.
const MOST_OF_AN_ANSWER: u32 = 4096;
/// How long a connection that names may allow is dropped without a question.
const ASKED_AGAIN_MS: u32 = 1000;

#[cfg(test)]
mod tests;
