//! A filter that comes into the nodes' chain by a manifest, and goes with it.

use std::io;
use std::net::SocketAddr;

use crate::api::types::{HostStatus, StageStatus};
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
    let order = order(cluster)?;
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

/// The chain of the client's node.
fn order(cluster: &Cluster) -> anyhow::Result<String> {
    let status: HostStatus = cluster.client("east")?.get("/v1/status")?;
    let order = status.filters.iter().map(|StageStatus { name, .. }| name.as_str());
    Ok(order.collect::<Vec<_>>().join(" ▸ "))
}

/// The manifest among those of the cluster.
const FILE: &str = "no-echo.yaml";
const FILTER: &str = include_str!("../../../../../examples/filters/no-echo.yaml");
const REFUSED: &str = "refused";
