//! A NetworkPolicy that is tried, applied to live connections, and taken back.

use std::net::SocketAddr;

use crate::api::types::Flows;
use crate::demo::acts::services::{Echo, ask};
use crate::demo::cluster::{Cluster, Family, MACHINE, MANIFESTS};
use crate::demo::narrator::Narrator;

pub(super) fn play(cluster: &Cluster, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A policy",
        "Only the store's own pods are to ask the store, and by HTTP alone. What that means is \
         asked of the filter that judges on nodes, before anybody is told. Then it is applied, to \
         connections that are open as well.",
    );
    let (shop, cart, bank) = (cluster.pod("shop")?, cluster.pod("cart")?, cluster.pod("bank")?);
    let cart = cart.end(Family::V4)?.address;
    let (http, echo) = (SocketAddr::new(cart, 8080), SocketAddr::new(cart, Echo::PORT));
    let mut open = Echo::open(&shop, echo)?;
    let before = open.answers();

    narrator.command(MACHINE, &["cp", &format!("examples/policies/{FILE}"), MANIFESTS]);
    cluster.write(FILE, POLICY)?;
    let question = ["policy", "test", MANIFESTS, "--from", "shop", "--to", "cart:8080"];
    let (allowed, said) = cluster.ask(narrator, &question)?;
    narrator.output(&said);
    let seen = if allowed { "it would be allowed" } else { "and says by which rule" };
    narrator.claim(!allowed, "on paper it denies", seen);

    narrator.gap();
    cluster.command(narrator, &["lab", "apply", MANIFESTS])?;
    let curl = ["curl", "--max-time", "1", &format!("http://{http}/")];
    narrator.command("shop", &curl);
    let seen = if ask(&shop, http).is_err() { "given up after 1 s" } else { "an answer" };
    narrator.claim(seen.starts_with("given up"), "whom it denies gets no answer", seen);
    narrator.command("bank", &curl);
    let seen = ask(&bank, http);
    let allowed = seen.is_ok();
    let seen = seen.unwrap_or_else(|error| error.to_string());
    narrator.claim(allowed, "whom it allows gets one", seen);

    let cut = before && !open.answers();
    let seen = if cut { "decided anew, and cut" } else { "not cut" };
    narrator.claim(cut, "a connection was open", seen);
    narrator.command("east", &["millrace", "flows", "--pod", "shop"]);
    let flows: Flows = cluster.client("east")?.get("/v1/flows?pod=default/shop")?;
    let named = flows.flows.iter().find_map(|flow| flow.policy.as_deref()).unwrap_or_default();
    narrator.output(named);
    narrator.claim(named.ends_with(NAME), "and what cut it is named", NAME);

    narrator.gap();
    narrator.command(MACHINE, &["rm", &format!("{MANIFESTS}/{FILE}")]);
    cluster.remove(FILE)?;
    cluster.command(narrator, &["lab", "apply", MANIFESTS])?;
    let seen = ask(&shop, http);
    let answered = seen.is_ok();
    let seen = seen.unwrap_or_else(|error| error.to_string());
    narrator.claim(answered, "without it shop is answered again", seen);
    Ok(())
}

/// The policy's manifest among those of the cluster.
const FILE: &str = "store.yaml";
/// What it is called.
const NAME: &str = "default/store";
const POLICY: &str = include_str!("../../../../../examples/policies/store.yaml");
