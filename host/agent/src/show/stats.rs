//! `millrace stats`: what is counted of ports, workers and stages.

use clap::Args;

use crate::api::types::{CacheStatus, PortStatus, StageStatus, Stats, WorkerStatus};
use crate::output::{Asking, Heading, Table, count, percent};

/// Show what was counted of ports, workers and filters since the host started.
///
/// Of a node also what its flow cache does in the kernel. Packets of its ports include those that
/// the kernel carried, as they were some seconds ago; BY KERNEL are these. HITS are packets whose
/// decision was remembered; the chain was ASKED about the others. A filter's time per packet is
/// counted over those that it was asked about or shown.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace stats
  millrace stats -o json | jq '.filters[] | {name, asked: .counters.asked}'")]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &StatsArgs) -> anyhow::Result<()> {
    let stats: Stats = args.asking.client()?.get("/v1/stats")?;
    args.asking.print(&stats, |stats| {
        let cache = stats.cache.as_ref().map(cache);
        let rest = [ports(&stats.ports), workers(&stats.workers), stages(&stats.filters)];
        rest.into_iter().chain(cache).collect::<Vec<_>>().join("\n\n")
    })
}

fn ports(ports: &[PortStatus]) -> String {
    let mut table = Table::new([
        Heading::text("port"),
        Heading::number("packets in"),
        Heading::number("bytes in"),
        Heading::number("packets out"),
        Heading::number("bytes out"),
        Heading::number("by kernel in"),
        Heading::number("by kernel out"),
        Heading::number("lost in kernel"),
    ]);
    for port in ports {
        let counted = &port.counters;
        table.row([
            port.name.clone(),
            count(counted.rx_packets),
            count(counted.rx_bytes),
            count(counted.tx_packets),
            count(counted.tx_bytes),
            count(counted.rx_kernel_packets),
            count(counted.tx_kernel_packets),
            // packets without a frame are among those dropped
            count(counted.rx_dropped + counted.rx_ring_full),
        ]);
    }
    table.text()
}

/// What became of packets in the kernel, the most frequent first; and what workers gave it.
fn cache(cache: &CacheStatus) -> String {
    let mut fates: Vec<_> = cache.packets.iter().filter(|(_, packets)| **packets > 0).collect();
    fates.sort_by_key(|(_, packets)| std::cmp::Reverse(**packets));
    let mut table = Table::new([Heading::text("in the kernel"), Heading::number("packets")]);
    for (fate, packets) in fates {
        table.row([fate.clone(), count(*packets)]);
    }
    let entries = format!(
        "{} connections, {} opened; {} entries given to the kernel, {} without room, {} refused",
        count(cache.connections),
        count(cache.opened),
        count(cache.installed),
        count(cache.full),
        count(cache.refused)
    );
    format!("{}\n{entries}", table.text())
}

fn workers(workers: &[WorkerStatus]) -> String {
    let mut table = Table::new([
        Heading::text("worker"),
        Heading::text("core"),
        Heading::number("bursts"),
        Heading::number("hits"),
        Heading::number("asked"),
        Heading::number("hit ratio"),
        Heading::number("flows"),
        Heading::number("sleeps"),
        Heading::number("free frames"),
    ]);
    for worker in workers {
        table.row([
            worker.worker.to_string(),
            worker.core.map_or_else(|| "-".to_owned(), |core| core.to_string()),
            count(worker.bursts),
            count(worker.hits),
            count(worker.misses),
            percent(worker.hits, worker.hits + worker.misses),
            count(worker.flows),
            count(worker.sleeps),
            count(worker.free_frames),
        ]);
    }
    table.text()
}

fn stages(stages: &[StageStatus]) -> String {
    let mut table = Table::new([
        Heading::text("filter"),
        Heading::number("asked"),
        Heading::number("shown"),
        Heading::number("dropped"),
        Heading::number("ns/packet"),
        Heading::number("faults"),
        Heading::text("memory"),
        Heading::text("counts"),
    ]);
    for stage in stages {
        let counted = &stage.counters;
        let metrics = counted.metrics.iter().filter_map(|(name, value)| match value {
            crate::api::types::MetricStatus::Counter(n) => Some(format!("{name} {}", count(*n))),
            crate::api::types::MetricStatus::Gauge(n) => Some(format!("{name} {n}")),
            crate::api::types::MetricStatus::Histogram { .. } => None,
        });
        table.row([
            stage.name.clone(),
            count(counted.asked),
            count(counted.shown),
            count(counted.dropped + counted.shown_dropped),
            cost(stage),
            count(counted.faults.values().sum()),
            format!("{} MiB", counted.memory >> 20),
            metrics.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.text()
}

/// Nanoseconds for each packet that a stage had to do with.
pub(crate) fn cost(stage: &StageStatus) -> String {
    let packets = stage.counters.asked + stage.counters.shown;
    match packets {
        0 => "-".to_owned(),
        _ => count(stage.counters.busy_ns / packets),
    }
}
