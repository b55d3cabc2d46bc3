//! The API server as a source of the world.
//!
//! - [`Cluster`]: who is asked, and what was told last; [`Access`]: where, and as whom
//! - `watch`: how objects of a kind are followed: listed once, watched from there on, listed anew
//!   when the server does not remember any more, with longer and longer pauses while it is away
//!
//! A reader must not break this: what was told last stays in force for as long as nothing else is
//! told. A server that is away is no empty cluster.
#![forbid(unsafe_code)]

mod access;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::config::KubeconfigError;
use kube::core::DynamicObject;
use kube::{Api, Client};
use millrace_control::manifest::Kind;
use millrace_control::source::{Complaint, News, Waited};
use parking_lot::{Condvar, Mutex};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

pub use access::Access;
use watch::{Told, resource, watch};

/// An API server, and what it tells of a cluster.
pub struct Cluster {
    told: Arc<(Mutex<Told>, Condvar)>,
    client: Client,
    runtime: Runtime,
}

/// Why an API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// What is said of it makes no sense.
    #[error("{}: {source}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// Nobody says where it is.
    #[error("the API server: {0}; name it by a URL, or a kubeconfig that does")]
    Place(String),
    /// There is no service account.
    #[error("{}: {source}; a pod has it if it has a service account", .path.display())]
    ServiceAccount {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It refuses, or is away.
    #[error("the API server: {0}")]
    Server(#[from] kube::Error),
    /// There is no thread to ask it on.
    #[error("an I/O runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

impl Cluster {
    /// Follows the cluster of an API server. It need not answer yet.
    ///
    /// # Errors
    /// If a file cannot be read, or names keys or certificates that cannot.
    pub fn follow(access: &Access) -> Result<Self, ClusterError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(THREAD)
            .enable_all()
            .build()?;
        let config = runtime.block_on(access.config())?;
        let client = runtime.block_on(async { Client::try_from(config) })?;
        let told = Arc::new((Mutex::new(Told::default()), Condvar::new()));
        for kind in Kind::ALL {
            runtime.spawn(watch(client.clone(), kind, Arc::clone(&told)));
        }
        Ok(Self { told, client, runtime })
    }

    /// What the server has told since it was asked last, and what does not count; `None` until it has told
    /// of every kind.
    pub fn read(&self) -> Option<(News, Vec<Complaint>)> {
        let mut told = self.told.0.lock();
        told.is_read = true;
        told.is_whole().then(|| told.objects.news())
    }

    /// Waits until something is told that was not read yet. Much that is told at once is one
    /// change: after the first, nothing has to be told for a moment.
    pub fn wait(&self, patience: Duration) -> Waited {
        let (told, change) = &*self.told;
        let mut told = told.lock();
        let deadline = Instant::now() + patience;
        while told.is_read {
            if change.wait_until(&mut told, deadline).timed_out() {
                return if told.is_read { Waited::Unchanged } else { Waited::Changed };
            }
        }
        let end = Instant::now() + LONGEST_UNREST;
        while Instant::now() < end && !change.wait_for(&mut told, QUIET).timed_out() {}
        Waited::Changed
    }

    /// Says of a node that its network is there (condition `NetworkUnavailable`).
    ///
    /// # Errors
    /// If the server refuses, or is away.
    pub fn announce_network(&self, node: &str) -> Result<(), ClusterError> {
        let now = Timestamp::now().to_string();
        let condition = json!({
            "type": "NetworkUnavailable", "status": "False", "reason": "MillraceServes",
            "message": "pods are attached", "lastTransitionTime": now, "lastHeartbeatTime": now,
        });
        let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
        let nodes: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(Kind::Node));
        let params = PatchParams::default();
        self.runtime.block_on(nodes.patch_status(node, &params, &patch))?;
        Ok(())
    }
}

/// The name of the thread that asks.
const THREAD: &str = "millrace-kube";
/// How long nothing has to be told.
const QUIET: Duration = Duration::from_millis(10);
/// How long one waits for that.
const LONGEST_UNREST: Duration = Duration::from_millis(200);
