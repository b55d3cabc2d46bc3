//! The API server as a source of the world, and as the place where its users look what became of it.
//!
//! - [`Cluster`]: who is asked, and what was told last; [`Access`]: where, and as whom
//! - `watch`: how objects of a kind are followed: listed once, watched from there on, listed anew
//!   when the server does not remember any more, with longer and longer pauses while it is away
//! - `kept`: what the server said, on disk: what there is to begin with while it is away
//! - [`Report`]: what a node has to say of objects; `status`, `gateways`, `conditions` and `events`: what
//!   is to be written of it, and `writer`, which takes its time; `about`: what is written there now
//! - [`definition`]: what the API server is to know of our own kinds
//! - [`Session`]: plain questions, for commands that people run
//!
//! A reader must not break this: what was told last stays in force for as long as nothing else is
//! told. A server that is away is no empty cluster.
#![forbid(unsafe_code)]

mod about;
mod access;
mod conditions;
pub mod definition;
mod events;
mod gateways;
mod kept;
mod report;
mod session;
mod status;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
use tokio::sync::{Notify, watch as latest};

use about::{About, Heard};
pub use access::Access;
use kept::Keeper;
pub use kept::forget as forget_kept;
pub use report::{Entry, Key, Report, Rollout, Standing, State};
pub use session::{Executed, Right, Session};
use watch::{Told, resource, watch};
use writer::{Reported, Writer};

/// An API server, and what it tells of a cluster.
pub struct Cluster {
    told: Arc<(Mutex<Told>, Condvar)>,
    reported: latest::Sender<Arc<Reported>>,
    client: Client,
    runtime: Runtime,
    /// From when on what was kept does until the server has told of every kind; never if nothing was.
    begins: Option<Instant>,
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
    /// It refuses.
    #[error("the API server refuses: {message}")]
    Refused {
        /// Its code (RFC 9110 section 15).
        code: u16,
        /// What it says.
        message: String,
    },
    /// It does not come to an end.
    #[error("no answer within 30 s")]
    Late,
    /// It is away, or answers what cannot be read.
    #[error("the API server: {0}")]
    Server(#[from] kube::Error),
    /// There is no thread to ask it on.
    #[error("an I/O runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

impl Cluster {
    /// Follows the cluster of an API server. It need not answer yet: what it said to somebody before,
    /// with the same folder to keep it in, has to do then.
    ///
    /// # Errors
    /// If a file cannot be read, or names keys or certificates that cannot.
    pub fn follow(access: &Access, folder: Option<&Path>) -> Result<Self, ClusterError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(THREAD)
            .enable_all()
            .build()?;
        let config = runtime.block_on(access.config())?;
        let client = runtime.block_on(async { Client::try_from(config) })?;
        let mut first = Told::default();
        let mut is_kept = false;
        let kept = folder.map_or_else(|| Ok(Vec::new()), kept::read).unwrap_or_else(|error| {
            tracing::warn!(%error, "what the API server said before does not count");
            Vec::new()
        });
        for (kind, objects) in kept {
            is_kept |= !objects.is_empty();
            first.objects.replace(kind, objects);
        }
        let keeper = folder.map(Keeper::open).unwrap_or_default();
        let told = Arc::new((Mutex::new(first), Condvar::new()));
        let changed = Arc::new(Notify::new());
        let back = Arc::new(Notify::new());
        for kind in Kind::ALL {
            let (told, changed, back) =
                (Arc::clone(&told), Arc::clone(&changed), Arc::clone(&back));
            runtime.spawn(watch(client.clone(), kind, told, changed, back, keeper.clone()));
        }
        let (reported, to_write) = latest::channel(Arc::default());
        let writer = Writer::new(client.clone(), Arc::clone(&told));
        runtime.spawn(writer.write(to_write, changed));
        let begins = is_kept.then(|| Instant::now() + GRACE);
        Ok(Self { told, reported, client, runtime, begins })
    }

    /// Whether the server has told of every kind since it is followed.
    pub fn is_whole(&self) -> bool {
        self.told.0.lock().is_whole()
    }

    /// What the server has told since it was asked last, and what does not count; `None` until it has told
    /// of every kind. If it does not, what was kept of it counts after a while.
    pub fn read(&self) -> Option<(News, Vec<Complaint>)> {
        let mut told = self.told.0.lock();
        told.is_read = true;
        told.read_last = Some(Instant::now());
        if !told.is_whole() && self.begins.is_none_or(|begins| Instant::now() < begins) {
            return None;
        }
        let (news, complaints) = told.objects.news();
        told.heard = Heard::of(&told.abouts, &complaints);
        Some((news, complaints))
    }

    /// What nodes say of Filters, by the names of these.
    pub fn rollouts(&self) -> BTreeMap<String, Rollout> {
        let told = self.told.0.lock();
        let filters = told.abouts.range((Kind::Filter, String::new())..);
        let filters = filters.take_while(|((kind, _), _)| *kind == Kind::Filter);
        let rollout = |((_, name), about): (&Key, &About)| {
            let nodes = status::written(about);
            (name.clone(), Rollout { generation: about.generation, nodes })
        };
        filters.map(rollout).collect()
    }

    /// Has the API server know what has become of what was [read](Self::read) last: by and by, and once.
    pub fn report(&self, report: Report) {
        let heard = self.told.0.lock().heard.clone();
        let next = Arc::new(Reported { report, heard });
        self.reported.send_if_modified(|last| {
            let is_other = *last != next;
            *last = next;
            is_other
        });
    }

    /// Waits until something is told that was not read yet. What comes after silence is not held
    /// back; of what comes and comes, much is one change: it is read every now and then.
    pub fn wait(&self, patience: Duration) -> Waited {
        let (told, change) = &*self.told;
        let mut told = told.lock();
        let deadline = Instant::now() + patience;
        while told.is_read {
            if change.wait_until(&mut told, deadline).timed_out() {
                return if told.is_read { Waited::Unchanged } else { Waited::Changed };
            }
        }
        let end = next_read(Instant::now(), told.read_last);
        while !change.wait_until(&mut told, end).timed_out() {}
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

/// When something is to be read that was told just now, if others were read last then.
fn next_read(now: Instant, last: Option<Instant>) -> Instant {
    last.map_or(now, |last| now.max(last + PACE))
}

/// The name of the thread that asks.
const THREAD: &str = "millrace-kube";
/// How long after something was read the next is, if there is more and more.
const PACE: Duration = Duration::from_millis(5);
/// For how long a server that is there may be silent: far longer than it takes to list what there is.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_is_read_at_once_and_more_and_more_of_them_at_a_pace() {
        let start = Instant::now();
        assert_eq!(next_read(start, None), start);
        assert_eq!(next_read(start + 2 * PACE, Some(start)), start + 2 * PACE);
        assert_eq!(next_read(start + PACE / 2, Some(start)), start + PACE);
        assert_eq!(next_read(start, Some(start)), start + PACE);
    }
}
