//! Where Gateways are reached, as a node sees it: their listeners with the Services behind their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use millrace_tables::{Algorithm, Frontend, FrontendKind, Service, SourceSet, TrafficPolicy};

use super::announced::answers;
use super::endpoints::{Backing, Usable};
use super::frontends::Numbered;
use super::proportion::{Part, shared};
use super::services::{Compiled, number, protocol};
use crate::changes::Changes;
use crate::gateway::{JudgedGateway, JudgedListener, Judgement, Route, backends};
use crate::service::Family;
use crate::{QualifiedName, World};

/// The Gateways that there are, and whom they lead to.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    gateways: BTreeMap<QualifiedName, JudgedGateway>,
    /// The Services behind each.
    services: BTreeMap<QualifiedName, BTreeSet<QualifiedName>>,
}

impl Reached {
    /// Follows changes of a world, which concern these Services, and says which Gateways they concern.
    pub(super) fn follow(
        &mut self,
        world: &World,
        changes: &Changes,
        services: &BTreeSet<QualifiedName>,
    ) -> BTreeSet<QualifiedName> {
        let is_judged_by = !changes.namespaces.is_empty()
            || !changes.pools.is_empty()
            || !changes.services.is_empty();
        if !changes.gateways && (!is_judged_by || self.gateways.is_empty()) {
            return self.before(services).collect();
        }
        let before = std::mem::take(&mut self.gateways);
        self.gateways = Judgement::of(&world.gateways, world).gateways;
        let behind = |gateway: &JudgedGateway| {
            let routes = gateway.listeners.iter().filter_map(|it| served(it, world));
            let backends = routes.flat_map(|it| backends(it, &world.gateways, world));
            backends.flatten().map(|it| it.service.0.name.clone()).collect()
        };
        self.services = self.gateways.iter().map(|(name, it)| (name.clone(), behind(it))).collect();
        before.into_keys().chain(self.gateways.keys().cloned()).collect()
    }

    /// The Gateways before any of these Services.
    pub(super) fn before(
        &self,
        services: &BTreeSet<QualifiedName>,
    ) -> impl Iterator<Item = QualifiedName> {
        let leads = |(_, behind): &(_, &BTreeSet<_>)| !behind.is_disjoint(services);
        self.services.iter().filter(leads).map(|(name, _)| name.clone())
    }

    pub(super) fn get(&self, name: &QualifiedName) -> Option<&JudgedGateway> {
        self.gateways.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &QualifiedName> {
        self.gateways.keys()
    }
}

/// Compiles a Gateway.
pub(super) fn compile(
    name: &QualifiedName,
    gateway: &JudgedGateway,
    world: &World,
    backing: &Backing<'_>,
    sets: &mut Numbered,
) -> Compiled {
    let addresses = gateway.addresses.iter().copied();
    let announced = addresses.clone().filter(|it| answers(*it, backing, |_| true)).collect();
    let mut compiled = Compiled { announced, ..Compiled::default() };
    // no Service is called so
    let number = number(&format_args!("Gateway {name}"));
    for address in addresses {
        for listener in &gateway.listeners {
            let Some(spoken) = listener.serves else { continue };
            let usable = served(listener, world)
                .map_or_else(Usable::default, |route| usable(route, address, world, backing));
            let (cluster, local) = compiled.uses.both(usable, sets);
            let frontend = Frontend { address, port: listener.port, protocol: protocol(spoken) };
            let service = Service {
                number,
                port: listener.port,
                kind: FrontendKind::LoadBalancer,
                policy: TrafficPolicy::Cluster,
                cluster,
                local,
                affinity_s: 0,
                sources: SourceSet::NONE,
                algorithm: Algorithm::Maglev,
            };
            compiled.rows.push((frontend, service));
        }
    }
    compiled
}

/// The route that gets a listener's connections.
fn served<'w>(listener: &JudgedListener, world: &'w World) -> Option<&'w Route> {
    world.gateways.route(listener.routes.first()?)
}

/// Who counts for a route, with addresses of the family of this one.
fn usable(route: &Route, address: IpAddr, world: &World, backing: &Backing<'_>) -> Usable {
    let family = Family::of(address);
    let (mut parts, mut here) = (Vec::new(), BTreeSet::new());
    for backend in backends(route, &world.gateways, world) {
        let (weight, usable) = match &backend {
            Ok(it) => (it.weight, backing.usable(it.service.0, it.service.1, family)),
            Err(it) => (it.weight, Usable::default()),
        };
        here.extend(usable.local.iter().map(|it| it.endpoint));
        parts.push(Part { weight, backends: usable.cluster });
    }
    let cluster = shared(&parts);
    let local = cluster.iter().filter(|it| here.contains(&it.endpoint)).copied().collect();
    // no load balancer asks about them
    Usable { cluster, local, is_local_ready: false }
}
