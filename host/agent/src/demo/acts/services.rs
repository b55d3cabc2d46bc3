//! A Service, and pods behind it that come and go while it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::demo::cluster::{Cluster, ClusterPod, Family, MANIFESTS, PODS};
use crate::demo::narrator::Narrator;
use crate::node::ServiceStatus;
use crate::output::count;

pub(super) fn play(cluster: &Cluster, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A Service",
        "store stands for the pods that are labelled so: cart on the client's node, bank on the \
         other. The first packet of a connection decides who serves it; the kernel translates all \
         others.",
    );
    let (shop, cart, bank) = (cluster.pod("shop")?, cluster.pod("cart")?, cluster.pod("bank")?);
    let all = [&cart, &bank];
    served_by(cluster, &all)?;

    let to = SocketAddr::new(STORE, 80);
    narrator.command("shop", &["curl", &format!("http://{STORE}/")]);
    narrator.output(&format!("… and again, {REQUESTS} times in all"));
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..REQUESTS {
        *answers.entry(ask(&shop, to)?).or_default() += 1;
    }
    let seen: Vec<_> = answers.iter().map(|(pod, times)| format!("{pod} {times}")).collect();
    narrator.claim(answers.len() == all.len(), "its pods answer in turns", seen.join(", "));

    narrator.gap();
    narrator.tell(
        "Now each pod loses its label for a while, as one does that is replaced. Meanwhile shop \
         asks on, and keeps a connection open besides.",
    );
    narrator.gap();
    let mut open = Echo::open(&shop, SocketAddr::new(STORE, Echo::PORT))?;
    let over = AtomicBool::new(false);
    let (asked, stays) = thread::scope(|scope| -> anyhow::Result<_> {
        let asking = scope.spawn(|| ask_until(&over, &shop, to));
        let steps = [(&all[1..], "cart"), (&all, ""), (&all[..1], "bank"), (&all, "")];
        let rolled = roll(cluster, &mut open, steps, narrator);
        over.store(true, Ordering::Relaxed);
        let asked = asking.join().expect("whoever asks does not panic");
        Ok((asked, rolled?))
    })?;
    let seen = format!("{} of {} requests", asked.failures, count(asked.requests));
    narrator.claim(asked.failures == 0, "no request fails meanwhile", seen);
    let seen = if stays { "its pod answers to the last" } else { "its pod answers no more" };
    narrator.claim(stays, "what is connected stays connected", seen);
    Ok(())
}

/// Has the pods behind the Service change, again and again; whether an open connection outlives it.
fn roll(
    cluster: &Cluster,
    open: &mut Echo,
    steps: [(&[&ClusterPod], &str); 4],
    narrator: &Narrator,
) -> anyhow::Result<bool> {
    let mut stays = true;
    for (pods, without) in steps {
        let label = "  labels: {app: store}\n";
        let pod = format!("  name: {without}\n");
        cluster.write("pods.yaml", &PODS.replace(&format!("{pod}{label}"), &pod))?;
        cluster.command(narrator, &["lab", "apply", MANIFESTS])?;
        narrator.output(&served_by(cluster, pods)?);
        stays &= open.answers();
    }
    Ok(stays)
}

/// What has become of requests.
#[derive(Default)]
struct Asked {
    requests: u64,
    failures: u64,
}

fn ask_until(over: &AtomicBool, from: &ClusterPod, to: SocketAddr) -> Asked {
    let mut asked = Asked::default();
    while !over.load(Ordering::Relaxed) {
        asked.requests += 1;
        asked.failures += u64::from(ask(from, to).is_err());
    }
    asked
}

/// Says that these are the pods behind the Service, on the client's node.
fn served_by(cluster: &Cluster, pods: &[&ClusterPod]) -> anyhow::Result<String> {
    let endpoint =
        |pod: &&ClusterPod| pod.end(Family::V4).map(|end| format!("{}:8080", end.address));
    let expected: BTreeSet<String> = pods.iter().map(endpoint).collect::<Result<_, _>>()?;
    let services: BTreeMap<String, ServiceStatus> = cluster.client("east")?.get("/v1/services")?;
    let store = services.get("default/store").context("the Service")?;
    let of_http = |it: &&String| it.starts_with("10.") && it.ends_with(":8080");
    let endpoints: BTreeSet<String> = store.endpoints.iter().filter(of_http).cloned().collect();
    if endpoints != expected {
        bail!("the Service has the endpoints {endpoints:?} and not {expected:?}");
    }
    Ok(format!("served by {}", Vec::from_iter(endpoints).join(", ")))
}

/// The page that somebody gets there: the name of the pod that answers.
pub(super) fn ask(from: &ClusterPod, to: SocketAddr) -> io::Result<String> {
    let mut stream = from.connect(to, WAIT)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: store\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let page = answer.split_once("\r\n\r\n").map(|(_, page)| page.trim_end().to_owned());
    page.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A connection that stays open, to somebody who sends back what comes.
pub(super) struct Echo(TcpStream);

impl Echo {
    /// Where lab's servers do so.
    pub(super) const PORT: u16 = 7;

    /// Connects.
    pub(super) fn open(from: &ClusterPod, to: SocketAddr) -> io::Result<Self> {
        Ok(Self(from.connect(to, WAIT)?))
    }

    /// Whether what is sent comes back.
    pub(super) fn answers(&mut self) -> bool {
        let mut there_and_back = || -> io::Result<usize> {
            self.0.write_all(b"still there?\n")?;
            let mut answer = [0; 512];
            self.0.read(&mut answer)
        };
        there_and_back().is_ok_and(|octets| octets > 0)
    }
}

/// Requests at first: enough for each of two pods to be asked.
const REQUESTS: usize = 24;
/// The Service's address, as its manifest has it.
const STORE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
/// How long somebody waits for an answer.
const WAIT: Duration = Duration::from_secs(1);
