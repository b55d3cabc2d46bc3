//! A cluster of two nodes, brought up by the scripts of `tests/cluster`, and the pods that are
//! measured in it.
//!
//! Clusters of different peers have different names, and are up side by side.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::str;

use anyhow::{Context, Result, ensure};
use millrace_netns::Namespace;
use millrace_traffic::sink::{DISCARD, Sink};
use millrace_traffic::{End, Server};

use super::peer::Peer;
use super::pods::{Place, Way};
use crate::services::measure::To;

/// A cluster; it ends when this is dropped.
pub struct Cluster {
    client: Pod,
    near: Behind,
    far: Behind,
    // after what is in it
    scripts: Scripts,
}

/// The scripts, for a cluster of one name.
pub struct Scripts {
    name: String,
}

/// A pod of the cluster.
struct Pod {
    namespace: Namespace,
    address: IpAddr,
}

/// A pod with a Service in front of it.
struct Behind {
    pod: Pod,
    service: IpAddr,
    sink: Sink,
}

impl Cluster {
    /// Brings up a cluster that has a peer's network, and lets its pods start.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn up(peer: Peer, image: &Path) -> Result<Self> {
        let scripts = Scripts { name: format!("{PREFIX}-{}", peer.name()) };
        // what a run that was cut off has left
        scripts.run("down", &[])?;
        scripts.run("up", &peer.network(image)?)?;
        scripts
            .run("kubectl", &["apply", "--filename", &format!("{FOLDER}/manifests/ends.yaml")])?;
        let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pod", "--all"];
        scripts.run("kubectl", &ready)?;
        let near = scripts.behind("near")?;
        let far = scripts.behind("far")?;
        Ok(Self { client: scripts.pod("client")?, near, far, scripts })
    }

    /// Its scripts.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Who sends, asks and connects.
    pub fn client(&self) -> End<'_> {
        End { namespace: &self.client.namespace, address: self.client.address }
    }

    /// Who is asked, and how it is reached.
    pub fn server(&self, way: Way) -> Server<'_> {
        let Behind { pod, service, .. } = self.behind(way.place);
        let through = (way.to == To::Service).then(|| SocketAddr::new(*service, PORT));
        Server { namespace: &pod.namespace, at: SocketAddr::new(pod.address, PORT), through }
    }

    /// Where to send what is to be counted, and what counts it.
    pub fn discard(&self, way: Way) -> (SocketAddr, &Sink) {
        let Behind { pod, service, sink } = self.behind(way.place);
        let address = match way.to {
            To::Pod => pod.address,
            To::Service => *service,
        };
        (SocketAddr::new(address, DISCARD), sink)
    }

    /// A server that pods of both nodes can ask.
    pub(super) fn server_of_both(&self) -> Server<'_> {
        self.server(Way { place: Place::SameNode, to: To::Pod })
    }

    /// A pod of each node, neither of them that server.
    pub(super) fn clients_of_both(&self) -> [End<'_>; 2] {
        let far = &self.far.pod;
        [self.client(), End { namespace: &far.namespace, address: far.address }]
    }

    fn behind(&self, place: Place) -> &Behind {
        match place {
            Place::SameNode => &self.near,
            Place::OtherNode => &self.far,
        }
    }
}

impl Scripts {
    /// Runs one, and returns what it prints.
    ///
    /// # Errors
    /// With what it says, if it fails.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let what = || format!("tests/cluster/{script} {}", arguments.join(" "));
        let output = self.command(script, arguments).output().with_context(what)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(output.status.success(), "{}: {}", what(), text(&output.stderr));
        Ok(text(&output.stdout))
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(format!("{FOLDER}/{script}"));
        command.args(arguments).env(NAME, &self.name);
        command
    }

    /// The namespace of the control plane.
    pub(super) fn control(&self) -> Result<Namespace> {
        Ok(Namespace::open(&format!("{}-control", self.name))?)
    }

    /// The namespace of a node.
    pub(super) fn node(&self, node: &str) -> Result<Namespace> {
        Ok(Namespace::open(&format!("{}-{node}", self.name))?)
    }

    fn behind(&self, name: &str) -> Result<Behind> {
        let pod = self.pod(name)?;
        let path = "jsonpath={.spec.clusterIP}";
        let service = self.run("kubectl", &["get", "service", name, "--output", path])?;
        let service = service.parse().with_context(|| format!("the address of {name}"))?;
        let sink = Sink::attach(&pod.namespace, POD_LINK, DISCARD)?;
        Ok(Behind { pod, service, sink })
    }

    fn pod(&self, name: &str) -> Result<Pod> {
        let path = "jsonpath={.spec.nodeName} {.status.podIP}";
        let place = self.run("kubectl", &["get", "pod", name, "--output", path])?;
        let (node, address) = place.split_once(' ').context("a pod has a node and an address")?;
        let namespace = Namespace::open_path(self.run("netns", &[node, address])?)?;
        let address = address.parse().with_context(|| format!("the address of {name}"))?;
        Ok(Pod { namespace, address })
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        if let Err(error) = self.run("down", &[]) {
            eprintln!("a cluster stays: {error:#}");
        }
    }
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cluster");
/// What the scripts know a cluster's name by.
const NAME: &str = "MILLRACE_CLUSTER_NAME";
const PREFIX: &str = "millrace-bench";
const POD_LINK: &str = "eth0";
/// Where servers are asked, over TCP and UDP; Services have the same.
const PORT: u16 = 5201;
