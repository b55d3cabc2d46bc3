//! The API server of a cluster, asked as its administrator.
//!
//! Owns a runtime whose only thread is in the namespace of the control plane: whatever is asked has
//! to run on that thread.

use std::fmt::Debug;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::cluster::Scripts;

/// The API server.
pub(super) struct Api {
    client: Client,
    runtime: Runtime,
}

impl Api {
    /// Gets ready to ask.
    ///
    /// # Errors
    /// If the cluster does not say how, or its namespace cannot be entered.
    pub(super) fn of(scripts: &Scripts) -> Result<Self> {
        let kubeconfig = scripts.run("kubectl", &["config", "view", "--raw", "--flatten"])?;
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).context("reading a kubeconfig")?;
        // threads begin where the one is that starts them
        let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = scripts.control()?.run(build)??;
        let client = {
            let _inside = runtime.enter();
            Client::try_from(kubeconfig).context("preparing to ask the API server")?
        };
        Ok(Self { client, runtime })
    }

    /// Makes objects, several at a time, and says what has become of them.
    ///
    /// # Errors
    /// If the server does not take one.
    pub(super) fn create<K>(&self, of: Which<K>, objects: Vec<Value>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
        K: Serialize + DeserializeOwned,
    {
        let objects = objects.into_iter().map(serde_json::from_value::<K>);
        let objects = objects.collect::<Result<Vec<_>, _>>()?;
        let api = of(self.client.clone());
        let made = objects.into_iter().map(move |object| {
            let api = api.clone();
            async move {
                let made = api.create(&PostParams::default(), &object).await;
                let what = || format!("making the {} {}", K::kind(&()), object.name_any());
                made.with_context(what)
            }
        });
        self.ask(stream::iter(made).buffered(AT_A_TIME))
    }

    /// Says what has become of pods, by their names.
    ///
    /// # Errors
    /// If the server does not take it.
    pub(super) fn status(&self, statuses: Vec<(String, Value)>) -> Result<()> {
        let api: kube::Api<Pod> = kube::Api::default_namespaced(self.client.clone());
        let told = statuses.into_iter().map(move |(name, status)| {
            let api = api.clone();
            async move {
                let patch = Patch::Merge(json!({ "status": status }));
                let told = api.patch_status(&name, &PatchParams::default(), &patch).await;
                told.map(drop).with_context(|| format!("the status of the pod {name}"))
            }
        });
        self.ask(stream::iter(told).buffered(AT_A_TIME)).map(drop)
    }

    /// Changes objects by their names, one every `pause`.
    ///
    /// # Errors
    /// If the server does not take a change.
    pub(super) fn patch_steadily<K>(
        &self,
        of: Which<K>,
        patches: Vec<(String, Value)>,
        pause: Duration,
    ) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
    {
        let api = of(self.client.clone());
        let begun = tokio::time::Instant::now();
        let patched = (0..).zip(patches).map(move |(n, (name, patch))| {
            let api = api.clone();
            async move {
                tokio::time::sleep_until(begun + pause * n).await;
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
                patched.map(drop).with_context(|| format!("changing the {} {name}", K::kind(&())))
            }
        });
        self.ask(stream::iter(patched).buffered(AT_A_TIME)).map(drop)
    }

    /// Hears of new Services as an agent does, until this is dropped.
    pub(super) fn services(&self) -> Receiver<(String, Instant)> {
        let (hears, heard) = channel();
        let services: kube::Api<Service> = kube::Api::default_namespaced(self.client.clone());
        self.runtime.spawn(async move {
            let told = watcher(services, watcher::Config::default());
            let mut told = std::pin::pin!(told.default_backoff().applied_objects());
            // one that is cut is begun anew
            while let Some(service) = told.next().await {
                let Ok(service) = service else { continue };
                if hears.send((service.name_any(), Instant::now())).is_err() {
                    break;
                }
            }
        });
        heard
    }

    fn ask<T: Send + 'static>(
        &self,
        all: impl Stream<Item = Result<T>> + Send + 'static,
    ) -> Result<Vec<T>> {
        let asked = self.runtime.spawn(all.try_collect());
        self.runtime.block_on(asked).context("asking the API server")?
    }
}

/// Objects of a kind, as a client finds them.
pub(super) type Which<K> = fn(Client) -> kube::Api<K>;

/// Questions that wait for their answers.
const AT_A_TIME: usize = 16;
