//! Two nodes and the pods on them: who reaches whom, who carries it, and a swap meanwhile.

use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::Method;
use millrace_traffic::End;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sequence::{Sequence, SequenceSettings};
use millrace_traffic::stream::{StreamSettings, stream};

use crate::api::types::{Flows, Module, StageStatus, SwapFilter, Trace, TracePacket};
use crate::demo::acts::{Extent, restart};
use crate::demo::cluster::{Cluster, ClusterPod, Family, MANIFESTS};
use crate::demo::lab::Lab;
use crate::demo::narrator::Narrator;
use crate::output::{count, percent};

pub(super) fn play(lab: &Lab, extent: Extent, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "Two nodes",
        "A cluster out of ordinary manifests. Each node has an agent, millrace node, that gives \
         its pods addresses of both families. The first packet of a connection goes through the \
         filters, bridge and router; what they decide is remembered in the kernel, which carries \
         all others, between nodes in a tunnel.",
    );
    let cluster = &lab.cluster;
    let start = Instant::now();
    let said = cluster.command(narrator, &["lab", "up", MANIFESTS])?;
    let took = start.elapsed().as_secs_f64();
    // behind the nodes stand the pods
    narrator.output(said.split_once("\n\n").map_or(&*said, |(_, pods)| pods));
    narrator.claim(true, "two nodes and their pods are up", format!("after {took:.1} s"));

    narrator.gap();
    narrator.output(&cluster.command(narrator, &["lab", "probe", "--patience", "5s"])?);
    narrator.claim(true, "every pod reaches every pod", "by TCP, UDP and ping, both families");

    narrator.gap();
    let (shop, cart) = (cluster.pod("shop")?, cluster.pod("cart")?);
    speed(lab, &shop, &cart, extent, narrator)?;
    traced(cluster, &cart, narrator)?;
    swaps(cluster, &shop, extent, narrator)?;
    restart::play(cluster, &shop, &cart, narrator)
}

/// How fast the kernel carries a stream, and user space one of the same length.
fn speed(
    lab: &Lab,
    shop: &ClusterPod,
    cart: &ClusterPod,
    extent: Extent,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let settings = StreamSettings { time: extent.traffic / 4, ..StreamSettings::default() };
    let rate = |from: End<'_>, to: End<'_>| -> anyhow::Result<f64> {
        Ok(stream(from, to, settings)?.bits_per_second() / 1e9)
    };
    let in_kernel = rate(shop.end(Family::V4)?, cart.end(Family::V4)?)?;
    let over_v6 = rate(shop.end(Family::V6)?, cart.end(Family::V6)?)?;
    let in_user_space = rate(lab.alice.end(), lab.bob.end())?;
    let seen = format!("{in_kernel:.1} Gbit/s, IPv6 {over_v6:.1} Gbit/s");
    narrator.measure("TCP from shop to cart", seen);
    let seen = format!("{in_user_space:.1} Gbit/s");
    narrator.measure("from alice to bob, in user space", seen);

    let flows: Flows = lab.cluster.client("east")?.get("/v1/flows?pod=default/shop")?;
    let ways = || flows.flows.iter().flat_map(|flow| [&flow.status.original, &flow.status.reply]);
    let kernel: u64 = ways().map(|way| way.kernel_packets).sum();
    let all: u64 = ways().map(|way| way.packets).sum();
    let seen = format!("{} of {} packets", percent(kernel, all), count(all));
    narrator.claim(kernel > all / 10 * 9, "the kernel carries what is known", seen);
    Ok(())
}

/// What would become of a packet that nobody sends.
fn traced(cluster: &Cluster, cart: &ClusterPod, narrator: &mut Narrator) -> anyhow::Result<()> {
    let to = format!("{}:80", cart.end(Family::V4)?.address);
    narrator.gap();
    narrator.command("east", &["millrace", "trace", "--from", "shop", "--to", &to]);
    let packet = TracePacket { from: "shop".to_owned(), to: Some(to), ..TracePacket::default() };
    let trace: Trace = cluster.client("east")?.send(Method::POST, "/v1/trace", &packet)?;
    let lines = trace.report.stages.iter().map(|step| match &*step.decided {
        [] => format!("{:<12}has nothing to say", step.stage),
        decided => format!("{:<12}{}", step.stage, decided.join(", ")),
    });
    narrator.output(&lines.collect::<Vec<_>>().join("\n"));
    let ending = &trace.report.ending;
    let seen = format!("{} by {}", ending.fate, ending.by.as_deref().unwrap_or("the host"));
    let leaves = ending.delivery.as_ref().is_some_and(|delivery| delivery.offload.there);
    narrator.claim(leaves, "a trace says what filters decide", seen);
    Ok(())
}

/// Other modules in the chain of a node, while packets leave it and connections are opened.
fn swaps(
    cluster: &Cluster,
    shop: &ClusterPod,
    extent: Extent,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let bank = cluster.pod("bank")?;
    let (from, to) = (shop.end(Family::V6)?, bank.end(Family::V6)?);
    let client = cluster.client("east")?;
    narrator.command("east", &["millrace", "filter", "swap", "router", "router"]);
    let swaps = extent.swaps.min(MOST_SWAPS);
    narrator.output(&format!("… and again, {swaps} times in all"));

    let sequence = Sequence::start(from, to, SequenceSettings::default())?;
    let swap = SwapFilter { module: Module::BuiltIn("router".to_owned()), config: None };
    let mut answered = 0;
    for done in 0..swaps {
        narrator.progress(done, swaps);
        client
            .send::<StageStatus>(Method::PUT, "/v1/filters/router/module", &swap)
            .with_context(|| format!("swap {done}"))?;
        // a new connection asks the filter that has just come
        let settings =
            ExchangeSettings { over: Over::Tcp, time: AT_ONCE, client: None, server: None };
        answered += u64::from(!exchange(from, to, settings)?.is_empty());
    }
    narrator.progress(swaps, swaps);
    let report = sequence.stop()?;
    let seen = format!("{} of {} packets, {swaps} swaps", report.lost, count(report.sent));
    narrator.claim(report.lost == 0, "swaps on a node lose nothing", seen);
    let seen = format!("{answered} of {swaps}");
    narrator.claim(answered == swaps, "new connections are answered", seen);
    Ok(())
}

/// A swap under load is what another act is about.
const MOST_SWAPS: u64 = 10;
/// For as long a new connection is used.
const AT_ONCE: Duration = Duration::from_millis(5);
