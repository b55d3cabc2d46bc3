//! The demo's second ground: a cluster of two nodes, which is a lab of `millrace lab`.
//!
//! Owns its name and its manifests. The main thread takes it down while an act may still be at it:
//! it waits for the command that runs, and no other is begun then.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, io};

use anyhow::{Context, bail};
use millrace_control::PodName;
use millrace_lab::{Lab as Nodes, LabError, LabName};
use millrace_netns::Namespace;
use millrace_traffic::End;
use parking_lot::Mutex;

use crate::api::client::Client;
use crate::demo::narrator::Narrator;

/// A cluster, up or not.
pub(super) struct Cluster {
    name: LabName,
    /// Where its commands are run.
    folder: PathBuf,
    /// Locked while a command runs.
    state: Mutex<State>,
}

/// Whether commands may still be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Cleared,
}

/// A pod of the cluster.
pub(super) struct ClusterPod {
    namespace: Namespace,
    addresses: Vec<IpAddr>,
}

impl Cluster {
    /// One that is not up, with its manifests in a folder that somebody else removes.
    pub(super) fn new(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let manifests = folder.join(MANIFESTS);
        fs::create_dir_all(&manifests).context("a folder for manifests")?;
        let cluster =
            Self { name: name.parse()?, folder: folder.to_owned(), state: Mutex::new(State::Open) };
        for (file, text) in
            [("nodes.yaml", NODES), ("pods.yaml", PODS), ("services.yaml", SERVICES)]
        {
            cluster.write(file, text)?;
        }
        if cluster.has_names() {
            cluster.write("dns.yaml", DNS)?;
        }
        Ok(cluster)
    }

    /// Writes one of its manifests; what has been told the nodes stays until the next `lab apply`.
    pub(super) fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.folder.join(MANIFESTS).join(file), text).context("a manifest")
    }

    /// Whether it has a server for names: that is a program of this machine.
    pub(super) fn has_names(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| folder.join("dnsmasq").is_file())
    }

    /// Removes one.
    pub(super) fn remove(&self, file: &str) -> anyhow::Result<()> {
        fs::remove_file(self.folder.join(MANIFESTS).join(file)).context("a manifest")
    }

    /// Has a command of `millrace` do something, which is shown, and returns what that prints.
    pub(super) fn command(&self, narrator: &Narrator, words: &[&str]) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.run(narrator, words)?;
        let said = String::from_utf8_lossy(&stdout).into_owned();
        if !status.success() {
            let errors = String::from_utf8_lossy(&stderr);
            bail!("`millrace {}` fails: {said}{}", words.join(" "), errors.trim_end());
        }
        Ok(said)
    }

    /// The same for a command that asks something: whether the answer is yes, and what it prints.
    pub(super) fn ask(
        &self,
        narrator: &Narrator,
        words: &[&str],
    ) -> anyhow::Result<(bool, String)> {
        let Output { status, stdout, .. } = self.run(narrator, words)?;
        Ok((status.success(), String::from_utf8_lossy(&stdout).into_owned()))
    }

    fn run(&self, narrator: &Narrator, words: &[&str]) -> anyhow::Result<Output> {
        narrator.command(MACHINE, &[&["millrace"], words].concat());
        let mut command = Command::new(env::current_exe()?);
        command.args(words).env("MILLRACE_LAB", self.name.to_string());
        // Ctrl-C is not for it: whoever started it clears up
        command.current_dir(&self.folder).process_group(0);
        let state = self.state.lock();
        if *state == State::Cleared {
            bail!("the nodes are taken down already");
        }
        Ok(command.output()?)
    }

    /// Who asks the agent of a node.
    pub(super) fn client(&self, node: &str) -> anyhow::Result<Client> {
        let nodes = Nodes::open(&self.name)?;
        let node = nodes.state().nodes.iter().find(|it| it.name == node).context("the node")?;
        Client::new(node.socket.as_deref().context("the socket of its agent")?)
    }

    /// A pod in `default`.
    pub(super) fn pod(&self, name: &str) -> anyhow::Result<ClusterPod> {
        let (nodes, name) = (Nodes::open(&self.name)?, PodName::new("default", name));
        let pod = nodes.state().pods.iter().find(|pod| pod.name == name).context("the pod")?;
        let namespace = Namespace::open(&pod.namespace)?;
        Ok(ClusterPod { namespace, addresses: pod.addresses.clone() })
    }

    /// Takes down whatever there is of it, once no command of it runs any more.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        *state = State::Cleared;
        take_down(&self.name)
    }

    /// Takes down what a demo that was killed has left.
    pub(super) fn clear_left_over(name: &str) -> anyhow::Result<()> {
        take_down(&name.parse()?)
    }
}

impl ClusterPod {
    /// As an end of traffic.
    pub(super) fn end(&self, family: Family) -> anyhow::Result<End<'_>> {
        let fits = |address: &&IpAddr| address.is_ipv6() == (family == Family::V6);
        let address = self.addresses.iter().find(fits).context("an address of each family")?;
        Ok(End { namespace: &self.namespace, address: *address })
    }

    /// Connects from there, and waits for answers no longer than to be connected.
    pub(super) fn connect(&self, to: SocketAddr, wait: Duration) -> io::Result<TcpStream> {
        let connected = self.namespace.run(|| TcpStream::connect_timeout(&to, wait));
        let stream = connected.map_err(io::Error::other)??;
        stream.set_read_timeout(Some(wait))?;
        Ok(stream)
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

fn take_down(name: &LabName) -> anyhow::Result<()> {
    match Nodes::down(name) {
        Ok(()) | Err(LabError::NotUp { .. }) => Ok(()),
        Err(error) => Err(error).context("taking the nodes down"),
    }
}

/// Where commands are run.
pub(super) const MACHINE: &str = "machine";
/// Where the manifests are, from there as in the repository.
pub(super) const MANIFESTS: &str = "examples/lab";
const NODES: &str = include_str!("../../../../examples/lab/nodes.yaml");
pub(super) const PODS: &str = include_str!("../../../../examples/lab/pods.yaml");
const DNS: &str = include_str!("../../../../examples/lab/dns.yaml");
const SERVICES: &str = include_str!("../../../../examples/lab/services.yaml");
