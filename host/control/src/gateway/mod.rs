//! The Gateway API as plain data: what is to be reached at which addresses, and by which routes.
//!
//! Owns the shape of objects, as their owners want them. What becomes of them is a [`Judgement`]: which
//! are ours, who has which address, and which route goes with which listener. Its parts are `addresses`,
//! `listeners`, `routes` and `grants`.
//!
//! Of the API's routes those of layer 4 count: `TCPRoute` and `UDPRoute`, with Services behind them.

mod addresses;
mod grants;
mod judgement;
mod listeners;
mod routes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::changes::{put, remove};
use crate::manifest::{Kind, Object};
use crate::policy::Selector;
use crate::{Protocol, QualifiedName};
pub(crate) use addresses::{claimed, wants_any};
pub use judgement::{JudgedGateway, Judgement};
pub use listeners::JudgedListener;
pub use routes::{Backend, JudgedParent, Unresolved, backends};

/// All objects of the Gateway API that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// By name.
    pub classes: BTreeMap<String, GatewayClass>,
    /// By namespace and name.
    pub gateways: BTreeMap<QualifiedName, Gateway>,
    /// `TCPRoute`s, by namespace and name.
    pub tcp_routes: BTreeMap<QualifiedName, Route>,
    /// `UDPRoute`s, likewise.
    pub udp_routes: BTreeMap<QualifiedName, Route>,
    /// By namespace and name.
    pub grants: BTreeMap<QualifiedName, ReferenceGrant>,
}

/// Whose Gateways of a class are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// Its name.
    pub name: String,
    /// Who serves them.
    pub controller: String,
    /// Where parameters of theirs are, if it says so.
    pub parameters: Option<String>,
}

/// Addresses, and what listens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What tells it from others.
    pub name: QualifiedName,
    /// The class that it is of.
    pub class: String,
    /// What listens, in the order in which it says so; each has a name of its own.
    pub listeners: Vec<Listener>,
    /// The addresses that it asks for; if none, one of each family that there are addresses of.
    pub wanted: Vec<WantedAddress>,
    /// Those that it was given.
    pub given: Vec<IpAddr>,
}

/// An address that a Gateway asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAddress {
    /// What it is: `IPAddress`, if somebody is to make something of it here.
    pub kind: String,
    /// Which one; any, if it is empty.
    pub value: String,
}

/// A port of a Gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What tells it from others of its Gateway.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// What is spoken there: `TCP`, `UDP`, and others that are nothing to us.
    pub protocol: String,
    /// Whether it is to end TLS.
    pub tls: Tls,
    /// Whose routes it takes.
    pub namespaces: RouteNamespaces,
    /// Which kinds of them; those of its protocol, if there is none.
    pub kinds: Vec<ObjectKind>,
}

/// Whether a listener is to end TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// It is not.
    #[default]
    Passed,
    /// It is.
    Ended,
}

/// The namespaces whose routes a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteNamespaces {
    /// The Gateway's.
    #[default]
    Same,
    /// All.
    All,
    /// Those with such labels.
    Selector(Selector),
}

/// A kind of objects, whatever its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKind {
    /// Its group; the core one has no name.
    pub group: String,
    /// Its name.
    pub kind: String,
}

/// What connections to listeners become: a `TCPRoute`, or a `UDPRoute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What tells it from others.
    pub name: RouteName,
    /// When it was made (RFC 3339, UTC), if that is known: the oldest goes first.
    pub created: Option<String>,
    /// What it wants to be a route of.
    pub parents: Vec<ParentRef>,
    /// Who gets its connections.
    pub backends: Vec<BackendRef>,
}

/// What tells a route from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteName {
    /// What it is a route for: TCP or UDP.
    pub protocol: Protocol,
    /// Its name among those.
    pub name: QualifiedName,
}

/// What a route wants to be a route of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// The kind of object.
    pub of: ObjectKind,
    /// Its namespace; the route's, if it says none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The name of a listener of it; of all, if it says none.
    pub section: Option<String>,
    /// The port of listeners of it; of all, if it says none.
    pub port: Option<u16>,
}

/// Who gets connections of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// The kind of object.
    pub of: ObjectKind,
    /// Its namespace; the route's, if it says none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The port of it, of which a Service needs one.
    pub port: Option<u16>,
    /// How many of the route's connections it gets, compared with others.
    pub weight: u32,
}

/// That objects of other namespaces may name those of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// What tells it from others.
    pub name: QualifiedName,
    /// Whose may, by their namespaces.
    pub from: Vec<(ObjectKind, String)>,
    /// Which they may name; all of a kind, if it says no name.
    pub to: Vec<(ObjectKind, Option<String>)>,
}

impl Gateways {
    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.tcp_routes.values().chain(self.udp_routes.values())
    }

    /// A route.
    pub fn route(&self, RouteName { protocol, name }: &RouteName) -> Option<&Route> {
        match protocol {
            Protocol::Udp => self.udp_routes.get(name),
            _ => self.tcp_routes.get(name),
        }
    }

    /// Puts an object in, and says whether that changes anything. One of another kind changes nothing.
    pub(crate) fn put(&mut self, object: Object) -> bool {
        match object {
            Object::GatewayClass(it) => put(&mut self.classes, it.name.clone(), it),
            Object::Gateway(it) => put(&mut self.gateways, it.name.clone(), it),
            Object::Route(it) => match it.name.protocol {
                Protocol::Udp => put(&mut self.udp_routes, it.name.name.clone(), it),
                _ => put(&mut self.tcp_routes, it.name.name.clone(), it),
            },
            Object::ReferenceGrant(it) => put(&mut self.grants, it.name.clone(), it),
            _ => false,
        }
    }

    /// Takes the object of a kind with this name out, and says whether there was one.
    pub(crate) fn remove(&mut self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::GatewayClass => remove(&mut self.classes, name),
            Kind::Gateway => remove(&mut self.gateways, name),
            Kind::TcpRoute => remove(&mut self.tcp_routes, name),
            Kind::UdpRoute => remove(&mut self.udp_routes, name),
            Kind::ReferenceGrant => remove(&mut self.grants, name),
            _ => false,
        }
    }
}

impl GatewayClass {
    /// Whether its Gateways are ours to serve.
    pub fn is_ours(&self) -> bool {
        self.controller == Self::CONTROLLER
    }

    /// Who we are to classes.
    pub const CONTROLLER: &str = "millrace.dev/gateway";
}

impl ObjectKind {
    /// A kind of the Gateway API.
    pub fn of_gateways(kind: &str) -> Self {
        Self { group: GROUP.to_owned(), kind: kind.to_owned() }
    }

    /// `v1 Service`.
    pub fn service() -> Self {
        Self { group: String::new(), kind: "Service".to_owned() }
    }
}

impl RouteName {
    /// The kind of objects that it is one of.
    pub fn kind(&self) -> Kind {
        match self.protocol {
            Protocol::Udp => Kind::UdpRoute,
            _ => Kind::TcpRoute,
        }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().name(), self.name)
    }
}

impl fmt::Display for ObjectKind {
    /// `Service`, `gateway.networking.k8s.io/TCPRoute`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.group {
            "" => f.write_str(&self.kind),
            group => write!(f, "{group}/{}", self.kind),
        }
    }
}

/// The API's group.
pub const GROUP: &str = "gateway.networking.k8s.io";

#[cfg(test)]
mod tests;
