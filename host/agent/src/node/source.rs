//! Where a node knows its cluster from: a directory of manifests, or the API server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgGroup, Args};
use millrace_control::Node;
use millrace_control::source::{Complaint, Manifests, Mark, News, Waited, Watch};
use millrace_kube::{Access, Cluster, ClusterError, Report, Rollout};

use crate::node::state::{NodeState, StateError};

/// Where the cluster is known from.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("cluster").required(true))]
pub(crate) struct SourceArgs {
    /// The directory whose manifests describe the cluster: `*.yaml`, `*.yml` and `*.json`.
    #[arg(long, value_name = "DIRECTORY", group = "cluster")]
    manifests: Option<PathBuf>,

    /// The kubeconfig that names the API server, by an address that is no Service's: the agent is
    /// what makes Services reachable. While the server is away, what it said last stays in force.
    #[arg(long, value_name = "FILE", group = "cluster")]
    kubeconfig: Option<PathBuf>,

    /// The API server, asked as a pod's service account: its URL, or a kubeconfig that names it, as the
    /// kubelet's, of which nothing else is read. It is no Service's address either.
    #[arg(long, value_name = "URL|FILE", group = "cluster")]
    api_server: Option<String>,

    /// The folder with that account's `token` and `ca.crt`.
    #[arg(long, value_name = "FOLDER", requires = "api_server", default_value = SERVICE_ACCOUNT)]
    service_account: PathBuf,

    /// Keep what the API server says in this folder: an agent that starts while the server is away
    /// begins with that. Commands, environments and volumes of pods are not kept.
    #[arg(long, value_name = "FOLDER", default_value = KEPT)]
    kept_objects: PathBuf,
}

impl SourceArgs {
    /// Has whoever cleans up find what the API server said.
    ///
    /// # Errors
    /// If it would be forgotten.
    pub(crate) fn remember(&self, state: &mut NodeState) -> Result<(), StateError> {
        match self.access() {
            Some(_) => state.change(|kept| kept.objects = Some(self.kept_objects.clone())),
            None => Ok(()),
        }
    }

    /// How the API server is asked, if one is.
    fn access(&self) -> Option<Access> {
        let kubeconfig = self.kubeconfig.clone().map(Access::Kubeconfig);
        kubeconfig.or_else(|| {
            let (server, folder) = (self.api_server.clone()?, self.service_account.clone());
            Some(Access::ServiceAccount { server, folder })
        })
    }
}

/// Where the cluster is known from, once it is open.
pub(crate) enum Source {
    /// A directory, and a watch of it.
    Manifests(Manifests, Watch),
    /// The API server.
    Cluster(Cluster),
}

/// What a source has to tell.
pub(crate) struct Reading {
    pub(crate) news: News,
    /// What of the world does not count.
    pub(crate) complaints: Vec<Complaint>,
    /// Which manifests say so, if any do.
    pub(crate) mark: Option<Mark>,
}

impl Source {
    /// Opens it. What changes from here on is noticed.
    pub(crate) fn open(args: &SourceArgs) -> anyhow::Result<Self> {
        if let Some(access) = args.access() {
            return Ok(Self::Cluster(Cluster::follow(&access, Some(&args.kept_objects))?));
        }
        let directory = args.manifests.as_ref().context("the command line names no source")?;
        let manifests = Manifests::open(directory)?;
        let watch = manifests.watch().context("watching the manifests")?;
        Ok(Self::Manifests(manifests, watch))
    }

    /// Whether it has told of everything since it is open; what there was before may do meanwhile.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Manifests(..) => true,
            Self::Cluster(cluster) => cluster.is_whole(),
        }
    }

    /// What there is to tell since the last time; `None` if that is not known yet.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Reading>> {
        match self {
            Self::Manifests(manifests, _) => {
                let (world, complaints, mark) = manifests.read_marked()?;
                let news = News::World(Box::new(world));
                Ok(Some(Reading { news, complaints, mark: Some(mark) }))
            }
            Self::Cluster(cluster) => {
                let reading = |(news, complaints)| Reading { news, complaints, mark: None };
                Ok(cluster.read().map(reading))
            }
        }
    }

    /// Waits for a change.
    pub(crate) fn wait(&mut self, patience: Duration) -> anyhow::Result<Waited> {
        match self {
            Self::Manifests(_, watch) => Ok(watch.wait(Some(patience))?),
            Self::Cluster(cluster) => Ok(cluster.wait(patience)),
        }
    }

    /// What has yet to come before the agent of a node can start. Manifests are as they are meant.
    pub(crate) fn lacks(&self, node: Option<&Node>) -> Option<&'static str> {
        if let Self::Manifests(..) = self {
            return None;
        }
        match node {
            None => Some("there is no Node of this name yet: the kubelet makes it"),
            Some(node) if node.addresses.is_empty() => {
                Some("the Node has no InternalIP yet: the kubelet says it")
            }
            Some(node) if node.pod_cidrs.is_empty() => Some(
                "the Node has no podCIDRs yet: kube-controller-manager gives them, with \
                 `--allocate-node-cidrs` and `--cluster-cidr`",
            ),
            Some(_) => None,
        }
    }

    /// Tells the API server, if there is one, that the node's pods are attached.
    pub(crate) fn announce(&self, node: &str) -> Result<(), ClusterError> {
        match self {
            Self::Manifests(..) => Ok(()),
            Self::Cluster(cluster) => cluster.announce_network(node),
        }
    }

    /// What nodes say of Filters, if there is an API server to say it to.
    pub(crate) fn rollouts(&self) -> BTreeMap<String, Rollout> {
        match self {
            Self::Manifests(..) => BTreeMap::new(),
            Self::Cluster(cluster) => cluster.rollouts(),
        }
    }

    /// Tells the API server, if there is one, what has become of what was read last.
    pub(crate) fn report(&self, report: impl FnOnce() -> Report) {
        if let Self::Cluster(cluster) = self {
            cluster.report(report());
        }
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Manifests(manifests, _) => manifests.directory().display().to_string(),
            Self::Cluster(_) => "the cluster".to_owned(),
        }
    }
}

/// Where objects are kept: not in `/run`, which a reboot empties.
const KEPT: &str = "/var/lib/millrace/objects";
/// Where kubelets put it.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
