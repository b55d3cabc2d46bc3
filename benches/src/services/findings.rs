//! What follows from the samples, and what is promised of it.

use super::measure::{Quantity, To};
use super::peer::Peer;
use super::{COUNTS, Samples};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::traffic::Quantity::{Connections, CpuPerGigabit, SmallRate, StreamRate};
use crate::traffic::{self, Lanes, Places};
use crate::unit::Unit;

/// Small packets of established flows.
pub const SMALL: Promise = Promise::at_least(
    "through a Service and a policy, against kube-proxy's nftables, 64 B packets",
    1.4,
    Unit::Ratio,
);

/// What translation takes of them.
pub const TRANSLATED: Promise = Promise::at_least(
    "packets of 64 B through a Service, against those to its pods themselves",
    0.95,
    Unit::Ratio,
);

/// Established streams.
pub const STREAM: Promise = Promise::at_least(
    "through a Service and a policy, against kube-proxy's nftables, TCP stream",
    1.2,
    Unit::Ratio,
);

/// What they cost.
pub const CPU: Promise = Promise::at_most(
    "through a Service and a policy, against kube-proxy's nftables, CPU per Gbit",
    0.8,
    Unit::Ratio,
);

/// Established flows do not notice how large the cluster is.
pub const FLATNESS: Promise = Promise::at_least(
    "established flows with 10,000 Services and policies, against those with 10",
    0.97,
    Unit::Ratio,
);

/// New connections.
pub const CONNECTIONS: Promise = Promise {
    aim: Some(1.3),
    ..Promise::at_least(
        "new connections per second through a Service, against kube-proxy's nftables",
        1.0,
        Unit::Ratio,
    )
};

/// New connections beside a list of Services.
pub const CONNECTIONS_AGAINST_IPTABLES: Promise = Promise::at_least(
    "new connections per second among 10,000 Services, against kube-proxy's iptables",
    1.3,
    Unit::Ratio,
);

/// Notes everything.
pub(super) fn report(samples: &Samples, places: Places, outcome: &mut Outcome) {
    for ((quantity, peer, count), found) in samples.iter() {
        outcome.sampled(&among(*quantity, *count), peer.label(), quantity.unit(), found);
    }
    for quantity in samples.each(|(quantity, ..)| *quantity) {
        for count in COUNTS {
            for other in [Peer::Nftables, Peer::Iptables] {
                let of = |peer| (quantity, peer, count);
                let Some(ratio) = samples.ratio(&of(OURS), &of(other)) else { continue };
                let what =
                    format!("{}, {} / {}", among(quantity, count), OURS.label(), other.label());
                outcome.state(what, promise(quantity, other, count), Unit::Ratio, ratio);
            }
        }
        let [few, .., many] = COUNTS;
        for peer in Peer::ALL {
            let of = |count| (quantity, peer, count);
            let Some(ratio) = samples.ratio(&of(many), &of(few)) else { continue };
            let what = format!("{}, {}, {many} / {few} Services", quantity.label(), peer.label());
            let flat = [SmallRate, StreamRate].map(through).contains(&quantity);
            let promise = (flat && peer == OURS).then_some(&FLATNESS);
            outcome.state(what, promise, Unit::Ratio, ratio);
        }
    }
    for count in COUNTS {
        let of = |to| (Quantity { traffic: SmallRate, to }, OURS, count);
        let Some(ratio) = samples.ratio(&of(To::Service), &of(To::Pod)) else { continue };
        let what = format!("packets of 64 B to the Service / to a pod itself, {count} Services");
        outcome.held(what, &TRANSLATED, ratio);
    }
    for (title, quantity) in [
        ("Packets of 64 B through a Service", SmallRate),
        ("TCP through a Service", StreamRate),
        ("Connections through a Service", Connections(Lanes::One)),
        ("Parallel connections through a Service", Connections(Lanes::Many)),
    ] {
        outcome.charts.push(chart(samples, title, through(quantity)));
    }
    outcome.notes.push(format!(
        "As many policies as Services, with three endpoints each, and all pods on this node. The \
         Service that is measured is the one in the middle; each connection passes its translation \
         and the policy for its pods. Sender and client are on core {}, the receiver of the stream \
         and the server of parallel connections on core {}. kube-proxy is what it writes, made anew \
         for this cluster; policies beside it are a chain of nftables each.",
        places.near.number(),
        places.apart.number(),
    ));
}

/// What is promised beside another peer, with few Services and with many.
fn promise(quantity: Quantity, other: Peer, count: u32) -> Option<&'static Promise> {
    let [few, .., many] = COUNTS;
    match (quantity, other) {
        (Quantity { to: To::Pod, .. }, _) => None,
        (Quantity { traffic: Connections(_), .. }, Peer::Iptables) if count == many => {
            Some(&CONNECTIONS_AGAINST_IPTABLES)
        }
        (_, Peer::Iptables | Peer::Millrace) => None,
        _ if count != few && count != many => None,
        (Quantity { traffic, .. }, Peer::Nftables) => match traffic {
            SmallRate => Some(&SMALL),
            StreamRate => Some(&STREAM),
            CpuPerGigabit => Some(&CPU),
            Connections(_) => Some(&CONNECTIONS),
            _ => None,
        },
    }
}

/// Of what goes to the Service.
fn through(traffic: traffic::Quantity) -> Quantity {
    Quantity { traffic, to: To::Service }
}

fn among(quantity: Quantity, count: u32) -> String {
    format!("{}, {count} Services", quantity.label())
}

fn chart(samples: &Samples, title: &str, quantity: Quantity) -> Chart {
    let of = |peer, count| samples.of(&(quantity, peer, count));
    let counts: Vec<_> = COUNTS.into_iter().filter(|&count| of(OURS, count).is_some()).collect();
    let line = |peer: Peer| {
        let points = counts.iter().map(|&count| of(peer, count));
        let points: Option<Vec<_>> = points.map(|samples| samples.map(Estimate::of)).collect();
        Some(Line { name: peer.label().to_owned(), points: points? })
    };
    Chart {
        title: title.to_owned(),
        across: "Services and policies".to_owned(),
        cases: counts.iter().map(ToString::to_string).collect(),
        style: Style::Joined,
        unit: quantity.unit(),
        bound: None,
        lines: Peer::ALL.into_iter().filter_map(line).collect(),
    }
}

const OURS: Peer = Peer::Millrace;
