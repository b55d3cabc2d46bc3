//! What follows from the samples, and what is promised of it.

use super::measure::{Quantity, To};
use super::peer::Peer;
use super::{COUNTS, Samples};
use crate::outcome::{Chart, Line, Outcome, Style};
use crate::pods::measure::Lanes;
use crate::pods::peer::Places;
use crate::promise::{Bound, Promise};
use crate::statistics::Estimate;
use crate::unit::Unit;

/// Small packets of established flows.
pub const SMALL: Promise =
    at_least("through a Service and a policy, against kube-proxy's nftables, 64 B packets", 1.4);

/// What translation takes of them.
pub const TRANSLATED: Promise =
    at_least("packets of 64 B through a Service, against those to its pods themselves", 0.95);

/// Established streams.
pub const STREAM: Promise =
    at_least("through a Service and a policy, against kube-proxy's nftables, TCP stream", 1.2);

/// What they cost.
pub const CPU: Promise = Promise {
    what: "through a Service and a policy, against kube-proxy's nftables, CPU per Gbit",
    bound: Bound::AtMost(0.8),
    unit: Unit::Ratio,
    aim: None,
};

/// Established flows do not notice how large the cluster is.
pub const FLATNESS: Promise =
    at_least("established flows with 10,000 Services and policies, against those with 10", 0.97);

/// New connections.
pub const CONNECTIONS: Promise = Promise {
    aim: Some(1.3),
    ..at_least("new connections per second through a Service, against kube-proxy's nftables", 1.0)
};

/// New connections beside a list of Services.
pub const CONNECTIONS_AGAINST_IPTABLES: Promise = at_least(
    "new connections per second among 10,000 Services, against kube-proxy's iptables",
    1.3,
);

const fn at_least(what: &'static str, bound: f64) -> Promise {
    Promise { what, bound: Bound::AtLeast(bound), unit: Unit::Ratio, aim: None }
}

/// Notes everything.
pub(super) fn report(samples: &Samples, places: Places, outcome: &mut Outcome) {
    for quantity in Quantity::ALL {
        for count in COUNTS {
            for peer in Peer::ALL {
                if let Some(samples) = samples.of(quantity, peer, count) {
                    let what = among(quantity, count);
                    outcome.sampled(&what, peer.label(), quantity.unit(), samples);
                }
            }
        }
    }
    for quantity in Quantity::ALL {
        for count in COUNTS {
            for other in [Peer::Nftables, Peer::Iptables] {
                let Some(a) = samples.of(quantity, Peer::Millrace, count) else { continue };
                let Some(b) = samples.of(quantity, other, count) else { continue };
                let ratio = Estimate::of_pairs(a, b, |a, b| a / b);
                let what =
                    format!("{}, {} / {}", among(quantity, count), OURS.label(), other.label());
                state(outcome, what, promise(quantity, other, count), ratio);
            }
        }
        let [few, .., many] = COUNTS;
        for peer in Peer::ALL {
            let Some(a) = samples.of(quantity, peer, many) else { continue };
            let Some(b) = samples.of(quantity, peer, few) else { continue };
            let ratio = Estimate::of_pairs(a, b, |a, b| a / b);
            let what = format!("{}, {}, {many} / {few} Services", quantity.label(), peer.label());
            let flat = matches!(quantity, Quantity::SmallRate(To::Service) | Quantity::StreamRate);
            state(outcome, what, (flat && peer == OURS).then_some(FLATNESS), ratio);
        }
    }
    let rate = |to, count| samples.of(Quantity::SmallRate(to), OURS, count);
    for count in COUNTS {
        let (Some(a), Some(b)) = (rate(To::Service, count), rate(To::Pod, count)) else { continue };
        let ratio = Estimate::of_pairs(a, b, |a, b| a / b);
        let what = format!("packets of 64 B to the Service / to a pod itself, {count} Services");
        outcome.held(what, &TRANSLATED, ratio);
    }
    for (title, quantity) in [
        ("Packets of 64 B through a Service", Quantity::SmallRate(To::Service)),
        ("TCP through a Service", Quantity::StreamRate),
        ("Connections through a Service", Quantity::Connections(Lanes::One)),
        ("Parallel connections through a Service", Quantity::Connections(Lanes::Many)),
    ] {
        outcome.charts.push(chart(samples, title, quantity));
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

/// Notes what was found, held to a promise if there is one.
fn state(outcome: &mut Outcome, what: String, promise: Option<Promise>, ratio: Estimate) {
    match promise {
        Some(promise) => outcome.held(what, &promise, ratio),
        None => outcome.found(what, Unit::Ratio, ratio),
    }
}

/// What is promised beside another peer, with few Services and with many.
fn promise(quantity: Quantity, other: Peer, count: u32) -> Option<Promise> {
    let [few, .., many] = COUNTS;
    match (quantity, other) {
        (Quantity::Connections(_), Peer::Iptables) if count == many => {
            Some(CONNECTIONS_AGAINST_IPTABLES)
        }
        (_, Peer::Iptables | Peer::Millrace) => None,
        _ if count != few && count != many => None,
        (Quantity::SmallRate(To::Service), _) => Some(SMALL),
        (Quantity::StreamRate, _) => Some(STREAM),
        (Quantity::CpuPerGigabit, _) => Some(CPU),
        (Quantity::Connections(_), _) => Some(CONNECTIONS),
        _ => None,
    }
}

fn among(quantity: Quantity, count: u32) -> String {
    format!("{}, {count} Services", quantity.label())
}

fn chart(samples: &Samples, title: &str, quantity: Quantity) -> Chart {
    let counts = COUNTS.into_iter().filter(|&count| samples.of(quantity, OURS, count).is_some());
    let counts: Vec<_> = counts.collect();
    let line = |peer: Peer| {
        let points = counts.iter().map(|&count| samples.of(quantity, peer, count));
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
