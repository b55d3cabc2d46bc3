//! What becomes of routes: whose they are, and who is behind them.

use super::grants::may_name;
use super::judgement::JudgedGateway;
use super::listeners::takes_from;
use super::{BackendRef, Gateway, Gateways, ObjectKind, ParentRef, Route};
use crate::service::{ServiceKind, ServicePort};
use crate::{QualifiedName, Service, Verdict, World};

/// A Gateway that a route wants to be one of, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedParent {
    /// As the route names it.
    pub parent: ParentRef,
    /// What is to be said of the route there.
    pub verdicts: Vec<Verdict>,
}

/// Who gets connections of a route.
#[derive(Clone, Copy, Debug)]
pub struct Backend<'w> {
    /// How many it gets, compared with others.
    pub weight: u32,
    /// The Service, and its port.
    pub service: (&'w Service, &'w ServicePort),
}

/// Why nobody gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// How many nobody gets, compared with others.
    pub weight: u32,
    reason: &'static str,
    message: String,
}

/// Who is behind a route.
pub fn backends<'w>(
    route: &'w Route,
    gateways: &'w Gateways,
    world: &'w World,
) -> impl Iterator<Item = Result<Backend<'w>, Unresolved>> {
    route.backends.iter().map(move |it| resolve(it, route, gateways, world))
}

/// The Gateway that a route's parent is, by its name, if it is one.
pub(super) fn gateway_of(parent: &ParentRef, route: &Route) -> Option<QualifiedName> {
    let namespace = parent.namespace.as_ref().unwrap_or(&route.name.name.namespace);
    (parent.of == ObjectKind::of_gateways("Gateway"))
        .then(|| QualifiedName::new(namespace.clone(), parent.name.clone()))
}

/// Has those listeners of a Gateway have a route that it wants and that take it; and says what is to be
/// said of that.
pub(super) fn attach(
    route: &Route,
    parent: &ParentRef,
    gateway: &Gateway,
    judged: &mut JudgedGateway,
    (gateways, world): (&Gateways, &World),
) -> JudgedParent {
    let kind = ObjectKind::of_gateways(route.name.kind().name());
    let (mut is_named, mut is_taken) = (false, false);
    for (listener, judged) in gateway.listeners.iter().zip(&mut judged.listeners) {
        let is_meant = parent.section.as_ref().is_none_or(|name| *name == listener.name)
            && parent.port.is_none_or(|port| port == listener.port);
        if !is_meant {
            continue;
        }
        is_named = true;
        let namespace = &route.name.name.namespace;
        if !judged.kinds.contains(&kind) || !takes_from(listener, gateway, namespace, world) {
            continue;
        }
        is_taken = true;
        // it may be named as a whole, and by its parts
        if !judged.routes.contains(&route.name) {
            judged.routes.push(route.name.clone());
        }
    }
    let accepted = match (is_named, is_taken) {
        (false, _) => {
            let why = "the Gateway has no listener of that name and port";
            Verdict::no("Accepted", "NoMatchingParent", why)
        }
        (_, false) => {
            let why = format!("no listener takes a {} of this namespace", route.name.kind().name());
            Verdict::no("Accepted", "NotAllowedByListeners", why)
        }
        _ => Verdict::yes("Accepted", "a listener has taken it"),
    };
    let unresolved = backends(route, gateways, world).find_map(Result::err);
    let resolved = match unresolved {
        Some(Unresolved { reason, message, .. }) => Verdict::no("ResolvedRefs", reason, message),
        None => Verdict::yes("ResolvedRefs", "all that it names is there"),
    };
    JudgedParent { parent: parent.clone(), verdicts: vec![accepted, resolved] }
}

fn resolve<'w>(
    backend: &BackendRef,
    route: &Route,
    gateways: &Gateways,
    world: &'w World,
) -> Result<Backend<'w>, Unresolved> {
    let weight = backend.weight;
    let no = |reason, message| Unresolved { weight, reason, message };
    if backend.of != ObjectKind::service() {
        return Err(no("InvalidKind", format!("`{}` is no Service", backend.of)));
    }
    let namespace = backend.namespace.as_ref().unwrap_or(&route.name.name.namespace);
    let name = QualifiedName::new(namespace.clone(), backend.name.clone());
    if !may_name(gateways, &route.name, &backend.of, &name) {
        let why =
            format!("no ReferenceGrant of namespace `{namespace}` lets it name Service {name}");
        return Err(no("RefNotPermitted", why));
    }
    let service = world.services.services.get(&name);
    let service = service.filter(|it| it.kind != ServiceKind::ExternalName);
    let Some(service) = service else {
        return Err(no("BackendNotFound", format!("there is no Service {name} with endpoints")));
    };
    let protocol = route.name.protocol;
    let mut ports = service.ports.iter();
    let port = ports.find(|it| it.protocol == protocol && Some(it.port) == backend.port);
    match port {
        Some(port) => Ok(Backend { weight, service: (service, port) }),
        None => {
            let which = backend.port.map_or_else(|| "none".to_owned(), |port| port.to_string());
            let why = format!("Service {name} has no {protocol} port {which}");
            Err(no("BackendNotFound", why))
        }
    }
}
