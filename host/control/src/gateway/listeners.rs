//! What becomes of a Gateway's listeners.

use super::{Gateway, Listener, ObjectKind, RouteName, RouteNamespaces, Tls};
use crate::{Protocol, Verdict, World};

/// A listener, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedListener {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// What it serves; `None` if nobody is served there.
    pub serves: Option<Protocol>,
    /// The kinds of routes that it takes, as far as they are known here.
    pub kinds: Vec<ObjectKind>,
    /// The routes that it has; the first gets its connections.
    pub routes: Vec<RouteName>,
    /// What is to be said of it.
    pub verdicts: Vec<Verdict>,
}

impl JudgedListener {
    /// Judges a listener of a Gateway, which has no routes yet.
    pub(super) fn new(listener: &Listener, gateway: &Gateway) -> Self {
        let protocol = protocol(listener);
        let kinds: Vec<_> = protocol.map(kind_for).into_iter().collect();
        let takes = |kind: &&ObjectKind| listener.kinds.is_empty() || listener.kinds.contains(kind);
        let taken: Vec<_> = kinds.iter().filter(takes).cloned().collect();
        let strange = listener.kinds.iter().find(|kind| !kinds.contains(kind));
        let rival = gateway.listeners.iter().find(|other| {
            other.name != listener.name
                && other.port == listener.port
                && is_udp(other) == is_udp(listener)
        });
        let conflict = rival
            .map(|other| format!("listener `{}` has port {} as well", other.name, listener.port));
        let fault = match (protocol, &conflict) {
            (None, _) => {
                let why = format!("`{}` is not spoken here: use TCP or UDP", listener.protocol);
                Some(("UnsupportedProtocol", why))
            }
            (_, Some(why)) => Some(("ProtocolConflict", why.clone())),
            _ if listener.tls == Tls::Ended => {
                Some(("UnsupportedValue", "nobody here ends TLS: leave `tls` out".to_owned()))
            }
            _ => None,
        };
        let verdicts = vec![
            match &fault {
                Some((reason, why)) => Verdict::no("Accepted", reason, why),
                None => Verdict::yes("Accepted", "it can be served"),
            },
            match strange {
                Some(kind) => Verdict::no(
                    "ResolvedRefs",
                    "InvalidRouteKinds",
                    format!("`{kind}` is no route that such a listener takes"),
                ),
                None => Verdict::yes("ResolvedRefs", "all kinds of routes are known"),
            },
            match conflict {
                Some(why) => Verdict {
                    about: "Conflicted",
                    is_so: true,
                    reason: "ProtocolConflict",
                    message: why,
                },
                None => Verdict::no("Conflicted", "NoConflicts", "no other has its port"),
            },
        ];
        Self {
            name: listener.name.clone(),
            port: listener.port,
            serves: protocol.filter(|_| fault.is_none()),
            kinds: taken,
            routes: Vec::new(),
            verdicts,
        }
    }

    /// Says whether it is served at the addresses that its Gateway has.
    pub(super) fn program(&mut self, has_addresses: bool) {
        self.verdicts.push(match (self.serves, has_addresses) {
            (None, _) => Verdict::no("Programmed", "Invalid", "it is not accepted"),
            (_, false) => Verdict::no("Programmed", "Pending", "its Gateway has no address"),
            _ => Verdict::yes("Programmed", "it is served"),
        });
    }
}

/// Whether a listener takes routes of a namespace.
pub(super) fn takes_from(
    listener: &Listener,
    gateway: &Gateway,
    namespace: &str,
    world: &World,
) -> bool {
    match &listener.namespaces {
        RouteNamespaces::All => true,
        RouteNamespaces::Same => namespace == gateway.name.namespace,
        RouteNamespaces::Selector(selector) => {
            let namespace = world.namespaces.get(namespace);
            namespace.is_some_and(|it| selector.selects(&it.labels))
        }
    }
}

/// What a listener speaks that is served here.
fn protocol(listener: &Listener) -> Option<Protocol> {
    match &*listener.protocol {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

/// Whether it is at a port of UDP: all others are over TCP.
fn is_udp(listener: &Listener) -> bool {
    protocol(listener) == Some(Protocol::Udp)
}

/// The kind of routes for a protocol.
fn kind_for(protocol: Protocol) -> ObjectKind {
    ObjectKind::of_gateways(match protocol {
        Protocol::Udp => "UDPRoute",
        _ => "TCPRoute",
    })
}
