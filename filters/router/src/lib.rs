//! A router (RFC 1812, RFC 8504): what is addressed to the gateway goes where the longest prefix
//! of its destination says, with a hop less to live.
//!
//! ```json
//! {"gatewayMac": "02:00:00:00:00:01",
//!  "routes": [{"prefix": "10.1.0.5/32", "via": [{"port": 3}]},
//!             {"prefix": "10.1.0.0/24", "kind": "unreachable"},
//!             {"prefix": "0.0.0.0/0", "via": [{"port": 7, "nextHop": "192.0.2.1"}], "masquerade": true}]}
//! ```
//! It decides only what the stages in front left open: what a bridge forwards within its segment
//! is not routed. The destination is the one after translation. What it knows follows from its
//! configuration alone, so its decisions need not be asked for again until that changes.

mod routes;

use std::net::IpAddr;

use millrace_filter::prelude::*;
use millrace_filter::{Class, Field, Tag, TagKind};

use routes::{Action, Routes};
pub use routes::{Kind, RouteSettings, Settings, Via};

/// The router.
pub struct Router {
    gateway: Option<MacAddr>,
    routes: Routes,
    routed: Counter,
    refused: Counter,
}

impl Filter for Router {
    const MANIFEST: Manifest = Manifest::new("router", env!("CARGO_PKG_VERSION"))
        .describes("Routes by longest prefix, for both IP versions.")
        .wants(&[Capability::Drop, Capability::Reject, Capability::Redirect, Capability::Translate])
        .rules(&[ROUTE, NO_ROUTE, BLACKHOLE, UNREACHABLE, PROHIBIT, LINK_SCOPE]);
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        Ok(Self {
            gateway: settings.gateway_mac,
            routes: Routes::new(settings.routes)?,
            routed: setup.counter("routed")?,
            refused: setup.counter("refused")?,
        })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        if !self.is_asked(slot) {
            return;
        }
        let (Some(source), Some(destination)) = (slot.source(), slot.translated_destination())
        else {
            return;
        };
        if stays_on_link(source) || is_group(destination) || is_link_local(destination) {
            self.refused.add(1);
            decision.drop(Reason::NoRoute).by_rule(LINK_SCOPE.id);
            return;
        }

        let Some(route) = self.routes.find(destination) else {
            self.refused.add(1);
            decision.drop(Reason::NoRoute).by_rule(NO_ROUTE.id);
            return;
        };
        decision.depends_on(route.tag);
        match &route.action {
            Action::Forward(ways) => {
                let way = ways.pick(slot.hash);
                self.routed.add(1);
                decision
                    .egress(way.port)
                    .next_hop(way.next_hop.unwrap_or(destination))
                    .decrement_ttl()
                    .by_rule(ROUTE.id)
                    .depends_on(Tag::new(TagKind::Port, way.port.into()));
                // whoever has stated a source meant it
                if ways.masquerade && !slot.has(Field::As) {
                    decision.masquerade();
                }
                return;
            }
            Action::Blackhole => decision.drop(Reason::Blackhole).by_rule(BLACKHOLE.id),
            Action::Unreachable => decision.reject(Reason::NoRoute).by_rule(UNREACHABLE.id),
            Action::Prohibit => decision.reject(Reason::Prohibited).by_rule(PROHIBIT.id),
        };
        self.refused.add(1);
    }
}

filter!(Router: flow);

impl Router {
    /// Whether it is for the router to say where a packet goes: nobody has said it yet, it is
    /// addressed to the gateway, and it is not about the link itself.
    fn is_asked(&self, slot: &Slot) -> bool {
        let is_open = !slot.has(Field::Egress) && !slot.has(Field::Flood);
        let is_addressed = self.gateway.is_none_or(|gateway| gateway.0 == slot.dst_mac);
        is_open && is_addressed && slot.class() != Class::Nd
    }
}

/// Whether packets from this source may not leave the link: it is known on no other (RFC 4291
/// section 2.5.6), or says nothing (section 2.5.2; RFC 1122 section 3.2.1.3).
fn stays_on_link(source: IpAddr) -> bool {
    source.is_unspecified() || is_link_local(source)
}

/// IPv6 alone: IPv4's link-local addresses are routed where a route says so.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether it is for several: routes lead to one.
fn is_group(destination: IpAddr) -> bool {
    destination.is_multicast() || matches!(destination, IpAddr::V4(v4) if v4.is_broadcast())
}

const ROUTE: Rule = Rule::new(1, "route", "A route leads to the destination.");
const NO_ROUTE: Rule = Rule::new(2, "no-route", "No route has the destination's prefix.");
const BLACKHOLE: Rule = Rule::new(3, "blackhole", "The route discards without a word.");
const UNREACHABLE: Rule =
    Rule::new(4, "unreachable", "The route says that nobody has the destination.");
const PROHIBIT: Rule = Rule::new(5, "prohibit", "The route forbids the destination.");
const LINK_SCOPE: Rule =
    Rule::new(6, "link-scope", "Source or destination has a meaning on one link only.");

#[cfg(test)]
mod tests;
