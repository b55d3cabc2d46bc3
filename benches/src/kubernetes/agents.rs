//! What a network's own process on a node takes: millrace's agent, or kube-proxy, in a cluster of
//! 1,000 Services and 1,000 pods, at rest and while endpoints change all the time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use millrace_traffic::cpu::CpuMeter;
use rustix::param::clock_ticks_per_second;
use serde_json::{Value, json};

use super::api::Api;
use super::changes::{Changing, MANY};
use super::cluster::Cluster;
use super::findings::Kind;
use super::peer::Peer;
use super::{Clusters, Samples, side_by_side};
use crate::footprint::Resident;
use crate::nodes::peer::Between;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::samples::in_turns;

/// Measures a pair of clusters.
///
/// # Errors
/// If a cluster does not come up, or does not take as many objects.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    outcome.notes.push(NOTE.to_owned());
    side_by_side(plan, Between::Vxlan, outcome, |clusters, samples, _| {
        measure(plan, clusters, samples)
    })
}

fn measure(plan: &Plan, clusters: &Clusters, samples: &mut Samples) -> Result<()> {
    let mut processes = Vec::new();
    for (peer, cluster) in clusters {
        let mut changing = Changing::new(cluster)?;
        changing.services(MANY)?;
        populate(changing.api())?;
        processes.push((*peer, changing, Process::of(cluster, *peer)?));
    }
    // until what pods have caused is over
    thread::sleep(SETTLED);
    for run in 0..plan.runs(6, 6) {
        for (peer, _, process) in in_turns(&processes, run) {
            let time = plan.much(Duration::from_secs(10), Duration::from_secs(3));
            let used = process.used(|| {
                thread::sleep(time);
                Ok(())
            })?;
            samples.note((Kind::AtRest, *peer), used);
        }
    }
    for (peer, _, process) in &processes {
        let resident = process.resident()?;
        samples.note((Kind::Memory, *peer), (resident.heap + resident.code) as f64);
        samples.note((Kind::Resident, *peer), (resident.total() - resident.umem) as f64);
    }
    let changes = plan.much(MANY, MANY / 10);
    for run in 0..plan.runs(6, 6) {
        for (peer, changing, process) in in_turns(&processes, run) {
            let more = run.is_multiple_of(2);
            let used = process.used(|| changing.endpoints(changes, more, PAUSE))?;
            samples.note((Kind::Changing, *peer), used);
        }
    }
    for (peer, _, process) in &processes {
        let resident = process.resident()?;
        samples.note((Kind::MemoryChanged, *peer), (resident.heap + resident.code) as f64);
    }
    Ok(())
}

/// The process of a network on the first node.
pub(super) struct Process {
    id: u32,
}

impl Process {
    /// The one with its peer's name that is in the network of the node.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of(cluster: &Cluster, peer: Peer) -> Result<Self> {
        let name = peer.program();
        let namespace = cluster.scripts().node(NODE)?;
        let own = fs::metadata(namespace.path())?.ino();
        let is_it = |folder: &PathBuf| {
            fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name)
                && fs::metadata(folder.join("ns/net")).is_ok_and(|net| net.ino() == own)
        };
        let mut folders = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        let found = folders.find(is_it);
        let id = found.and_then(|folder| folder.file_name()?.to_str()?.parse().ok());
        Ok(Self { id: id.with_context(|| format!("no {name} is on the node {NODE}"))? })
    }

    /// For how long it has been at work, and those that it has started and that have ended.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn worked(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).with_context(|| format!("reading `{stat}`"))?;
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    /// Percent of a core that it takes during something.
    ///
    /// # Errors
    /// If that fails, or it is gone.
    pub(super) fn used(&self, during: impl FnOnce() -> Result<()>) -> Result<f64> {
        let meter = CpuMeter::of(self.id)?;
        during()?;
        let used = meter.stop()?;
        Ok(used.of_threads("").as_secs_f64() / used.elapsed.as_secs_f64() * 100.0)
    }

    /// What it has in memory.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn resident(&self) -> Result<Resident> {
        Ok(Resident::parse(&self.read("smaps")?))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.id);
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

/// The fields `utime`, `stime`, `cutime` and `cstime` of `stat` (proc_pid_stat(5)), together.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// Gives a cluster pods on nodes that are not there.
fn populate(api: &Api) -> Result<()> {
    let pods = || (0..NODES).flat_map(|n| (0..PODS).map(move |m| (n, m)));
    api.create::<Node>(kube::Api::all, (0..NODES).map(node).collect())?;
    api.create::<Pod>(kube::Api::default_namespaced, pods().map(|(n, m)| pod(n, m)).collect())?;
    let statuses = pods().map(|(n, m)| (name(n, m), status(n, m))).collect();
    api.status(statuses)
}

fn name(node: u32, pod: u32) -> String {
    format!("bench-{node}-{pod}")
}

fn node(number: u32) -> Value {
    let (pods, address) = (prefix(number, "0/24"), format!("172.30.0.{}", 100 + number));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("bench-{number}") },
        "spec": { "podCIDR": pods, "podCIDRs": [pods] },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
    })
}

fn pod(node: u32, number: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name(node, number), "labels": { "app": format!("bench-{node}") } },
        "spec": {
            "nodeName": format!("bench-{node}"),
            "containers": [{ "name": "pause", "image": "millrace.test/agnhost" }],
        },
    })
}

fn status(node: u32, pod: u32) -> Value {
    let address = prefix(node, &(2 + pod).to_string());
    json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    })
}

/// Something of the prefix of a node's pods.
fn prefix(node: u32, rest: &str) -> String {
    format!("10.244.{}.{rest}", 100 + node)
}

/// The node that is looked at.
const NODE: &str = "east";
const SETTLED: Duration = Duration::from_secs(10);
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(10);
const NODES: u32 = 5;
/// On each of them.
const PODS: u32 = 200;
/// What a reader of the numbers has to know.
const NOTE: &str = "The process is millrace's agent, or kube-proxy, which knows of no pods; the plugins are no \
     processes that stay. Services have an endpoint each; the 1,000 pods are on five nodes that are \
     objects only. Two clusters are up at a time.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_worked_as_long_as_it_and_those_it_started() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 9 9 9 9 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(127));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
