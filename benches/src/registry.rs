//! The benches, and what each of them promises: the one table that `list`, the report and the
//! specification are made of.

use anyhow::Result;

use crate::memory::{calls, filters, instructions, rounds};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::pods::{bandwidth, handover, hostile, population, redecide};
use crate::promise::Promise;
use crate::{changes, footprint, kubernetes, load, nodes, pods, restart, services, swap, veth};

/// A bench.
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// When it runs without being named.
    pub runs: Runs,
    /// What is promised.
    pub promises: &'static [Promise],
    /// Measures.
    pub run: fn(&Plan, &mut Outcome) -> Result<()>,
}

/// When a bench runs without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Always.
    Usually,
    /// If instructions are to be counted.
    WithCallgrind,
    /// If there is an image of millrace.
    WithImage,
}

/// All benches, in the order in which they run.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "filters",
        what: "chains of filters in memory: WASM against the same filters compiled natively",
        runs: Runs::Usually,
        promises: &[filters::SPEED, filters::TAX],
        run: filters::run,
    },
    Bench {
        name: "rounds",
        what: "whole rounds of a worker in memory, WASM against native",
        runs: Runs::Usually,
        promises: &[rounds::SPEED],
        run: rounds::run,
    },
    Bench {
        name: "calls",
        what: "what a call into a filter costs by itself",
        runs: Runs::Usually,
        promises: &[],
        run: calls::run,
    },
    Bench {
        name: "veth",
        what: "packets between two interfaces: the dataplane, and others in its place",
        runs: Runs::Usually,
        promises: &[veth::END_TO_END, veth::WITH_FLOWS, veth::WITH_CHAIN, veth::IDLE],
        run: veth::run,
    },
    Bench {
        name: "pods",
        what: "packets between pods: the kernel's flow cache, and what the kernel has in its place",
        runs: Runs::Usually,
        promises: &[pods::SMALL, pods::STREAM, pods::ROUND_TRIP, pods::CONNECTIONS, pods::PUNTS],
        run: pods::run,
    },
    Bench {
        name: "nodes",
        what: "packets between nodes, in tunnels and without: the flow cache, and the kernel's own way",
        runs: Runs::Usually,
        promises: &[nodes::PACKET, nodes::STREAM],
        run: nodes::run,
    },
    Bench {
        name: "services",
        what: "packets through Services and policies: the built-in filters, and what kube-proxy writes",
        runs: Runs::Usually,
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
        name: "hostile",
        what: "pods beside one that scans its neighbours",
        runs: Runs::Usually,
        promises: &[hostile::OTHERS],
        run: hostile::run,
    },
    Bench {
        name: "bandwidth",
        what: "TCP streams of pods with a bandwidth limit",
        runs: Runs::Usually,
        promises: &[bandwidth::LEAST, bandwidth::MOST],
        run: bandwidth::run,
    },
    Bench {
        name: "handover",
        what: "order of packets while the kernel takes a flow over",
        runs: Runs::Usually,
        promises: &[handover::REORDERED],
        run: handover::run,
    },
    Bench {
        name: "redecide",
        what: "100,000 live flows, when the chain changes",
        runs: Runs::Usually,
        promises: &[redecide::ALL, redecide::LOST],
        run: redecide::run,
    },
    Bench {
        name: "population",
        what: "busy flows among up to a million others, and what those take",
        runs: Runs::Usually,
        promises: &[population::HOT, population::MEMORY],
        run: population::run,
    },
    Bench {
        name: "changes",
        what: "how soon filters know what changes in a large cluster",
        runs: Runs::Usually,
        promises: &[changes::ONE, changes::ALL, changes::MEMORY],
        run: changes::run,
    },
    Bench {
        name: "swap",
        what: "filters swapped under load",
        runs: Runs::Usually,
        promises: &[swap::LOST, swap::REORDERED, swap::DUPLICATED, swap::PAUSE],
        run: swap::run,
    },
    Bench {
        name: "restart",
        what: "agents of a node killed, and taken over from, under load",
        runs: Runs::Usually,
        promises: &[restart::KILLED, restart::TAKEN_OVER, restart::UNANSWERED],
        run: restart::run,
    },
    Bench {
        name: "load",
        what: "how soon a filter works",
        runs: Runs::Usually,
        promises: &[load::FROM_CACHE, load::COMPILE],
        run: load::run,
    },
    Bench {
        name: "footprint",
        what: "memory of an idle host",
        runs: Runs::Usually,
        promises: &[footprint::BEYOND_UMEM],
        run: footprint::run,
    },
    Bench {
        name: "cluster-pods",
        what: "packets between pods of real clusters: millrace, and the reference plugins with kube-proxy",
        runs: Runs::WithImage,
        promises: &[kubernetes::THROUGHPUT, kubernetes::ROUND_TRIP],
        run: kubernetes::pods::run,
    },
    Bench {
        name: "cluster-containers",
        what: "containers that come and go in real clusters, with millrace's plugin and the reference ones",
        runs: Runs::WithImage,
        promises: &[kubernetes::ATTACHING, kubernetes::AT_ONCE],
        run: kubernetes::attach::run,
    },
    Bench {
        name: "cluster-changes",
        what: "Services of real clusters, from the API server to their answers",
        runs: Runs::WithImage,
        promises: &[kubernetes::CHANGE, kubernetes::EVENT],
        run: kubernetes::changes::run,
    },
    Bench {
        name: "cluster-agents",
        what: "what an agent takes in a real cluster of 1,000 Services and pods, and what kube-proxy does",
        runs: Runs::WithImage,
        promises: &[kubernetes::MEMORY, kubernetes::AT_REST],
        run: kubernetes::agents::run,
    },
    Bench {
        name: "instructions",
        what: "instructions per packet, counted by callgrind",
        runs: Runs::WithCallgrind,
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
        let target = match bench.runs {
            Runs::WithImage => "cluster-bench",
            Runs::Usually | Runs::WithCallgrind => "bench",
        };
        bench.promises.iter().map(move |promise| {
            format!("| {} | {} | `make {target}` ({}) |", promise.what, promise.value(), bench.name)
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
