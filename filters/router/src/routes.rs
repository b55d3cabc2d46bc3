//! Routes: as the operator writes them, and as they are looked up.
//!
//! A route has one way or several. Of several, a flow takes the one that its hash falls on
//! (RFC 2992, with weights): both directions and all packets of a flow the same, also after
//! a restart.

use std::net::IpAddr;

use millrace_filter::Tag;
use millrace_filter::prelude::*;
use millrace_filter::record::Port;

/// What the operator configures.
#[derive(Config, Clone, Debug)]
pub struct Settings {
    /// The address that frames to be routed are sent to; absent, all that is left open is routed.
    #[config(name = "gatewayMac")]
    pub gateway_mac: Option<MacAddr>,
    /// Where destinations are; the longest prefix counts, and each may be there once.
    pub routes: Vec<RouteSettings>,
}

/// Where the destinations of a prefix are.
#[derive(Config, Clone, Debug)]
pub struct RouteSettings {
    /// The destinations.
    pub prefix: Prefix,
    /// What becomes of packets to them.
    #[config(default = Kind::Port)]
    pub kind: Kind,
    /// The ways there, for the kind `port` alone, which has one or more.
    #[config(default = Vec::new())]
    pub via: Vec<Via>,
    /// Whether packets leave with a source that the host allocates.
    #[config(default = false)]
    pub masquerade: bool,
}

/// What becomes of packets that a route is for.
#[derive(Config, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They leave by a port.
    Port,
    /// They are dropped.
    Blackhole,
    /// They are rejected: nobody is there.
    Unreachable,
    /// They are rejected: it is forbidden.
    Prohibit,
}

/// A way.
#[derive(Config, Clone, Copy, Debug)]
pub struct Via {
    /// The port to leave by.
    pub port: Port,
    /// The neighbour to send to; absent, the destination is a neighbour itself.
    #[config(name = "nextHop")]
    pub next_hop: Option<IpAddr>,
    /// The share of flows that take this way, in relation to the others.
    #[config(default = 1)]
    pub weight: u16,
}

/// All routes, by prefix.
#[derive(Debug)]
pub(crate) struct Routes(PrefixMap<Route>);

/// What is done with packets to a prefix.
#[derive(Debug)]
pub(crate) struct Route {
    /// The prefix, for decisions to name.
    pub(crate) tag: Tag,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Forward(Ways),
    Blackhole,
    Unreachable,
    Prohibit,
}

/// The ways of a route; there is one at least.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) masquerade: bool,
    /// All weights together.
    total: u32,
    ways: Box<[Way]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) port: u16,
    pub(crate) next_hop: Option<IpAddr>,
    /// The weights of this way and of those before it.
    below: u32,
}

impl Routes {
    /// Routes that can be looked up; the complaint names the first that makes no sense.
    pub(crate) fn new(settings: Vec<RouteSettings>) -> Result<Self, Error> {
        let mut routes = PrefixMap::new();
        for (index, settings) in settings.into_iter().enumerate() {
            let prefix = settings.prefix;
            let wrong = |problem| Error::new(format!("`routes[{index}]` to {prefix}: {problem}"));
            let route = Route::new(settings).map_err(wrong)?;
            if routes.insert(prefix, route).is_some() {
                return Err(wrong("there is a route to this prefix already".to_owned()));
            }
        }
        Ok(Self(routes))
    }

    /// The route with the longest prefix that the destination has.
    pub(crate) fn find(&self, destination: IpAddr) -> Option<&Route> {
        self.0.longest_match(destination)
    }
}

impl Route {
    fn new(settings: RouteSettings) -> Result<Self, String> {
        let RouteSettings { prefix, kind, via, masquerade } = settings;
        if kind != Kind::Port && (!via.is_empty() || masquerade) {
            return Err("only a route of the kind `port` has `via` and `masquerade`".to_owned());
        }
        let action = match kind {
            Kind::Port => Action::Forward(Ways::new(prefix, &via, masquerade)?),
            Kind::Blackhole => Action::Blackhole,
            Kind::Unreachable => Action::Unreachable,
            Kind::Prohibit => Action::Prohibit,
        };
        Ok(Self { tag: prefix.tag(), action })
    }
}

impl Ways {
    fn new(prefix: Prefix, via: &[Via], masquerade: bool) -> Result<Self, String> {
        match via.len() {
            0 => return Err("`via`: a route of the kind `port` needs a way".to_owned()),
            1..=MAX_WAYS => {}
            count => return Err(format!("`via`: {count} ways are more than {MAX_WAYS}")),
        }
        let mut total = 0;
        let mut ways = Vec::with_capacity(via.len());
        for (index, &Via { port, next_hop, weight }) in via.iter().enumerate() {
            if let Some(next_hop) = next_hop
                && next_hop.is_ipv4() != prefix.address().is_ipv4()
            {
                return Err(format!("`via[{index}]`: {next_hop} is of another IP version"));
            }
            if weight == 0 {
                return Err(format!("`via[{index}].weight`: must be at least 1"));
            }
            total += u32::from(weight);
            ways.push(Way { port: port.0, next_hop, below: total });
        }
        Ok(Self { masquerade, total, ways: ways.into() })
    }

    /// The way that a flow with this hash takes.
    pub(crate) fn pick(&self, hash: u32) -> &Way {
        // the hash as a fraction of all weights; trials and shards go by the hash itself
        let spread = u64::from(hash.wrapping_mul(GOLDEN_RATIO));
        let at = ((spread * u64::from(self.total)) >> u32::BITS) as u32;
        let way = self.ways.partition_point(|way| way.below <= at);
        &self.ways[way]
    }
}

/// Ways of one route: as many as ports, and the weights' sum fits its type.
const MAX_WAYS: usize = 4094;

/// 2³² divided by the golden ratio, and odd: neighbouring hashes go apart.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;
