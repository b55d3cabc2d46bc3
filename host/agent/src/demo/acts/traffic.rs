//! Pings, TCP and UDP between pods, and what the bridge has learned of them.

use std::time::Duration;

use anyhow::Context;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::stream::{StreamSettings, stream};

use crate::api::tables::MapTable;
use crate::api::types::{PortStatus, WorkerStatus};
use crate::demo::acts::Extent;
use crate::demo::lab::{Lab, Pod};
use crate::demo::narrator::Narrator;
use crate::output::{count, percent};

pub(super) fn play(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "Traffic",
        "Whatever alice sends to bob goes through the filter, or by what the host remembers of its \
         answer: the chain is asked once for each flow.",
    );
    ping(&lab.alice, &lab.bob, narrator)?;
    narrator.gap();
    ping(&lab.carol, &lab.alice, narrator)?;

    narrator.gap();
    let before = Sent::of(lab)?;
    tcp(lab, extent, narrator)?;
    udp(lab, extent, narrator)?;
    let sent = Sent::of(lab)?;
    let (bob, carol) = (sent.to_bob - before.to_bob, sent.to_carol - before.to_carol);
    narrator.claim(
        carol <= bob / 100,
        "it is a bridge and no hub",
        format!("carol got {} packets, bob {}", count(carol), count(bob)),
    );
    stations(lab, narrator)
}

fn ping(from: &Pod, to: &Pod, narrator: &mut Narrator) -> anyhow::Result<()> {
    let address = to.address.to_string();
    let words = ["ping", "-n", "-c", "3", "-i", "0.2", "-w", "5", &address];
    narrator.command(from.name, &words);
    let output = from.namespace.command(words[0]).args(&words[1..]).output();
    let output = output.context("running `ping` (Debian has it in iputils-ping)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // behind the single answers stands what became of all
    let (_, summary) = said.split_once("statistics ---\n").unwrap_or_default();
    narrator.output(summary);
    let answered = summary.contains(" 3 received");
    let seen = format!("{} → {}: 3 of 3", from.name, to.name);
    narrator.claim(answered, "pings are answered", if answered { seen } else { "not all".into() });
    Ok(())
}

fn tcp(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    let settings = StreamSettings { time: extent.traffic, ..StreamSettings::default() };
    let streamed = stream(lab.alice.end(), lab.bob.end(), settings)?;
    let megabytes = count(streamed.bytes / 1_000_000);
    let rate = streamed.bits_per_second() / 1e9;
    let seen = format!("{megabytes} MB, {rate:.2} Gbit/s");
    narrator.claim(streamed.bytes > 0, "TCP streams from alice to bob", seen);
    Ok(())
}

fn udp(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    let (over, time) = (Over::Udp, extent.traffic / 2);
    let settings = ExchangeSettings { over, time, client: None, server: None };
    let times = exchange(lab.alice.end(), lab.bob.end(), settings)?;
    let micros = |percent| {
        let time: Option<Duration> = times.percentile(percent);
        time.unwrap_or_default().as_micros()
    };
    let (usual, slow) = (micros(50.0), micros(99.0));
    let seen = format!("{} times", count(times.len() as u64));
    narrator.claim(!times.is_empty(), "UDP goes there and comes back", seen);
    narrator.measure("which takes", format!("p50 {usual} µs, p99 {slow} µs"));
    Ok(())
}

fn stations(lab: &Lab, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.gap();
    narrator.output(&lab.command(narrator, &["filter", "table", "bridge"])?);
    let tables: Vec<MapTable> = lab.host.get("/v1/filters/bridge/maps")?;
    let knows = |pod: &Pod| {
        let rows = || tables.iter().flat_map(|table| &table.rows);
        rows().any(|row| {
            let has = |text: &str| row.cells.iter().any(|cell| cell.as_str() == Some(text));
            has(&pod.mac) && has(pod.name)
        })
    };
    let known = lab.pods().into_iter().filter(|pod| knows(pod)).count();
    let claim = "the bridge has learned who is where";
    narrator.claim(known == lab.pods().len(), claim, format!("{known} of 3 stations"));

    let workers: Vec<WorkerStatus> = lab.host.get("/v1/workers")?;
    let hits: u64 = workers.iter().map(|worker| worker.hits).sum();
    let misses: u64 = workers.iter().map(|worker| worker.misses).sum();
    let seen = format!("{} of {} packets", percent(hits, hits + misses), count(hits + misses));
    narrator.claim(hits > misses, "known flows need no filter", seen);
    Ok(())
}

/// Packets that the host has sent to pods.
struct Sent {
    to_bob: u64,
    to_carol: u64,
}

impl Sent {
    fn of(lab: &Lab) -> anyhow::Result<Self> {
        let ports: Vec<PortStatus> = lab.host.get("/v1/ports")?;
        let sent = |pod: &Pod| {
            let port = ports.iter().find(|port| port.name == pod.name);
            port.map_or(0, |port| port.counters.tx_packets)
        };
        Ok(Self { to_bob: sent(&lab.bob), to_carol: sent(&lab.carol) })
    }
}
