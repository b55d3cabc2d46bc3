//! A filter that comes into the nodes' chain by a manifest, and goes with it.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::api::types::{HostStatus, StageStatus};
use crate::demo::PATIENCE;
use crate::demo::acts::services::{Echo, ask};
use crate::demo::cluster::{Cluster, Family, MACHINE, MANIFESTS};
use crate::demo::narrator::Narrator;

pub(super) fn play(cluster: &Cluster, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A filter from a manifest",
        "A Filter says which module it is, and how it is configured; a FilterChain, on which nodes \
         it stands and where among the built-in ones. This one refuses whatever connects to port 7.",
    );
    let (shop, bank) = (cluster.pod("shop")?, cluster.pod("bank")?);
    let bank = bank.end(Family::V4)?.address;
    let (http, echo) = (SocketAddr::new(bank, 8080), SocketAddr::new(bank, Echo::PORT));

    narrator.command(MACHINE, &["cp", &format!("examples/filters/{FILE}"), MANIFESTS]);
    cluster.write(FILE, FILTER)?;
    cluster.command(narrator, &["lab", "apply", MANIFESTS])?;
    let order = await_chain(cluster, 1)?;
    narrator.command("east", &["millrace", "filter", "list"]);
    narrator.output(&order);
    narrator.command("shop", &["nc", "-z", &bank.to_string(), "7"]);
    let seen = said(&Echo::open(&shop, echo));
    narrator.claim(seen == REFUSED, "it refuses what it is to", seen);
    let answer = ask(&shop, http);
    narrator.claim(answer.is_ok(), "and nothing else", said(&answer));

    narrator.gap();
    narrator.command(MACHINE, &["rm", &format!("{MANIFESTS}/{FILE}")]);
    cluster.remove(FILE)?;
    cluster.command(narrator, &["lab", "apply", MANIFESTS])?;
    await_chain(cluster, 0)?;
    narrator.command("shop", &["nc", "-z", &bank.to_string(), "7"]);
    let opened = Echo::open(&shop, echo);
    narrator.claim(opened.is_ok(), "it goes with its manifest", said(&opened));
    Ok(())
}

/// What became of a connection.
fn said<T>(outcome: &io::Result<T>) -> &'static str {
    match outcome {
        Ok(_) => "connected",
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => REFUSED,
        Err(_) => "no answer",
    }
}

/// Waits until so many filters are in the chain of the client's node because of manifests, as these
/// say; the chain, then.
fn await_chain(cluster: &Cluster, count: usize) -> anyhow::Result<String> {
    let client = cluster.client("east")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: HostStatus = client.get("/v1/status")?;
        let filters = status.resources.unwrap_or_default().filters;
        let in_force = filters.values().all(|it| it.digest.is_some() && it.problems.is_empty());
        if filters.len() == count && in_force {
            let order = status.filters.iter().map(|StageStatus { name, .. }| name.as_str());
            return Ok(order.collect::<Vec<_>>().join(" ▸ "));
        }
        if Instant::now() > deadline {
            bail!("of {count} filters the node has {filters:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The manifest among those of the cluster.
const FILE: &str = "no-echo.yaml";
const FILTER: &str = include_str!("../../../../../examples/filters/no-echo.yaml");
const REFUSED: &str = "refused";
