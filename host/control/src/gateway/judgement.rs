//! What becomes of all objects of the Gateway API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::addresses::{Assigned, Holders};
use super::routes::{attach, gateway_of};
use super::{Gateway, GatewayClass, Gateways, JudgedListener, JudgedParent, Route, RouteName};
use crate::{QualifiedName, Verdict, World};

/// What becomes of those that are ours: every node finds the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Classes, by name.
    pub classes: BTreeMap<String, Vec<Verdict>>,
    /// Gateways of these classes.
    pub gateways: BTreeMap<QualifiedName, JudgedGateway>,
    /// Routes that want to be such a Gateway's, and what becomes of that.
    pub routes: BTreeMap<RouteName, Vec<JudgedParent>>,
}

/// A Gateway, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedGateway {
    /// The addresses that it has.
    pub addresses: Vec<IpAddr>,
    /// What is to be said of it.
    pub verdicts: Vec<Verdict>,
    /// Its listeners, in its own order.
    pub listeners: Vec<JudgedListener>,
}

impl Judgement {
    /// Of these, in a world: as it has them, or is to have them.
    pub fn of(all: &Gateways, world: &World) -> Self {
        let Gateways { classes, gateways, .. } = all;
        let ours = classes.values().filter(|it| it.is_ours());
        let classes: BTreeMap<_, _> = ours.map(|it| (it.name.clone(), of_class(it))).collect();
        let is_served = |it: &&Gateway| classes.get(&it.class).is_some_and(|it| it[0].is_so);
        let ours: Vec<_> = gateways.values().filter(is_served).collect();
        if ours.is_empty() {
            return Self { classes, ..Self::default() };
        }

        let mut holders = Holders::new(&world.services);
        let assigned: Vec<Assigned> = ours.iter().map(|it| holders.assign(it)).collect();
        let listeners = |gateway: &Gateway| {
            gateway.listeners.iter().map(|it| JudgedListener::new(it, gateway)).collect()
        };
        let mut gateways: BTreeMap<QualifiedName, JudgedGateway> = ours
            .iter()
            .zip(&assigned)
            .map(|(gateway, assigned)| {
                let addresses = assigned.addresses.clone();
                let listeners = listeners(gateway);
                let verdicts = Vec::new();
                (gateway.name.clone(), JudgedGateway { addresses, verdicts, listeners })
            })
            .collect();

        let mut routes = BTreeMap::new();
        for route in by_precedence(all) {
            let parents = route.parents.iter().filter_map(|parent| {
                let name = gateway_of(parent, route)?;
                let judged = gateways.get_mut(&name)?;
                let gateway = all.gateways.get(&name)?;
                Some(attach(route, parent, gateway, judged, (all, world)))
            });
            let parents: Vec<_> = parents.collect();
            if !parents.is_empty() {
                routes.insert(route.name.clone(), parents);
            }
        }
        for (gateway, assigned) in ours.iter().zip(assigned) {
            if let Some(judged) = gateways.get_mut(&gateway.name) {
                judged.finish(&assigned);
            }
        }
        Self { classes, gateways, routes }
    }
}

impl JudgedGateway {
    fn finish(&mut self, assigned: &Assigned) {
        let faulty = self.listeners.iter().filter(|it| it.serves.is_none());
        let faulty: Vec<_> = faulty.map(|it| format!("`{}`", it.name)).collect();
        let message = format!("not served: listener {}", faulty.join(", "));
        let about = "Accepted";
        let accepted = match &assigned.unsupported {
            Some(why) => Verdict::no(about, "UnsupportedAddress", why),
            None if faulty.is_empty() => Verdict::yes(about, "all listeners can be served"),
            None => Verdict {
                about,
                is_so: faulty.len() < self.listeners.len(),
                reason: "ListenersNotValid",
                message,
            },
        };
        let programmed = match (&assigned.lack, accepted.is_so) {
            (_, false) => Verdict::no("Programmed", "Invalid", "it is not accepted"),
            (Some((reason, why)), _) => Verdict::no("Programmed", reason, why),
            _ => Verdict::yes("Programmed", "it is served at its addresses"),
        };
        self.verdicts = vec![accepted, programmed];
        let has_addresses = !self.addresses.is_empty();
        self.listeners.iter_mut().for_each(|it| it.program(has_addresses));
    }
}

fn of_class(class: &GatewayClass) -> Vec<Verdict> {
    vec![match &class.parameters {
        Some(parameters) => Verdict::no(
            "Accepted",
            "InvalidParameters",
            format!("nothing is read of {parameters}: leave `parametersRef` out"),
        ),
        None => Verdict::yes("Accepted", "millrace serves Gateways of this class"),
    }]
}

/// Routes, the oldest first, and of the same age by their names.
fn by_precedence(gateways: &Gateways) -> Vec<&Route> {
    let mut routes: Vec<_> = gateways.routes().collect();
    routes.sort_by(|a, b| (&a.created, &a.name.name).cmp(&(&b.created, &b.name.name)));
    routes
}
