//! A name instead of an address: a DNS server in a pod, behind a Service as in any cluster.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::demo::acts::services::ask;
use crate::demo::cluster::Cluster;
use crate::demo::narrator::Narrator;

pub(super) fn play(cluster: &Cluster, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A name",
        "dnsmasq runs in a pod behind the Service kube-dns, and pods ask it, as kubelets would tell \
         them to. Their questions and its answers are flows like any other.",
    );
    if !cluster.has_names() {
        narrator
            .tell("dnsmasq is not on this machine: nobody is asked. (`make setup` installs it.)");
        return Ok(());
    }
    let words = ["lab", "exec", "shop", "--", "getent", "ahosts", "store"];
    let (found, said) = cluster.ask(narrator, &words)?;
    let addresses = said.lines().filter_map(|line| line.split(' ').next()?.parse().ok());
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    let seen: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    let seen = if seen.is_empty() { "no address".to_owned() } else { seen.join(", ") };
    narrator.claim(found && addresses.len() == FAMILIES, "shop finds store by its name", seen);
    let shop = cluster.pod("shop")?;
    let served = |address: &IpAddr| ask(&shop, SocketAddr::new(*address, 80)).ok();
    let pods: Vec<_> = addresses.iter().filter_map(served).collect();
    let seen = if pods.is_empty() { "nobody answers".to_owned() } else { pods.join(", ") };
    narrator.claim(pods.len() == FAMILIES, "and is served there, by each address", seen);
    Ok(())
}

/// The Service has an address of each.
const FAMILIES: usize = 2;
