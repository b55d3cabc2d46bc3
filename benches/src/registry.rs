//! The benches, and what each of them promises: the one table that `list`, the report and the
//! specification are made of.

use anyhow::Result;

use crate::memory::{calls, filters, instructions, rounds};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::pods::{handover, population, redecide};
use crate::promise::Promise;
use crate::{changes, footprint, load, nodes, pods, restart, services, swap, veth};

/// A bench.
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// Whether it runs without being asked for.
    pub usual: bool,
    /// What is promised.
    pub promises: &'static [Promise],
    /// Measures.
    pub run: fn(&Plan, &mut Outcome) -> Result<()>,
}

/// All benches, in the order in which they run.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "filters",
        what: "chains of filters in memory: WASM against the same filters compiled natively",
        usual: true,
        promises: &[filters::SPEED, filters::TAX],
        run: filters::run,
    },
    Bench {
        name: "rounds",
        what: "whole rounds of a worker in memory, WASM against native",
        usual: true,
        promises: &[rounds::SPEED],
        run: rounds::run,
    },
    Bench {
        name: "calls",
        what: "what a call into a filter costs by itself",
        usual: true,
        promises: &[],
        run: calls::run,
    },
    Bench {
        name: "veth",
        what: "packets between two interfaces: the dataplane, and others in its place",
        usual: true,
        promises: &[veth::END_TO_END, veth::WITH_FLOWS, veth::WITH_CHAIN, veth::IDLE],
        run: veth::run,
    },
    Bench {
        name: "pods",
        what: "packets between pods: the kernel's flow cache, and what the kernel has in its place",
        usual: true,
        promises: &[pods::SMALL, pods::STREAM, pods::ROUND_TRIP, pods::CONNECTIONS, pods::PUNTS],
        run: pods::run,
    },
    Bench {
        name: "nodes",
        what: "packets between nodes, in tunnels and without: the flow cache, and the kernel's own way",
        usual: true,
        promises: &[nodes::PACKET, nodes::STREAM],
        run: nodes::run,
    },
    Bench {
        name: "services",
        what: "packets through Services and policies: the built-in filters, and what kube-proxy writes",
        usual: true,
        promises: &[
            services::SMALL,
            services::TRANSLATED,
            services::STREAM,
            services::CPU,
            services::FLATNESS,
            services::CONNECTIONS,
            services::CONNECTIONS_AGAINST_IPTABLES,
        ],
        run: services::run,
    },
    Bench {
        name: "handover",
        what: "order of packets while the kernel takes a flow over",
        usual: true,
        promises: &[handover::REORDERED],
        run: handover::run,
    },
    Bench {
        name: "redecide",
        what: "100,000 live flows, when the chain changes",
        usual: true,
        promises: &[redecide::ALL, redecide::LOST],
        run: redecide::run,
    },
    Bench {
        name: "population",
        what: "busy flows among up to a million others, and what those take",
        usual: true,
        promises: &[population::HOT, population::MEMORY],
        run: population::run,
    },
    Bench {
        name: "changes",
        what: "how soon filters know what changes in a large cluster",
        usual: true,
        promises: &[changes::ONE, changes::ALL, changes::MEMORY],
        run: changes::run,
    },
    Bench {
        name: "swap",
        what: "filters swapped under load",
        usual: true,
        promises: &[swap::LOST, swap::REORDERED, swap::DUPLICATED, swap::PAUSE],
        run: swap::run,
    },
    Bench {
        name: "restart",
        what: "agents of a node killed, and taken over from, under load",
        usual: true,
        promises: &[restart::KILLED, restart::TAKEN_OVER, restart::UNANSWERED],
        run: restart::run,
    },
    Bench {
        name: "load",
        what: "how soon a filter works",
        usual: true,
        promises: &[load::FROM_CACHE, load::COMPILE],
        run: load::run,
    },
    Bench {
        name: "footprint",
        what: "memory of an idle host",
        usual: true,
        promises: &[footprint::BEYOND_UMEM],
        run: footprint::run,
    },
    Bench {
        name: "instructions",
        what: "instructions per packet, counted by callgrind",
        usual: false,
        promises: &[],
        run: instructions::run,
    },
];

/// The bench called `name`.
pub fn find(name: &str) -> Option<&'static Bench> {
    BENCHES.iter().find(|bench| bench.name == name)
}

/// The rows of the specification's table: what is promised, how much, and what shows it.
pub fn specification() -> Vec<String> {
    let rows = |bench: &'static Bench| {
        bench.promises.iter().map(|promise| {
            format!("| {} | {} | `make bench` ({}) |", promise.what, promise.value(), bench.name)
        })
    };
    BENCHES.iter().flat_map(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_promises_are_unique() {
        let mut names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        names.extend(BENCHES.iter().flat_map(|bench| bench.promises).map(|promise| promise.what));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
