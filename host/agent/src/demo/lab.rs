//! The demo's ground: a node and pods, which are network namespaces, and a host in the node.
//!
//! ```text
//!            ┌──────────────── node ────────────────┐
//!  alice ────┤ alice                            bob ├──── bob
//!  10.77.0.1 │            millrace run              │     10.77.0.2
//!            │               carol                  │
//!            └─────────────────┬────────────────────┘
//!                            carol 10.77.0.3
//! ```
//! Owns all that has to go again. It goes when the lab is cleared, and also when it is dropped:
//! half a lab takes along what was made of it.

use std::env;
use std::fs::{self, DirBuilder};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, Netlink, VethSpec, unique_name};
use millrace_traffic::End;

use crate::child::ChildHost;
use crate::demo::cluster::Cluster;
use crate::demo::narrator::Narrator;

/// A node, its pods, and the host that runs there.
pub(super) struct Lab {
    /// Before the namespaces: a host has to be gone before its interfaces are.
    pub(super) host: ChildHost,
    pub(super) alice: Pod,
    pub(super) bob: Pod,
    pub(super) carol: Pod,
    pub(super) cluster: Cluster,
    node: Namespace,
    folder: Folder,
}

/// A namespace with one interface.
pub(super) struct Pod {
    /// What it is called, and so is its port.
    pub(super) name: &'static str,
    pub(super) namespace: Namespace,
    pub(super) address: IpAddr,
    /// Of its interface, as it is written.
    pub(super) mac: String,
}

/// What clearing has removed.
pub(super) struct Cleared {
    pub(super) namespaces: usize,
}

impl Lab {
    /// Makes everything, and says so.
    pub(super) fn make(narrator: &mut Narrator) -> anyhow::Result<Self> {
        clear_left_over().context("clearing away what a killed demo has left")?;
        let name = unique_name(TAG);

        narrator.act(
            "A node and three pods",
            "Network namespaces, each pod with a veth pair into the node. Prompts say where a \
             command runs. Commands of ping and millrace are run as they stand; nc and dig stand \
             for what the demo does with sockets of its own.",
        );
        let node = Namespace::create(&format!("{name}-{NODE}"))?;
        let netlink = node.netlink()?;
        let pod = |pod, number| Pod::make(&name, pod, number, &node, &netlink);
        let (alice, bob, carol) = (pod("alice", 1)?, pod("bob", 2)?, pod("carol", 3)?);
        narrator.tell(&format!("To look around: ip netns exec {name}-alice bash"));

        let folder = Folder::make(&name)?;
        let host = start(&node, &folder, &[&alice, &bob, &carol], narrator)?;
        let cluster = Cluster::new(&name, &folder.0)?;
        Ok(Self { host, alice, bob, carol, cluster, node, folder })
    }

    /// Has a command of `millrace` ask the host, which is shown, and returns what that prints.
    pub(super) fn command(&self, narrator: &Narrator, words: &[&str]) -> anyhow::Result<String> {
        narrator.command(NODE, &[&["millrace"], words].concat());
        let mut command = Command::new(env::current_exe()?);
        self.host.introduce(&mut command);
        let output = command.args(words).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`millrace {}` fails: {}", words.join(" "), said.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The pods.
    pub(super) fn pods(&self) -> [&Pod; 3] {
        [&self.alice, &self.bob, &self.carol]
    }

    /// Commands to look around with.
    pub(super) fn invitation(&self) -> Vec<String> {
        let shells = self.pods().map(|pod| format!("ip netns exec {} bash", pod.namespace.name()));
        let top = format!("millrace top --socket {}", self.host.socket().display());
        shells.into_iter().chain([top]).collect()
    }

    /// Removes everything, whoever still uses it.
    pub(super) fn clear(&self) -> anyhow::Result<Cleared> {
        self.cluster.clear()?;
        self.host.stop().context("stopping the host")?;
        let namespaces = self.pods().map(|pod| &pod.namespace);
        let namespaces: Vec<_> = namespaces.into_iter().chain([&self.node]).collect();
        for namespace in &namespaces {
            Namespace::delete(namespace.name())?;
        }
        fs::remove_dir_all(&self.folder.0).context("removing the host's folder")?;
        Ok(Cleared { namespaces: namespaces.len() })
    }
}

impl Pod {
    fn make(
        lab: &str,
        name: &'static str,
        number: u8,
        node: &Namespace,
        netlink: &Netlink,
    ) -> anyhow::Result<Self> {
        let namespace = Namespace::create(&format!("{lab}-{name}"))?;
        let mac = [2, 0, 0, 0, 0, number];
        let veth = VethSpec::new(name, INTERFACE).peer_namespace(&namespace).peer_mac(mac);
        netlink.add_veth(&veth)?;
        for (place, interface) in [(node, name), (&namespace, INTERFACE)] {
            // its greetings would only be counted; a kernel without IPv6 does not send any
            let _ = place.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1");
        }
        netlink.set_up(name)?;

        let inside = namespace.netlink()?;
        let address = IpAddr::from([10, 77, 0, number]);
        inside.add_address(INTERFACE, IpNetwork::new(address, 24).context("a network")?)?;
        inside.set_up(INTERFACE)?;
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        Ok(Self { name, namespace, address, mac })
    }

    /// As an end of traffic.
    pub(super) fn end(&self) -> End<'_> {
        End { namespace: &self.namespace, address: self.address }
    }
}

/// A folder for the host that nobody else can look into.
struct Folder(PathBuf);

impl Folder {
    fn make(lab: &str) -> anyhow::Result<Self> {
        let folder = Self::of(lab);
        let made = DirBuilder::new().mode(0o700).create(&folder.0);
        made.with_context(|| format!("making {}", folder.0.display()))?;
        Ok(folder)
    }

    /// The folder of a lab, whether it is there or not.
    fn of(lab: &str) -> Self {
        Self(Path::new("/run").join(lab))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // a lab that was cleared has none any more
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a host in the node, and waits until it forwards between the pods.
fn start(
    node: &Namespace,
    folder: &Folder,
    pods: &[&Pod],
    narrator: &mut Narrator,
) -> anyhow::Result<ChildHost> {
    narrator.act(
        "A host",
        "It takes the node's ends of the veth pairs over AF_XDP, and forwards between them as its \
         filters say. So far there is one: bridge, in WebAssembly like all of them.",
    );
    let ports = pods.iter().flat_map(|pod| ["--port", pod.name]);
    let words: Vec<&str> = ports.chain(["--filter", "bridge"]).collect();
    narrator.command(NODE, &[&["millrace", "run"], &*words].concat());

    let mut command = ChildHost::command(node)?;
    command.args(words).env("MILLRACE_LOG", "warn");
    // modules that are loaded again are not compiled again
    command.arg("--module-cache").arg(folder.0.join("modules"));
    let start = Instant::now();
    let host = ChildHost::start(command, &folder.0)?;
    narrator.output(&host.greeting.replace("; ", "\n"));
    let seen = format!("after {:.1} s", start.elapsed().as_secs_f64());
    narrator.claim(true, "the host forwards", seen);
    Ok(host)
}

/// Removes what demos that were killed have left: names and folders. Their hosts ended with them.
fn clear_left_over() -> anyhow::Result<()> {
    for namespace in Namespace::remove_stale(&format!("mr-{TAG}-"))? {
        if let Some(lab) = namespace.strip_suffix(&format!("-{NODE}")) {
            Cluster::clear_left_over(lab)?;
            drop(Folder::of(lab));
        }
    }
    Ok(())
}

/// Where the host is started and asked; the name of its namespace ends so.
pub(super) const NODE: &str = "node";
/// In the names of the namespaces.
const TAG: &str = "demo";
/// What a pod calls its interface.
const INTERFACE: &str = "eth0";
