//! What a network's own process on a node takes: millrace's agent, or kube-proxy, in a cluster of
//! 1,000 Services and 1,000 pods.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_traffic::cpu::CpuMeter;
use rustix::param::clock_ticks_per_second;
use serde_json::{Value, json};

use super::api::Api;
use super::cluster::Cluster;
use crate::footprint::Resident;

/// A process of a node.
pub(super) struct Process {
    id: u32,
}

impl Process {
    /// The one with this name that is in the network of a node.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of(cluster: &Cluster, node: &str, name: &str) -> Result<Self> {
        let namespace = cluster.scripts().node(node)?;
        let own = fs::metadata(namespace.path())?.ino();
        let is_it = |folder: &PathBuf| {
            fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name)
                && fs::metadata(folder.join("ns/net")).is_ok_and(|net| net.ino() == own)
        };
        let mut folders = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        let found = folders.find(is_it);
        let id = found.and_then(|folder| folder.file_name()?.to_str()?.parse().ok());
        Ok(Self { id: id.with_context(|| format!("no {name} is on the node {node}"))? })
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

    /// Percent of a core that it takes, over some time.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn at_rest(&self, time: Duration) -> Result<f64> {
        let meter = CpuMeter::of(self.id)?;
        thread::sleep(time);
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
///
/// # Errors
/// If the API server refuses.
pub(super) fn populate(api: &Api) -> Result<()> {
    for n in 0..NODES {
        api.create(NODES_AT, &node(n))?;
        for m in 0..PODS {
            let name = format!("bench-{n}-{m}");
            api.create(PODS_AT, &pod(&name, n))?;
            api.status(&format!("{PODS_AT}/{name}"), &status(n, m))?;
        }
    }
    Ok(())
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

fn pod(name: &str, node: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": format!("bench-{node}") } },
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

const NODES_AT: &str = "/api/v1/nodes";
const PODS_AT: &str = "/api/v1/namespaces/default/pods";
const NODES: u32 = 5;
/// On each of them.
const PODS: u32 = 200;

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
